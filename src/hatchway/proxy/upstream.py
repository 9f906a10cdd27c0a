"""Connections to upstreams: one HTTP/1.1 client connection per object, and the pool of idle ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from hatchway.proxy import bodies, transports
from hatchway.proxy.bulk import LONG, BulkReader
from hatchway.proxy.fields import BadMessage
from hatchway.proxy.heads import UNTIL_CLOSE, Response, ResponseParser, bodiless
from hatchway.proxy.limits import Limits
from hatchway.proxy.routing import Headers, ProxyError, Upstream

_BARE_LF = re.compile(rb"(?<!\r)\n")


class Consumer(Protocol):
    """What an upstream connection tells the exchange that uses it."""

    def upstream_whole(self, response: Response, body: bytes) -> None:
        """A whole response came at once; the connection has already been let go of."""

    def upstream_pieces(self) -> Reader:
        """A piece of a response came: who is to be told."""

    def upstream_lost(self, error: ProxyError) -> None: ...

    def upstream_full(self) -> None:
        """The write buffer is full."""

    def upstream_ready(self) -> None:
        """The write buffer has drained."""


class Reader(Consumer, Protocol):
    """What it tells an exchange whose response comes in pieces."""

    def upstream_interim(self, response: Response) -> None: ...

    def upstream_head(self, response: Response) -> None: ...

    def upstream_body(self, data: bytes) -> None: ...

    def upstream_bulk(self) -> Callable[[memoryview], None] | None:
        """What takes the rest of a long body as it comes, instead of `upstream_body` and `upstream_flush`, or None."""

    def upstream_flush(self) -> None:
        """All that has arrived was handed over."""

    def upstream_end(self, trailers: Headers) -> None:
        """The response is complete; the connection has already been let go of."""

    def upstream_switched(self, response: Response, rest: bytes) -> None:
        """A 101 came; the transport is the consumer's now, `rest` is what followed the head."""


class UpstreamConnection(asyncio.Protocol):
    """One connection. It carries one exchange at a time and belongs to the pool between two.

    answered: a byte of the current exchange's answer has come. reused: it has carried an exchange before.
    sending: the current request has not been sent completely (the consumer keeps it up to date).
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
        "_sock",
        "_switch",
        "answered",
        "idle_until",
        "key",
        "reused",
        "sending",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, pool: Pool, key: object, sock: socket.socket) -> None:
        self._pool = pool
        self._sock = sock
        self.key = key
        self.reused = False
        self.answered = False
        self.sending = False
        self.idle_until = 0.0
        self._consumer: Consumer | None = None
        self._method = ""
        self._switch = False
        self._keep_alive = False
        self._paused = False
        self._buffer = b""
        self._body: bodies.Body | None = None
        self._bulk: Callable[[memoryview], None] | None = None
        self._parser = ResponseParser(pool.limits.fields)

    def begin(self, consumer: Consumer, method: str, switch: bool, sending: bool) -> None:
        """Take the connection for an exchange. switch: a 101 is welcome. sending: a request body will follow."""
        self._consumer = consumer
        self._method = method
        self._switch = switch
        self.sending = sending
        self.answered = False

    def pass_on(self, before: Consumer, after: Consumer) -> None:
        """`after` goes on with the exchange of `before`, if that is under way."""
        if self._consumer is before:
            self._consumer = after

    def pause(self) -> None:
        """Read no more of the response until `resume`, or until it is complete."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def looks_dead(self) -> bool:
        """Whether the peer has closed the idle connection, or sent something, that the loop has not yet seen."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def abandon(self) -> None:
        """The exchange no longer wants it: cut, without telling the consumer."""
        self._consumer = None
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._pool.limits.buffer)

    def data_received(self, data: bytes) -> None:
        consumer = self._consumer
        if consumer is None:
            # Nothing is expected on an idle connection; whatever this is must not be taken for an answer.
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
                self._let_go(b"")
                consumer.upstream_whole(last, data[len(block) :])
                return
        reader = consumer.upstream_pieces()
        try:
            if body is None:
                head = self._read_head(reader, data)
                if head is None:
                    return
                data = head
                body = self._body
                assert body is not None
                if self._consumer is not reader:
                    return
            chunk = body.feed(data)
        except BadMessage as error:
            self._fail(reader, ProxyError("protocol", error.message))
            return
        if chunk:
            reader.upstream_body(chunk)
            if self._consumer is not reader:
                return
        if body.done:
            self._finish(reader, body)
        else:
            reader.upstream_flush()
            if isinstance(body, bodies.Length) and body.left >= LONG:
                self._read_in_bulk(reader, body)

    def _read_in_bulk(self, reader: Reader, body: bodies.Length) -> None:
        if self._consumer is reader and self._body is body:
            self._bulk = reader.upstream_bulk()
            if self._bulk is not None:
                BulkReader(self)

    @property
    def bulk_left(self) -> int:
        """When nobody waits for the body any more, a byte, which ends the connection."""
        body = self._body
        return body.left if isinstance(body, bodies.Length) else 1

    def bulk_received(self, data: memoryview) -> bool:
        """A piece of a long body has come, and nothing behind the body's end."""
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
            self._finish(consumer.upstream_pieces(), body)
        return False

    def _read_head(self, reader: Reader, data: bytes) -> bytes | None:
        """Read heads up to the final one; what follows it, or None when it is not there (or must not be read)."""
        start = 0
        if self._buffer:
            start = max(0, len(self._buffer) - 3)
            data = self._buffer + data
            self._buffer = b""
        limits = self._pool.limits
        while True:
            end = data.find(b"\r\n\r\n", start) + 4
            if end > limits.head or (end < 4 and len(data) > limits.head):
                raise BadMessage("response head too large")
            if end < 4:
                if data[:7] != b"HTTP/1."[: len(data)]:
                    raise BadMessage("not an HTTP/1 response")
                if _BARE_LF.search(data, start):
                    raise BadMessage("malformed header: line feed without carriage return")
                self._buffer = data
                return None
            response = self._parser.parse(data[:end])
            data = data[end:]
            start = 0
            status = response.head.status
            if status >= 200:
                break
            if status == 101:
                if not self._switch or not response.upgrade:
                    raise BadMessage("unexpected status 101")
                self._consumer = None
                reader.upstream_switched(response, data)
                return None
            reader.upstream_interim(response)
            if self._consumer is not reader or not data:
                return None
        self._keep_alive = response.keep_alive and response.body != UNTIL_CLOSE
        framing = response.body
        if bodiless(self._method, status):
            framing = 0
            # A 204 or 304 that announces a body may be followed by it, and that would answer the next request.
            silent = self._method == "HEAD" or response.body in (0, UNTIL_CLOSE)
            self._keep_alive = response.keep_alive and silent
        self._body = bodies.reader(framing, limits.head, limits.fields)
        reader.upstream_head(response)
        return data

    def _finish(self, reader: Reader, body: bodies.Body) -> None:
        self._consumer = None
        self._body = None
        self._let_go(body.rest)
        reader.upstream_end(body.trailers)

    def _let_go(self, rest: bytes) -> None:
        """The exchange is over; rest: what came behind its response."""
        self.reused = True
        if self._paused:
            self.resume()  # what came last has filled the client's buffer
        # After an upgrade was asked for, no later request may travel here (CVE-2018-1002105).
        if self._keep_alive and not rest and not self.sending and not self._switch:
            self._pool.put(self)
        else:
            self.transport.abort()

    def _fail(self, consumer: Consumer, error: ProxyError) -> None:
        self._consumer = None
        self.transport.abort()
        consumer.upstream_lost(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.discard(self)
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        if exc is None and isinstance(self._body, bodies.UntilClose):
            consumer.upstream_pieces().upstream_end([])
        else:
            text = "EOF" if exc is None else describe(exc)
            consumer.upstream_lost(ProxyError("read" if self.answered or not self.sending else "write", text))

    def pause_writing(self) -> None:
        if self._consumer is not None:
            self._consumer.upstream_full()

    def resume_writing(self) -> None:
        if self._consumer is not None:
            self._consumer.upstream_ready()


class Pool:
    """Idle connections by `Upstream.key`, the most recently used first; may be shared by several listeners."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._idle: dict[object, list[UpstreamConnection]] = {}
        self._count = 0
        self._now = 0.0

    def __len__(self) -> int:
        """How many idle connections there are."""
        return self._count

    def take(self, key: object, check: bool) -> UpstreamConnection | None:
        """An idle connection, or None. check: ask the kernel whether its peer has closed it already."""
        idle = self._idle.get(key)
        while idle:
            connection = idle.pop()
            self._count -= 1
            if connection.transport.is_closing():
                continue
            if check and connection.looks_dead():
                connection.transport.abort()
                continue
            return connection
        return None

    def put(self, connection: UpstreamConnection) -> None:
        """Keep an idle connection, or close it where too many are kept. One that is closing is forgotten by `take`."""
        idle = self._idle.get(connection.key)
        if idle is None:
            idle = self._idle[connection.key] = []
        limits = self.limits
        if self._count >= limits.idle_upstreams or len(idle) >= limits.idle_upstreams_per_key:
            connection.transport.close()
            return
        connection.idle_until = self._now + self.limits.upstream_idle_timeout
        idle.append(connection)
        self._count += 1

    def discard(self, connection: UpstreamConnection) -> None:
        """Forget a connection that was lost."""
        idle = self._idle.get(connection.key)
        if idle is not None and connection in idle:
            idle.remove(connection)
            self._count -= 1

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long."""
        self._now = now
        for key, idle in list(self._idle.items()):
            # The oldest stand first, because connections are taken from and put back at the end.
            while idle and idle[0].idle_until <= now:
                self._count -= 1
                idle.pop(0).transport.close()
            if not idle:
                del self._idle[key]

    def close(self) -> None:
        """Close all idle connections."""
        for idle in self._idle.values():
            for connection in idle:
                connection.transport.close()
        self._idle.clear()
        self._count = 0

    async def connect(self, upstream: Upstream) -> UpstreamConnection:
        """Open a connection. Raises ProxyError ("dial" or "tls")."""
        try:
            sock = await upstream.connect()
        except OSError as error:
            raise ProxyError("dial", describe(error)) from error
        try:
            sock.setblocking(False)
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                with contextlib.suppress(OSError):  # the peer may be gone already; the first write will say so
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = UpstreamConnection(self, upstream.key, sock)
            await transports.connect(
                connection, sock, self.limits, tls=upstream.tls, server_hostname=upstream.server_hostname
            )
        except (OSError, ValueError, EOFError) as error:
            sock.close()
            if isinstance(error, ConnectionAbortedError) and not error.errno:
                seconds = self.limits.upstream_tls_timeout
                message = f"no answer to the TLS handshake in {seconds:g} s"
                raise ProxyError("tls", message, silent=seconds) from error
            raise ProxyError("tls" if upstream.tls is not None else "dial", describe(error)) from error
        except BaseException:
            sock.close()
            raise
        if connection.transport.is_closing():
            raise ProxyError("read", "EOF")
        return connection


def describe(error: BaseException) -> str:
    """An error of a socket in the words that Go's net package has made familiar."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"tls: {error.reason or error}".replace("_", " ").lower()
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    if isinstance(error, ConnectionResetError):
        return "connection reset by peer"
    if isinstance(error, socket.gaierror):
        return f"lookup failed: {error.strerror}".lower()
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()  # asyncio's own strerror spells the call out
    return str(error) or type(error).__name__
