"""Splits a container's log into lines, each with its time, so that reading can continue after an interruption. Pure.

With `timestamps=true`, each line begins with its time in RFC 3339 with nanoseconds, and a space
(kubelet `pkg/kubelet/kuberuntime/logs/logs.go`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from enum import Enum
from typing import Final

# A line with more bytes than this is passed on in pieces, because a pod may write without end and without a newline.
PIECE: Final = 1 << 18
_STAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)\Z")
# A time that was cut off at the end of a body.
_CUT_STAMP: Final = re.compile(rb"\d{1,4}\Z|\d{4}-[\dT:.Z+-]{0,36}\Z")
_LONGEST_STAMP: Final = 40


class LineCutter:
    """Cuts a stream of bytes into lines, in bounded memory.

    A piece ends with a newline, except the stream's last piece and pieces of lines that are longer than `PIECE`.
    """

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, with their newlines, and pieces of a line that grows too long."""
        *lines, rest = data.split(b"\n")
        found = [line + b"\n" for line in lines]
        if found and self._rest:
            found[0] = bytes(self._rest) + found[0]
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > PIECE:
            found.append(bytes(self._rest))
            self._rest.clear()
        return found

    def end(self) -> bytes:
        """End the input; return the text after the last newline."""
        found = bytes(self._rest)
        self._rest.clear()
        return found


class _Line(Enum):
    """The state of a line after an interruption: new, read completely before it, or read in part before it."""

    NEW, REPEATED, CONTINUED = range(3)


class LogReader:
    """Turns the bodies of log requests with timestamps into lines, without repetitions after interruptions.

    After an interruption, the log is requested again from the time of the last line, in whole seconds. Text that was
    read before is left out: whole lines, and the beginning of a line that the former body did not contain completely.
    """

    def __init__(self, *, keep_stamps: bool, stamped: bool = True) -> None:
        """Begin before the first line.

        Args:
            keep_stamps: True to leave the time at the beginning of each line.
            stamped: False when no times were requested: lines are passed on as they are, and cannot be recognized after
                a `restart`.
        """
        self._keep_stamps = keep_stamps
        self._stamped = stamped
        self._cutter = LineCutter()
        self._last = b""
        self._last_time = 0
        # Two numbers of lines with the same time as the last line: of all such lines, and of those since the last
        # `restart`.
        self._seen = self._again = 0
        self._replaying = False
        # How many bytes of the last line, without its time, were passed on; None when the whole line was.
        self._passed: int | None = None
        # How many of these bytes are still to be left out of the line that is being read.
        self._skip = 0
        # `_inside`: True while the end of a line has not arrived. `_dropping`: True when this line is left out.
        # `_is_last`: True when this line has a time, so that `_passed` counts its bytes.
        self._inside = self._dropping = self._is_last = False

    @property
    def last_stamp(self) -> str:
        """Return the time of the last line, in the format of `sinceTime`; "" before the first line."""
        return self._last.decode("ascii", "replace")

    def restart(self) -> None:
        """Begin with a new body."""
        self._cutter = LineCutter()
        self._inside = self._dropping = self._is_last = False
        self._replaying = bool(self._last)
        self._again = self._skip = 0

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Yield each new piece that `data` completes, as (piece, True when a line begins with it)."""
        for piece in self._cutter.feed(data):
            yield from self._take(piece)

    def end(self) -> Iterator[tuple[bytes, bool]]:
        """End the input; yield the text after the last newline as `feed` does. A time that is cut off is left out."""
        piece = self._cutter.end()
        if piece and not (self._stamped and not self._inside and _CUT_STAMP.match(piece)):
            yield from self._take(piece)

    def _take(self, piece: bytes) -> Iterator[tuple[bytes, bool]]:
        begins = not self._inside
        self._inside = not piece.endswith(b"\n")
        if not begins:
            if not self._dropping:
                yield from self._pass_on(piece)
            return
        stamp, blank, rest = piece[:_LONGEST_STAMP].partition(b" ")
        when = parse_stamp(stamp) if blank and self._stamped else None
        if when is None:
            # The line has no time: it is a message of the container runtime, or the server sends no times.
            self._dropping = self._is_last = False
            yield piece, True
            return
        kind = self._classify(stamp, when)
        self._dropping, self._is_last = kind is _Line.REPEATED, True
        text = rest + piece[_LONGEST_STAMP:]
        if kind is _Line.NEW:
            self._passed = None if text.endswith(b"\n") else len(text)
            yield (piece if self._keep_stamps else text), True
        elif kind is _Line.CONTINUED:
            self._skip = self._passed or 0
            yield from self._pass_on(text)

    def _pass_on(self, text: bytes) -> Iterator[tuple[bytes, bool]]:
        """Yield the next text of a line, without the bytes that were passed on before."""
        skipped = min(self._skip, len(text.removesuffix(b"\n")))
        self._skip -= skipped
        text = text[skipped:]
        if self._is_last and self._passed is not None:
            self._passed = None if text.endswith(b"\n") else self._passed + len(text)
        if text:
            yield text, False

    def _classify(self, stamp: bytes, when: int) -> _Line:
        if self._replaying:
            if when < self._last_time:
                return _Line.REPEATED
            if when == self._last_time:
                self._again += 1
                if self._again == self._seen and self._passed is not None:
                    return _Line.CONTINUED
                if self._again <= self._seen:
                    return _Line.REPEATED
            else:
                self._replaying = False
        if when == self._last_time:
            self._seen += 1
        else:
            self._last, self._last_time, self._seen = stamp, when, 1
        return _Line.NEW


def parse_stamp(stamp: bytes) -> int | None:
    """Return a time in RFC 3339 as nanoseconds since 1970; None for other text."""
    found = _STAMP.match(stamp)
    if found is None:
        return None
    whole, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat((whole + (b"+00:00" if zone == b"Z" else zone)).decode())
        seconds = int(moment.timestamp())
    except (ValueError, OverflowError):
        return None
    return seconds * 1_000_000_000 + int((fraction or b"0").ljust(9, b"0"))
