"""Sends upgrade requests (WebSocket, SPDY) to an API server, and returns the transport of the upgraded connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hatchway import __version__
from hatchway.errors import ApiError, service_unavailable
from hatchway.kube.client import ApiConnection
from hatchway.kube.http import HttpAnswer
from hatchway.kube.restclient import answer_error
from hatchway.proxy import transports
from hatchway.proxy.fields import tokens
from hatchway.proxy.heads import Response
from hatchway.proxy.limits import Limits
from hatchway.proxy.pool import Pool
from hatchway.proxy.routing import Headers, ProxyError
from hatchway.proxy.upstream import UpstreamConnection
from hatchway.wire import wshandshake
from hatchway.wire.wshandshake import HandshakeError

# Seconds to wait for the answer to the request: the API server itself must connect to a kubelet first.
PATIENCE: Final = 30.0
# The maximum number of bytes of a refusal that are read.
_LARGEST_REFUSAL: Final = 64 * 1024
# A large read buffer, because one session carries many connections. The system allocates memory only for used parts.
_LIMITS: Final = Limits(tls_buffer=16 * (16 * 1024 + 64))


class UpgradeRefused(ApiError):
    """The server has refused the upgrade. It may still accept another protocol.

    final: True when every protocol would be refused: the user is unknown (401), or the object does not exist (404).
    """

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.code, error.reason, error.message, error.details, error.hint)
        self.final = error.code == 401 or (error.code == 404 and error.reason == "NotFound")


@dataclass(slots=True)
class Upgraded:
    """An upgraded connection (the server has answered 101).

    protocol: the sub-protocol that the server has chosen; "" for none.
    headers: the header fields of the answer.
    """

    protocol: str
    headers: Headers
    _transport: asyncio.Transport
    _waiting: _Waiting
    _rest: bytes

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        """Set the transport's protocol, and pass the bytes that the server has already sent to the protocol."""
        transport = self._transport
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._waiting.lost:
            protocol.connection_lost(self._waiting.error)
            return
        if self._rest:
            protocol.data_received(self._rest)
        if not transport.is_closing():
            transport.resume_reading()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()


class _Waiting(asyncio.Protocol):
    """The protocol of an upgraded transport until `hand_over` sets another protocol. Reading is paused meanwhile."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.lost = False
        self.error: Exception | None = None
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        transports.note_lost(self._transport)
        self.lost = True
        self.error = exc


class _UpgradeAnswer(HttpAnswer):
    """The answer to an upgrade request: an ordinary response, or the upgraded transport."""

    def __init__(self, connection: UpstreamConnection) -> None:
        super().__init__(connection, set())
        self._upstream = connection
        self.switched: tuple[Response, _Waiting, bytes] | None = None

    def upstream_switched(self, response: Response, rest: bytes) -> None:
        """Store the transport, and pause its reading."""
        transport = self._upstream.transport
        transport.pause_reading()
        waiting = _Waiting(transport)
        transport.set_protocol(waiting)
        self.switched = response, waiting, rest
        self.upstream_head(response)
        self.upstream_end([])

    @property
    def transport(self) -> asyncio.Transport:
        """Return the transport of the connection."""
        return self._upstream.transport


async def open_websocket(connection: ApiConnection, path: str, protocols: Sequence[str]) -> Upgraded:
    """Open a WebSocket.

    path: the path with its query.
    protocols: the sub-protocols to offer, the best first.

    Raises UpgradeRefused, and ApiError 503 when the server cannot be reached.
    """
    key = wshandshake.new_key()
    fields = wshandshake.request_fields(key, protocols)
    return await _upgrade(
        connection, "GET", path, fields, b"websocket", lambda found: wshandshake.check_response(found, key, protocols)
    )


async def open_spdy(connection: ApiConnection, path: str, protocols: Sequence[str]) -> Upgraded:
    """Open a connection for a SPDY/3.1 session.

    path: the path with its query.
    protocols: the sub-protocols to offer, the best first.

    Raises UpgradeRefused, and ApiError 503 when the server cannot be reached.
    """
    fields = [(b"Connection", b"Upgrade"), (b"Upgrade", b"SPDY/3.1"), (b"Content-Length", b"0")]
    fields += [(b"X-Stream-Protocol-Version", name.encode()) for name in protocols]

    def check(found: Headers) -> str:
        chosen = [value.decode("latin-1") for name, value in found if name.lower() == b"x-stream-protocol-version"]
        if len(chosen) != 1 or chosen[0] not in protocols:
            raise HandshakeError(f"the server chose none of the protocols {', '.join(protocols)}")
        return chosen[0]

    return await _upgrade(connection, "POST", path, fields, b"spdy/3.1", check)


async def _upgrade(
    connection: ApiConnection,
    method: str,
    path: str,
    fields: Headers,
    wanted: bytes,
    check: Callable[[Headers], str],
) -> Upgraded:
    await connection.ready()
    answer = await _ask(connection, method, path, fields)
    try:
        if answer.status == 401 and await connection.renew():
            answer.leave()
            answer = await _ask(connection, method, path, fields)
        if answer.switched is None:
            raise UpgradeRefused(await _refusal(answer, path))
    finally:
        answer.leave()
    response, waiting, rest = answer.switched
    try:
        if wanted not in tokens(response.upgrade or b""):
            raise HandshakeError("the server switched to another protocol")
        protocol = check(response.head.headers)
    except HandshakeError as error:
        answer.transport.abort()
        raise UpgradeRefused(ApiError(502, "", f"{path.partition('?')[0]}: {error.message}")) from error
    return Upgraded(protocol, response.head.headers, answer.transport, waiting, rest)


async def _ask(connection: ApiConnection, method: str, path: str, fields: Headers) -> _UpgradeAnswer:
    all_fields = [
        (b"Host", connection.host),
        (b"User-Agent", b"hatchway/" + __version__.encode()),
        *connection.fields(),
        *fields,
    ]
    lines = b"".join(b"%b: %b\r\n" % field for field in all_fields)
    head = b"%b %b%b HTTP/1.1\r\n%b\r\n" % (method.encode(), connection.base_path, path.encode(), lines)
    try:
        opened = await Pool(_LIMITS).connect(connection.upstream)
        answer = _UpgradeAnswer(opened)
        opened.begin(answer, method, switch=True, sending=False)
        opened.transport.write(head)
        try:
            await answer.wait_for_head(connection.timeout or PATIENCE)
        except BaseException:
            answer.leave()
            if answer.switched is not None:
                opened.transport.abort()  # the caller was cancelled just after the answer arrived
            raise
    except ProxyError as error:
        trouble = connection.note(error)
        assert trouble is not None
        found = service_unavailable(trouble.reason)
        found.hint, found.passing = trouble.hint, True
        raise found from error
    connection.note(None)
    return answer


async def _refusal(answer: HttpAnswer, path: str) -> ApiError:
    """Return the error for an answer whose status is not 101."""
    body = b""
    try:
        async for piece in answer.pieces(PATIENCE):
            body += piece
            if len(body) > _LARGEST_REFUSAL:
                break
    except ProxyError:
        pass  # the part that has arrived is enough
    status = answer.status if answer.status >= 400 else 502
    return answer_error(status, body, path.partition("?")[0])
