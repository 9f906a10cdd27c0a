"""Serves port-forward over the channels of a WebSocket, without SPDY: one connection for each port (`websocket.go`).

Each port of the query has two channels: one for data, one for the text of an error. Connections cannot be half-closed;
the WebSocket ends with the last of its connections.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from hatchway.cluster.node.streaming.clientlink import ClientLink
from hatchway.cluster.node.streaming.command import Spawn
from hatchway.cluster.node.streaming.podports import PodPorts
from hatchway.proxy import transports
from hatchway.proxy.limits import Limits
from hatchway.wire.channels import ChannelError
from hatchway.wire.portforwardstreams import PortChannels, dial_text
from hatchway.wire.websocket import PROTOCOL_ERROR, CloseReceived, Message, WebSocket, WebSocketError

_LIMITS: Final = Limits()
_LARGEST: Final = 16 * 1024 * 1024
_UNTAKEN_HIGH, _UNTAKEN_LOW = 256 * 1024, 64 * 1024


class _PortConnection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, owner: PortChannelServer, index: int) -> None:
        self._owner = owner
        self._index = index
        self._choked = False
        self._untaken = 0
        self._early: list[bytes] = []
        self._connected = False
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._connected = True
        if self.over:
            self.transport.abort()
            return
        early, self._early = self._early, []
        for data in early:
            self.transport.write(data)
        if not self._choked:
            self._take()
        if not self._owner.writable:
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self._owner.send(self._index, data)

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        self._take()

    def connection_lost(self, _: Exception | None) -> None:
        transports.note_lost(self.transport)
        self._connected = False
        self._owner.ports.release()
        self.end()

    def write(self, data: bytes) -> None:
        if self.over:
            return
        self._untaken += len(data)
        self._owner.add_untaken(len(data))
        if not self._connected:
            self._early.append(data)
            return
        if not self.transport.is_closing():
            self.transport.write(data)
        if not self._choked:
            self._take()

    def set_reading(self, reading: bool) -> None:
        if self._connected and not self.transport.is_closing():
            (self.transport.resume_reading if reading else self.transport.pause_reading)()

    def end(self) -> None:
        if not self.over:
            self.over = True
            self._early.clear()
            self._take()
            if self._connected:
                self.transport.abort()
            self._owner.handle_connection_end()

    def _take(self) -> None:
        count, self._untaken = self._untaken, 0
        if count:
            self._owner.add_untaken(-count)


class PortChannelServer:
    """One client's WebSocket; the user of a `ClientLink`. ports, spawn: see `PortForwardServer`."""

    def __init__(self, channels: PortChannels, text: bool, ports: PodPorts, spawn: Spawn) -> None:
        self._channels = channels
        self._is_text = text
        self.ports = ports
        self._spawn = spawn
        self._websocket = WebSocket(client=False, largest=_LARGEST)
        self._link: ClientLink | None = None
        self._connections = [_PortConnection(self, index) for index in range(len(channels.ports))]
        self._left = len(self._connections)
        self._untaken = 0

    def attach(self, link: ClientLink) -> None:
        """Take the connection, and connect to all ports."""
        self._link = link
        for message in self._channels.greeting():
            self._send(message)
        for connection, port in zip(self._connections, self._channels.ports, strict=True):
            self._spawn(self._connect(connection, port))

    async def _connect(self, connection: _PortConnection, port: int) -> None:
        try:
            sock = await self.ports.connect(port)
            try:
                await transports.connect(connection, sock, _LIMITS)
            except BaseException:
                sock.close()
                self.ports.release()
                raise
        except OSError as error:
            if not connection.over:
                index = self._connections.index(connection)
                self._send(self._channels.error(index, dial_text(port, self.ports.pod, error)))
                connection.end()

    # Methods that the link calls

    def receive(self, data: bytes) -> None:
        """Handle messages of the client."""
        try:
            for event in self._websocket.receive_data(data):
                if isinstance(event, Message):
                    found = self._channels.decode(event.data)
                    if found is not None:
                        self._connections[found[0]].write(found[1])
                elif isinstance(event, CloseReceived):
                    self._leave()
        except WebSocketError:
            self._leave()
        except ChannelError as error:
            self._websocket.close(PROTOCOL_ERROR, str(error))
            self._leave()
        self._flush()

    def pause_writing(self) -> None:
        """Stop reading the pods' connections."""
        for connection in self._connections:
            connection.set_reading(False)

    def resume_writing(self) -> None:
        """Read the pods' connections again."""
        for connection in self._connections:
            connection.set_reading(True)

    def lose_client(self) -> None:
        """End all connections."""
        self._link = None
        for connection in self._connections:
            connection.end()

    def probe(self) -> None:
        """Ping the client."""
        self._websocket.ping()
        self._flush()

    # Methods that the pods' connections call

    @property
    def writable(self) -> bool:
        """Return True while the client reads."""
        return self._link is not None and self._link.writable

    def send(self, index: int, data: bytes) -> None:
        """Send the client a pod's data."""
        self._send(self._channels.data(index, data))

    def add_untaken(self, count: int) -> None:
        """Count the client's bytes that the pods have not taken. When there are too many, stop reading the client."""
        self._untaken += count
        if self._link is not None:
            if self._untaken > _UNTAKEN_HIGH:
                self._link.hold()
            elif self._untaken <= _UNTAKEN_LOW:
                self._link.release()

    def handle_connection_end(self) -> None:
        """Count the end of a connection. Close the WebSocket after the last connection."""
        self._left -= 1
        if not self._left:
            self._websocket.close()
            self._leave()

    def _send(self, message: bytes) -> None:
        if self._is_text:
            self._websocket.send_text(message)
        else:
            self._websocket.send_binary(message)
        self._flush()

    def _leave(self) -> None:
        self._flush()
        if self._link is not None:
            self._link.finish(at_once=self._websocket.closed)
        for connection in self._connections:
            connection.end()

    def _flush(self) -> None:
        if self._link is not None:
            self._link.write(self._websocket.data_to_send())
