"""Relay upgraded connections: join the client's and the upstream's transports byte for byte, after a 101."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hatchway.proxy.context import Context
from hatchway.proxy.contracts import ExchangeClient


class _End(asyncio.Protocol):
    """The protocol of one of the two transports: writes what it receives to the other one. An end of one closes both.

    client: this is the client's side. When the client resets, the upstream's side is closed at once; when the upstream
        ends, the client still gets the bytes that were written before.
    drained: called once the write buffer is sent.
    """

    __slots__ = (
        "_client",
        "_context",
        "_done",
        "_paused",
        "_poll",
        "drained",
        "lost",
        "other",
        "received",
        "transport",
        "write",
    )

    other: _End

    def __init__(
        self, context: Context, transport: asyncio.Transport, received: int, done: Callable[[], None], client: bool
    ) -> None:
        self._context = context
        self._client = client
        self._paused = False
        self._done = done
        self.transport = transport
        self.received = received
        self.lost = False
        self.drained: Callable[[], None] | None = None
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
        other = self.other
        if other.lost:
            self._done()
            # Without this, only the garbage collector would free the ends, which refer to each other.
            del self.other, other.other, self._done, other._done
        elif self._client and (exc is not None or self._paused):  # while it is not read, only a reset is noticed
            other.transport.abort()
        else:
            self._context.close_transport(other.transport)

    def pause_writing(self) -> None:
        if not self.other.lost and not self.other.transport.is_closing():
            self.other._paused = True
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        drained, self.drained = self.drained, None
        if drained is not None:
            drained()
        self.other._paused = False
        if not self.other.lost and not self.other.transport.is_closing():
            self.other.transport.resume_reading()


def _nowhere(data: bytes | bytearray | memoryview) -> None:
    """Discard bytes for a transport that is closed."""


def switch(context: Context, client: ExchangeClient, upstream: asyncio.Transport, fields: bytes, rest: bytes) -> None:
    """Send a 101 to a client, and join its transport with the upstream's.

    Args:
        context: the listener's.
        client: the exchange's client.
        upstream: the transport on which the upstream has sent its 101.
        fields: the end-to-end field lines of that 101, and `Upgrade`.
        rest: the bytes after its head.
    """
    early = client.hand_over(b"Connection: Upgrade\r\n" + fields, rest)
    if early:
        upstream.write(early)
    splice(context, client.handed_back, client.transport, upstream, len(early), len(rest), client.release_heads)


def splice(
    context: Context,
    done: Callable[[int, int], None],
    client: asyncio.Transport,
    upstream: asyncio.Transport,
    early: int,
    rest: int,
    drained: Callable[[], None] | None = None,
) -> None:
    """Join two transports until one of them ends.

    Args:
        context: the listener's.
        done: called at the end with the number of bytes from the client, and the number of bytes to it.
        client: the client's transport.
        upstream: the upstream's transport.
        early: the number of bytes that were written to the upstream already.
        rest: the number of bytes that were written to the client already.
        drained: called when the client has read the head of its 101.
    """

    def finished() -> None:
        done(down.received, up.received)

    # `down` is the client's end and `up` the upstream's.
    down = _End(context, client, early, finished, client=True)
    up = _End(context, upstream, rest, finished, client=False)
    down.other, up.other = up, down
    client.set_protocol(down)
    upstream.set_protocol(up)
    # For a transport that was closed under its former protocol, `connection_lost` will not be called again.
    if down.transport.is_closing():
        up.transport.abort()
    elif up.transport.is_closing():
        context.close_transport(down.transport)
    if client.get_write_buffer_size() > context.limits.buffer:
        down.drained = drained
        down.pause_writing()
    elif drained is not None:
        drained()
    if upstream.get_write_buffer_size() > context.limits.buffer:
        up.pause_writing()
