"""An HTTP/1.1 client over the connections of `proxy/`: sends a request, and returns the answer as it arrives.

All HTTP requests of this project use it. An HTTP library would need its own code for dialling, proxies and TLS
settings, and importing it would take 100 ms.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from hatchway.proxy.heads import Response
from hatchway.proxy.limits import Limits
from hatchway.proxy.pool import Pool
from hatchway.proxy.routing import Headers, ProxyError, Upstream, get_header
from hatchway.proxy.upstream import UpstreamConnection

# The most unread bytes of an answer. Beyond this, reading from the socket is paused.
_BUFFER = 1 << 20
# Iterations of the event loop after which the socket of an aborted connection is closed.
_TURNS = 3
_LIMITS = Limits(idle_upstreams=16, idle_upstreams_per_key=16)


class HttpClient:
    """Sends requests to upstreams, and reuses the connections."""

    def __init__(self) -> None:
        self._pool = Pool(_LIMITS)
        self._answers: set[HttpAnswer] = set()
        self._connections: set[UpstreamConnection] = set()

    async def ask(
        self, upstream: Upstream, method: str, head: bytes, body: bytes, patience: float | None
    ) -> HttpAnswer:
        """Send a request, and return the answer once its head has arrived. The caller must call `leave` afterwards.

        Args:
            head: the request's head, including the empty line at its end.
            patience: seconds to wait for the answer's head, in addition to the time for connecting; None: no limit.

        Raises:
            ProxyError: the server cannot be reached, or does not answer.
        """
        self._pool.sweep(asyncio.get_running_loop().time())
        while True:
            connection = self._pool.take(upstream.key, check=method != "GET")
            if connection is None:
                connection = await self._pool.connect(upstream)
                self._connections = {known for known in self._connections if not known.transport.is_closing()}
                self._connections.add(connection)
            answer = HttpAnswer(connection, self._answers)
            connection.begin(answer, method, switch=False, sending=False)
            connection.transport.write(head + body)
            try:
                await answer.wait_for_head(patience)
            except ProxyError as error:
                answer.leave()
                # The server may have closed the idle connection while the request was being sent.
                if method == "GET" and _is_stale(error, connection):
                    continue
                raise
            except BaseException:
                answer.leave()
                raise
            return answer

    def reset(self, error: ProxyError) -> None:
        """Drop all connections. Unfinished answers fail with `error`."""
        self._pool.close()
        for answer in list(self._answers):
            answer.break_off(error)

    async def aclose(self) -> None:
        """Abort all connections, and wait until their sockets are closed."""
        connections = self._connections
        self._connections = set()
        self.reset(ProxyError("read", "the client was closed"))
        for connection in connections:
            # With TLS, `close` would wait for the peer's close_notify.
            connection.transport.abort()
        if connections:
            for _ in range(_TURNS):
                await asyncio.sleep(0)


def _is_stale(error: ProxyError, connection: UpstreamConnection) -> bool:
    """Return True when a request failed only because the server had closed the idle connection that it used."""
    return error.stage in ("read", "write") and connection.reused and not connection.answered


class HttpAnswer:
    """One response, read as it arrives. It is the `proxy.contracts.Consumer` of its connection.

    status: the status code; 0 until the head has arrived.
    """

    def __init__(self, connection: UpstreamConnection, under_way: set[HttpAnswer]) -> None:
        self.status = 0
        self._fields: Headers = []
        self._connection: UpstreamConnection | None = connection
        self._transport = connection.transport
        self._under_way = under_way
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._error: ProxyError | None = None
        self._changed = asyncio.Event()
        under_way.add(self)

    @property
    def fields(self) -> Headers:
        """Return the header fields, their names in lower case."""
        return self._fields

    def certificate(self) -> bytes | None:
        """Return the server's certificate, in DER; None without TLS."""
        tls = self._transport.get_extra_info("ssl_object")
        return None if tls is None else tls.getpeercert(binary_form=True) or None

    def field(self, name: bytes) -> bytes | None:
        """Return the value of a header field; None when there is none. name: in lower case."""
        return get_header(self._fields, name)

    async def wait_for_head(self, patience: float | None) -> None:
        """Wait until the head has arrived. Raises ProxyError, also after `patience` seconds (None: no limit)."""
        while not self.status:
            await self._wait(patience)

    async def read(self, patience: float | None) -> bytes:
        """Wait for bytes of the body, and return all that have arrived; b"" at the end of the body.

        Raises ProxyError when the answer is cut off, or after `patience` seconds without a byte (None: no limit).
        """
        while not self._pieces:
            if self._connection is None and self._error is None:
                return b""
            await self._wait(patience)
        found = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._connection is not None:
            self._connection.resume()
        return found

    async def pieces(self, patience: float | None) -> AsyncIterator[bytes]:
        """Yield the body as it arrives (`read`)."""
        while piece := await self.read(patience):
            yield piece

    async def _wait(self, patience: float | None) -> None:
        if self._error is not None:
            raise self._error
        self._changed.clear()
        try:
            async with asyncio.timeout(patience):
                await self._changed.wait()
        except TimeoutError:
            assert patience is not None  # there is no timeout without a limit
            self.break_off(ProxyError("read", f"no answer in {patience:g} s", silent=patience))
        if self._error is not None and not self._pieces:
            raise self._error

    def leave(self) -> None:
        """Drop the rest of the answer, if any."""
        self._under_way.discard(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    def break_off(self, error: ProxyError) -> None:
        """End the answer with an error, unless all of it has arrived."""
        if self._connection is not None:
            self.leave()
            self.upstream_lost(error)

    # Called by the connection (`proxy.contracts.Consumer`)

    def upstream_interim(self, response: Response) -> None:
        """Ignore an interim response (1xx)."""

    def upstream_head(self, response: Response) -> None:
        """Store the head."""
        self.status = response.head.status
        self._fields = response.head.headers
        self._changed.set()

    def upstream_body(self, data: bytes) -> None:
        """Store a piece of the body. When too much is unread, reading from the connection is paused."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _BUFFER and self._connection is not None:
            self._connection.pause()

    def upstream_whole(self, response: Response, body: bytes) -> None:
        """Store a response that has arrived completely."""
        self.upstream_head(response)
        self._pieces.append(body)
        self.upstream_end([])

    def upstream_bulk(self) -> None:
        """Do not use bulk transfer: long bodies arrive in the same way as short ones."""

    def upstream_flush(self) -> None:
        """Wake up the reader."""
        self._changed.set()

    def upstream_end(self, trailers: Headers) -> None:
        """End the body. The connection goes back to the pool."""
        self._connection = None
        self._changed.set()

    def upstream_switched(self, response: Response, rest: bytes) -> None:
        """Do nothing; never called, because no upgrade is requested."""
        raise AssertionError("no upgrade was requested")

    def upstream_lost(self, error: ProxyError) -> None:
        """End the body with an error."""
        self._connection = None
        self._error = error
        self._changed.set()

    def upstream_full(self) -> None:
        """Do nothing: the whole request was sent at once."""

    def upstream_ready(self) -> None:
        """Do nothing: the whole request was sent at once."""


class LineSplitter:
    """Splits a stream into lines.

    Only a newline character ends a line. U+0085 and U+2028 do not: JSON strings may contain them unescaped.
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without their newlines; empty lines are left out."""
        *lines, rest = data.split(b"\n")
        if lines and self._rest:
            lines[0] = b"".join([*self._rest, lines[0]])
            self._rest.clear()
        if rest:
            self._rest.append(rest)
        return [line for line in lines if line]
