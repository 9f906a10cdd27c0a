"""Relays upgraded connections: after a 101, the client's and the upstream's transports are joined byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hatchway.proxy.context import Context
from hatchway.proxy.contracts import ExchangeClient


class _End(asyncio.Protocol):
    """The protocol of one of the two transports: writes the received bytes to the other transport.

    When one transport ends, both are closed. After a reset by the client, the upstream's transport is closed at once.
    After an end of the upstream, the client still gets the bytes that were written before.

    client: True for the client's transport.
    drained: called once the write buffer was sent.
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
        elif self._client and (exc is not None or self._paused):  # a paused transport ends only by a reset
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
        context: the listener's context.
        client: the exchange's client.
        upstream: the transport on which the upstream has sent its 101.
        fields: the end-to-end field lines of that 101, and `Upgrade`.
        rest: the bytes that came after the head of that 101.
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
        context: the listener's context.
        done: called at the end with the number of bytes from the client and the number of bytes to the client.
        client: the client's transport.
        upstream: the upstream's transport.
        early: the number of bytes that were already written to the upstream.
        rest: the number of bytes that were already written to the client.
        drained: called when the write buffer with the 101 was sent to the client.
    """

    def finished() -> None:
        done(down.received, up.received)

    # `down` is the client's end and `up` the upstream's.
    down = _End(context, client, early, finished, client=True)
    up = _End(context, upstream, rest, finished, client=False)
    down.other, up.other = up, down
    client.set_protocol(down)
    upstream.set_protocol(up)
    # If the transport was closed while it had another protocol, `connection_lost` will not be called again.
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
