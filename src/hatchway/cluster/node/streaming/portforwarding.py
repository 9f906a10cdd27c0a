"""Serves port-forward over SPDY: each connection to a port of a pod is a pair of streams in the client's session.

It behaves like the kubelet (`pkg/cri/streaming/portforward/httpstream.go`), with two differences: connections can be
half-closed in both directions; and when a connection was reset, its stream is reset without an error text. (kubectl
ends the whole session after an error text.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast

from hatchway.cluster.node.streaming.clientlink import ClientLink
from hatchway.cluster.node.streaming.command import Spawn
from hatchway.cluster.node.streaming.podports import PodPorts
from hatchway.proxy import transports
from hatchway.proxy.limits import Limits
from hatchway.wire.portforwardstreams import ForwardedConnection, PortForwardError, StreamPairs, dial_text
from hatchway.wire.spdy import CANCEL, REFUSED_STREAM, SpdySession
from hatchway.wire.spdyevents import (
    DataReceived,
    Event,
    SpdyError,
    SpdyLimits,
    StreamDrained,
    StreamOpened,
    StreamReset,
)

_SPDY: Final = SpdyLimits(streams=4096, window=256 * 1024)
_LIMITS: Final = Limits()
# While more bytes than this wait for a stream's window, reading from the pod's connection is paused.
_UNSENT_HIGH: Final = 128 * 1024
# Reading from a client is paused while more bytes than this wait for its pods. The larger limit is for clients with
# flow control.
_UNTAKEN_HIGH, _UNTAKEN_LOW = 8 << 20, 2 << 20
_UNTAKEN_LIMIT: Final = 64 << 20
# When the client reads again, reading is resumed for this many pods' connections in each iteration of the event loop.
_RESUMED_AT_ONCE: Final = 16
_EXPIRY: Final = 5.0


class PodConnection(asyncio.Protocol):
    """A connection to a port of a pod, and its two streams.

    untaken: the number of the client's bytes that the pod has not taken yet.
    reading: False while reading from the pod's connection is paused.
    is_over: True when the client no longer needs the connection.
    """

    transport: asyncio.Transport

    def __init__(self, owner: PortForwardServer, streams: ForwardedConnection) -> None:
        self._owner = owner
        self._early: list[bytes] = []
        self._client_ended = False
        self._pod_ended = False
        self._choked = False
        self.streams = streams
        self._connected = False
        self.untaken = 0
        self.reading = False
        self.is_over = False

    # Methods that the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the pod the bytes that the client has already sent."""
        self.transport = cast(asyncio.Transport, transport)
        self._connected = self.reading = True
        if self.is_over:
            self.transport.abort()
            return
        early, self._early = self._early, []
        for data in early:
            self._write(data)
        if self._client_ended and not self.transport.is_closing():
            self.transport.write_eof()
        if not self._owner.writable:
            self._owner.wait(self)

    def data_received(self, data: bytes) -> None:
        """Send the pod's data to the client."""
        if self._owner.send(self, data):
            self._owner.wait(self)

    def eof_received(self) -> bool:
        """Half-close the stream. The other direction continues."""
        self._pod_ended = True
        self._owner.end(self)
        return not self._client_ended

    def pause_writing(self) -> None:
        """Record that the pod does not read."""
        self._choked = True

    def resume_writing(self) -> None:
        """Let the client send more, because the pod reads again."""
        self._choked = False
        self._take()

    def connection_lost(self, error: Exception | None) -> None:
        """End the streams."""
        transports.note_lost(self.transport)
        self._connected = False
        self._owner.ports.release()
        self._take()
        self._owner.end_streams(self, reset=error is not None or not self._pod_ended)

    # Methods that the session calls

    def write(self, data: bytes) -> None:
        """Send the pod the bytes of the data stream."""
        self.untaken += len(data)
        if self._connected:
            self._write(data)
        elif not self.is_over:
            self._early.append(data)
        else:
            self._take()

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)
        if not self._choked:
            self._take(at_once=True)

    def write_eof(self) -> None:
        """Half-close the connection: the client sends nothing more."""
        self._client_ended = True
        if self._connected and not self.transport.is_closing():
            if self._pod_ended:
                self.transport.close()
            else:
                self.transport.write_eof()

    def pause(self) -> None:
        """Stop reading the pod's connection."""
        if self.reading and self._connected and not self.transport.is_closing():
            self.reading = False
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read the connection again."""
        if not self.reading and self._connected and not self.transport.is_closing():
            self.reading = True
            self.transport.resume_reading()

    def abort(self) -> None:
        """End the connection now, because its streams have ended."""
        self.is_over = True
        self._early.clear()
        self._take()
        if self._connected:
            self.transport.abort()

    def _take(self, *, at_once: bool = False) -> None:
        count, self.untaken = self.untaken, 0
        if count:
            self._owner.record_taken(self, count, at_once=at_once)


class PortForwardServer:
    """One client's session; the user of a `ClientLink`.

    ports: the ports of the pod. spawn: runs a coroutine as a task.
    """

    def __init__(self, ports: PodPorts, spawn: Spawn) -> None:
        self.ports = ports
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        self._spdy = SpdySession(server=True, limits=_SPDY)
        self._pairs = StreamPairs()
        self._link: ClientLink | None = None
        self._connections: dict[int, PodConnection] = {}
        # The pods' connections that are not read at present, because the client reads too slowly. They are resumed in
        # this order.
        self._waiting: deque[PodConnection] = deque()
        self._resuming = False
        self._untaken = 0
        self._feeding = False
        self._expiry: asyncio.TimerHandle | None = None

    def attach(self, link: ClientLink) -> None:
        """Take the connection."""
        self._link = link
        self._flush()

    # Methods that the link calls

    def receive(self, data: bytes) -> None:
        """Handle frames of the client."""
        self._feeding = True
        try:
            for event in self._spdy.receive_data(data):
                self._handle(event)
        except SpdyError:
            self._feeding = False
            self._flush()
            if self._link is not None:
                self._link.finish(at_once=True)
            return
        self._feeding = False
        self._flush()

    @property
    def writable(self) -> bool:
        """Return True while the client reads."""
        return self._link is not None and self._link.writable

    def pause_writing(self) -> None:
        """Stop reading the pods' connections, because the client does not read."""
        for connection in self._connections.values():
            if connection.reading:
                self.wait(connection)

    def resume_writing(self) -> None:
        """Read the pods' connections again, a few at a time."""
        if not self._resuming and self._waiting:
            self._resuming = True
            self._resume_some()

    def _resume_some(self) -> None:
        self._resuming = False
        for _ in range(min(_RESUMED_AT_ONCE, len(self._waiting))):
            if not self.writable:
                return
            connection = self._waiting.popleft()
            if self._spdy.unsent(connection.streams.data_stream) < _UNSENT_HIGH:
                connection.resume()
        if self._waiting and self.writable:
            self._resuming = True
            self._loop.call_soon(self._resume_some)

    def lose_client(self) -> None:
        """End all connections."""
        self._link = None
        if self._expiry is not None:
            self._expiry.cancel()
        for connection in {id(known): known for known in self._connections.values()}.values():
            connection.abort()
        self._connections.clear()
        self._waiting.clear()

    def probe(self) -> None:
        """Ping the client."""
        self._spdy.ping()
        self._flush()

    # Streams

    def _handle(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            connection = self._connections.get(event.stream_id)
            if connection is None or event.stream_id != connection.streams.data_stream:
                self._spdy.consumed(event.stream_id, len(event.data))
                return
            if event.data:
                self._untaken += len(event.data)
                connection.write(event.data)
                self._hold_if_full()
            if event.fin:
                connection.write_eof()
        elif isinstance(event, StreamOpened):
            self._open(event)
        elif isinstance(event, StreamDrained):
            connection = self._connections.get(event.stream_id)
            if connection is not None and not connection.reading:
                if self.writable:
                    connection.resume()
                elif connection not in self._waiting:
                    self._waiting.append(connection)
        elif isinstance(event, StreamReset):
            self._pairs.discard(event.stream_id)
            connection = self._connections.get(event.stream_id)
            if connection is not None and event.stream_id == connection.streams.data_stream:
                self._forget(connection)
                self._spdy.reset(connection.streams.error_stream)
                connection.abort()

    def _open(self, event: StreamOpened) -> None:
        if not self._spdy.may_send(event.stream_id):
            self._spdy.reset(event.stream_id, REFUSED_STREAM)  # a unidirectional stream of the client
            return
        try:
            streams = self._pairs.add(event.stream_id, event.headers, self._loop.time())
        except PortForwardError:
            self._spdy.reset(event.stream_id, REFUSED_STREAM)
            return
        self._spdy.accept(event.stream_id)
        if streams is None:
            if self._expiry is None:
                self._expiry = self._loop.call_later(_EXPIRY, self._expire)
            return
        connection = PodConnection(self, streams)
        self._connections[streams.data_stream] = self._connections[streams.error_stream] = connection
        self._spawn(self._connect(connection))

    def _expire(self) -> None:
        for stream in self._pairs.expire(self._loop.time()):
            self._spdy.reset(stream, CANCEL)
        self._flush()
        self._expiry = self._loop.call_later(_EXPIRY, self._expire)

    async def _connect(self, connection: PodConnection) -> None:
        port = connection.streams.port
        try:
            sock = await self.ports.connect(port)
            try:
                await transports.connect(connection, sock, _LIMITS)
            except BaseException:
                sock.close()
                self.ports.release()
                raise
        except OSError as error:
            if not connection.is_over:
                self._refuse(connection, dial_text(port, self.ports.pod, error))

    def _refuse(self, connection: PodConnection, text: str) -> None:
        """Send the client the reason why there is no connection."""
        self._forget(connection)
        connection.abort()
        self._spdy.send_data(connection.streams.error_stream, text.encode(), fin=True)
        self._end_data(connection)
        self._flush()

    def _forget(self, connection: PodConnection) -> None:
        for stream in (connection.streams.data_stream, connection.streams.error_stream):
            self._connections.pop(stream, None)

    # Methods that the pods' connections call

    def send(self, connection: PodConnection, data: bytes) -> bool:
        """Send the client a pod's data. Return True when no more data should be read now."""
        stream = connection.streams.data_stream
        self._spdy.send_data(stream, data)
        self._flush()
        return not self.writable or self._spdy.unsent(stream) >= _UNSENT_HIGH

    def wait(self, connection: PodConnection) -> None:
        """Stop reading a connection until its client, or its stream, has room."""
        connection.pause()
        if not self.writable:
            self._waiting.append(connection)

    def end(self, connection: PodConnection) -> None:
        """Half-close a connection's stream: the pod sends nothing more."""
        if not connection.is_over:
            self._end_data(connection)
            self._flush()

    def _end_data(self, connection: PodConnection) -> None:
        stream = connection.streams.data_stream
        if self._spdy.is_open(stream):
            self._spdy.send_data(stream, b"", fin=True)

    def record_taken(self, connection: PodConnection, count: int, *, at_once: bool) -> None:
        """Let the client send as many bytes as a pod has taken.

        at_once: True when the pod took them without a delay, so that the window may grow.
        """
        self._untaken -= count
        self._spdy.consumed(connection.streams.data_stream, count, at_once=at_once)
        if not self._feeding:
            self._flush()
        if self._untaken <= _UNTAKEN_LOW and self._link is not None:
            self._link.release()

    def end_streams(self, connection: PodConnection, *, reset: bool) -> None:
        """End the streams of a connection that has ended."""
        if connection.is_over:
            return
        connection.is_over = True
        self._forget(connection)
        if reset:
            self._spdy.reset(connection.streams.data_stream)
        if self._spdy.is_open(connection.streams.error_stream):
            self._spdy.send_data(connection.streams.error_stream, b"", fin=True)
        self._flush()

    def _hold_if_full(self) -> None:
        most = _UNTAKEN_LIMIT if self._spdy.has_windows else _UNTAKEN_HIGH
        if self._untaken > most and self._link is not None:
            self._link.hold()

    def _flush(self) -> None:
        if self._link is not None:
            self._link.write(self._spdy.data_to_send())
