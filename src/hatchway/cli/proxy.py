"""`hatchway proxy`: the door."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hatchway.cli.options import Context, Kubeconfig, OfName, context_of, say
from hatchway.door import filter as filters
from hatchway.door.options import DEFAULT_PORT, Options
from hatchway.errors import HatchwayError
from hatchway.numerals import is_digits
from hatchway.route.chooser import Via

if TYPE_CHECKING:
    from hatchway.kube.connection import Connection

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


SWITCHES = ("--disable-filter", "--append-server-path")


def proxy(
    port: Annotated[
        str, typer.Option("--port", "-p", metavar="PORT", help="The port to listen on; 0 for any free one.")
    ] = str(DEFAULT_PORT),
    address: Annotated[
        str, typer.Option("--address", help='The IP address to listen on, or "localhost".')
    ] = "127.0.0.1",
    unix_socket: Annotated[
        str, typer.Option("--unix-socket", "-u", help="A Unix socket to listen on instead.", show_default=False)
    ] = "",
    www: Annotated[
        str, typer.Option("--www", "-w", help="Also serve the files of this directory.", show_default=False)
    ] = "",
    www_prefix: Annotated[str, typer.Option("--www-prefix", "-P", help="Where --www is served.")] = "/static/",
    api_prefix: Annotated[str, typer.Option("--api-prefix", help="Where the API is served.")] = "/",
    accept_paths: Annotated[
        str, typer.Option("--accept-paths", help="Regular expressions of paths of the API that are served.")
    ] = filters.ACCEPT_PATHS,
    reject_paths: Annotated[
        str, typer.Option("--reject-paths", help="Regular expressions of paths of the API that are not.")
    ] = filters.REJECT_PATHS,
    accept_hosts: Annotated[
        str, typer.Option("--accept-hosts", help="Regular expressions of Host names under which the API is served.")
    ] = filters.ACCEPT_HOSTS,
    reject_methods: Annotated[
        str, typer.Option("--reject-methods", help="Regular expressions of methods that the API is not offered to.")
    ] = filters.REJECT_METHODS,
    disable_filter: Annotated[
        bool, typer.Option("--disable-filter", help="Accept every host, path and method. Dangerous.")
    ] = False,
    keepalive: Annotated[
        str,
        typer.Option(
            "--keepalive", help="Time between TCP keep-alive probes of the API server (like 30s); 0 for a good default."
        ),
    ] = "0s",
    append_server_path: Annotated[
        bool, typer.Option("--append-server-path", help="Put the path of the server's URL before every path.")
    ] = False,
    domain: Annotated[str, typer.Option("--domain", help="What host names of targets end with.")] = "localhost",
    via: Annotated[Via, typer.Option("--via", help="How targets are reached.")] = Via.auto,
    host_header: Annotated[
        str,
        typer.Option(
            "--host-header",
            help="What applications are told as Host: auto, external, cluster, localhost, or a name.",
        ),
    ] = "auto",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    name: OfName = None,
) -> None:
    """Open the door: every service, pod and node under a host name of its own, and the API."""
    if unix_socket and _port(port) != DEFAULT_PORT:
        raise HatchwayError("cannot set --unix-socket and --port at the same time", "leave one of them out")
    from hatchway.door import hostheader

    options = Options(
        address=_address(address),
        port=_port(port),
        unix_socket=unix_socket,
        www=www,
        www_prefix=_prefix(www_prefix),
        api_prefix=_prefix(api_prefix),
        filter=None
        if disable_filter
        else filters.Filter.of(
            accept_paths=accept_paths,
            reject_paths=reject_paths,
            accept_hosts=accept_hosts,
            reject_methods=reject_methods,
        ),
        keepalive=_seconds(keepalive),
        append_server_path=append_server_path,
        domain=_domain(domain),
        via=via,
        host_header=hostheader.check(host_header),
    )
    _warn(options, relaxed=not reject_paths)
    _run(options, kubeconfig, context_of(name, context))


def _port(text: str) -> int:
    if not is_digits(text) or int(text) > 65535:
        raise HatchwayError(f"--port: {text!r} is not a port", "ports go from 1 to 65535; 0 takes any free one")
    return int(text)


def _address(text: str) -> str:
    import socket

    name = text.removeprefix("[").removesuffix("]")
    try:
        socket.getaddrinfo(name or None, 0)
    except (OSError, UnicodeError) as error:
        raise HatchwayError(
            f"--address: {text!r} is neither an IP address nor a name that is known here",
            "write an address of this machine (127.0.0.1, ::1, or 0.0.0.0 for all of them) or localhost; "
            "the port is --port's",
        ) from error
    return text


def _prefix(text: str) -> str:
    """A path with a slash at both ends, whichever was left out: without the first nothing would ever be found there."""
    path = text.strip("/")
    return f"/{path}/" if path else "/"


def _domain(text: str) -> str:
    name = text.strip(".").lower()
    if not _NAME.fullmatch(name):
        raise HatchwayError(f"--domain: {text!r} is not a domain", "write it like localhost or dev.example")
    return name


def _seconds(text: str) -> float:
    """A duration as Go writes it. Raises HatchwayError."""
    if text == "0":
        return 0.0
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise HatchwayError(f"--keepalive: {text!r} is not a duration", "write it like 30s or 1m30s")
    return sum(float(part[1]) * _UNITS[part[2]] for part in parts)


def _warn(options: Options, *, relaxed: bool) -> None:
    def tell(text: str) -> None:
        print(f"warning: {text}", file=sys.stderr)

    if options.filter is None:
        tell("Request filter disabled, your proxy is vulnerable to XSRF attacks, please be cautious")
    elif relaxed:
        tell("Request filter has been relaxed, your proxy may be vulnerable to attacks, please be cautious")
    if options.www and not Path(options.www).exists():
        tell(f"Failed to stat static file directory {options.www}: there is no such directory")
    elif options.www and not Path(options.www).is_dir():
        tell(f"Static file directory {options.www} is not a directory")
    if not options.unix_socket and options.address not in ("127.0.0.1", "::1", "[::1]", "localhost"):
        tell(f"everyone who can reach {options.address or 'this machine'} can use your rights in the cluster")


def _follower(connection: Connection) -> Callable[[], None]:
    """Says so when an edit of the kubeconfig leads the door to another cluster."""
    served = connection.context, connection.server

    def changed() -> None:
        nonlocal served
        before, served = served, (connection.context, connection.server)
        if served[0] != before[0]:
            say(f"Now serving {connection.label}: the kubeconfig's current context has changed")
        elif served != before:
            say(f"Now serving {connection.label}: the kubeconfig has another server for it")

    return changed


def _run(options: Options, kubeconfig: str | None, context: str | None) -> None:
    import asyncio
    import signal

    import uvloop

    from hatchway.door.server import Door
    from hatchway.kube.connection import Connection

    async def main() -> None:
        connection = Connection.load(kubeconfig, context)
        if connection.base_path and not options.append_server_path:
            print(
                f"warning: Your kube context contains a server path {connection.base_path.decode()}, use "
                "--append-server-path to automatically append the path to each request",
                file=sys.stderr,
            )
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with Door(connection, options).running() as listening:
            where = options.unix_socket or listening.addresses[0]
            say(f"Starting to serve on {where}")
            if listening.url:
                known = f'context "{connection.context}"' if connection.context else "this cluster"
                say(f"  Everything you may reach in {known}:  {listening.url}")
            connection.subscribe(_follower(connection))
            await stop.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
