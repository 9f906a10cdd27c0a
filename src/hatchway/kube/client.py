"""`kube.api.Client` over a Connection: its credentials, its TLS, its proxy, on the data path's own connections.

httpx2 would cost 100 ms of imports and would need the dialling, the proxies and the TLS settings a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

from hatchway import __version__
from hatchway.errors import ApiError, HatchwayError, service_unavailable
from hatchway.kube.rest import WATCH_SECONDS, RestClient, answer_error
from hatchway.proxy.heads import Response
from hatchway.proxy.limits import Limits
from hatchway.proxy.routing import Headers, ProxyError
from hatchway.proxy.upstream import Pool, UpstreamConnection

if TYPE_CHECKING:
    from hatchway.kube.connection import Connection

# How long an answer is waited for: that of a single object, and any other (a list may take the server long).
_SOON, _PATIENCE = 10.0, 30.0
# Unread bytes of an answer before its socket is no longer read.
_BUFFER = 1 << 20
# The stage of an answer that was broken off by this side.
_REPLACED = "replaced"
_LIMITS = Limits(idle_upstreams=16, idle_upstreams_per_key=16)


class ConnectionClient(RestClient):
    """The client of one Connection; it stays the same object whatever changes below it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pool = Pool(_LIMITS)
        self._answers: set[_Answer] = set()

    @property
    def identity(self) -> tuple[str, ...]:
        """Whose client it is now (`Connection.identity`)."""
        return self._connection.identity

    def reset(self) -> None:
        """Forget all connections: answers that are under way break off (503), watches begin anew."""
        self._pool.close()
        for answer in list(self._answers):
            answer.give_up(ProxyError(_REPLACED, "the connection was replaced"))

    async def exchange(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        patience = _SOON if method == "GET" and "?" not in path else _PATIENCE
        async with self._answer(method, path, body, content_type, patience) as answer:
            return answer.status, b"".join([piece async for piece in self._pieces(answer, _PATIENCE)])

    async def lines(self, path: str) -> AsyncGenerator[bytes, None]:
        patience = WATCH_SECONDS + 10.0
        async with self._answer("GET", path, None, "", patience) as answer:
            if answer.status != 200:
                text = b"".join([piece async for piece in self._pieces(answer, _PATIENCE)])
                raise answer_error(answer.status, text, path.partition("?")[0])
            begun: list[bytes] = []
            async for piece in self._pieces(answer, patience):
                first, *more = piece.split(b"\n")
                begun.append(first)
                for line in more:
                    yield b"".join(begun)
                    begun = [line]

    @contextlib.asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: bytes | None, content_type: str, patience: float
    ) -> AsyncIterator[_Answer]:
        """An answer whose head has come; with a 401 the credentials are renewed and it is asked once more."""
        try:
            await self._connection.ready()
        except ApiError:
            raise
        except HatchwayError as error:
            raise ApiError(401, "Unauthorized", error.message, hint=error.hint) from error
        answer = await self._ask(method, path, body, content_type, patience)
        try:
            if answer.status == 401 and await self._connection.renew():
                answer.leave()
                answer = await self._ask(method, path, body, content_type, patience)
            yield answer
        finally:
            answer.leave()
            self._answers.discard(answer)

    async def _ask(self, method: str, path: str, body: bytes | None, content_type: str, patience: float) -> _Answer:
        self._pool.sweep(asyncio.get_running_loop().time())
        while True:
            try:
                connection = self._pool.take(self._connection.upstream.key, check=method != "GET")
                if connection is None:
                    connection = await self._pool.connect(self._connection.upstream)
                answer = _Answer(connection)
                self._answers.add(answer)
                connection.begin(answer, method, switch=False, sending=False)
                connection.transport.write(self._head(method, path, body, content_type) + (body or b""))
                try:
                    await answer.head(patience)
                except BaseException:
                    answer.leave()
                    self._answers.discard(answer)
                    raise
            except ProxyError as error:
                # A kept connection may have been closed while this request was on its way.
                if method == "GET" and answer_is_stale(error, connection):
                    continue
                raise self._away(error) from error
            self._connection.note(None)
            return answer

    def _head(self, method: str, path: str, body: bytes | None, content_type: str) -> bytes:
        connection = self._connection
        fields = [
            (b"Host", connection.host),
            (b"User-Agent", b"hatchway/" + __version__.encode()),
            (b"Accept", b"application/json"),
            *connection.fields(),
        ]
        if body is not None:
            fields += [(b"Content-Type", content_type.encode()), (b"Content-Length", b"%d" % len(body))]
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        return b"%b %b%b HTTP/1.1\r\n%b\r\n" % (method.encode(), connection.base_path, path.encode(), lines)

    async def _pieces(self, answer: _Answer, patience: float) -> AsyncIterator[bytes]:
        try:
            while piece := await answer.read(patience):
                yield piece
        except ProxyError as error:
            raise self._away(error) from error

    def _away(self, error: ProxyError) -> ApiError:
        if error.stage == _REPLACED:
            return service_unavailable(f"{self._connection.label}: {error.message}")
        trouble = self._connection.note(error)
        assert trouble is not None
        found = service_unavailable(trouble.reason)
        found.hint = trouble.hint
        return found

    async def aclose(self) -> None:
        self.reset()


def answer_is_stale(error: ProxyError, connection: UpstreamConnection | None) -> bool:
    """Whether a request failed only because its kept connection was closed before it."""
    return error.stage in ("read", "write") and connection is not None and connection.reused and not connection.answered


class _Answer:
    """The consumer (proxy.upstream.Reader) of one response, read as it comes. status: 0 until its head has come."""

    def __init__(self, connection: UpstreamConnection) -> None:
        self.status = 0
        self._connection: UpstreamConnection | None = connection
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._error: ProxyError | None = None
        self._changed = asyncio.Event()

    async def head(self, patience: float) -> None:
        while not self.status:
            await self._wait(patience)

    async def read(self, patience: float) -> bytes:
        """What has come; b"" at the end. Raises ProxyError."""
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

    async def _wait(self, patience: float) -> None:
        if self._error is not None:
            raise self._error
        self._changed.clear()
        try:
            async with asyncio.timeout(patience):
                await self._changed.wait()
        except TimeoutError:
            self.give_up(ProxyError("read", f"no answer in {patience:g} s", silent=patience))
        if self._error is not None and not self._pieces:
            raise self._error

    def leave(self) -> None:
        """The rest is not wanted."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    def give_up(self, error: ProxyError) -> None:
        """End it from outside."""
        if self._connection is not None:
            self.leave()
            self.upstream_lost(error)

    def upstream_interim(self, response: Response) -> None:
        pass

    def upstream_head(self, response: Response) -> None:
        self.status = response.head.status
        self._changed.set()

    def upstream_body(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _BUFFER and self._connection is not None:
            self._connection.pause()

    def upstream_pieces(self) -> _Answer:
        return self

    def upstream_whole(self, response: Response, body: bytes) -> None:
        self.upstream_head(response)
        self._pieces.append(body)
        self.upstream_end([])

    def upstream_bulk(self) -> None:
        return None

    def upstream_flush(self) -> None:
        self._changed.set()

    def upstream_end(self, trailers: Headers) -> None:
        self._connection = None
        self._changed.set()

    def upstream_switched(self, response: Response, rest: bytes) -> None:
        raise AssertionError("no upgrade was asked for")

    def upstream_lost(self, error: ProxyError) -> None:
        self._connection = None
        self._error = error
        self._changed.set()

    def upstream_full(self) -> None:
        pass

    def upstream_ready(self) -> None:
        pass
