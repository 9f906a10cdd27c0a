"""`hatchway ls`: the portal in a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from hatchway.cli import options
from hatchway.cli.printing import aligned, print_data, print_table
from hatchway.errors import HatchwayError

if TYPE_CHECKING:
    from hatchway.kube.catalog import Entry
    from hatchway.kube.connection import Connection
    from hatchway.kube.links import Link
    from hatchway.kube.view import View

# Changes that come together are shown together.
_SETTLE = 0.15
_NONE = "<none>"
# So many ports stand in one line; the wide form has a line for each.
_PORTS = 5


@click.command(
    short_help="List what you may reach, with URLs.",
    epilog=options.examples("""
    hatchway ls
    hatchway ls -A -o wide
    hatchway ls -w
    hatchway ls grafana -A -o name
    """),
)
@click.argument("search", default="")
@options.namespace
@click.option("--all-namespaces", "-A", "everywhere", is_flag=True, help="Everything that you may reach, nodes too.")
@options.output("text", "wide", "name", "json", "yaml")
@click.option("--watch", "-w", is_flag=True, help="Go on and show changes.")
@options.door_port
@options.of_cluster
def ls(
    search: str,
    namespace: str | None,
    everywhere: bool,
    output: str,
    watch: bool,
    port: int,
    kubeconfig: str | None,
    context: str | None,
    name: str | None,
) -> None:
    """List what you may reach: services, pods and nodes, with their state and their URLs behind `hatchway proxy`.

    SEARCH: only what has this in its name.
    """
    if namespace is not None and everywhere:
        raise click.BadParameter("choose this one or --all-namespaces", param_hint="--namespace")
    if watch and output == "yaml":
        raise click.BadParameter("yaml is not for --watch; choose json, a line for each change", param_hint="--output")
    import asyncio

    from hatchway.kube.connection import Connection

    connection = Connection.load(kubeconfig, options.context_of(name, context))
    spaces = None if everywhere else [namespace or connection.namespace]

    async def run() -> None:
        from hatchway.kube import catalog

        try:
            async with catalog.opened(connection, spaces, stay=watch) as view:
                _check_rights(view)
                screen = _Screen(view, spaces, search, output, port, catalog.entries)
                if spaces and not (view.services or view.pods):
                    await _check_namespace(connection, spaces[0], watch=watch)
                if watch:
                    await screen.for_ever()
                else:
                    screen.once()
        finally:
            await connection.aclose()

    asyncio.run(run())


def _check_rights(view: View) -> None:
    """Say what may not be seen; raise HatchwayError when nothing may."""
    refused = [scope for scope in view.scopes.values() if scope.namespaces == ()]
    if len(refused) == len(view.scopes):
        hint = f"an administrator can allow it with `kubectl apply -f -` and this:\n\n{view.scopes['services'].missing_rule}"
        raise HatchwayError(view.scopes["services"].reason, hint)
    for scope in view.scopes.values():
        if scope.reason:
            print(f"note: {scope.reason}", file=sys.stderr)


async def _check_namespace(connection: Connection, name: str, *, watch: bool) -> None:
    """Raise HatchwayError when there is no such namespace; who watches may wait for it."""
    from hatchway.door.lookup import Lookup

    similar = await Lookup(connection).instead_of_namespace(name)
    if similar is None:
        return
    message = f'there is no namespace "{name}" in {connection.label}'
    if watch:
        print(f"note: {message} yet", file=sys.stderr)
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
        entries: Callable[[View], list[Entry]],
    ) -> None:
        self._view = view
        self._spaces = spaces
        self._search = search.lower()
        self._output = output
        self._port = port
        self._entries = entries

    def _found(self) -> list[Entry]:
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
            print_data({"scopes": scopes, "items": items}, self._output)
        elif found and self._output == "name":
            print("\n".join(self._names(found)))
        elif found:
            print_table(self._table(found))
        else:
            print(self._nothing(), file=sys.stderr)

    def _nothing(self) -> str:
        what = f'nothing with "{self._search}" in its name' if self._search else "nothing to reach"
        if self._spaces is None:
            return f"{what} in this cluster; `kubectl create deployment` and `kubectl expose` make something"
        return f'{what} in namespace "{self._spaces[0]}"; `hatchway ls -A` looks everywhere'

    def _names(self, found: Iterable[Entry]) -> list[str]:
        """Return how each target is written on the command line, its namespace beside it where several are shown."""
        from hatchway.target import format_arguments

        return [format_arguments(entry.target) for entry in found]

    def _table(self, found: Iterable[Entry]) -> list[list[str]]:
        wide = self._output == "wide"
        header = ["NAMESPACE"] if self._spaces is None else []
        header += ["NAME", "READY", "PORTS", *(["TYPE", "ADDRESS"] if wide else []), "URL", "STATUS"]
        return [header, *(row for entry in found for row in self._rows(entry, wide))]

    def _rows(self, entry: Entry, wide: bool) -> list[list[str]]:
        """One line for a target; in the wide form one for each of its ports."""
        from hatchway.target import format_argument

        def row(links: tuple[Link, ...], url: str) -> list[str]:
            shown = [_port(link) for link in links]
            if len(shown) > _PORTS + 1:
                shown[_PORTS:] = [f"+{len(shown) - _PORTS}"]
            ports = ",".join(shown) or _NONE
            before = [entry.target.namespace or "-"] if self._spaces is None else []
            more = [entry.type, entry.address or _NONE] if wide else []
            ready = f"{entry.endpoints.ready}/{entry.endpoints.total}" if entry.endpoints.known else "?"
            return [*before, format_argument(entry.target), ready, ports, *more, url or _NONE, entry.status]

        if wide and entry.links:
            return [row((link,), entry.url(link, self._port)) for link in entry.links]
        return [row(entry.links, next((url for link in entry.links if (url := entry.url(link, self._port))), ""))]

    async def for_ever(self) -> None:
        """Show changes until cancelled: a terminal is drawn anew, everything else gets the lines that changed."""
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
            lines += [f"{state.name}: {state.reason}" if state.reason else f"{state.name} ...", ""]
        lines += aligned(self._table(found)) if found else [self._nothing()]
        # One write, so that no half picture is seen.
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
                print(f"{state}: {self._view.state.reason}".rstrip(": "), file=sys.stderr, flush=True)
            current: set[str] = set()
            if self._output == "name":
                lines = keys = self._names(self._found())
            elif self._output == "json":
                lines = [json.dumps(entry.as_dict(self._port)) for entry in self._found()]
                keys = lines
            else:
                table = self._table(self._found())
                keys = ["", *("\0".join(row) for row in table[1:])]
                lines = aligned(table)
            for key, line in zip(keys, lines, strict=True):
                if key not in known and (key or not begun):
                    print(line, flush=True)
                current.add(key)
            begun = True
            known.clear()
            known.update(current)

        return show


def _port(link: Link) -> str:
    plain = link.port.protocol == "TCP" and link.http is not False
    return str(link.port.number) if plain else f"{link.port.number}/{link.port.protocol}"
