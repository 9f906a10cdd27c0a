"""The reading half of a client's connection: requests one at a time, from bytes in any pieces.

Pipelined requests wait in the buffer until the exchange before them is over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from hatchway.proxy import bodies, heads
from hatchway.proxy.bulk import LONG, BulkReader
from hatchway.proxy.context import Context
from hatchway.proxy.exchange import ForwardExchange
from hatchway.proxy.fields import BadMessage
from hatchway.proxy.heads import Request
from hatchway.proxy.routing import Headers
from hatchway.proxy.writer import ResponseWriter


class Exchange(Protocol):
    """What a client connection tells the exchange that is under way."""

    def body(self, data: bytes) -> None:
        """A piece of the request's body."""

    def body_end(self, trailers: Headers) -> None:
        """The request is complete."""

    def flush(self) -> None:
        """All that has arrived was handed over."""

    def client_full(self) -> None:
        """The client reads more slowly than it is written to: stop producing."""

    def client_ready(self) -> None:
        """The write buffer has drained."""

    def client_lost(self) -> None:
        """The client is gone or the exchange was ended; nothing can be written any more."""


class RequestReader(ResponseWriter, ABC):
    """Reads requests and hands their bodies to the exchange under way; `ClientConnection` makes exchanges of them.

    lingering: the connection is only read so that the last answer arrives.
    """

    __slots__ = (
        "_advancing",
        "_buffer",
        "_drain_left",
        "_exchange",
        "_held",
        "_known",
        "_parser",
        "_reading_paused",
        "_scanned",
        "lingering",
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._parser = heads.RequestParser(self._limits.fields)
        self._known: dict[bytes, Request] = {}
        self._buffer = b""
        self._scanned = 0
        self._exchange: Exchange | None = None
        self._held = False
        self._advancing = False
        self._reading_paused = False
        self._drain_left = 0
        self.lingering = False

    # What becomes of what is read

    @abstractmethod
    def _begin(self, request: Request) -> None:
        """Start the exchange of a request."""

    @abstractmethod
    def _begin_again(self, request: Request) -> bool:
        """Start that of a request whose head came before as it was started then. False when it cannot be done so."""

    @abstractmethod
    def _between_requests(self) -> None:
        """The request has been read to its end, and its response was sent before."""

    @abstractmethod
    def _refuse(self, error: BadMessage) -> None:
        """A request that is not acceptable: say so if nothing was said yet, and end the connection."""

    @abstractmethod
    def _linger(self) -> None:
        """Close, but read on for a while: closing with unread input resets the connection and loses the answer."""

    @abstractmethod
    def _close(self) -> None:
        """Close after what was written has been sent."""

    @abstractmethod
    def _abort(self) -> None:
        """Cut the connection and end its exchange."""

    # Bytes

    def data_received(self, data: bytes) -> None:
        if self._closed or self.lingering:
            return
        if self._buffer:
            data = self._buffer + data
        elif self._exchange is None and self._body is None and len(data) <= heads.KnownHeads.SIZE:
            request = self._known.get(data)
            if request is not None and self._begin_again(request):
                return
        self._advance(data)

    def _advance(self, data: bytes) -> None:
        """Use up `data` as far as the exchange under way allows; the rest waits in the buffer."""
        self._advancing = True
        while data:
            if self._body is not None:
                if self._held:
                    break
                data = self._advance_body(self._body, data)
            elif self._exchange is not None:
                break
            else:
                rest = self._advance_head(data)
                if rest is None:
                    break
                data = rest
            if self._closed or self.lingering:
                data = b""
        self._buffer = data
        self._advancing = False
        exchange = self._exchange
        if exchange is not None:
            exchange.flush()
            body = self._body
            if body is not None and isinstance(body, bodies.Length) and body.left >= LONG:
                self._read_in_bulk()
        elif self._eof and self._body is None and not self.lingering:
            self._close()
        if data and not self._reading_paused and len(data) > self._limits.buffer and not self._closed:
            self._reading_paused = True
            self.transport.pause_reading()

    def _advance_head(self, data: bytes) -> bytes | None:
        """Read a request's head and start its exchange; what follows it, or None when it is not complete."""
        if len(data) <= heads.KnownHeads.SIZE:
            known = self._known.get(data)
            if known is not None:
                self._scanned = 0
                self._begin(known)
                return b""
        if data[:2] == b"\r\n":
            # Empty lines before a request are tolerated (RFC 9112 section 2.2).
            while data[:2] == b"\r\n":
                data = data[2:]
            if not data:
                return b""
        end = data.find(b"\r\n\r\n", self._scanned) + 4
        if end < 4:
            if not self._scanned:
                self.deadline = self._context.now + self._limits.head_timeout
            try:
                if len(data) > self._limits.head:
                    raise BadMessage("request header fields too large", 431)
                heads.check_partial(data, self._scanned)
            except BadMessage as error:
                self._refuse(error)
                return b""
            self._scanned = max(0, len(data) - 3)
            return None
        self._scanned = 0
        try:
            if end > self._limits.head:
                raise BadMessage("request header fields too large", 431)
            head = data[:end]
            request = self._known.get(head)
            if request is None:
                request = self._parser.parse(head)
                self._context.heads.add(self._known, head, request)
        except BadMessage as error:
            self._refuse(error)
            return b""
        self._begin(request)
        return data[end:]

    def _advance_body(self, body: bodies.Body, data: bytes) -> bytes:
        try:
            chunk = body.feed(data)
        except BadMessage as error:
            self._refuse(error)
            return b""
        exchange = self._exchange
        if chunk:
            self._bytes_in += len(chunk)
            if exchange is not None:
                exchange.body(chunk)
            else:
                self._drain_left -= len(chunk)
                if self._drain_left < 0:
                    self._linger()
        if not body.done:
            return b""
        if self._body is body:
            self._body = None
            if exchange is not None and self._exchange is exchange:
                exchange.body_end(body.trailers)
            elif exchange is None and not self._closed:
                self._between_requests()
        return body.rest

    def _read_in_bulk(self) -> None:
        """Let a long body be read in larger pieces, when it goes to an upstream as it comes."""
        if self._takes_bulk() and self.transport.get_protocol() is self:
            BulkReader(self)

    def _takes_bulk(self) -> bool:
        return (
            isinstance(self._exchange, ForwardExchange)
            and not (self._held or self._buffer or self._closed or self.lingering)
            and isinstance(self._body, bodies.Length)
        )

    @property
    def bulk_left(self) -> int:
        body = self._body
        return body.left if isinstance(body, bodies.Length) else LONG

    def bulk_received(self, data: memoryview) -> bool:
        exchange, body = self._exchange, self._body
        if not self._takes_bulk():
            self.data_received(bytes(data))
            return False
        assert isinstance(exchange, ForwardExchange) and isinstance(body, bodies.Length)
        body.left -= len(data)
        self._bytes_in += len(data)
        exchange.body_now(data)
        if not body.left and self._body is body:
            body.done = True
            self._body = None
            if self._exchange is exchange:
                exchange.body_end([])
                exchange.flush()
        return self._body is not None

    # What exchanges call

    @property
    def body_pending(self) -> bool:
        """The request's body has not been read to its end."""
        return self._body is not None

    def hold(self, pause: bool = False) -> None:
        """Hand over no more of the request's body until `release`. pause: do not even read it."""
        self._held = True
        if pause and self._body is not None and not self._reading_paused and not self._closed:
            self._reading_paused = True
            self.transport.pause_reading()

    def release(self) -> None:
        self._held = False
        self._resume()

    def _resume(self) -> None:
        if self._advancing or self._closed:
            return
        self._advance(self._buffer)
        if self._eof and self._body is not None and not self._held:
            self._abort()
        elif self._reading_paused and not self._closed and len(self._buffer) <= self._limits.buffer:
            self._reading_paused = False
            self.transport.resume_reading()
