"""Upgraded connections: two transports joined byte for byte, after a 101 and never before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hatchway.proxy.context import Context


class _End(asyncio.Protocol):
    """One side; what it receives is written to the other side. The first side that ends closes both."""

    __slots__ = ("_context", "_done", "_poll", "lost", "other", "received", "transport", "write")

    other: _End

    def __init__(self, context: Context, transport: asyncio.Transport, received: int, done: Callable[[], None]) -> None:
        self._context = context
        self._done = done
        self.transport = transport
        self.received = received
        self.lost = False
        self.write = transport.write
        self._poll = context.busy_poll

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.other.write(data)
        poll = self._poll
        poll.new += 1
        if not poll.awake:
            poll.begin()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.write = _nowhere
        self._context.transport_lost(self.transport)
        if self.other.lost:
            self._done()
        else:
            self._context.close_transport(self.other.transport)

    def pause_writing(self) -> None:
        if not self.other.lost and not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.lost and not self.other.transport.is_closing():
            self.other.transport.resume_reading()


def _nowhere(data: bytes | bytearray | memoryview) -> None:
    """Where bytes for a side that is gone are written to."""


def splice(
    context: Context,
    done: Callable[[int, int], None],
    client: asyncio.Transport,
    upstream: asyncio.Transport,
    early: int,
    rest: int,
) -> None:
    """Join two transports until one ends. `done` is then called with the bytes from the client and to it.

    early, rest: how many bytes were passed on already, up and down.
    """

    def finished() -> None:
        done(down.received, up.received)

    # What comes from the client goes up; named after where each end's bytes come from, not where they go.
    down = _End(context, client, early, finished)
    up = _End(context, upstream, rest, finished)
    down.other, up.other = up, down
    client.set_protocol(down)
    upstream.set_protocol(up)
    for end in (down, up):
        # A side that was closed while the other protocol was in charge will not be reported again.
        if end.transport.is_closing():
            context.close_transport(end.other.transport)
    if client.get_write_buffer_size() > context.limits.buffer:
        down.pause_writing()
    if upstream.get_write_buffer_size() > context.limits.buffer:
        up.pause_writing()
