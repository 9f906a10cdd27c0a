"""The standard streams of a container's process. Output is written to its log and sent to attached clients."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from hatchway.cluster.node.descriptorio import DescriptorReader, DescriptorWriter
from hatchway.cluster.node.logfiles import ContainerLog, LineEncoder, moment
from hatchway.cluster.runtime import ContainerProcess
from hatchway.cluster.terminalsize import set_terminal_size
from hatchway.wire import channels

# The maximum number of bytes of output that are read in one go. After that the container must wait, so that other pods'
# probes run.
_BURST_BYTES = 4 << 20
_BURST_SECONDS = 0.25
# An attached client that reads nothing is detached after this many seconds, because the container's output waits for
# the client.
STALLED_SECONDS = 10.0


class OutputWatcher(Protocol):
    """A client that is attached to a container."""

    def write_output(self, channel: int, data: bytes) -> bool:
        """Take a piece of output.

        channel: STDOUT or STDERR. Return False to get no more until `ContainerStreams.release`.

        Until then the container's output is not read.
        """
        ...

    def end_output(self, *, stalled: bool) -> None:
        """Handle the end of the output. stalled: True when the client has not read for too long."""
        ...


class _OutputReader:
    """Reads one stream of a container from a pipe or terminal into the log. descriptor: `close` closes it."""

    def __init__(self, owner: ContainerStreams, channel: int, descriptor: int) -> None:
        self._owner = owner
        self._channel = channel
        self._encoder = LineEncoder(b"stderr" if channel == channels.STDERR else b"stdout")
        self._descriptor = descriptor
        self._burst = 0
        self._burst_began = 0.0
        self._resume: asyncio.TimerHandle | None = None
        self._held = False
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._reader = DescriptorReader(descriptor, self._received, self.close)

    def close(self) -> None:
        """Stop reading, and write an incomplete last line. Idempotent."""
        if self._descriptor < 0:
            return
        if self._resume is not None:
            self._resume.cancel()
        self._reader.close()
        self._owner.close_descriptor(self._descriptor)
        self._descriptor = -1
        if rest := self._encoder.finish(moment()):
            self._owner.file.write(rest)
        if not self.ended.done():
            self.ended.set_result(None)

    def hold(self, held: bool) -> None:
        """Pause reading if `held`, else resume it."""
        self._held = held
        if held:
            self._reader.pause()
        elif self._resume is None:
            self._reader.resume()

    def _received(self, data: bytes) -> None:
        if lines := self._encoder.feed(data, moment()):
            self._owner.file.write(lines)
        self._throttle(len(data))
        self._owner.distribute(self._channel, data)

    def _throttle(self, size: int) -> None:
        now = time.monotonic()
        if now - self._burst_began > _BURST_SECONDS:
            self._burst_began, self._burst = now, 0
        self._burst += size
        if self._burst >= _BURST_BYTES:
            self._reader.pause()
            self._resume = self._loop.call_later(self._burst_began + _BURST_SECONDS - now, self._go_on)

    def _go_on(self) -> None:
        self._resume = None
        if not self._held:
            self._reader.resume()


class ContainerStreams:
    """The streams of one started process, its log, and its attached clients.

    Make it in an event loop. Raises OSError.

    file: its log.
    has_input: True when it has a standard input that stays open.
    has_terminal: True when its streams are a terminal.
    stdin, stdout, stderr: the descriptors for the process, -1 for none. `started` closes this process's copies.
    """

    def __init__(self, file: ContainerLog, *, has_input: bool = False, has_terminal: bool = False) -> None:
        self.file = file
        self.has_input = has_input
        self.has_terminal = has_terminal
        self.stdin = self.stdout = self.stderr = -1
        self._input = self._terminal = -1
        self._writer: DescriptorWriter | None = None
        self._unwritten: deque[tuple[int, Callable[[int], None]]] = deque()
        self._readers: list[_OutputReader] = []
        self._watchers: dict[OutputWatcher, asyncio.TimerHandle | None] = {}
        self._ending = False
        file.write(b"")
        try:
            if not has_terminal:
                if has_input:
                    self.stdin, self._input = os.pipe()
                self.stdout = self._pipe(channels.STDOUT)
                self.stderr = self._pipe(channels.STDERR)
        except BaseException:
            self.abandon()
            raise

    def _pipe(self, channel: int) -> int:
        reading, writing = os.pipe()
        self._readers.append(_OutputReader(self, channel, reading))
        return writing

    def started(self, process: ContainerProcess) -> None:
        """Take the terminal of the started process, or close this process's copies of its descriptors."""
        self._close_given()
        if self.has_terminal:
            self._terminal = process.terminal
            self._readers.append(_OutputReader(self, channels.STDOUT, self._terminal))
        if self.has_input and (target := self._terminal if self.has_terminal else self._input) >= 0:
            self._writer = DescriptorWriter(target, self._input_written, self._close_input)

    def _close_given(self) -> None:
        for name in ("stdin", "stdout", "stderr"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)

    # --- attached clients -----------------------------------------------------------------------------------------

    def attach(self, watcher: OutputWatcher) -> None:
        """Send the watcher all output from now on.

        If no output can follow, tell the watcher at once that the output has ended.
        """
        if self._ending and all(reader.ended.done() for reader in self._readers):
            watcher.end_output(stalled=False)
        else:
            self._watchers[watcher] = None

    def detach(self, watcher: OutputWatcher) -> None:
        """Send the watcher no more output. Idempotent."""
        self._drop_watcher(watcher)

    def release(self, watcher: OutputWatcher) -> None:
        """Resume reading the output, because the watcher has room."""
        timer = self._watchers.get(watcher)
        if timer is not None:
            timer.cancel()
            self._watchers[watcher] = None
            self._hold()

    def distribute(self, channel: int, data: bytes) -> None:
        """Send a piece of output to the attached clients."""
        stopped = [watcher for watcher in self._watchers if not watcher.write_output(channel, data)]
        for watcher in stopped:
            if not self._ending and self._watchers.get(watcher, self) is None:
                loop = asyncio.get_running_loop()
                self._watchers[watcher] = loop.call_later(STALLED_SECONDS, self._stalled, watcher)
        if stopped:
            self._hold()

    def _stalled(self, watcher: OutputWatcher) -> None:
        self._drop_watcher(watcher)
        watcher.end_output(stalled=True)

    def _drop_watcher(self, watcher: OutputWatcher) -> None:
        timer = self._watchers.pop(watcher, None)
        if timer is not None:
            timer.cancel()
            self._hold()

    def _hold(self) -> None:
        held = not self._ending and any(timer is not None for timer in self._watchers.values())
        for reader in self._readers:
            reader.hold(held)

    # --- the clients' input -----------------------------------------------------------------------------------------

    def write_input(self, data: bytes, written: Callable[[int], None]) -> None:
        """Write to the standard input.

        written: called with each number of bytes that the process has taken, or that were discarded.
        """
        if self._writer is None:
            written(len(data))
            return
        self._unwritten.append((len(data), written))
        self._writer.write(data)

    def end_input(self) -> None:
        """Close the standard input when all of it is written. A terminal stays open."""
        if self._writer is not None and not self.has_terminal:
            self._writer.finish()

    def _input_written(self, count: int) -> None:
        while count and self._unwritten:
            size, written = self._unwritten.popleft()
            taken = min(size, count)
            if taken < size:
                self._unwritten.appendleft((size - taken, written))
            count -= taken
            written(taken)

    def _close_input(self) -> None:
        """Close the standard input, and count the waiting bytes as written."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        if self._input >= 0:
            os.close(self._input)
            self._input = -1
        self._input_written(sum(size for size, _ in self._unwritten))

    def resize(self, width: int, height: int) -> None:
        """Set the terminal's size; nothing happens without a terminal."""
        if self._terminal >= 0:
            set_terminal_size(self._terminal, width, height)

    # --- the end --------------------------------------------------------------------------------------------------

    async def drain(self, patience: float = 2.0) -> None:
        """Read the rest of the output of a process that has ended, then close the log.

        patience: the maximum number of seconds to wait for descendants that outlive the process and keep the pipes
            open.
        """
        self._close_given()
        self._ending = True
        self._hold()
        if self._readers:
            await asyncio.wait([reader.ended for reader in self._readers], timeout=patience)
        self.abandon()

    def abandon(self) -> None:
        """Close everything now. Idempotent."""
        self._ending = True
        self._close_given()
        self._close_input()
        for reader in self._readers:
            reader.close()
        self.file.close()
        for watcher in list(self._watchers):
            self._drop_watcher(watcher)
            watcher.end_output(stalled=False)

    def close_descriptor(self, descriptor: int) -> None:
        """Close a reader's descriptor; for a terminal, also the writer's."""
        if descriptor == self._terminal:
            self._close_input()
            self._terminal = -1
        os.close(descriptor)
