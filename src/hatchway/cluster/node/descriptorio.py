"""Reads and writes processes' pipes and terminals in the event loop.

It does not use transports of the event loop, because uvloop closes a pipe's descriptor a second time after libuv has
closed it. If a thread has opened a file with the same number in between, that file would be closed.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable

# The capacity of a pipe, in bytes.
_PIECE = 65536


class DescriptorReader:
    """Reads a descriptor until its end, but does not close it. Make it in an event loop.

    descriptor: the descriptor of a pipe or a terminal; it is made non-blocking.
    received: called with each piece of at most 64 KiB.
    ended: called once, when the other ends are closed or the terminal has no more processes; not after `close`.
    """

    def __init__(self, descriptor: int, received: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._received = received
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._reading = False
        self.closed = False
        self.resume()

    def pause(self) -> None:
        """Pause reading until `resume`. Idempotent."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._descriptor)

    def resume(self) -> None:
        """Resume reading. Idempotent."""
        if not self._reading and not self.closed:
            self._reading = True
            self._loop.add_reader(self._descriptor, self._readable)

    def close(self) -> None:
        """Stop reading; the descriptor stays open. Idempotent."""
        self.pause()
        self.closed = True

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, _PIECE)
        except BlockingIOError:
            return
        except OSError as error:
            # The terminal's last process has closed it.
            if error.errno != errno.EIO:
                raise
            data = b""
        if data:
            self._received(data)
        else:
            self.close()
            self._ended()


class DescriptorWriter:
    """Writes to a descriptor, and queues bytes that it does not take yet. It does not close the descriptor.

    Must be made in an event loop.

    descriptor: the descriptor of a pipe or a terminal; it is made non-blocking.
    written: called with the number of bytes that were written, or dropped because the other end was closed.
    finished: called once, after `finish` when everything was written, or when the other end was closed.

    waiting: the number of queued bytes. The caller limits them by waiting for `written`.
    """

    def __init__(self, descriptor: int, written: Callable[[int], None], finished: Callable[[], None]) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._written = written
        self._finished = finished
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[bytes | memoryview] = deque()
        self._finishing = False
        self._watching = False
        self.closed = False
        self.waiting = 0

    def write(self, data: bytes) -> None:
        """Write `data`, or queue it. After `close`, or when the other end is closed, it is discarded."""
        if self.closed:
            self._written(len(data))
            return
        if data:
            self._pieces.append(data)
            self.waiting += len(data)
            if not self._watching:
                self._write()

    def finish(self) -> None:
        """Call `finished` when everything was written. Nothing may be written after that."""
        if not self.closed and not self._finishing:
            self._finishing = True
            if not self._pieces:
                self._end()

    def close(self) -> None:
        """Stop writing, and discard queued bytes; the descriptor stays open. Idempotent."""
        self.closed = True
        self._watch(False)
        self._pieces.clear()
        self.waiting = 0

    def _write(self) -> None:
        taken = 0
        try:
            while self._pieces:
                piece = self._pieces[0]
                count = os.write(self._descriptor, piece)
                taken += count
                if count < len(piece):
                    self._pieces[0] = memoryview(piece)[count:]
                else:
                    self._pieces.popleft()
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            # The other end was closed.
            taken = self.waiting
            self._finishing = True
            self._pieces.clear()
        self.waiting -= taken
        self._watch(bool(self._pieces))
        if taken:
            self._written(taken)
        if self._finishing and not self._pieces and not self.closed:
            self._end()

    def _watch(self, wanted: bool) -> None:
        if wanted and not self._watching:
            self._loop.add_writer(self._descriptor, self._write)
        elif self._watching and not wanted:
            self._loop.remove_writer(self._descriptor)
        self._watching = wanted

    def _end(self) -> None:
        self.close()
        self._finished()
