"""Shows the progress of a pull on standard error: a bar for each layer on a terminal, plain lines otherwise."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, TextIO

from hatchway.cli.printing import size
from hatchway.printable import printable

if TYPE_CHECKING:
    from hatchway.images.pulling.pull import Progress

# Seconds between two drawings.
_PAUSE = 0.1
# The characters of a full bar, and the columns of a terminal that the rest of a line needs besides the bar.
_BAR = 24
_NARROWEST = 40


class PullScreen:
    """The progress of one image's pull.

    name: the image's name, for the last line. quiet: True to print nothing. fetched: the bytes of all blobs that this
    pull has completed.
    """

    def __init__(self, name: str, *, quiet: bool, stream: TextIO | None = None) -> None:
        self.fetched = 0
        self._name = printable(name)
        self._quiet = quiet
        self._stream = sys.stderr if stream is None else stream
        self._live = not quiet and self._stream.isatty()
        self._blobs: dict[str, Progress] = {}
        # The number of bytes of each blob that the store had before this pull.
        self._offsets: dict[str, int] = {}
        self._begun = time.monotonic()
        self._next = self._begun
        self._lines = 0

    def show(self, progress: Progress) -> None:
        """Record a change, and draw at most every 0.1 s.

        Without a terminal, a line is printed when the state of a blob changes.
        """
        known = self._blobs.get(progress.digest)
        if progress.digest:
            self._blobs[progress.digest] = progress
        if progress.state == "downloading":
            self._offsets.setdefault(progress.digest, progress.done)
        elif progress.state == "complete":
            self.fetched += progress.total - self._offsets.get(progress.digest, 0)
        if self._quiet:
            return
        if not self._live:
            if known is None or known.state != progress.state:
                self._print(progress)
            return
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PAUSE
            self._draw()

    def close(self) -> None:
        """Remove the bars."""
        if self._lines:
            self._stream.write(self._above() + "\x1b[J")
            self._stream.flush()
            self._lines = 0

    def _print(self, progress: Progress) -> None:
        short = _short(progress.digest)
        if progress.state == "complete":
            print(f"{short}: fetched, {size(progress.total)}", file=self._stream, flush=True)
        elif progress.state == "exists":
            print(f"{short}: already there", file=self._stream, flush=True)
        elif progress.state == "retrying":
            print(f"{short}: {printable(progress.note)}; trying again", file=self._stream, flush=True)

    def _draw(self) -> None:
        columns, rows = shutil.get_terminal_size()
        shown = list(self._blobs.values())
        # When the terminal has too few lines for all layers, show only those in progress.
        if len(shown) + 2 > rows:
            shown = [one for one in shown if one.state in ("downloading", "retrying")][: max(rows - 2, 1)]
        lines = [self._line(one, columns) for one in shown]
        lines.append(self._total(columns))
        self._stream.write(self._above() + "".join(f"\x1b[K{line}\n" for line in lines) + "\x1b[J")
        self._stream.flush()
        self._lines = len(lines)

    def _above(self) -> str:
        """Return the control sequence that moves the cursor to the first drawn line."""
        return f"\r\x1b[{self._lines}A" if self._lines else "\r"

    def _line(self, one: Progress, columns: int) -> str:
        match one.state:
            case "waiting":
                text = "waiting"
            case "exists":
                text = "already there"
            case "complete":
                text = f"fetched   {size(one.total)}"
            case "retrying":
                text = f"{printable(one.note)}; trying again"
            case "downloading":
                share = one.done / one.total if one.total else 1.0
                full = int(share * _BAR)
                bar = "=" * full + (">" if full < _BAR else "")
                counts = f"{size(one.done)} of {size(one.total)}"
                text = f"[{bar.ljust(_BAR)}] {counts}" if columns >= _NARROWEST + _BAR else counts
        return f"{_short(one.digest)}  {text}"[: columns - 1]

    def _total(self, columns: int) -> str:
        blobs = self._blobs.values()
        total = sum(one.total for one in blobs)
        done = sum(one.done for one in blobs)
        if not blobs:
            return f"{self._name}: asking the registry"[: columns - 1]
        known = sum(self._offsets.get(one.digest, one.done) for one in blobs)
        rate = (done - known) / max(time.monotonic() - self._begun, 0.1)
        return f"{self._name}: {size(done)} of {size(total)}, {size(int(rate))}/s"[: columns - 1]


def _short(digest: str) -> str:
    """Return the twelve digits by which Docker shows a layer."""
    return digest.partition(":")[2][:12]
