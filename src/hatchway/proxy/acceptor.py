"""Turns a listener's accepted sockets into `ClientConnection`s, after a TLS handshake where TLS is used."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl as ssl_module
from collections.abc import Callable
from typing import Any, Final

from hatchway.proxy import transports
from hatchway.proxy.acceptloop import AcceptLoop, refuse
from hatchway.proxy.clientconnection import ClientConnection
from hatchway.proxy.context import Context
from hatchway.proxy.servername import read_server_name

logger = logging.getLogger("hatchway.proxy")

_TLS_HANDSHAKE: Final = b"\x16"  # RFC 8446 section 5.1, ContentType.handshake
_BACKLOG: Final = 1024

# Returns the TLS context for the server name that a client requests. The name is "" when the client sends none.
TlsChooser = Callable[[str], ssl_module.SSLContext]


class Acceptor:
    """Makes a bound socket listen, and serves the clients that it accepts, until `close`.

    ssl: the TLS context, or a function that chooses it; None for plain HTTP.
    sniff: with `ssl`, serve plain HTTP, too. The first byte of a connection shows whether the client uses TLS.
    """

    def __init__(
        self, context: Context, sock: socket.socket, ssl: ssl_module.SSLContext | TlsChooser | None, sniff: bool
    ) -> None:
        self._context = context
        self._ssl = ssl
        self._sniff = sniff
        sock.listen(_BACKLOG)
        self._accepting = AcceptLoop(sock, self._accepted, "the listener")

    def _accepted(self, connection: socket.socket, peer: Any) -> None:
        address = ""
        if (by_address := self._context.by_address) is not None:
            address = str(peer[0])
            if not by_address.admit(address):
                refuse(connection)
                return
        self._context.spawn(self._serve(connection, address), "connection")

    async def _serve(self, connection: socket.socket, address: str) -> None:
        """Make a `ClientConnection` for an accepted socket.

        address: the address for which the connection was counted; "" when it was not counted.
        """
        context = self._context
        made: list[ClientConnection] = []

        def make(secure: bool) -> ClientConnection:
            made.append(client := ClientConnection(context, secure))
            if address and context.by_address is not None:
                context.by_address.remember(client, address)
            return client

        try:
            await self._open(connection, make)
        finally:
            if address and context.by_address is not None:
                if not made:
                    context.by_address.release(address)
                elif made[0] not in context.connections:
                    # The handshake failed, or the client has already closed the connection.
                    context.by_address.forget(made[0])

    async def _open(self, connection: socket.socket, make: Callable[[bool], ClientConnection]) -> None:
        context = self._context
        try:
            async with asyncio.timeout(context.limits.head_timeout):
                first = await self._peek(connection) if self._sniff else _TLS_HANDSHAKE
                if first:
                    tls = await self._choose_tls(connection) if first == _TLS_HANDSHAKE else None
                    await transports.accept(lambda: make(tls is not None), connection, context.limits, tls)
                    return
        except (OSError, EOFError) as error:  # the client has caused the error, so this is no warning
            logger.debug("a connection failed before its first request: %s", error)
        except BaseException:
            connection.close()
            raise
        connection.close()

    async def _choose_tls(self, connection: socket.socket) -> ssl_module.SSLContext | None:
        if self._ssl is None or isinstance(self._ssl, ssl_module.SSLContext):
            return self._ssl
        return self._ssl(await read_server_name(connection))

    async def _peek(self, connection: socket.socket) -> bytes:
        """Return the first byte that the client sends, and leave it in the socket; b"" when it sends nothing."""
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
        """Stop listening. Connections that are being opened continue; the context owns their tasks."""
        self._accepting.close()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
