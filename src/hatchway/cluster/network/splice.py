"""TCP connections of the service proxy: accepted on a frontend, joined to an endpoint, byte for byte.

Both directions are independent: an end of one (FIN) is passed on while the other flows on, and a reader waits while
its writer's buffer is full. A client is not read before its endpoint is connected: the kernel's buffer holds it back.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
import time
from collections.abc import Callable
from typing import cast

from hatchway.cluster.network import sockets
from hatchway.cluster.network.balancer import Balancer

_log = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_EXHAUSTED_SECONDS = 0.5
_BURST = 64
_RESET = struct.pack("ii", 1, 0)
_FLUSH = struct.pack("ii", 0, 0)


class _Half(asyncio.Protocol):
    """One side of a spliced connection. What it receives is the peer's to send.

    early: what came before the peer's transport was there. on_lost: called once.
    """

    peer: _Half

    def __init__(self, on_lost: Callable[[_Half], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []
        self.ended = False
        self.lost = False
        self._on_lost = on_lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.writelines(self.peer.early)
        self.peer.early = []
        if self.peer.lost:
            self.transport.close()
        elif self.peer.ended:
            self.transport.write_eof()

    def data_received(self, data: bytes) -> None:
        if self.peer.transport is not None:
            self.peer.transport.write(data)
        elif not self.peer.lost:
            self.early.append(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self.peer.ended or self.peer.lost:
            if self.peer.transport is not None:
                self.peer.transport.close()
            return False
        if self.peer.transport is not None:
            self.peer.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.lost = True
        if self.peer.transport is not None:
            if error is None:
                self.peer.transport.close()
            else:
                self.peer.reset()
        self._on_lost(self)

    def reset(self) -> None:
        """Break the connection off so that the other end notices: RST instead of FIN."""
        if self.transport is not None:
            sock: socket.socket | None = self.transport.get_extra_info("socket")
            if sock is not None:
                _linger(sock, _RESET)
            self.transport.abort()


def _linger(sock: socket.socket, how: bytes) -> None:
    """What closing does: `_RESET` breaks the connection off, `_FLUSH` (the default) sends what is left."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)


class TcpListener:
    """One frontend. Closing it leaves its connections; `abort` does not."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._joining: set[asyncio.Task[None]] = set()
        self._halves: set[_Half] = set()

    async def listen(self, ip: str, port: int) -> None:
        """Raises OSError."""
        self._socket = sockets.listen(ip, port)
        self._resume()

    @property
    def busy(self) -> bool:
        """Whether it still has connections."""
        return bool(self._joining or self._halves)

    def close(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._pause is not None:
            self._pause.cancel()

    def abort(self) -> None:
        """Close, and break off every connection."""
        self.close()
        for task in self._joining:
            task.cancel()
        for half in list(self._halves):
            half.reset()

    def endpoints_changed(self) -> None:
        """Connections stay where they are, as with conntrack."""

    def _resume(self) -> None:
        if self._socket is not None:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._socket is not None
        for _ in range(_BURST):
            try:
                sock, (client, _) = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                _log.warning("%s: %s", self.balancer.rule.service, error)
                self._loop.remove_reader(self._socket.fileno())
                self._pause = self._loop.call_later(_EXHAUSTED_SECONDS, self._resume)
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._join(sock, client))
            self._joining.add(task)
            task.add_done_callback(self._joining.discard)

    async def _join(self, inner: socket.socket, client: str) -> None:
        """Connect an accepted socket to an endpoint; reset it when there is none."""
        with inner:
            _linger(inner, _RESET)
            outer = await self._connect(client)
            if outer is None:
                return
            _linger(inner, _FLUSH)
            first, second = _Half(self._halves.discard), _Half(self._halves.discard)
            first.peer, second.peer = second, first
            with outer:
                try:
                    await self._attach(first, inner)
                    await self._attach(second, outer)
                except BaseException:
                    first.reset()
                    raise

    async def _attach(self, half: _Half, sock: socket.socket) -> None:
        self._halves.add(half)
        await self._loop.connect_accepted_socket(lambda: half, socket.socket(fileno=sock.detach()))

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
