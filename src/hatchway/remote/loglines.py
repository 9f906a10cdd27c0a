"""Splits a container's log into lines, each with its time, so that reading can continue after an interruption. Pure.

With `timestamps=true`, each line begins with its time in RFC 3339 with nanoseconds, and a space
(kubelet `pkg/kubelet/kuberuntime/logs/logs.go`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

# A line with more bytes than this is passed on in pieces, because a pod may write without end and without a newline.
PIECE: Final = 1 << 18
_STAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)\Z")
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


class LogReader:
    """Turns the bodies of log requests with timestamps into lines, without repetitions after interruptions.

    After an interruption, the log is requested again from the time of the last line, in whole seconds. Lines that were
    read before are then left out.
    """

    def __init__(self, *, keep_stamps: bool) -> None:
        """Begin before the first line. keep_stamps: True to leave the time at the beginning of each line."""
        self._keep_stamps = keep_stamps
        self._cutter = LineCutter()
        self._last = b""
        self._last_time = 0
        # The number of lines with the same time as the last line: all such lines, and such lines since the last
        # `restart`.
        self._seen = self._again = 0
        self._replaying = False
        # True inside a line whose end has not arrived; and True when that line is left out.
        self._inside = self._dropping = False

    @property
    def last_stamp(self) -> str:
        """Return the time of the last line, in the format of `sinceTime`; "" before the first line."""
        return self._last.decode("ascii", "replace")

    def restart(self) -> None:
        """Begin with a new body."""
        self._cutter = LineCutter()
        self._inside = self._dropping = False
        self._replaying = bool(self._last)
        self._again = 0

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Yield each new piece that `data` completes, as (piece, True when a line begins with it)."""
        for piece in self._cutter.feed(data):
            yield from self._take(piece)

    def end(self) -> Iterator[tuple[bytes, bool]]:
        """End the input; yield the text after the last newline as `feed` does."""
        piece = self._cutter.end()
        if piece:
            yield from self._take(piece)

    def _take(self, piece: bytes) -> Iterator[tuple[bytes, bool]]:
        begins = not self._inside
        self._inside = not piece.endswith(b"\n")
        if not begins:
            if not self._dropping:
                yield piece, False
            return
        stamp, blank, rest = piece[:_LONGEST_STAMP].partition(b" ")
        when = parse_stamp(stamp) if blank else None
        if when is None:
            # The line has no time: it is a message of the container runtime, or the server sends no times.
            self._dropping = False
            yield piece, True
            return
        self._dropping = not self._is_new(stamp, when)
        if not self._dropping:
            yield (piece if self._keep_stamps else rest + piece[_LONGEST_STAMP:]), True

    def _is_new(self, stamp: bytes, when: int) -> bool:
        if self._replaying:
            if when < self._last_time:
                return False
            if when == self._last_time:
                self._again += 1
                if self._again <= self._seen:
                    return False
            else:
                self._replaying = False
        if when == self._last_time:
            self._seen += 1
        else:
            self._last, self._last_time, self._seen = stamp, when, 1
        return True


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
