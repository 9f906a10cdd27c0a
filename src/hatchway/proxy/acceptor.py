"""Accepting connections: a listening socket's queue becomes clients' connections, after a TLS handshake where one is due."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl as ssl_module
from typing import Final

from hatchway.proxy import transports
from hatchway.proxy.connection import ClientConnection
from hatchway.proxy.context import Context

logger = logging.getLogger("hatchway.proxy")

_TLS_HANDSHAKE: Final = b"\x16"  # RFC 8446 section 5.1, ContentType.handshake
_BACKLOG: Final = 1024
_AT_ONCE: Final = 64  # leave the loop a chance under a flood
_PAUSE: Final = 1.0


class Acceptor:
    """Makes a bound socket listen and accepts from it until `close`.

    ssl: for TLS. sniff: plain HTTP is welcome, too; a connection's first byte tells.
    """

    def __init__(self, context: Context, sock: socket.socket, ssl: ssl_module.SSLContext | None, sniff: bool) -> None:
        self._context = context
        self._sock = sock
        self._ssl = ssl
        self._sniff = sniff
        self._retry: asyncio.TimerHandle | None = None
        sock.listen(_BACKLOG)
        self._listen()

    def _listen(self) -> None:
        self._retry = None
        self._context.loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._sock.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                # Out of descriptors or memory (accept(2)): the queue stays as it is, and to ask again at once is no help.
                logger.error("no connection can be accepted now, the next attempt is in a second: %s", error)
                self._context.loop.remove_reader(self._sock.fileno())
                self._retry = self._context.loop.call_later(_PAUSE, self._listen)
                return
            connection.setblocking(False)
            self._context.spawn(self._opened(connection), "connection")

    async def _opened(self, connection: socket.socket) -> None:
        context = self._context
        try:
            async with asyncio.timeout(context.limits.head_timeout):
                first = await self._peek(connection) if self._sniff else _TLS_HANDSHAKE
                if first:
                    tls = self._ssl if first == _TLS_HANDSHAKE else None
                    await transports.accept(
                        lambda: ClientConnection(context, tls is not None), connection, context.limits, tls
                    )
                    return
        except (OSError, EOFError) as error:  # handshakes that fail are the client's affair
            logger.debug("a connection failed before its first request: %s", error)
        except BaseException:
            connection.close()
            raise
        connection.close()

    async def _peek(self, connection: socket.socket) -> bytes:
        loop = self._context.loop
        while True:
            try:
                return connection.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                readable = loop.create_future()
                loop.add_reader(connection.fileno(), _wake, readable)
                try:
                    await readable
                finally:
                    loop.remove_reader(connection.fileno())

    def close(self) -> None:
        """Listen no more. Connections that are being opened are the context's tasks."""
        if self._retry is not None:
            self._retry.cancel()
        self._context.loop.remove_reader(self._sock.fileno())
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
