"""A connection to an upstream, with HTTP/1.1 as client."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Protocol, cast

from hatchway.proxy import bodies, transports
from hatchway.proxy.budget import SMALL, Share
from hatchway.proxy.bulk import LONG, BulkReader
from hatchway.proxy.contracts import Consumer
from hatchway.proxy.fields import BadMessage
from hatchway.proxy.heads import UNTIL_CLOSE, ResponseParser, bodiless
from hatchway.proxy.limits import Limits
from hatchway.proxy.routing import ProxyError
from hatchway.proxy.socketerrors import describe
from hatchway.rewrite.gourl import quoted

_BARE_LF = re.compile(rb"(?<!\r)\n")
# The maximum number of bytes of a malformed line that an error message shows.
_SHOWN = 100


class ConnectionPool(Protocol):
    """The pool to which a connection belongs between two exchanges (`pool.py`)."""

    limits: Limits

    def put(self, connection: UpstreamConnection) -> None:
        """Store an idle connection, or close it when there are too many."""

    def discard(self, connection: UpstreamConnection) -> None:
        """Remove a connection that is closed."""


class UpstreamConnection(asyncio.Protocol):
    """A connection to an upstream. It carries one exchange at a time, and belongs to the pool between two exchanges.

    Attributes:
        key: the key of its upstream.
        answered: True once a byte of the current exchange's response has arrived.
        reused: True if it has carried an exchange before.
        sending: True until the current request is sent completely. The consumer keeps this up to date.
        in_bulk: True if a `BulkReader` (`bulk.py`) may read long bodies: when the connection has a socket of its own.
        idle_until: the time at which the idle connection is closed, by the coarse clock.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_bulk",
        "_consumer",
        "_keep_alive",
        "_method",
        "_parser",
        "_paused",
        "_pool",
        "_share",
        "_sock",
        "_switch",
        "answered",
        "idle_until",
        "in_bulk",
        "key",
        "reused",
        "sending",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, pool: ConnectionPool, key: object, sock: socket.socket | None) -> None:
        self._pool = pool
        self._sock = sock
        self.key = key
        self.in_bulk = sock is not None
        self.reused = False
        self.answered = False
        self.sending = False
        self.idle_until = 0.0
        self._consumer: Consumer | None = None
        self._method = ""
        self._switch = False
        self._keep_alive = False
        self._paused = False
        self._buffer = bytearray()
        self._share = Share()
        self._body: bodies.Body | None = None
        self._bulk: Callable[[memoryview], None] | None = None
        self._parser = ResponseParser(pool.limits.fields)

    def begin(self, consumer: Consumer, method: str, switch: bool, sending: bool) -> None:
        """Use the connection for an exchange.

        Args:
            consumer: the exchange.
            method: the request's method.
            switch: True if the request is for an upgrade.
            sending: True if a request body follows.
        """
        self._consumer = consumer
        self._method = method
        self._switch = switch
        self.sending = sending
        self.answered = False

    def pause(self) -> None:
        """Stop reading the response until `resume`, or until it is complete."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Undo `pause`."""
        if self._paused:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def looks_dead(self) -> bool:
        """Return True if bytes or a FIN have arrived on the idle connection, even if the event loop has not noticed."""
        if self._sock is None:
            return False
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def abandon(self) -> None:
        """Close the connection at once, and call the consumer no more, because the exchange has ended."""
        self._consumer = None
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._pool.limits.buffer)

    def data_received(self, data: bytes) -> None:
        """Read a response. Close a connection on which no response is expected."""
        consumer = self._consumer
        if consumer is None:
            # Bytes on an idle connection must not be read as the response to the next request.
            self.transport.abort()
            return
        self.answered = True
        body = self._body
        last = self._parser.last
        if last is not None and len(data) == last.whole and body is None and not self._buffer:
            block = last.block
            if data.startswith(block) and self._method != "HEAD":
                self._consumer = None
                self._keep_alive = last.keep_alive
                left = self.sending or self._switch or self._paused or self.transport.get_write_buffer_size()
                if last.keep_alive and not left:
                    # This repeats the code of `_let_go` to save a call, because this is the usual case.
                    self.reused = True
                    self._pool.put(self)
                else:
                    self._let_go(b"")
                consumer.upstream_whole(last, data[len(block) :])
                return
        try:
            if body is None:
                head = self._read_head(consumer, data)
                if head is None:
                    return
                data = head
                body = self._body
                assert body is not None
                if self._consumer is not consumer:
                    return
            chunk = body.feed(data)
        except BadMessage as error:
            self._fail(consumer, ProxyError("protocol", error.message))
            return
        if chunk:
            consumer.upstream_body(chunk)
            if self._consumer is not consumer:
                return
        if body.done:
            self._finish(consumer, body)
        else:
            consumer.upstream_flush()
            if isinstance(body, bodies.Length) and body.left >= LONG and self.in_bulk:
                self._read_in_bulk(consumer, body)

    def _read_in_bulk(self, consumer: Consumer, body: bodies.Length) -> None:
        if self._consumer is consumer and self._body is body:
            self._bulk = consumer.upstream_bulk()
            if self._bulk is not None:
                BulkReader(self)

    @property
    def bulk_left(self) -> int:
        """Return how many bytes of the body are missing; 1 when no exchange needs the body any more."""
        body = self._body
        return body.left if isinstance(body, bodies.Length) else 1

    def bulk_received(self, data: memoryview) -> bool:
        """Take a piece of a long body, without any byte after the body. Return False when it was the last piece."""
        consumer, body, take = self._consumer, self._body, self._bulk
        if consumer is None or take is None or not isinstance(body, bodies.Length):
            self.transport.abort()
            return False
        body.left -= len(data)
        take(data)
        if body.left:
            return True
        self._bulk = None
        if self._consumer is consumer:
            self._finish(consumer, body)
        return False

    def _read_head(self, consumer: Consumer, data: bytes) -> bytes | None:
        """Read the heads of interim responses and of the final response.

        Returns:
            The bytes after the final head; None when it has not arrived, or the bytes are not part of a response.

        Raises:
            BadMessage: a head is malformed or too large.
        """
        start = 0
        if self._buffer:
            start = max(0, len(self._buffer) - 3)
            self._buffer += data
            whole = self._buffer
            if whole.find(b"\r\n\r\n", start) < 0:
                self._check_partial(whole, start)
                return None
            data = bytes(whole)
            self._buffer = bytearray()
        limits = self._pool.limits
        at = 0
        while True:
            end = data.find(b"\r\n\r\n", start) + 4
            if end < 4:
                if at:
                    data, start = data[at:], 0
                self._check_partial(data, start)
                self._buffer = bytearray(data)
                return None
            head = data[at:end]
            self._check_size(len(head))
            if len(head) > SMALL and not self._share.hold_complete(head):
                raise _too_many()
            response = self._parser.parse(head)
            start = at = end
            status = response.head.status
            if status >= 200:
                break
            if status == 101:
                if not self._switch or not response.upgrade:
                    raise BadMessage("unexpected status 101")
                self._consumer = None
                self._share.release()
                consumer.upstream_switched(response, data[at:])
                return None
            self._share.release()
            consumer.upstream_interim(response)
            if self._consumer is not consumer or at == len(data):
                return None
        self._keep_alive = response.keep_alive and response.body != UNTIL_CLOSE
        framing = response.body
        if bodiless(self._method, status):
            framing = 0
            # A server that announces a body in a 204 or 304 may send it. This body would be parsed as a response.
            silent = self._method == "HEAD" or response.body in (0, UNTIL_CLOSE)
            self._keep_alive = response.keep_alive and silent
        self._body = bodies.reader(framing, limits.trailers, limits.fields)
        self._share.release()
        consumer.upstream_head(response)
        return data[at:]

    def _check_partial(self, data: bytes | bytearray, start: int) -> None:
        """Raise BadMessage for bytes that cannot begin a head. start: the number of bytes that were checked before."""
        self._check_size(len(data))
        if not self._share.hold(len(data)):
            raise _too_many()
        if data[:7] != b"HTTP/1."[: len(data)]:
            line = bytes(data).partition(b"\n")[0].removesuffix(b"\r")[:_SHOWN]
            raise BadMessage(f"malformed HTTP response {quoted(line)}")  # Go's words
        if _BARE_LF.search(data, start):
            raise BadMessage("malformed header: line feed without carriage return")

    def _check_size(self, size: int) -> None:
        limit = self._pool.limits.response_head
        if size > limit:
            raise BadMessage(f"net/http: server response headers exceeded {limit} bytes; aborted")  # Go's words

    def _finish(self, consumer: Consumer, body: bodies.Body) -> None:
        self._consumer = None
        self._body = None
        self._let_go(body.rest)
        consumer.upstream_end(body.trailers)

    def _let_go(self, rest: bytes) -> None:
        """End the exchange: give the connection to the pool, or close it. rest: the bytes after the response."""
        self.reused = True
        if self._paused:
            self.resume()  # reading may be paused because the last bytes have filled the client's buffer
        # A connection on which an upgrade was requested must not carry other requests (CVE-2018-1002105).
        # The write buffer may still contain a part of a request that the upstream does not read.
        unsent = self.sending or self.transport.get_write_buffer_size()
        if self._keep_alive and not rest and not unsent and not self._switch:
            self._pool.put(self)
        else:
            self.transport.abort()

    def _fail(self, consumer: Consumer, error: ProxyError) -> None:
        self._consumer = None
        self.transport.abort()
        consumer.upstream_lost(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the exchange that the connection is lost, and remove it from the pool."""
        transports.note_lost(self.transport)
        self._share.release()
        self._pool.discard(self)
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        if exc is None and isinstance(self._body, bodies.UntilClose):
            consumer.upstream_end([])
        else:
            text = "EOF" if exc is None else describe(exc)
            consumer.upstream_lost(ProxyError("read" if self.answered or not self.sending else "write", text))

    def pause_writing(self) -> None:
        """Tell the exchange that the write buffer is full."""
        if self._consumer is not None:
            self._consumer.upstream_full()

    def resume_writing(self) -> None:
        """Tell the exchange that the write buffer has drained."""
        if self._consumer is not None:
            self._consumer.upstream_ready()


def _too_many() -> BadMessage:
    return BadMessage("too many responses with large heads at once, please try again later")
