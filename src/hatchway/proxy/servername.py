"""Reads the name in a TLS client's first message (SNI, RFC 6066 section 3), and leaves the message in the socket.

OpenSSL parses it, in a handshake of its own that ends at the name: the transports of the data path cannot change their
context in the middle of a handshake.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, Final

__all__ = ["read_server_name"]

# The most bytes of a first message; OpenSSL's own limit for it is larger, those of clients have some 2 KiB.
_LARGEST: Final = 64 * 1024
_HEADER: Final = 5  # of a record: type, version, length (RFC 8446 section 5.1)


async def read_server_name(connection: socket.socket) -> str:
    """Return the name for which the client asks; "" for none, or when the message cannot be read.

    Raises:
        EOFError: the client has disconnected before the end of its message.
        OSError: the connection failed.
    """
    context = _context()
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = context.wrap_bio(received, sent, server_side=True)
    fed = 0
    wanted = _HEADER
    try:
        while True:
            message = await _peek(connection, wanted)
            if len(message) <= fed:
                raise EOFError("the client has disconnected in its first message")
            received.write(message[fed:])
            fed = len(message)
            try:
                handshake.do_handshake()
            except ssl.SSLWantReadError:
                if fed >= _LARGEST:
                    return ""
                record = _HEADER + int.from_bytes(message[3:_HEADER], "big") if fed >= _HEADER else _HEADER
                wanted = min(max(fed + 1, record), _LARGEST)
            except ssl.SSLError:
                return str(getattr(handshake, "hatchway_name", None) or "")
    finally:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def _peek(connection: socket.socket, wanted: int) -> bytes:
    """Return what has arrived as soon as it is `wanted` bytes; less when no more can come."""
    # The socket counts as readable only then, so that a slow client costs no processor time.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(connection.fileno(), _wake, readable)
    try:
        await readable
    finally:
        loop.remove_reader(connection.fileno())
    try:
        return connection.recv(_LARGEST, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def _context() -> ssl.SSLContext:
    global _shared
    if _shared is None:
        _shared = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _shared.sni_callback = _note_name
    return _shared


_shared: ssl.SSLContext | None = None


def _note_name(handshake: Any, name: str | None, _context: ssl.SSLContext) -> int:
    handshake.hatchway_name = name
    return int(ssl.ALERT_DESCRIPTION_USER_CANCELLED)  # no further: nothing of this handshake is sent


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
