"""TCP connections of the service proxy: accepted on a frontend, joined to an endpoint, byte for byte.

Both directions are independent: an end of one (FIN) is passed on while the other flows on, and a reader waits while
its writer's buffer is full.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from typing import cast

from hatchway.cluster.network import sockets
from hatchway.cluster.network.balancer import Balancer

_log = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0
_RESET = struct.pack("ii", 1, 0)


class _Half(asyncio.Protocol):
    """One side of a spliced connection. What it receives is the peer's to send."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: _Half | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        peer = self.peer
        if peer is None or peer.transport is None:
            return False
        if peer._ended:
            peer.transport.close()
            return False
        peer.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        peer, self.peer = self.peer, None
        if peer is not None and peer.transport is not None:
            if error is None:
                peer.transport.close()
            else:
                peer.reset()

    def reset(self) -> None:
        """Break the connection off so that the other end notices: RST instead of FIN."""
        if self.transport is None:
            return
        sock: socket.socket | None = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


class _Inbound(_Half):
    """A client's side. It is not read before its endpoint is connected."""

    def __init__(self, listener: TcpListener) -> None:
        super().__init__()
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._listener.accepted(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._listener.lost(self)
        super().connection_lost(error)


class _Outbound(_Half):
    """An endpoint's side. It is joined to its client before anything can arrive."""

    def __init__(self, inbound: _Inbound) -> None:
        super().__init__()
        self._inbound = inbound

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._inbound.transport is None:
            self.reset()
            return
        self.peer, self._inbound.peer = self._inbound, self
        self._inbound.transport.resume_reading()


class TcpListener:
    """One frontend. Closing it leaves its connections; `abort` does not."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self._server: asyncio.Server | None = None
        self._connections: dict[_Inbound, asyncio.Task[None] | None] = {}

    async def listen(self, ip: str, port: int) -> None:
        """Raises OSError."""
        sock = sockets.listen(ip, port)
        try:
            self._server = await asyncio.get_running_loop().create_server(lambda: _Inbound(self), sock=sock)
        except BaseException:
            sock.close()
            raise

    @property
    def busy(self) -> bool:
        """Whether it still has connections."""
        return bool(self._connections)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def abort(self) -> None:
        """Close, and break off every connection."""
        self.close()
        for inbound, task in list(self._connections.items()):
            if task is not None:
                task.cancel()
            inbound.reset()

    def endpoints_changed(self) -> None:
        """Connections stay where they are, as with conntrack."""

    def accepted(self, inbound: _Inbound) -> None:
        task = asyncio.get_running_loop().create_task(self._join(inbound))
        self._connections[inbound] = task
        task.add_done_callback(lambda _: self._joined(inbound))

    def lost(self, inbound: _Inbound) -> None:
        task = self._connections.pop(inbound, None)
        if task is not None:
            task.cancel()

    def _joined(self, inbound: _Inbound) -> None:
        if inbound in self._connections:
            self._connections[inbound] = None

    async def _join(self, inbound: _Inbound) -> None:
        assert inbound.transport is not None
        client = inbound.transport.get_extra_info("peername")[0]
        sock = await self._connect(client)
        if sock is None:
            inbound.reset()
            return
        try:
            await asyncio.get_running_loop().create_connection(lambda: _Outbound(inbound), sock=sock)
        except BaseException:
            sock.close()
            raise

    async def _connect(self, client: str) -> socket.socket | None:
        """To the first endpoint that accepts, each tried once."""
        for endpoint in self.balancer.candidates(client, time.monotonic()):
            try:
                sock = await sockets.connect(endpoint.ip, endpoint.port, _CONNECT_SECONDS)
            except OSError as error:
                _log.info("%s: %s:%d: %s", self.balancer.rule.service, endpoint.ip, endpoint.port, error)
                continue
            self.balancer.chosen(client, endpoint, time.monotonic())
            return sock
        return None
