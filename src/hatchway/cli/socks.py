"""`hatchway socks`: serves a SOCKS 5 and HTTP proxy for names of the cluster."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from hatchway.cli import clusterflags, options
from hatchway.cli.relayconsent import RelayRequest, ask_consent
from hatchway.cli.usage import GoFlagsCommand, Number
from hatchway.errors import HatchwayError
from hatchway.kube.overrides import ChosenCluster
from hatchway.route.sshdestination import SshDestination

if TYPE_CHECKING:
    from hatchway.kube.connection import Connection
    from hatchway.route.contract import ByteRoute, TargetUnreached
    from hatchway.route.relayoptions import RelayOptions
    from hatchway.socks.listener import ProxyListener


@click.command(
    cls=GoFlagsCommand,
    context_settings={"allow_interspersed_args": False},
    short_help="Serve a SOCKS 5 and HTTP proxy for names of the cluster.",
    epilog=options.examples("""
    hatchway socks
    curl --proxy socks5h://127.0.0.1:1080 http://web.shop/
    hatchway socks --exec curl http://web.shop.svc.cluster.local/
    hatchway socks -n shop --exec psql -h db -U app
    hatchway socks --relay --exec curl http://10.0.3.7/
    """),
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@options.namespace
@click.option(
    "--port",
    type=Number(0, 65535, "port"),
    show_default="1080; any free one with --exec",
    help="The proxy's port on 127.0.0.1; 0 takes any free one.",
)
@click.option("--exec", "execute", is_flag=True, help="Run COMMAND with the proxy in its environment, and end with it.")
@options.relay_options
@options.ssh_options
@click.option("--allow-outside", is_flag=True, help="Also connect to names outside the cluster, from this machine.")
@click.option(
    "--cluster-domain",
    metavar="DOMAIN",
    default="cluster.local",
    show_default=True,
    help="The domain of the cluster's DNS names.",
)
@clusterflags.cluster_options
def socks(
    command: tuple[str, ...],
    namespace: str | None,
    port: int | None,
    execute: bool,
    ssh: SshDestination | None,
    relay: RelayRequest | None,
    allow_outside: bool,
    cluster_domain: str,
    cluster: ChosenCluster,
) -> None:
    """Serve a proxy on 127.0.0.1 for names and addresses of the cluster, over port-forward, SSH or a relay pod.

    It serves SOCKS 5, SOCKS 4a and HTTP (CONNECT, and GET http://web.shop/) on one port. It accepts the names that pods
    use: web, web.shop, web.shop.svc.cluster.local, db-0.db.shop, a pod's name, a service's or a pod's address. Other
    names are refused. http://127.0.0.1:1080/proxy.pac is an automatic proxy configuration for browsers.
    """
    if execute and not command:
        raise click.UsageError("--exec needs a command after it")
    if command and not execute:
        raise click.UsageError(f'"{command[0]}" is unexpected; write --exec before the command')
    import asyncio

    import uvloop

    allowed = ask_consent(relay, namespace, cluster) if relay is not None else None
    domain = cluster_domain.strip(".")
    serving = _serve(command, namespace or "", port, ssh, allowed, allow_outside, domain, cluster)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(serving)
    click.get_current_context().exit(code)


async def _serve(
    command: tuple[str, ...],
    namespace: str,
    port: int | None,
    ssh: SshDestination | None,
    relay: RelayOptions | None,
    allow_outside: bool,
    domain: str,
    cluster: ChosenCluster,
) -> int:
    import asyncio

    from hatchway.kube.connection import Connection
    from hatchway.route.chooser import RouteChooser
    from hatchway.route.via import Via
    from hatchway.socks.listener import ProxyListener
    from hatchway.socks.resolver import HostResolver

    connection = Connection.load(*cluster)
    via = Via.ssh if ssh else Via.relay if relay else Via.forward
    chooser = RouteChooser(via, connection, ssh=ssh, relay=relay)
    route = chooser.byte_route()
    listener = ProxyListener(
        route,
        HostResolver(connection, namespace, domain, any_address=relay is not None),
        _Reporter().report,
        domain=domain,
        allow_outside=allow_outside,
    )
    wanted = port if port is not None else 0 if command else 1080
    try:
        await listener.open(wanted)
    except OSError as error:
        raise HatchwayError(
            f"cannot listen on 127.0.0.1:{wanted}: {os.strerror(error.errno).lower() if error.errno else error}",
            "--port chooses another port, --port 0 any free one",
        ) from error
    loop = asyncio.get_running_loop()
    background = [
        loop.create_task(connection.watch_files(), name="kubeconfig"),
        loop.create_task(chooser.run(), name="routes"),
    ]
    try:
        await _begin(route)
        if command:
            from hatchway.socks.child import run_child

            return await run_child(command, listener.port)
        return await _until_stopped(listener, connection)
    finally:
        await listener.aclose()
        for task in background:
            task.cancel()
        await asyncio.wait(background)
        await connection.aclose()


async def _begin(route: ByteRoute) -> None:
    """Prepare the route (for example, make the relay pod). Ctrl-C and SIGTERM cancel the preparation."""
    import asyncio
    import signal

    loop = asyncio.get_running_loop()
    task = loop.create_task(route.begin(), name="beginning")
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError as error:
        raise click.Abort from error
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _until_stopped(listener: ProxyListener, connection: Connection) -> int:
    import asyncio
    import signal

    from hatchway.cli.printing import say

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    address = f"127.0.0.1:{listener.port}"
    say(f"serving names of {connection.label} on {address} (SOCKS 5 and HTTP)")
    say(f"  programs   export ALL_PROXY=socks5h://{address}")
    say(f"  browsers   automatic proxy configuration: http://{address}/proxy.pac")
    await stop.wait()
    return 0


class _Reporter:
    """Prints why connections have failed; the same reason at most once in some seconds."""

    _SECONDS = 5.0
    _MOST = 100

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def report(self, host: str, error: HatchwayError | TargetUnreached) -> None:
        """Print a reason on standard error."""
        import time

        from hatchway.cli.printing import explained

        named = error.message.startswith(host.partition(":")[0])
        text = error.message if named else f"{host}: {error.message}"
        now = time.monotonic()
        if self._said.get(text, 0.0) > now:
            return
        if len(self._said) >= self._MOST:
            self._said = {known: until for known, until in self._said.items() if until > now}
            if len(self._said) >= self._MOST:
                return
        self._said[text] = now + self._SECONDS
        click.echo(explained(text, error.hint), err=True)
