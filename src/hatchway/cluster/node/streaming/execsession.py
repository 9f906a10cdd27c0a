"""Runs a process in a running container for a client (`kubectl exec`).

As with containerd, a process is not killed when its client disconnects: its standard input ends, its output is
discarded, and its terminal hangs up (SIGHUP). So the process of `kubectl exec POD -- sleep 1000` continues, and a shell
ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any, Final

from hatchway.cluster.node.container import ContainerWorker
from hatchway.cluster.node.descriptorio import DescriptorReader, DescriptorWriter
from hatchway.cluster.node.streaming.command import CommandClient, CommandEnd, Spawn, WantedStreams
from hatchway.cluster.runtime import ContainerProcess, StartError
from hatchway.cluster.terminalsize import set_terminal_size
from hatchway.wire import channels

# Clients send the terminal's size right after their request. The start of the program waits this many seconds for the
# size, or until input arrives.
_SIZE_SECONDS: Final = 1.0
# After the process has ended, its descendants may keep its output open. The output counts as ended when they have
# written nothing for this many seconds.
_SILENT_SECONDS: Final = 2.0


class ExecSession:
    """The session of one command (`CommandSession`). spawn: runs a coroutine as a task."""

    def __init__(self, container: ContainerWorker, argv: list[str], streams: WantedStreams, spawn: Spawn) -> None:
        self._spawn = spawn
        self._container = container
        self._argv = argv
        self._streams = streams
        self._client: CommandClient | None = None
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sized = asyncio.Event()
        self._size: tuple[int, int] | None = None
        self._descriptors: dict[str, int] = {}
        self._readers: dict[int, DescriptorReader] = {}
        self._open: set[int] = set()
        self._full: set[int] = set()
        self._flowed = asyncio.Event()
        self._writer: DescriptorWriter | None = None
        self._early: list[bytes] = []
        self._input_ended = False

    # Methods that the client's connection calls

    def begin(self, client: CommandClient) -> None:
        """Start the process."""
        self._client = client
        self._spawn(self._run(client))

    def receive_input(self, data: bytes) -> None:
        """Write to the process, or queue the input until the process starts. Flow control limits the queue."""
        if self._writer is not None:
            self._writer.write(data)
        else:
            self._early.append(data)
            self._sized.set()

    def end_input(self) -> None:
        """Close the standard input when all of it was written. The input of a terminal cannot be closed."""
        self._input_ended = True
        if self._writer is not None and not self._streams.tty:
            self._writer.finish()

    def resize(self, width: int, height: int) -> None:
        """Set the terminal's size, or store it for the start."""
        self._size = width, height
        self._sized.set()
        if (terminal := self._descriptors.get("terminal", -1)) >= 0:
            set_terminal_size(terminal, width, height)

    def resume_output(self, channel: int) -> None:
        """Resume reading the process's output."""
        if channel in self._full:
            self._full.discard(channel)
            self._flowed.set()
            if channel in self._readers:
                self._readers[channel].resume()

    def lose_client(self) -> None:
        """End the session; the process continues."""
        self._client = None
        if not self._lost.done():
            self._lost.set_result(None)

    # The session's task

    async def _run(self, client: CommandClient) -> None:
        """Run the process, and send its result to the client. When cancelled, disconnect from the process."""
        try:
            await self._serve(client)
        finally:
            self._disconnect()

    async def _serve(self, client: CommandClient) -> None:
        try:
            process = await self._start()
        except (StartError, OSError) as error:
            self._tell(CommandEnd(None, _failure(error)))
            return
        exiting = asyncio.ensure_future(process.wait())
        try:
            either: list[asyncio.Future[Any]] = [exiting, self._lost]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if exiting.done():
                await self._drain()
                self._tell(CommandEnd(exiting.result().code))
        finally:
            exiting.cancel()

    def _tell(self, end: CommandEnd) -> None:
        if self._client is not None:
            self._client.finish(end)

    async def _start(self) -> ContainerProcess:
        """Start the process and connect it with the client. Raises StartError, OSError."""
        if self._streams.tty:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SIZE_SECONDS):
                    await self._sized.wait()
            size = self._size
            process = await self._container.execute(self._argv, terminal=True, size=size)
            terminal = self._descriptors["terminal"] = process.terminal
            if self._size is not None and self._size != size:
                set_terminal_size(terminal, *self._size)
            if self._streams.stdin:
                self._write(DescriptorWriter(terminal, self._written, lambda: None))
            self._read("terminal", channels.STDOUT)
            return process
        given = {"stdin": -1, "stdout": -1, "stderr": -1}
        try:
            for name, wanted in (("stdout", self._streams.stdout), ("stderr", self._streams.stderr)):
                if wanted:
                    self._descriptors[name], given[name] = os.pipe()
                else:
                    given[name] = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            if self._streams.stdin:
                given["stdin"], self._descriptors["stdin"] = os.pipe()
                self._write(DescriptorWriter(self._descriptors["stdin"], self._written, self._close_input))
            process = await self._container.execute(
                self._argv, stdin=given["stdin"], stdout=given["stdout"], stderr=given["stderr"]
            )
        finally:
            for descriptor in given.values():
                if descriptor >= 0:
                    os.close(descriptor)
        for name, channel in (("stdout", channels.STDOUT), ("stderr", channels.STDERR)):
            if name in self._descriptors:
                self._read(name, channel)
        return process

    def _write(self, writer: DescriptorWriter) -> None:
        self._writer = writer
        early, self._early = self._early, []
        for data in early:
            writer.write(data)
        if self._input_ended and not self._streams.tty:
            writer.finish()

    def _read(self, name: str, channel: int) -> None:
        def received(data: bytes) -> None:
            self._flowed.set()
            if self._client is not None and not self._client.send(channel, data):
                self._full.add(channel)
                self._readers[channel].pause()

        def ended() -> None:
            self._open.discard(channel)
            self._flowed.set()

        self._open.add(channel)
        self._readers[channel] = DescriptorReader(self._descriptors[name], received, ended)

    async def _drain(self) -> None:
        """Wait until all output of the process was sent to the client."""
        while (self._open or self._full) and self._client is not None:
            self._flowed.clear()
            flowed = asyncio.ensure_future(self._flowed.wait())
            # The timeout is for descendants of the process that keep the output open, not for a client that reads
            # slowly.
            patience = None if self._full else _SILENT_SECONDS
            waited: list[asyncio.Future[Any]] = [flowed, self._lost]
            done, _ = await asyncio.wait(waited, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            flowed.cancel()
            if not done:
                return

    def _written(self, count: int) -> None:
        if self._client is not None:
            self._client.consume_input(count)

    def _close_input(self) -> None:
        descriptor = self._descriptors.pop("stdin", -1)
        if descriptor >= 0:
            os.close(descriptor)

    def _disconnect(self) -> None:
        """Close this end: the process's input ends, its output fails (EPIPE), or its terminal hangs up."""
        self._client = None
        for reader in self._readers.values():
            reader.close()
        if self._writer is not None:
            self._writer.close()
        for descriptor in self._descriptors.values():
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptors.clear()


def _failure(error: StartError | OSError) -> str:
    why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    return (
        "Internal error occurred: error executing command in container: failed to exec in container: failed to start "
        f"exec: OCI runtime exec failed: exec failed: unable to start container process: {why}: unknown"
    )
