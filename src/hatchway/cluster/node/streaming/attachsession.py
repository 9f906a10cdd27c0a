"""Attaches a client to the first process of a container (`kubectl attach`, `kubectl run -it`)."""

from __future__ import annotations

import asyncio

from hatchway.cluster.node.containerstreams import STALLED_SECONDS, ContainerStreams
from hatchway.cluster.node.streaming.command import CommandClient, CommandEnd, Spawn, WantedStreams
from hatchway.wire import channels


class AttachSession:
    """The session of a client that gets a container's output from now on, and writes to its input (`CommandSession`).

    If the client ends its input but the container's input stays open, the session ends, as with containerd.

    source: the container's streams.
    once: True when the container's standard input ends together with the first client's (stdinOnce).
    spawn: runs a coroutine as a task.
    """

    def __init__(self, source: ContainerStreams, streams: WantedStreams, spawn: Spawn, *, once: bool) -> None:
        self._spawn = spawn
        self._source = source
        self._streams = streams
        self._once = once
        self._client: CommandClient | None = None
        self._full: set[int] = set()
        self._end: asyncio.Future[CommandEnd | None] = asyncio.get_running_loop().create_future()

    # Methods that the client's connection calls

    def begin(self, client: CommandClient) -> None:
        """Attach."""
        self._client = client
        self._source.attach(self)
        self._spawn(self._run())

    def receive_input(self, data: bytes) -> None:
        """Write to the container."""
        self._source.write_input(data, self._written)

    def end_input(self) -> None:
        """End the container's input (stdinOnce), or the session."""
        if self._once and not self._source.has_terminal:
            self._source.end_input()
        elif not self._end.done():
            self._end.set_result(CommandEnd(0))

    def resize(self, width: int, height: int) -> None:
        """Set the terminal's size."""
        self._source.resize(width, height)

    def resume_output(self, channel: int) -> None:
        """Read the container's output again."""
        self._full.discard(channel)
        if not self._full:
            self._source.release(self)

    def lose_client(self) -> None:
        """Detach."""
        self._client = None
        if not self._end.done():
            self._end.set_result(None)

    # Methods that the container's streams call

    def write_output(self, channel: int, data: bytes) -> bool:
        """Send a piece of output if the client wants that channel."""
        wanted = self._streams.stderr if channel == channels.STDERR else self._streams.stdout
        if wanted and self._client is not None and not self._client.send(channel, data):
            self._full.add(channel)
        return not self._full

    def end_output(self, *, stalled: bool) -> None:
        """End the session: the container has ended, or the client has not read for too long."""
        if not self._end.done():
            message = f"the client has read nothing for {STALLED_SECONDS:g} seconds, and the container waited for it"
            self._end.set_result(
                CommandEnd(None, f"error attaching to container: {message}") if stalled else CommandEnd(0)
            )

    # The session's task

    async def _run(self) -> None:
        """Wait for the end of the container, of the client, or of the client's input."""
        try:
            end = await self._end
            if end is not None and self._client is not None:
                self._client.finish(end)
        finally:
            client, self._client = self._client, None
            self._source.detach(self)
            if client is None and self._streams.stdin and self._once and not self._source.has_terminal:
                # The client was lost before its input ended.
                self._source.end_input()

    def _written(self, count: int) -> None:
        if self._client is not None:
            self._client.consume_input(count)
