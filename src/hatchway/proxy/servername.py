"""Reads the server name in a TLS client's first message (SNI, RFC 6066 section 3) without consuming the message.

OpenSSL parses the message in a separate handshake, which is aborted once the name is known. This is needed because
aiofastnet's transports cannot change their context during a handshake.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, Final

__all__ = ["read_server_name"]

# The maximum number of bytes of a first message. Real clients send about 2 KiB; OpenSSL's limit is larger.
_LARGEST: Final = 64 * 1024
_HEADER: Final = 5  # bytes of a record's header: type, version, length (RFC 8446 section 5.1)


async def read_server_name(connection: socket.socket) -> str:
    """Return the server name that the client requests; "" for none, or when the message cannot be parsed.

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
    """Wait for `wanted` bytes, and return them without consuming them; fewer bytes when no more can arrive."""
    # With SO_RCVLOWAT the socket becomes readable only when that many bytes have arrived. A client that sends its
    # message byte by byte then costs no processor time.
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
    return int(ssl.ALERT_DESCRIPTION_USER_CANCELLED)  # aborts the handshake; none of its bytes are sent


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
