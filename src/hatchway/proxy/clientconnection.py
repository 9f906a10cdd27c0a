"""A client's connection: reading, flow control, deadlines, closing.

It has a `RequestReader`, which turns bytes into events, and a `Dispatcher`, which turns requests into exchanges and
responses into bytes. While one batch of received bytes is handled, an exchange's output is collected, and then sent in
one write.
"""

from __future__ import annotations

import asyncio
import math
from enum import Enum
from typing import Final, cast

from hatchway.proxy.bulk import LONG, BulkReader
from hatchway.proxy.cache import CachedHead, ClientDecisions
from hatchway.proxy.context import Context
from hatchway.proxy.dispatch import Dispatcher
from hatchway.proxy.fields import BadMessage
from hatchway.proxy.heads import KEPT, Request
from hatchway.proxy.reader import BodyEnd, RequestReader
from hatchway.proxy.routing import Peer

# The most pipelined requests of one connection that are begun in one iteration of the event loop.
_AT_ONCE: Final = 32


class Phase(Enum):
    """The state of a client's connection."""

    IDLE = "between two requests; no byte of the next one has arrived"
    READING = "part of a head has arrived, or a pipelined request waits"
    EXCHANGE = "the routing function decides about a request, or the request is being answered"
    DRAINING = "the request was answered; the rest of its body is read and discarded"
    LINGERING = "about to close; bytes are still read, so that the client gets the last response"
    CLOSED = "closed, or closing once everything that was written has been sent"


_IDLE, _READING, _EXCHANGE = Phase.IDLE, Phase.READING, Phase.EXCHANGE
_DRAINING, _LINGERING, _CLOSED = Phase.DRAINING, Phase.LINGERING, Phase.CLOSED


class ClientConnection(asyncio.Protocol):
    """One accepted connection.

    Attributes:
        phase: its state.
        requests: the dispatcher of its requests.
        deadline: the time at which `deadline_passed` is called, by the coarse clock.
    """

    __slots__ = (
        "_advancing",
        "_client",
        "_context",
        "_drain_left",
        "_eof",
        "_full",
        "_held",
        "_known",
        "_limits",
        "_note",
        "_paused",
        "_reader",
        "_tls",
        "_turn",
        "deadline",
        "phase",
        "requests",
        "transport",
    )

    requests: Dispatcher
    transport: asyncio.Transport

    def __init__(self, context: Context, tls: bool, note: object = None) -> None:
        """Make a connection of a listener.

        Args:
            context: the listener's context.
            tls: True when the connection uses TLS.
            note: the value of `Peer.note`.
        """
        self._context = context
        self._note = note
        self._limits = context.limits
        self._tls = tls
        self._reader = RequestReader(context.limits)
        self._client: ClientDecisions | None = None
        self._known: dict[bytes, CachedHead] = {}
        self._turn: asyncio.Handle | None = None
        self.phase = _IDLE
        self.deadline = math.inf
        self._drain_left = 0
        # Flow control.
        self._held = False  # the exchange takes no more of the request's body
        self._full = False  # the write buffer is full: no other request is begun
        self._paused = False  # reading from the transport is paused
        self._eof = False  # the client has shut its sending side
        self._advancing = False  # `_advance` is running

    # `asyncio.Protocol`: called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Record the client's address and certificate, and wait for its first request."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._limits.buffer)
        peer = Peer(None, "https" if self._tls else "http", note=self._note)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple) and len(address) >= 2:
            peer.address = (str(address[0]), int(address[1]))
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            # The certificate was verified: a listener that does not verify certificates does not request any.
            peer.certificate = tls.getpeercert(binary_form=True) or None
        host = peer.address[0] if peer.address is not None else None
        key = self._context, peer.scheme, host, peer.certificate, peer.note
        client = self._client = self._context.decisions.join(key)
        self._known = self._reader.known = client.heads
        # The dispatcher is not made in __init__, because only `connection_lost` frees it, and an event loop calls
        # `connection_lost` only after `connection_made`.
        self.requests = Dispatcher(self, self._context, self._reader, self.transport, peer, client)
        self._context.connections.add(self)
        self.deadline = self._context.loop.time() + self._limits.head_timeout

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the client."""
        phase = self.phase
        if phase is _IDLE:
            if not self._full and len(data) <= KEPT:
                known = self._known.get(data)
                if known is not None and known.request.plain:
                    self.phase = _EXCHANGE
                    self.deadline = math.inf
                    self.requests.begin(known.request, known)
                    return
        elif phase is _LINGERING or phase is _CLOSED:
            return
        self._reader.receive(data)
        self._advance()

    def eof_received(self) -> bool:
        """Record the end of the client's bytes, or close the connection. Return True to keep the transport open."""
        if self.phase is not _EXCHANGE and self.phase is not _DRAINING:
            self.close()
            return False
        self._eof = True
        self.requests.writer.on_write = self._note_write
        if self._tls:
            return False
        if self._reader.in_body and not self._held:
            # The request will never be complete: its body is shorter than its head announces.
            self.abort()
            return False
        self._note_write()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange under way, and free everything."""
        self._set_closed()
        self._context.transport_lost(self.transport)
        self._context.forget(self)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self.requests.disconnected()
        self._reader.take_rest()
        self._reader.share.release()
        self._leave()

    def _leave(self) -> None:
        """Stop using the client's cached decisions.

        `abort` calls this, too, because an event loop that is being closed may never call `connection_lost`.
        """
        client, self._client = self._client, None
        if client is not None:
            self._known = {}
            self._context.decisions.leave(client)

    def pause_writing(self) -> None:
        """Stop the exchange: the write buffer is full."""
        self._full = True
        exchange = self.requests.exchange
        if exchange is not None:
            exchange.client_full()

    def resume_writing(self) -> None:
        """Continue with the exchange, or with the next request."""
        self._full = False
        if self._eof:
            self._note_write()
        exchange = self.requests.exchange
        if exchange is not None:
            exchange.client_ready()
        elif self.phase is _IDLE or self.phase is _READING:
            if not self._eof:
                self.deadline = self._context.now + self._limits.idle_timeout
            if not self._reader.in_head:
                self._reader.share.release()
            self._resume()

    def deadline_passed(self) -> None:
        """Answer 408 when a head is incomplete; otherwise abort."""
        self.deadline = math.inf
        if self.phase is _READING and self._reader.in_head and not self._full:
            self._refuse(BadMessage("the request's head did not arrive in time", 408))
        else:
            self.abort()

    def _note_write(self) -> None:
        """Extend the deadline of a client that has shut its sending side."""
        self.deadline = self._context.now + self._limits.half_closed_timeout

    # Requests

    def _advance(self) -> None:
        """Handle events until the current exchange takes no more. Later requests wait in the reader's buffer."""
        self._advancing = True
        begun = 0
        reader, requests = self._reader, self.requests
        while self.phase is not _CLOSED and self.phase is not _LINGERING:
            if reader.in_body:
                if self._held:
                    break
            elif requests.exchange is not None or self._full:
                break
            elif begun == _AT_ONCE:
                if self._turn is None and reader.buffer:
                    self._turn = self._context.loop.call_soon(self._take_turn)
                break
            try:
                event = reader.next_event()
            except BadMessage as error:
                self._refuse(error)
                break
            if event is None:
                break
            if isinstance(event, Request):
                begun += 1
                self.phase = _EXCHANGE
                self.deadline = math.inf
                requests.begin(event, self._known.get(event.head))
            elif isinstance(event, BodyEnd):
                requests.body_ended(event)
                if self.phase is _DRAINING:
                    self._between_requests()
            else:
                requests.body_received(event)
                if self.phase is _DRAINING:
                    self._drain_left -= len(event)
                    if self._drain_left < 0:
                        self._linger()
        self._advancing = False
        waiting = reader.buffer
        if waiting:
            if self.phase is _IDLE:
                self.phase = _READING
                if reader.in_head:
                    self.deadline = self._context.now + self._limits.head_timeout
        elif self.phase is _READING:
            self.phase = _IDLE  # the buffer had only empty lines
        exchange = requests.exchange
        if exchange is not None:
            exchange.flush()
            if reader.in_body and reader.bulk_left >= LONG:
                self._read_in_bulk()
        elif self._eof and not reader.in_body and not (self.phase is _LINGERING or self._full or self._turn):
            self.close()
        if waiting and not self._paused and self.phase is not _CLOSED and not self._has_room():
            self._paused = True
            self.transport.pause_reading()

    def _take_turn(self) -> None:
        """Continue with pipelined requests, after other connections were served."""
        self._turn = None
        self._resume()

    def _resume(self) -> None:
        if self._advancing or self.phase is _CLOSED:
            return
        self._advance()
        if self.phase is _CLOSED:
            return
        if self._eof and self._reader.in_body and not self._held:
            self.abort()
        elif self._paused and self._has_room():
            self._paused = False
            self.transport.resume_reading()

    def _has_room(self) -> bool:
        """Return True if more bytes may be read from the client."""
        reader = self._reader
        if self._full and self.requests.exchange is None and not reader.in_body:
            return False
        # An incomplete head has its own limit. All other bytes in the buffer wait for the end of an exchange.
        return reader.in_head or len(reader.buffer) <= self._limits.buffer

    # Long bodies

    def _read_in_bulk(self) -> None:
        """Read a long body with a `BulkReader` if it is sent to an upstream unchanged."""
        if self._takes_bulk() and self.transport.get_protocol() is self:
            BulkReader(self)

    def _takes_bulk(self) -> bool:
        exchange = self.requests.exchange
        if exchange is None or self.phase is not _EXCHANGE or self._held or not self._reader.bulk_left:
            return False
        return exchange.takes_bulk

    @property
    def bulk_left(self) -> int:
        """Return how many bytes of the body are still to come, at least 1."""
        return self._reader.bulk_left or LONG

    def bulk_received(self, data: memoryview) -> bool:
        """Take a piece of a long body, without any byte after the body. Return False when it was the last piece."""
        if not self._takes_bulk():
            self.data_received(bytes(data))
            return False
        reader, requests = self._reader, self.requests
        last = reader.skip_bulk(len(data))
        requests.bulk_received(data)
        if last and self.phase is _EXCHANGE:
            event = reader.next_event()
            assert isinstance(event, BodyEnd)
            requests.body_ended(event)
            if requests.exchange is not None:
                requests.exchange.flush()
        return not last and reader.in_body

    # `contracts.ConnectionControl`: called by the dispatcher

    def hold(self, pause: bool = False) -> None:
        """Stop passing the request's body to the exchange until `release`. pause: stop reading from the client, too."""
        self._held = True
        if pause and self._reader.in_body and not self._paused and self.phase is not _CLOSED:
            self._paused = True
            self.transport.pause_reading()

    def release(self) -> None:
        """Undo `hold`."""
        self._held = False
        self._resume()

    def answered(self) -> None:
        """Continue after the response was written: read the next request, or close the connection."""
        self._held = False
        if self.phase is _CLOSED:
            return
        keep = self.requests.writer.keep
        reader = self._reader
        if reader.in_body:
            if keep and not self._eof:
                self.phase = _DRAINING
                self._drain_left = self._limits.drain
                self.deadline = self._context.now + self._limits.head_timeout
                self._resume()
            else:
                self._linger()
        elif not keep:
            self.close()
        else:
            self._between_requests()
            if reader.buffer or self._eof or self._paused:
                self._resume()

    def answered_at_once(self) -> bool:
        """Do what `answered` does if the connection is idle now; otherwise do nothing and return False."""
        reader = self._reader
        if reader.buffer or reader.in_body or self._eof or self._paused or self._context.closing:
            return False
        self._held = False
        self.phase = _IDLE
        self.deadline = self._context.now + self._limits.idle_timeout
        return True

    def resume(self) -> None:
        """Continue with waiting requests and bodies."""
        self._resume()

    def allow(self) -> None:
        """Undo `hold`, but do nothing else until `resume` is called."""
        self._held = False

    def is_full(self) -> bool:
        """Return True while the write buffer is full, because the client reads too slowly."""
        return self._full

    def hand_over(self) -> bytes:
        """Give up the transport after a 101. Return the bytes that the client sent after its request."""
        self.deadline = math.inf
        early = self._reader.take_rest()
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        return early

    # Closing

    def shut_down(self) -> None:
        """Close an idle connection at once, and any other after its current exchange (`Connection: close`)."""
        self.requests.writer.set_keep(False)
        if self.phase is _IDLE or self.phase is _LINGERING:
            self.close()

    def _between_requests(self) -> None:
        self.phase = _IDLE
        self.deadline = self._context.now + self._limits.idle_timeout
        if self._context.closing and not self._reader.buffer:
            self.close()

    def _refuse(self, error: BadMessage) -> None:
        """Reject a malformed request, with a response if none has begun yet, and close."""
        begun = self.phase is _EXCHANGE or self.phase is _DRAINING
        self._reader.discard()  # the bytes after it must not be parsed as requests
        self.phase = _EXCHANGE
        self.requests.refuse(error, begun)

    def _linger(self) -> None:
        """Read for a while, then close. Closing with unread input would reset the connection and lose the response."""
        self.phase = _LINGERING
        self._reader.take_rest()
        self.deadline = self._context.now + self._limits.linger
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        if self._eof:
            self.close()
        elif self.transport.can_write_eof():
            self._context.flush()
            self.transport.write_eof()

    def _set_closed(self) -> None:
        self.phase = _CLOSED
        self.deadline = math.inf
        self.requests.writer.closed = True

    def close(self) -> None:
        """Close the connection once all written bytes were sent."""
        if self.phase is not _CLOSED:
            self._set_closed()
            self._context.close_transport(self.transport)

    def abort(self) -> None:
        """Close the connection at once, and end the current exchange."""
        self._set_closed()
        self.transport.abort()
        self._reader.take_rest()
        self.requests.end_exchange()
        self._leave()
