"""`hatchway forward`: local ports that lead to services and pods."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hatchway.cli import clusterflags, options
from hatchway.cli.relayconsent import RelayRequest, ask_consent
from hatchway.cli.usage import GoFlagsCommand, Number, Seconds
from hatchway.errors import HatchwayError
from hatchway.kube.overrides import ChosenCluster
from hatchway.route.sshdestination import SshDestination


@click.command(
    cls=GoFlagsCommand,
    short_help="Forward local ports to services, workloads and pods.",
    epilog=options.examples("""
    hatchway forward svc/web 8080:80
    hatchway forward web 8080:http svc/db.shop 5432 pod/debug-0 :9229
    hatchway forward deploy/api 3000 sts/db 5432
    hatchway forward -n shop --all --own-address
    hatchway forward -f forwards.txt --detach --output env
    hatchway forward svc/db 5432 --ssh admin@node-1
    hatchway forward --relay svc/kube-dns.kube-system 5353:53/udp host/10.0.0.7 5432
    hatchway forward --list
    """),
)
@click.argument("words", nargs=-1, metavar="[TARGET [LOCAL:]PORT ...]...", shell_complete=options.complete_forwarded)
@options.namespace
@click.option(
    "--file",
    "-f",
    "file",
    metavar="FILE",
    default="",
    help="Read targets and ports from a file, one target per line; - for standard input.",
)
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="Forward all TCP ports of all services of the namespace, also of services that are created later.",
)
@click.option(
    "--address",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="The local IP address to listen on.",
)
@click.option(
    "--own-address",
    is_flag=True,
    help="Give each target its own loopback address (127.x.y.z), so that its ports keep their numbers.",
)
@click.option(
    "--unix-socket", metavar="PATH", default="", help="Listen on a Unix socket; for several ports, in a directory."
)
@options.relay_options
@options.ssh_options
@options.output("text", "json", "env")
@click.option("--wait", is_flag=True, help="Become ready only when every target exists and has a ready pod.")
@click.option(
    "--timeout", type=Seconds(), default=0.0, show_default="no limit", help="How many seconds --wait waits at most."
)
@click.option("--detach", "-d", is_flag=True, help="Continue in the background once it is ready.")
@click.option("--list", "listing", is_flag=True, help="List the forwards in the background.")
@click.option(
    "--stop", metavar="ID", default="", help="End the forwards in the background with this ID (see --list), or all."
)
@click.option("--ready-fd", type=Number(0, 1 << 20, "descriptor"), hidden=True)
@clusterflags.cluster_options
def forward(
    words: tuple[str, ...],
    namespace: str | None,
    file: str,
    every: bool,
    address: str,
    own_address: bool,
    unix_socket: str,
    ssh: SshDestination | None,
    relay: RelayRequest | None,
    output: str,
    wait: bool,
    timeout: float,
    detach: bool,
    listing: bool,
    stop: str,
    ready_fd: int | None,
    cluster: ChosenCluster,
) -> None:
    """Forward local ports to services, workloads and pods, until Ctrl-C.

    TARGET: web, web.shop, svc/web, pod/web-0, deploy/web; also sts, ds, rs, rc and job. The first word is a target, and
    so is every later word that contains a slash.

    PORT: a number or a name. 8080:80 listens on port 8080, :80 on any free port. The port may be part of the target
    (svc/web:http). Without ports all TCP ports of the target are forwarded.

    With --relay or --ssh, TARGET may also be a service without pods, node/NAME, host/NAME or an IP address. With
    --relay, PORT may also be a UDP port (5353:53/udp).

    Connections to a service or a workload are distributed over its ready pods. The command runs until it is stopped,
    even when pods are replaced, the API server restarts, credentials expire or the machine sleeps.
    """
    from hatchway.cli import forwarddetach

    if listing:
        forwarddetach.print_list(output)
        return
    if stop:
        forwarddetach.stop(stop)
        return
    _check(words, file, every, own_address, unix_socket, address, detach, wait, timeout)
    allowed = None
    if relay is not None:
        allowed = ask_consent(relay, namespace, cluster)
    if detach:
        # The background process cannot ask the user, so it gets the answer as an option.
        forwarddetach.start(output, ["--yes"] if allowed is not None else [])
        return
    from hatchway.cli.forwardrun import ForwardOptions, run

    run(
        ForwardOptions(
            words=words,
            lines=_read(file),
            source=file,
            namespace=namespace,
            every=every,
            address=address,
            own_address=own_address,
            unix_socket=unix_socket,
            output=output,
            wait=wait,
            timeout=timeout,
            ready_fd=ready_fd,
            ssh=ssh,
            relay=allowed,
        ),
        cluster,
    )


def _check(
    words: tuple[str, ...],
    file: str,
    every: bool,
    own_address: bool,
    unix_socket: str,
    address: str,
    detach: bool,
    wait: bool,
    timeout: float,
) -> None:
    import ipaddress

    if not (words or file or every):
        raise click.UsageError("`hatchway forward` needs a target, --file or --all", click.get_current_context())
    if every and words:
        raise HatchwayError("--all forwards every service of the namespace", "leave the targets out, or --all")
    if unix_socket and own_address:
        raise HatchwayError("a Unix socket has no address", "leave --unix-socket or --own-address out")
    if timeout and not wait:
        raise HatchwayError("--timeout has an effect only with --wait", "add --wait")
    if detach and file == "-":
        raise HatchwayError("a forward in the background cannot read standard input", "give --file the name of a file")
    try:
        ipaddress.ip_address(address)
    except ValueError as error:
        raise HatchwayError(
            f'--address: "{address}" is not an IP address', "write 127.0.0.1, ::1, or 0.0.0.0"
        ) from error


def _read(file: str) -> tuple[str, ...]:
    if not file:
        return ()
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise HatchwayError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
    return tuple(text.splitlines())
