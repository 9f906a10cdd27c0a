"""Writes containers' output to disk in CRI's log format, and rotates the files by size.

Each attempt has a file `logs/NS_POD_UID/CONTAINER/N.log`, where N is the container's restart count. A full file is
renamed to `N.log.1`, `N.log.1` to `N.log.2` and so on; readers that have a file open continue to read it. A line of a
file is `2026-01-02T03:04:05.123456789Z stdout F text`. F marks a complete line, or the last part of a line; P marks the
other parts of a line over 16 KiB.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

from hatchway.cluster.node import clock

log = logging.getLogger(__name__)

ROTATE_BYTES = 10 << 20
KEPT_FILES = 5
LINE_LIMIT = 16384
# A file in a pod's log directory that contains the name of the pod's node, for log collectors and for the node's API.
NODE_FILE = ".node"


def pod_log_directory(logs: Path, namespace: str, name: str, uid: str) -> Path:
    """Return the directory of a pod's logs."""
    return logs / f"{namespace}_{name}_{uid}"


def log_path(directory: Path, container: str, attempt: int) -> Path:
    """Return the path of the log of a container's attempt. directory: the pod's log directory."""
    return directory / container / f"{attempt}.log"


def log_bytes(directory: Path) -> int:
    """Return the total size of a container's logs in bytes. directory: the container's log directory."""
    return sum(_size(file) for file in directory.glob("*.log*"))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        # The file was removed by a rotation in between.
        return 0


def encode(stream: bytes, data: bytes, moment: bytes, tag: bytes = b"F") -> bytes:
    """Return one line of a log file. data: the output, without a newline."""
    return b"%b %b %b %b\n" % (moment, stream, tag, data)


class LineEncoder:
    """Turns the output of a container into lines of its log file. Pure.

    stream: `stdout` or `stderr`, which is written into each line.
    limit: the maximum number of bytes of output in one line of the file; longer lines are split into parts (tag P).
    """

    def __init__(self, stream: bytes, limit: int = LINE_LIMIT) -> None:
        self._stream = stream
        self._limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes, moment: bytes) -> bytes:
        """Add output of the container; return the lines of the log file that are now complete."""
        limit = self._limit
        out = []
        self._rest += data
        *lines, rest = bytes(self._rest).split(b"\n")
        for line in lines:
            for start in range(0, max(len(line), 1), limit):
                tag = b"F" if start + limit >= len(line) else b"P"
                out.append(encode(self._stream, line[start : start + limit], moment, tag))
        # Parts of the full length are written at once. The rest of the line follows as another part.
        whole = len(rest) - len(rest) % limit
        out += [encode(self._stream, rest[start : start + limit], moment, b"P") for start in range(0, whole, limit)]
        self._rest = bytearray(rest[whole:])
        return b"".join(out)

    def finish(self, moment: bytes) -> bytes:
        """End the stream; return the log file's line for an unfinished last line, b"" when there is none.

        This line has the tag P, so that readers do not add a newline.
        """
        if not self._rest:
            return b""
        rest, self._rest = bytes(self._rest), bytearray()
        return encode(self._stream, rest, moment, b"P")


class ContainerLog:
    """The file of one attempt, written by one process at a time.

    closed: True when nothing more will be written.
    changed: an event that is set at each write and then replaced by a new one; followers wait for it.
    """

    def __init__(self, path: Path, *, rotate_bytes: int = ROTATE_BYTES, kept: int = KEPT_FILES) -> None:
        self.path = path
        self.closed = False
        self.changed = asyncio.Event()
        self._rotate_bytes = rotate_bytes
        self._kept = kept
        self._fd = -1
        self._size = 0
        self._lost = 0
        self._torn = False

    def write(self, data: bytes) -> None:
        """Append complete lines. When the disk is full or broken, the lines are lost, but the container continues.

        The file is created even if `data` is empty, so that a container without output has a log, too.
        """
        try:
            self._append(data)
        except OSError as error:
            if not self._lost:
                log.warning("container output is lost: %s: %s", self.path, error.strerror)
            self._lost += len(data)
            return
        if self._lost:
            log.warning("container output is written again; %d bytes were lost: %s", self._lost, self.path)
            self._lost = 0
        self._notify()

    def close(self) -> None:
        """Stop writing. Idempotent."""
        self.closed = True
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._notify()

    def _append(self, data: bytes) -> None:
        if self._fd < 0:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._fd).st_size
        elif self._size >= self._rotate_bytes:
            self._rotate()
        if self._torn:
            # The last write was cut off by a full disk, so begin a new line.
            data = b"\n" + data
        written = os.write(self._fd, data)
        self._size += written
        self._torn = written > 0 and data[written - 1 : written] != b"\n"
        if written < len(data):
            raise OSError(28, "no space left on device")

    def _rotate(self) -> None:
        for number in range(self._kept - 2, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            if older.exists():
                os.replace(older, self.path.with_name(f"{self.path.name}.{number + 1}"))
        os.replace(self.path, self.path.with_name(f"{self.path.name}.1"))
        os.close(self._fd)
        self._fd = -1
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = 0

    def _notify(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


def moment() -> bytes:
    """Return the current time in the format of log lines."""
    return clock.rfc3339_nano(time.time_ns()).encode()
