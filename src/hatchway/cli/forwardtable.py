"""The live table of `hatchway forward` in a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hatchway.cli.printing import aligned, size
from hatchway.forward.forwarder import LocalForward
from hatchway.route.podport import ReadyPods
from hatchway.target import format_argument

_HEADER = ("LOCAL", "TARGET", "PODS", "OPEN", "TOTAL", "SENT", "RECEIVED")
_HINT = "Ready. Ctrl-C ends it."


def render(
    forwards: Sequence[LocalForward], pods: Mapping[LocalForward, ReadyPods], columns: int, lines: int
) -> list[str]:
    """Return the table's lines. If a forward has a problem, it is printed below the forward's row.

    Args:
        forwards: the rows.
        pods: the ready pods behind each forward; a forward is missing while its pods are not known.
        columns: the maximum number of characters of a line.
        lines: the maximum number of lines; at least 2.
    """
    several = len({forward.planned.target.namespace for forward in forwards}) > 1
    header, *rows = aligned([_HEADER, *(_row(forward, pods.get(forward), several) for forward in forwards)])
    found = [header]
    for forward, row in zip(forwards, rows, strict=True):
        found.append(row)
        known = pods.get(forward)
        if why := forward.problem or (known.why if known is not None else ""):
            found.append(f"    {why}")
    # To draw the table again, the cursor must go back to the table's first line. So the table must not be higher than
    # the terminal.
    if len(found) + 1 > lines:
        found = [*found[: lines - 2], f"... and {len(found) - lines + 2} lines more"]
    return [_cut(line, columns) for line in [*found, _HINT]]


def _row(forward: LocalForward, found: ReadyPods | None, several: bool) -> tuple[str, ...]:
    planned = forward.planned
    where = f" -n {planned.target.namespace}" if several else ""
    return (
        str(forward.listen),
        f"{format_argument(replace(planned.target, port=''))}:{planned.port_name or planned.target.port}{where}",
        _count(found),
        str(len(forward.connections)),
        str(forward.total),
        size(forward.sent),
        size(forward.received),
    )


def _count(found: ReadyPods | None) -> str:
    """Return the number of ready pods; "" while it is not known, "-" for a target that is not reached through pods."""
    if found is None:
        return ""
    return str(len(found.pods)) if found.pods or not found.reachable else "-"


def _cut(line: str, columns: int) -> str:
    text = "".join(one if one.isprintable() else " " for one in line)
    return text if len(text) <= columns else text[: max(columns - 1, 0)] + "…"


class ForwardTable:
    """A table that is drawn again at the same place on the terminal; other lines are printed above it."""

    def __init__(self, forwards: Sequence[LocalForward]) -> None:
        self._forwards = forwards
        self._pods: dict[LocalForward, ReadyPods] = {}
        self._drawn: list[str] = []
        self.draw()

    def note_pods(self, forward: LocalForward, found: ReadyPods) -> None:
        """Set the pods that the next `draw` shows for a forward."""
        self._pods[forward] = found

    def forget(self, forward: LocalForward) -> None:
        """Remove the pods of a forward that is no longer in the table."""
        self._pods.pop(forward, None)

    def print_above(self, text: str) -> None:
        """Print permanent lines above the table."""
        self._clear()
        sys.stdout.write(text + "\n")
        self.draw()

    def draw(self) -> None:
        """Draw the table again at the same place, if it has changed."""
        terminal = shutil.get_terminal_size()
        lines = render(self._forwards, self._pods, terminal.columns - 1, max(3, terminal.lines - 1))
        if lines == self._drawn:
            return
        self._clear()
        sys.stdout.write("".join(line + "\n" for line in lines))
        sys.stdout.flush()
        self._drawn = lines

    def close(self) -> None:
        """Stop drawing; the last table remains on the terminal."""
        self._drawn = []

    def _clear(self) -> None:
        if self._drawn:
            sys.stdout.write(f"\x1b[{len(self._drawn)}A\x1b[J")
            self._drawn = []
