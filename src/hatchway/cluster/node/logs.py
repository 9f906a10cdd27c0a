"""Containers' output on disk: CRI's log format, rotation by size, and whoever follows it.

One file per attempt: `logs/NS_POD_UID/CONTAINER/N.log`; N is the container's restart count. A full file becomes
`N.log.1`, that one `N.log.2` and so on; readers that have it open keep what they have. A line of a file is
`2026-01-02T03:04:05.123456789Z stdout F text`: F ends a line of the container, P does not (lines over 16 KiB).
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
# A container that writes faster is made to wait, so that its output does not starve the other pods' probes.
_BURST_BYTES = 4 << 20
_BURST_SECONDS = 0.25
# What a pipe holds.
_PIECE = 65536


def pod_log_directory(logs: Path, namespace: str, name: str, uid: str) -> Path:
    return logs / f"{namespace}_{name}_{uid}"


def log_path(directory: Path, container: str, attempt: int) -> Path:
    """The log of a container's attempt below its pod's log directory."""
    return directory / container / f"{attempt}.log"


def encode(stream: bytes, data: bytes, moment: bytes, tag: bytes = b"F") -> bytes:
    """One line of a log file. data: without its newline."""
    return b"%b %b %b %b\n" % (moment, stream, tag, data)


class LineSplitter:
    """Cuts a stream into the lines of a log file. Pure."""

    def __init__(self, stream: bytes, limit: int = LINE_LIMIT) -> None:
        self._stream = stream
        self._limit = limit
        # Whether the last line that was told is a part whose end has not been told.
        self._open = False
        self._rest = bytearray()

    def feed(self, data: bytes, moment: bytes) -> bytes:
        """The file's lines that `data` completes."""
        limit = self._limit
        out = []
        self._rest += data
        *lines, rest = bytes(self._rest).split(b"\n")
        for line in lines:
            for start in range(0, max(len(line), 1), limit):
                tag = b"F" if start + limit >= len(line) else b"P"
                out.append(encode(self._stream, line[start : start + limit], moment, tag))
        # What is full by now is told at once; its line's end, which may still come, is then a part of its own.
        whole = len(rest) - len(rest) % limit
        out += [encode(self._stream, rest[start : start + limit], moment, b"P") for start in range(0, whole, limit)]
        self._open = whole > 0 or (self._open and not lines)
        self._rest = bytearray(rest[whole:])
        return b"".join(out)

    def finish(self, moment: bytes) -> bytes:
        """What is left when the stream ends without a newline."""
        if not self._rest and not self._open:
            return b""
        rest, self._rest = bytes(self._rest), bytearray()
        return encode(self._stream, rest, moment)


class LogFile:
    """The file of one attempt, written by one process at a time.

    closed: nothing more will come. Whoever follows waits on `changed`, which is set and replaced at each write.
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
        """Append whole lines. A full or broken disk loses them, never the container.

        Without data the file is made all the same: a container that says nothing has a log too.
        """
        try:
            self._append(data)
        except OSError as error:
            if not self._lost:
                log.warning("container output is lost: %s: %s", self.path, error.strerror)
            self._lost += len(data)
            return
        if self._lost:
            log.warning("container output is kept again; %d bytes were lost: %s", self._lost, self.path)
            self._lost = 0
        self._notify()

    def close(self) -> None:
        """No more will be written. Idempotent."""
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
            # A write that was cut short by a full disk left a line without its end.
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


class _Reader:
    """Moves one stream of a container from its pipe into the log. descriptor: the pipe's reading end, closed here.

    No transport of the event loop: uvloop's closes a pipe's descriptor a second time when libuv has closed it, and what
    a thread has opened in between under the same number is gone.
    """

    def __init__(self, stream: bytes, file: LogFile, descriptor: int) -> None:
        self._splitter = LineSplitter(stream)
        self._file = file
        self._descriptor = descriptor
        self._burst = 0
        self._burst_began = 0.0
        self._resume: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._readable)

    def close(self) -> None:
        """Read no more; what came without its line's end is told. Idempotent."""
        if self._descriptor < 0:
            return
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        if rest := self._splitter.finish(_moment()):
            self._file.write(rest)
        if not self.ended.done():
            self.ended.set_result(None)

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, _PIECE)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        if lines := self._splitter.feed(data, _moment()):
            self._file.write(lines)
        self._throttle(len(data))

    def _throttle(self, size: int) -> None:
        now = time.monotonic()
        if now - self._burst_began > _BURST_SECONDS:
            self._burst_began, self._burst = now, 0
        self._burst += size
        if self._burst >= _BURST_BYTES:
            self._loop.remove_reader(self._descriptor)
            self._resume = self._loop.call_later(self._burst_began + _BURST_SECONDS - now, self._go_on)

    def _go_on(self) -> None:
        self._resume = None
        self._loop.add_reader(self._descriptor, self._readable)


class Output:
    """The pipes of one started process, and the log that they lead into. Must be made in an event loop. Raises OSError.

    stdout, stderr: the descriptors to give to the process; `started` closes this side's copies of them.
    """

    def __init__(self, file: LogFile) -> None:
        self.file = file
        self.stdout = -1
        self.stderr = -1
        self._readers: list[_Reader] = []
        file.write(b"")
        try:
            self.stdout = self._pipe(b"stdout")
            self.stderr = self._pipe(b"stderr")
        except BaseException:
            self.abandon()
            raise

    def _pipe(self, stream: bytes) -> int:
        reading, writing = os.pipe()
        self._readers.append(_Reader(stream, self.file, reading))
        return writing

    def started(self) -> None:
        """The process has its copies: this side's writing ends are closed, so that the end of the stream is seen."""
        for name in ("stdout", "stderr"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)

    async def drain(self, patience: float = 2.0) -> None:
        """After the process has ended: wait for the rest of its output, then close the log.

        patience: how long, in seconds, a descendant that outlives the process may hold the pipes open.
        """
        self.started()
        if self._readers:
            await asyncio.wait([reader.ended for reader in self._readers], timeout=patience)
        self.abandon()

    def abandon(self) -> None:
        """Close everything now. Idempotent."""
        self.started()
        for reader in self._readers:
            reader.close()
        self.file.close()


def _moment() -> bytes:
    return clock.rfc3339_nano(time.time_ns()).encode()
