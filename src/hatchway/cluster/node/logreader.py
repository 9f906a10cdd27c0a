"""Reads containers' logs for `kubectl logs`.

Behaviour: `pkg/kubelet/kuberuntime/logs`, `staging/.../cri/client`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hatchway.cluster.node.logfiles import KEPT_FILES, ContainerLog

_BLOCK = 65536
# After this many seconds without new output, a follower checks if its file was rotated or removed.
_POLL_SECONDS = 10.0
_LAST_LINES, _LAST_BYTES = 80, 2048

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogReadOptions:
    """The fields of core/v1 PodLogOptions that the kubelet needs.

    since: an RFC 3339 time in UTC; "" for all lines.
    """

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: str = ""


class _Formatter:
    """Turns blocks of a log file into the client's output, within the client's limits."""

    def __init__(self, options: LogReadOptions) -> None:
        self._timestamps = options.timestamps
        self._since = _comparable(options.since.encode()) if options.since else b""
        self._left = options.limit_bytes
        self._rest = b""
        self._continues = False

    @property
    def exhausted(self) -> bool:
        return self._left is not None and self._left <= 0

    def feed(self, block: bytes) -> bytes:
        """Take a block of the file; return the output of the lines that it completes."""
        # Only a newline ends a line. A carriage return is part of the container's text.
        *lines, self._rest = (self._rest + block).split(b"\n")
        return b"".join(map(self._format, lines))

    def _format(self, line: bytes) -> bytes:
        """Return the output of one line, and count it; b"" if it is incomplete (the disk was full) or too old."""
        parts = line.split(b" ", 3)
        if len(parts) < 4:
            return b""
        moment, _, tag, text = parts
        if self._since and _comparable(moment) < self._since:
            return b""
        if self._timestamps and not self._continues:
            text = moment + b" " + text
        self._continues = tag == b"P"
        if not self._continues:
            text += b"\n"
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        return text


def _comparable(moment: bytes) -> bytes:
    """Return a UTC time of a log or of `sinceTime` with nine fractional digits, so that it can be compared as text."""
    whole, _, fraction = moment.rstrip(b"Z").partition(b".")
    return whole + b"." + fraction.ljust(9, b"0")


def parts_of(path: Path) -> list[Path]:
    """Return the existing files of one attempt, the oldest first."""
    older = [path.with_name(f"{path.name}.{number}") for number in range(KEPT_FILES - 1, 0, -1)]
    return [part for part in (*older, path) if part.exists()]


def tail_position(file: BinaryIO, lines: int) -> tuple[int, int]:
    """Return the offset where the last `lines` lines of a file begin, and their number.

    A last line without a newline does not count.
    """
    if lines <= 0:
        return file.seek(0, os.SEEK_END), 0
    position = file.seek(0, os.SEEK_END)
    found = 0
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        index = len(block)
        while (index := block.rfind(b"\n", 0, index)) >= 0:
            # The newline at the end of the file begins no further line.
            if found == lines:
                return position + index + 1, lines
            found += 1
    return 0, found


async def read_log(
    path: Path, options: LogReadOptions, live: ContainerLog | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield the log at `path`, including its rotated files, in chunks.

    With `options.follow` and `live`, it continues until `live` is closed; otherwise it stops at the current end of the
    log. It also stops when a limit of `options` is reached. Raises FileNotFoundError when there is no log.

    live: the log that a container is writing; None when it is not written any more.
    """
    formatter = _Formatter(options)
    current: BinaryIO | None = None
    opened: list[BinaryIO] = [part.open("rb") for part in parts_of(path)]
    try:
        if not opened and live is None:
            raise FileNotFoundError(path)
        # Without `follow`, stop at the current size, however fast the container writes.
        left = None if options.follow else sum(os.fstat(file.fileno()).st_size for file in opened)
        skipped = _seek(opened, options.tail_lines)
        if left is not None:
            left -= skipped
        while opened or (options.follow and live is not None):
            # Read these two values before the file, so that no write in between is missed.
            changed, ended = (live.changed, live.closed) if live is not None else (None, True)
            if current is None and not opened:
                opened = _newer(path, None)
            if opened:
                if current is not None:
                    current.close()
                current = opened.pop(0)
            while current is not None and (block := current.read(_BLOCK if left is None else min(_BLOCK, left))):
                if left is not None:
                    left -= len(block)
                if chunk := formatter.feed(block):
                    yield chunk
                if formatter.exhausted:
                    return
                await asyncio.sleep(0)
            if opened or not options.follow:
                continue
            opened = _newer(path, current)
            if not opened:
                if ended or changed is None:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECONDS):
                        await changed.wait()
    finally:
        for file in (*opened, *([current] if current else [])):
            file.close()


def _newer(path: Path, current: BinaryIO | None) -> list[BinaryIO]:
    """Open and return the log's files that are newer than `current`; all files if `current` is None or deleted."""
    parts = parts_of(path)
    if current is not None:
        own = os.fstat(current.fileno())
        for index, part in enumerate(parts):
            if os.path.samestat(own, part.stat()):
                parts = parts[index + 1 :]
                break
    return [part.open("rb") for part in parts]


def _seek(files: list[BinaryIO], lines: int | None) -> int:
    """Seek to the beginning of the last `lines` lines of all files together. Return the number of bytes before it."""
    if lines is None:
        return 0
    wanted, skipped = lines, 0
    for file in reversed(files):
        position, found = tail_position(file, wanted)
        skipped += file.seek(position)
        wanted -= found
    return skipped


async def last_lines(path: Path) -> str:
    """Return the end of a log, for the message of a container that has failed (FallbackToLogsOnError)."""
    chunks = []
    try:
        async for chunk in read_log(path, LogReadOptions(tail_lines=_LAST_LINES)):
            chunks.append(chunk)
    except OSError as error:
        log.debug("no last lines of %s: %s", path, error)
    return b"".join(chunks)[-_LAST_BYTES:].decode("utf-8", "replace")
