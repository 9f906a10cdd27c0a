"""`kube.api.Client` over a Connection, with its credentials, its TLS settings and its proxy."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from hatchway import __version__
from hatchway.errors import ApiError, service_unavailable
from hatchway.kube.http import HttpAnswer, HttpClient, LineSplitter
from hatchway.kube.restclient import WATCH_SECONDS, RestClient, answer_error
from hatchway.kube.trouble import Trouble
from hatchway.proxy.routing import ProxyError, Upstream

# Timeouts in seconds: for an answer about a single object, and for any other answer (a list may take long).
_OBJECT_TIMEOUT, _TIMEOUT = 10.0, 30.0
# A watch's connection that carries no byte for this many seconds counts as dead.
_WATCH_SILENCE = WATCH_SECONDS + 10.0
# `ProxyError.stage` of answers that this client itself has aborted.
_RESET_STAGE = "replaced"


class ApiConnection(Protocol):
    """The parts of `kube.connection.Connection` that a client uses."""

    host: bytes
    base_path: bytes
    upstream: Upstream
    program: str

    @property
    def label(self) -> str:
        """Return the server's name for errors."""
        ...

    @property
    def timeout(self) -> float:
        """Return the seconds that a request may take; 0 for the client's own limits."""
        ...

    @property
    def identity(self) -> tuple[str, ...]:
        """Return a value that differs for each server and user."""
        ...

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Return the header fields with the credentials."""
        ...

    async def ready(self) -> None:
        """Wait for credentials. Raises NoCredentials when there are none."""
        ...

    async def renew(self) -> bool:
        """Renew the credentials after a 401.

        Return True when they have changed, so that it makes sense to send the request again.
        """
        ...

    def note(self, error: ProxyError | None) -> Trouble | None:
        """Record the error of an attempt to reach the server, or None when the server answered.

        Return the reason why the server cannot be reached now, or None when it can be.
        """
        ...

    async def aclose(self) -> None:
        """Close everything that belongs to the connection."""
        ...


class ConnectionClient(RestClient):
    """The client of one Connection. It can still be used after the connection has changed its server or credentials."""

    def __init__(self, connection: ApiConnection) -> None:
        self._connection = connection
        self._http = HttpClient()

    async def __aenter__(self) -> ConnectionClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.aclose()

    @property
    def identity(self) -> tuple[str, ...]:
        """Return the current server and user of the connection (`Connection.identity`)."""
        return self._connection.identity

    def reset(self) -> None:
        """Close all connections. Unfinished answers fail with ApiError 503; watches reconnect."""
        self._http.reset(ProxyError(_RESET_STAGE, "the connection was replaced"))

    async def exchange(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        """Send a request; return the answer's status and body (`RestClient.exchange`)."""
        limit = self._connection.timeout
        patience = limit or (_OBJECT_TIMEOUT if method == "GET" and "?" not in path else _TIMEOUT)
        async with self._answer(method, path, body, content_type, patience) as answer:
            return answer.status, b"".join([piece async for piece in self._pieces(answer, limit or _TIMEOUT)])

    async def lines(self, path: str) -> AsyncGenerator[bytes, None]:
        """Yield the lines of an answer as they arrive (`RestClient.lines`)."""
        splitter = LineSplitter()
        async with contextlib.aclosing(self.pieces(path, _WATCH_SILENCE)) as pieces:
            async for piece in pieces:
                for line in splitter.feed(piece):
                    yield line

    async def pieces(self, path: str, silence: float) -> AsyncGenerator[bytes, None]:
        """Send a GET request, and yield the body of its answer as it arrives.

        Args:
            path: the path with its query.
            silence: seconds without a byte after which the connection counts as dead.

        Raises:
            ApiError: the server's error when the answer's status is not 200; 503 when the answer was cut off or the
                server cannot be reached.
        """
        async with self._answer("GET", path, None, "", silence) as answer:
            if answer.status != 200:
                text = b"".join([piece async for piece in self._pieces(answer, _TIMEOUT)])
                raise answer_error(answer.status, text, path.partition("?")[0])
            async for piece in self._pieces(answer, silence):
                yield piece

    @contextlib.asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: bytes | None, content_type: str, patience: float
    ) -> AsyncIterator[HttpAnswer]:
        """Yield the answer to a request. After a 401, renew the credentials and send the request once more."""
        await self._connection.ready()
        answer = await self._ask(method, path, body, content_type, patience)
        try:
            if answer.status == 401 and await self._connection.renew():
                answer.leave()
                answer = await self._ask(method, path, body, content_type, patience)
            yield answer
        finally:
            answer.leave()

    async def _ask(self, method: str, path: str, body: bytes | None, content_type: str, patience: float) -> HttpAnswer:
        head = self._head(method, path, body, content_type)
        try:
            answer = await self._http.ask(self._connection.upstream, method, head, body or b"", patience)
        except ProxyError as error:
            raise self._record_unavailable(error) from error
        self._connection.note(None)
        return answer

    def _head(self, method: str, path: str, body: bytes | None, content_type: str) -> bytes:
        connection = self._connection
        fields = [
            (b"Host", connection.host),
            (b"User-Agent", f"{connection.program}/{__version__}".encode()),
            (b"Accept", b"application/json"),
            *connection.fields(),
        ]
        if body is not None:
            fields += [(b"Content-Type", content_type.encode()), (b"Content-Length", b"%d" % len(body))]
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        return b"%b %b%b HTTP/1.1\r\n%b\r\n" % (method.encode(), connection.base_path, path.encode(), lines)

    async def _pieces(self, answer: HttpAnswer, patience: float) -> AsyncIterator[bytes]:
        try:
            async for piece in answer.pieces(patience):
                yield piece
        except ProxyError as error:
            raise self._record_unavailable(error) from error

    def _record_unavailable(self, error: ProxyError) -> ApiError:
        """Record a failed attempt on the connection; return the ApiError 503 for it."""
        if error.stage == _RESET_STAGE:
            return service_unavailable(f"{self._connection.label}: {error.message}")
        trouble = self._connection.note(error)
        assert trouble is not None
        found = service_unavailable(trouble.reason)
        found.hint, found.passing = trouble.hint, True
        return found

    async def aclose(self) -> None:
        """Close the client's connections, and wait until they are closed."""
        await self._http.aclose()
