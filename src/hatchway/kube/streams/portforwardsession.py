"""Port-forward at any API server: many connections to the ports of one pod over one session."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import quote

from hatchway.errors import ApiError
from hatchway.kube.client import ApiConnection
from hatchway.kube.streams import upgrade
from hatchway.kube.streams.knownprotocols import KnownProtocols
from hatchway.kube.streams.spdyconnection import SpdyConnection
from hatchway.kube.streams.spdystream import SpdyStream
from hatchway.proxy.routing import get_header
from hatchway.wire.portforwardstreams import (
    OFFER_FIELD,
    SINGLE_STREAM_PROTOCOL,
    SPDY_PROTOCOL,
    TUNNEL_PROTOCOL,
    data_headers,
    error_headers,
    refusal_text,
    single_headers,
)
from hatchway.wire.spdyevents import Headers

_P = TypeVar("_P", bound=asyncio.Protocol)

# The maximum number of bytes of an error's text; further bytes are dropped.
_LONGEST_TEXT: Final = 16 * 1024
# When a connection fails before any data, kubelets first end the data stream and then send the error's text. So the end
# of a connection without data is reported only after its error stream has ended, or after this many seconds.
_ERROR_TEXT_WAIT: Final = 0.5

_known = KnownProtocols()


class ForwardError(ConnectionError):
    """A connection to a port of the pod failed. The message is the server's text (most often: connection refused)."""


class PortForwardSession:
    """A session with one pod. Its connections are opened and closed independently of each other.

    An embedded cluster has flow control for each connection; kubelets have none. Without flow control, the unread bytes
    of all connections share a buffer of 16 MiB. While this buffer is full, nothing is read from the session
    (`stalled`), so new connections should be opened on another session.
    """

    def __init__(self, connection: SpdyConnection, pod: str, *, single: bool = False) -> None:
        """Make a session on an open connection. Most callers use `open` instead.

        single: True when each connection is one stream (`wire.portforwardstreams.SINGLE_STREAM_PROTOCOL`).
        """
        self.pod = pod
        self._single = single
        self._connection = connection
        self._requests = itertools.count()
        self._count = 0

    @classmethod
    async def open(cls, connection: ApiConnection, namespace: str, pod: str) -> PortForwardSession:
        """Open a session with a pod.

        It tries a WebSocket first, then plain SPDY: the server or the network may not support WebSockets, or the user
        may have no right to use them. The protocol that a server has accepted is tried first the next time. An embedded
        cluster offers Hatchway's own protocol over SPDY (`SINGLE_STREAM_PROTOCOL`), which is then used.

        Raises ApiError: the server's error, or 503 when the server cannot be reached.
        """
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}/portforward"

        def made(upgraded: upgrade.Upgraded, *, tunnel: bool) -> PortForwardSession:
            return cls(_begin(upgraded, tunnel=tunnel), f"{namespace}/{pod}", single=_is_single(upgraded))

        async def plain() -> PortForwardSession:
            return made(
                await upgrade.open_spdy(connection, path, [SINGLE_STREAM_PROTOCOL, SPDY_PROTOCOL]), tunnel=False
            )

        async def tunnel() -> PortForwardSession:
            first = await upgrade.open_websocket(connection, path, [TUNNEL_PROTOCOL])
            if get_header(first.headers, OFFER_FIELD.lower()) == SINGLE_STREAM_PROTOCOL.encode():
                try:
                    better = await upgrade.open_spdy(connection, path, [SINGLE_STREAM_PROTOCOL, SPDY_PROTOCOL])
                except ApiError:
                    return made(first, tunnel=True)  # a proxy before the server may support WebSockets only
                except BaseException:
                    first.abort()
                    raise
                first.abort()
                return made(better, tunnel=False)
            return made(first, tunnel=True)

        session = await _known.try_in_order(connection, {"websocket": tunnel, "spdy": plain})
        if session._single:
            _known.note(connection, "spdy")
        return session

    @property
    def closed(self) -> asyncio.Future[Exception | None]:
        """Return a future that is done when the session ends. Its result is the error, or None. Do not cancel it."""
        return self._connection.closed

    @property
    def can_connect(self) -> bool:
        """Return False when no further connection can be opened. Open connections may continue."""
        return not self.closed.done() and self._connection.session.can_open

    @property
    def stalled(self) -> bool:
        """Return True while reading is paused for all connections, because too many received bytes are not read yet."""
        return self._connection.stalled

    @property
    def has_flow_control(self) -> bool:
        """Return True when the server has flow control for each connection, so that no connection can block another."""
        return self._connection.session.has_windows

    @property
    def connection_count(self) -> int:
        """Return the number of open connections."""
        return self._count

    def connect(self, port: int) -> asyncio.Transport:
        """Open a connection. Its transport reads only after a protocol was set and `resume_reading` was called.

        This does not wait for the server: bytes can be written at once, and a later failure ends the connection with
        ForwardError.

        Raises ConnectionError when the session has ended.
        """
        return self._open(port)

    def _open(self, port: int) -> SpdyStream:
        if not self._single:
            return self._open_pair(port)
        carrier = self._connection
        stream = carrier.open_for(single_headers(port))
        transport = _SingleTransport(carrier, stream, self._ended)
        carrier.read_with(stream, transport)
        self._count += 1
        return transport

    def _open_pair(self, port: int) -> SpdyStream:
        request = next(self._requests)
        carrier = self._connection
        text = _ErrorStreamReceiver()
        error_stream = carrier.open_for(error_headers(port, request), fin=True)
        carrier.read_with(error_stream, text)
        data_stream = carrier.open_for(data_headers(port, request))
        transport = _ForwardTransport(carrier, data_stream, error_stream, self._ended)
        carrier.read_with(data_stream, transport)
        text.transport = transport
        self._count += 1
        return transport

    async def create_connection(self, protocol_factory: Callable[[], _P], port: int) -> tuple[asyncio.Transport, _P]:
        """Open a connection for a protocol, like `loop.create_connection`. Raises ConnectionError.

        When the port refuses the connection, the protocol's `connection_lost` gets a ForwardError.
        """
        transport = self._open(port)
        protocol = protocol_factory()
        transport.start(protocol)
        return transport, protocol

    async def check(self, patience: float) -> bool:
        """Send a ping; return False, and abort the session, when no answer comes within `patience` seconds."""
        return await self._connection.check(patience)

    def close(self) -> None:
        """End the session. Open connections end with an error."""
        self._connection.close()

    async def aclose(self) -> None:
        """End the session, and wait until its connection is closed; after a second, abort the connection."""
        self.close()
        try:
            async with asyncio.timeout(1.0):
                await asyncio.shield(self.closed)
        except TimeoutError:
            self._connection.abort(ConnectionError("the session was closed"))

    def _ended(self) -> None:
        self._count -= 1


def _begin(upgraded: upgrade.Upgraded, *, tunnel: bool) -> SpdyConnection:
    connection = SpdyConnection(server=False, tunnel=tunnel)
    upgraded.hand_over(connection)
    return connection


def _is_single(upgraded: upgrade.Upgraded) -> bool:
    return upgraded.protocol == SINGLE_STREAM_PROTOCOL


class _SingleTransport(SpdyStream):
    """A connection that is one stream."""

    __slots__ = ("_on_end",)

    def __init__(self, carrier: SpdyConnection, stream_id: int, ended: Callable[[], None]) -> None:
        super().__init__(carrier, stream_id, [])
        self._on_end: Callable[[], None] | None = ended

    def replied(self, headers: Headers) -> None:
        """Store the text of the connection's error."""
        self.fail(ForwardError(refusal_text(headers)))

    def _lose(self, error: Exception | None) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()
        super()._lose(error)


class _ForwardTransport(SpdyStream):
    """The data stream of a connection. `text_ended` is called when the connection's error stream has ended."""

    __slots__ = ("_carrier", "_error_stream", "_late", "_on_end", "_received", "_text_open")

    def __init__(
        self,
        carrier: SpdyConnection,
        stream_id: int,
        error_stream: int,
        ended: Callable[[], None],
    ) -> None:
        super().__init__(carrier, stream_id, [])
        self._carrier = carrier
        self._error_stream = error_stream
        self._on_end: Callable[[], None] | None = ended
        self._text_open = True
        self._received = False
        self._late: asyncio.TimerHandle | None = None

    def receive(self, data: bytes, fin: bool) -> None:
        """Take bytes. If the stream ends without bytes, report the end later, because an error's text may follow."""
        if data:
            self._received = True
        elif fin and self._text_open and not self._received:
            self._late = asyncio.get_running_loop().call_later(_ERROR_TEXT_WAIT, self._end_late)
            return
        super().receive(data, fin)

    def text_ended(self, text: str) -> None:
        """Take the whole text of the error stream, which has ended; "" when there is no error."""
        self._text_open = False
        if text:
            self.fail(ForwardError(text))
        elif self._late is not None:
            self._end_late()

    def abort(self) -> None:
        """End the connection at once, and reset both of its streams."""
        self._carrier.session.reset(self._error_stream)
        self._carrier.finished(self._error_stream)
        super().abort()

    def _end_late(self) -> None:
        self._cancel_late()
        super().receive(b"", True)

    def _cancel_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _lose(self, error: Exception | None) -> None:
        self._cancel_late()
        if self._text_open:
            self._carrier.linger(self._error_stream)
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()
        super()._lose(error)


class _ErrorStreamReceiver:
    """The receiver of a connection's error stream (`spdyconnection.StreamReceiver`)."""

    __slots__ = ("_text", "transport")

    transport: _ForwardTransport

    def __init__(self) -> None:
        self._text = b""

    def replied(self, headers: Headers) -> None:
        """Do nothing: this protocol sends no information in a reply's headers."""

    def receive(self, data: bytes, fin: bool) -> None:
        """Collect the text."""
        if len(self._text) < _LONGEST_TEXT:
            self._text += data
        if fin:
            self._end()

    def was_reset(self, status: int) -> None:
        """Report the text that has arrived so far."""
        self._end()

    def connection_lost(self, error: Exception) -> None:
        """Do nothing: the data stream reports the error."""

    def drained(self) -> None:
        """Do nothing: nothing is sent on this stream."""

    def _end(self) -> None:
        transport = self.transport
        carrier = transport._carrier
        carrier.finished(transport._error_stream)
        transport.text_ended(self._text[:_LONGEST_TEXT].decode(errors="replace").strip())
