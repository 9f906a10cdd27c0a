"""`hatchway proxy`: opens the door."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hatchway.cli import clusterflags, options, usage
from hatchway.cli.clusterchoice import duration
from hatchway.cli.printing import say, warn
from hatchway.cli.published import published_addresses
from hatchway.door import requestfilter
from hatchway.door.dooroptions import DEFAULT_PORT, DoorOptions
from hatchway.errors import HatchwayError
from hatchway.kube.overrides import ChosenCluster
from hatchway.numerals import is_digits
from hatchway.route.sshdestination import SshDestination
from hatchway.route.via import Via

if TYPE_CHECKING:
    from hatchway.kube.connection import Connection

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


@click.command(
    cls=usage.GoFlagsCommand,
    short_help="Open the door to all services, pods and nodes.",
    epilog=options.examples("""
    hatchway proxy
    hatchway proxy --port 0 --context production
    hatchway proxy --www=./site --www-prefix=/my-files/ --api-prefix=/k8s-api/
    """),
)
@click.option(
    "--port",
    "-p",
    metavar="PORT",
    default=str(DEFAULT_PORT),
    show_default=True,
    help="The port to listen on; 0 for any free one.",
)
@click.option(
    "--address",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help='The IP address to listen on, or "localhost". With 127.0.0.1 the door listens on ::1, too.',
)
@click.option("--unix-socket", "-u", metavar="PATH", default="", help="A Unix socket to listen on instead.")
@click.option("--www", "-w", metavar="DIR", default="", help="Also serve the files of this directory.")
@click.option(
    "--www-prefix", "-P", metavar="PATH", default="/static/", show_default=True, help="Where --www is served."
)
@click.option(
    "--api-prefix",
    type=usage.Text(empty=True),
    metavar="PATH",
    default="/",
    show_default=True,
    help="Where the API is served.",
)
@click.option(
    "--accept-paths",
    type=usage.Text(empty=True),
    metavar="REGEXP,...",
    default=requestfilter.ACCEPT_PATHS,
    show_default=True,
    help="The paths of the API that are served.",
)
@click.option(
    "--reject-paths",
    type=usage.Text(empty=True),
    metavar="REGEXP,...",
    default=requestfilter.REJECT_PATHS,
    show_default=True,
    help="The paths of the API that are refused.",
)
@click.option(
    "--accept-hosts",
    type=usage.Text(empty=True),
    metavar="REGEXP,...",
    default=requestfilter.ACCEPT_HOSTS,
    show_default=True,
    help="The host names under which the API is served.",
)
@click.option(
    "--reject-methods",
    type=usage.Text(empty=True),
    metavar="REGEXP,...",
    default=requestfilter.REJECT_METHODS,
    show_default=True,
    help="The methods that the API refuses.",
)
@click.option("--disable-filter", is_flag=True, help="Accept every host, path and method. Dangerous.")
@click.option(
    "--keepalive",
    metavar="TIME",
    default="0s",
    show_default=True,
    help="Time between TCP keep-alive probes of the API server (like 30s); 0 for a good default.",
)
@click.option("--append-server-path", is_flag=True, help="Put the path of the API server's URL before every path.")
@click.option(
    "--domain", metavar="DOMAIN", default="localhost", show_default=True, help="The domain of the targets' host names."
)
@click.option(
    "--via",
    type=usage.Choice(*(via.value for via in Via if via is not Via.relay)),
    default="auto",
    show_default=True,
    help="By which route targets are reached.",
)
@options.ssh_options
@click.option(
    "--host-header",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="The Host that applications get: auto, external, cluster, localhost, or a name.",
)
@clusterflags.cluster_options
@clusterflags.unused_namespace
def proxy(
    port: str,
    address: str,
    unix_socket: str,
    www: str,
    www_prefix: str,
    api_prefix: str,
    accept_paths: str,
    reject_paths: str,
    accept_hosts: str,
    reject_methods: str,
    disable_filter: bool,
    keepalive: str,
    append_server_path: bool,
    domain: str,
    via: str,
    ssh: SshDestination | None,
    host_header: str,
    cluster: ChosenCluster,
) -> None:
    """Open the door: serve the API, and every service, pod and node under its own host name."""
    if unix_socket and _port(port) != DEFAULT_PORT:
        raise HatchwayError("cannot set --unix-socket and --port at the same time", "leave one of them out")
    from hatchway.door import hostheader

    door = DoorOptions(
        address=_address(address),
        port=_port(port),
        unix_socket=unix_socket,
        www=www,
        www_prefix=_prefix(www_prefix),
        api_prefix=_prefix(api_prefix),
        filter=None
        if disable_filter
        else requestfilter.RequestFilter.of(
            accept_paths=accept_paths,
            reject_paths=reject_paths,
            accept_hosts=accept_hosts,
            reject_methods=reject_methods,
        ),
        keepalive=duration("--keepalive", keepalive),
        append_server_path=append_server_path,
        domain=_domain(domain),
        via=_via(via, ssh),
        ssh=ssh,
        host_header=hostheader.parse_host_option(host_header),
        published=published_addresses,
    )
    _warn(door, relaxed=not reject_paths)
    _run(door, cluster)


def _via(text: str, ssh: SshDestination | None) -> Via:
    if ssh is not None and text not in ("auto", "ssh"):
        raise HatchwayError(f"--ssh goes with --via ssh, not with --via {text}", "leave one of them out")
    if text == "ssh" and ssh is None:
        raise HatchwayError("--via ssh needs a node to log in to", "add --ssh USER@HOST")
    return Via.ssh if ssh is not None else Via(text)


def _port(text: str) -> int:
    if not is_digits(text) or int(text) > 65535:
        raise HatchwayError(f'--port: "{text}" is not a port', "ports go from 1 to 65535; 0 takes any free one")
    return int(text)


def _address(text: str) -> str:
    import socket

    name = text.removeprefix("[").removesuffix("]")
    try:
        socket.getaddrinfo(name or None, 0)
    except (OSError, UnicodeError) as error:
        raise HatchwayError(
            f'--address: "{text}" is neither an IP address nor a name that is known here',
            "write an address of this machine (127.0.0.1, ::1, or 0.0.0.0 for all of them) or localhost; "
            "the port is --port's",
        ) from error
    return text.lower()


def _prefix(text: str) -> str:
    """Return a path with a slash at both ends; missing slashes are added."""
    path = text.strip("/")
    return f"/{path}/" if path else "/"


def _domain(text: str) -> str:
    name = text.strip(".").lower()
    if not _NAME.fullmatch(name):
        raise HatchwayError(f'--domain: "{text}" is not a domain', "write it like localhost or dev.example")
    return name


def _warn(door: DoorOptions, *, relaxed: bool) -> None:
    if door.filter is None:
        warn("Request filter disabled, your proxy is vulnerable to XSRF attacks, please be cautious")
    elif relaxed:
        warn("Request filter has been relaxed, your proxy may be vulnerable to attacks, please be cautious")
    if door.www and not Path(door.www).exists():
        warn(f"Failed to stat static file directory {door.www}: there is no such directory")
    elif door.www and not Path(door.www).is_dir():
        warn(f"Static file directory {door.www} is not a directory")
    if not door.unix_socket and door.address not in ("127.0.0.1", "::1", "[::1]", "localhost"):
        warn(f"everyone who can reach {door.address or 'this machine'} can use your rights in the cluster")


def _follower(connection: Connection) -> Callable[[], None]:
    """Return a callback that prints a line when an edit of the kubeconfig has changed the door's cluster."""
    served = connection.context, connection.server

    def changed() -> None:
        nonlocal served
        before, served = served, (connection.context, connection.server)
        if served[0] != before[0]:
            say(f"Now serving {connection.label}: the kubeconfig's current context has changed")
        elif served != before:
            say(f"Now serving {connection.label}: the kubeconfig has another server for it")

    return changed


def _run(door: DoorOptions, cluster: ChosenCluster) -> None:
    import asyncio
    import signal

    import uvloop

    from hatchway.door.door import Door
    from hatchway.kube.connection import Connection

    async def main() -> None:
        connection = Connection.load(*cluster)
        if connection.base_path and not door.append_server_path:
            warn(
                f"Your kube context contains a server path {connection.base_path.decode()}, use "
                "--append-server-path to automatically append the path to each request"
            )
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with Door(connection, door).running() as listening:
            where = door.unix_socket or listening.addresses[0]
            say(f"Starting to serve on {where}")
            if listening.url:
                known = f'context "{connection.context}"' if connection.context else "this cluster"
                say(f"  Everything you may reach in {known}:  {listening.url}")
            connection.subscribe(_follower(connection))
            await stop.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
