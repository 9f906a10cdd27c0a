"""`hatchway ls`: lists what the user may reach, as the portal does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from hatchway.cli import clusterflags, options
from hatchway.cli.clients import note_for_terminal
from hatchway.cli.printing import aligned, fitted, note, print_data
from hatchway.cli.usage import GoFlagsCommand, Text
from hatchway.errors import ApiError, HatchwayError
from hatchway.kube.overrides import ChosenCluster
from hatchway.printable import printable

if TYPE_CHECKING:
    from hatchway.kube.catalog import CatalogEntry
    from hatchway.kube.connection import Connection
    from hatchway.kube.ingresshosts import IngressHost
    from hatchway.kube.portlinks import PortLink
    from hatchway.kube.view import View

# Seconds to wait for further changes before the list is printed again.
_SETTLE = 0.15
# The words for the kinds of objects that have hosts.
_KINDS = {"Ingress": "ing", "IngressRoute": "ingressroute"}
_NONE = "<none>"
# The maximum number of ports in one line. The wide form has one line for each port.
_PORTS = 5
# The maximum number of characters of a status, which may contain a long message about an image. The wide form prints
# all.
_STATUS = 120


@click.command(
    cls=GoFlagsCommand,
    short_help="List what you may reach, with URLs.",
    epilog=options.examples("""
    hatchway ls
    hatchway ls -A -o wide
    hatchway ls -w
    hatchway ls grafana -A -o name
    hatchway ls -A -o hosts | sudo tee -a /etc/hosts
    """),
)
@click.argument("search", type=Text(empty=True), default="")
@options.namespace
@click.option("--all-namespaces", "-A", "everywhere", is_flag=True, help="Everything that you may reach, nodes too.")
@options.output("text", "wide", "name", "hosts", "json", "yaml")
@click.option("--watch", "-w", is_flag=True, help="Keep running, and show changes.")
@options.door_port
@clusterflags.cluster_options
def ls(
    search: str,
    namespace: str | None,
    everywhere: bool,
    output: str,
    watch: bool,
    port: int,
    cluster: ChosenCluster,
) -> None:
    """List what you may reach: services, pods and nodes, with their state and their URLs behind `hatchway proxy`.

    Without --watch it also lists hosts of Ingresses, if the door knows their controller.

    SEARCH: only objects whose name contains this text. -o hosts prints lines for /etc/hosts, for programs that cannot
    resolve names below localhost.
    """
    if namespace is not None and everywhere:
        raise click.BadParameter("choose this one or --all-namespaces", param_hint="--namespace")
    if watch and output == "yaml":
        raise click.BadParameter("yaml is not for --watch; choose json, a line for each change", param_hint="--output")
    import asyncio

    from hatchway.kube.connection import Connection

    connection = Connection.load(*cluster)
    spaces = None if everywhere else [namespace or connection.namespace]

    async def run() -> None:
        from hatchway.kube import catalog
        from hatchway.kube.ingresshosts import read_ingress_hosts

        try:
            async with catalog.open_view(connection, spaces, stay=watch) as view:
                _check_rights(view)
                screen = _Screen(view, spaces, search, output, port, catalog.entries, connection.label)
                if not watch and output != "name":
                    try:
                        screen.ingress_hosts = await read_ingress_hosts(
                            connection.client, connection.namespace, (spaces or [""])[0]
                        )
                    except ApiError as error:
                        note(f"hosts of Ingresses could not be read: {error.message}")
                if spaces and not (view.services or view.pods):
                    await _check_namespace(connection, spaces[0], watch=watch)
                if watch:
                    await screen.show_changes()
                else:
                    screen.once()
        finally:
            await connection.aclose()

    asyncio.run(run())


def _check_rights(view: View) -> None:
    """Print which objects the user may not list. Raises HatchwayError when the user may not list any."""
    refused = [scope for scope in view.scopes.values() if scope.namespaces == ()]
    if len(refused) == len(view.scopes):
        scope = view.scopes["services"]
        hint = f"an administrator can allow it with `kubectl apply -f -` and this:\n\n{scope.missing_rule}"
        raise HatchwayError(scope.reason, hint)
    for scope in view.scopes.values():
        if scope.reason:
            note(scope.reason)


async def _check_namespace(connection: Connection, name: str, *, watch: bool) -> None:
    """Raise HatchwayError when there is no such namespace. With --watch, wait for it."""
    from hatchway.kube.lookup import ObjectLookup

    similar = await ObjectLookup(connection).similar_namespaces(name)
    if similar is None:
        return
    message = f'there is no namespace "{name}" in {connection.label}'
    if watch:
        note(f"{message} yet")
        return
    meant = " or ".join(f"`hatchway ls -n {one}`" for one in similar)
    raise HatchwayError(message, f"did you mean {meant}?" if meant else "`hatchway ls -A` looks everywhere")


class _Screen:
    """Shows a view, once or as it changes."""

    def __init__(
        self,
        view: View,
        spaces: list[str] | None,
        search: str,
        output: str,
        port: int,
        entries: Callable[[View], list[CatalogEntry]],
        cluster: str,
    ) -> None:
        self._view = view
        self._spaces = spaces
        self._search = search.lower()
        self._output = output
        self._port = port
        self._entries = entries
        self._cluster = cluster
        self.ingress_hosts: Sequence[IngressHost] = ()

    def _found_hosts(self) -> list[IngressHost]:
        return [one for one in self.ingress_hosts if self._search in one.host or self._search in one.ingress]

    def _found(self) -> list[CatalogEntry]:
        return [entry for entry in self._entries(self._view) if self._search in entry.target.name]

    def once(self) -> None:
        found = self._found()
        if self._output in ("json", "yaml"):
            scopes = {
                kind: {
                    "namespaces": None if scope.namespaces is None else list(scope.namespaces),
                    "reason": scope.reason,
                    "missingRule": scope.missing_rule,
                }
                for kind, scope in self._view.scopes.items()
            }
            items = [entry.as_dict(self._port) for entry in found]
            hosts = [one.as_dict(self._port) for one in self._found_hosts()]
            print_data({"scopes": scopes, "items": items, "ingressHosts": hosts}, self._output)
        elif found and self._output == "name":
            print("\n".join(map(printable, self._names(found))))
        elif (found or self._found_hosts()) and self._output == "hosts":
            print("\n".join(map(printable, self._hosts(found))))
        elif found or self._found_hosts():
            print("\n".join(fitted(self._table(found))))
            if any(entry.url(link, self._port) for entry in found for link in entry.links):
                note_for_terminal(self._port, "NAME")
        else:
            print(self._nothing(), file=sys.stderr)

    def _nothing(self) -> str:
        what = f'nothing with "{self._search}" in its name' if self._search else "nothing to reach"
        if self._spaces is None:
            return f"{what} in {self._cluster}; `kubectl create deployment` and `kubectl expose` make something"
        return f'{what} in namespace "{self._spaces[0]}" of {self._cluster}; `hatchway ls -A` looks everywhere'

    def _names(self, found: Iterable[CatalogEntry]) -> list[str]:
        """Return each target as an argument of the command line; with the namespace if several are listed."""
        from hatchway.target import format_arguments

        return [format_arguments(entry.target) for entry in found]

    def _hosts(self, found: Iterable[CatalogEntry]) -> list[str]:
        """Return a line of /etc/hosts for each host name at the door."""
        urls = [entry.url(link, self._port) for entry in found for link in entry.links]
        urls += [one.url(self._port) for one in self._found_hosts()]
        return [f"127.0.0.1 {name}" for name in dict.fromkeys(urlsplit(url).hostname for url in urls) if name]

    def _table(self, found: Iterable[CatalogEntry]) -> list[list[str]]:
        wide = self._output == "wide"
        header = ["NAMESPACE"] if self._spaces is None else []
        header += ["NAME", "READY", "PORTS", *(["TYPE", "ADDRESS"] if wide else []), "URL", "STATUS"]
        table = [header]
        nodes: list[list[str]] = []
        for entry in found:
            (nodes if entry.target.kind == "nodes" else table).extend(self._rows(entry, wide))
        return [*table, *(self._host_row(one, wide) for one in self._found_hosts()), *nodes]

    def _host_row(self, host: IngressHost, wide: bool) -> list[str]:
        """Return the row of a host of an Ingress."""
        from hatchway.target import format_arguments

        before = [host.namespace] if self._spaces is None else []
        more = ["Ingress", host.host] if wide else []
        status = f"{'' if wide else f'{host.host} '}by {format_arguments(host.target)}"
        return [
            *before,
            f"{_KINDS.get(host.kind, host.kind)}/{host.ingress}",
            "-",
            "-",
            *more,
            host.url(self._port) or _NONE,
            status,
        ]

    def _rows(self, entry: CatalogEntry, wide: bool) -> list[list[str]]:
        """Return one row for a target; in the wide form one for each of its ports."""
        from hatchway.target import format_argument

        def row(links: tuple[PortLink, ...], url: str) -> list[str]:
            shown = [_port(link) for link in links]
            if len(shown) > _PORTS + 1:
                shown[_PORTS:] = [f"+{len(shown) - _PORTS}"]
            ports = ",".join(shown) or _NONE
            before = [entry.target.namespace or "-"] if self._spaces is None else []
            more = [entry.type, entry.address or _NONE] if wide else []
            ready = f"{entry.endpoints.ready}/{entry.endpoints.total}" if entry.endpoints.known else "?"
            status = " ".join(entry.status.split())
            if len(status) > _STATUS and not wide:
                status = status[: _STATUS - 1] + "…"
            return [*before, format_argument(entry.target), ready, ports, *more, url or _NONE, status]

        if wide and entry.links:
            return [row((link,), entry.url(link, self._port)) for link in entry.links]
        return [row(entry.links, next((url for link in entry.links if (url := entry.url(link, self._port))), ""))]

    async def show_changes(self) -> None:
        """Show changes until cancelled. A terminal is redrawn; other output gets only the lines that have changed."""
        import asyncio

        changed = asyncio.Event()
        self._view.subscribe(lambda *_: changed.set())
        draw = self._draw if sys.stdout.isatty() and self._output in ("text", "wide") else self._lines()
        while True:
            await changed.wait()
            await asyncio.sleep(_SETTLE)
            changed.clear()
            draw()

    def _draw(self) -> None:
        found = self._found()
        state = self._view.state
        lines = []
        if state.name != "live":
            lines += [printable(f"{state.name}: {state.reason}" if state.reason else f"{state.name} ..."), ""]
        lines += fitted(self._table(found)) if found else [self._nothing()]
        # A single write, so that the terminal never displays half of the list.
        sys.stdout.write("\x1b[H\x1b[2J" + "\n".join(lines) + "\n")
        sys.stdout.flush()

    def _lines(self) -> Callable[[], None]:
        known: set[str] = set()
        begun = False
        state = self._view.state.name

        def show() -> None:
            nonlocal begun, state
            if self._view.state.name != state:
                state = self._view.state.name
                print(printable(f"{state}: {self._view.state.reason}".rstrip(": ")), file=sys.stderr, flush=True)
            current: set[str] = set()
            if self._output in ("name", "hosts"):
                lines = keys = (self._names if self._output == "name" else self._hosts)(self._found())
            elif self._output == "json":
                lines = [json.dumps(entry.as_dict(self._port)) for entry in self._found()]
                keys = lines
            else:
                table = self._table(self._found())
                keys = ["", *("\0".join(row) for row in table[1:])]
                lines = aligned(table)
            for key, line in zip(keys, lines, strict=True):
                if key not in known and (key or not begun):
                    print(line if self._output == "json" else printable(line, len(line)), flush=True)
                current.add(key)
            begun = True
            known.clear()
            known.update(current)

        return show


def _port(link: PortLink) -> str:
    plain = link.port.protocol == "TCP" and link.http is not False
    return str(link.port.number) if plain else f"{link.port.number}/{link.port.protocol}"
