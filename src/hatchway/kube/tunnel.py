"""A tunnel through an HTTP proxy, with TLS to the proxy (`https://` in proxy-url or HTTPS_PROXY).

Callers need a socket on which they start TLS to the API server, and a TLS connection is not a socket. So the caller
gets one end of a socket pair. Bytes are copied between the other end and the proxy, with backpressure both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

# The maximum number of bytes that wait to be written in one direction. Beyond this, reading for that direction is
# paused.
_BUFFER = 256 * 1024
_PIECE = 64 * 1024
_LARGEST_HEAD = 16 * 1024

_running: set[asyncio.Task[None]] = set()


async def open_tunnel(
    sock: socket.socket, context: ssl.SSLContext, name: str, request: bytes
) -> tuple[socket.socket, str]:
    """Start TLS to the proxy `name` on the connected `sock`, and send the CONNECT `request`.

    Returns:
        A socket to the server behind the proxy, and the proxy's status line. The tunnel ends when the caller closes
        this socket. The socket is closed when the proxy closes the tunnel.
    Raises:
        OSError: the proxy gave no valid answer.
    """
    reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name, limit=_BUFFER)
    try:
        writer.write(request)
        await writer.drain()
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            raise ConnectionError("it closed the connection") from None
        except asyncio.LimitOverrunError:
            raise ConnectionError("its answer's head is too long") from None
        if len(head) > _LARGEST_HEAD:
            raise ConnectionError("its answer's head is too long")
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        inner = await asyncio.open_connection(sock=theirs, limit=_BUFFER)
    except BaseException:
        writer.close()
        raise
    task = asyncio.get_running_loop().create_task(_relay((reader, writer), inner), name="tunnel through a proxy")
    _running.add(task)
    task.add_done_callback(_running.discard)
    return ours, head.split(b"\r\n", 1)[0].decode("latin-1")


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _relay(outer: Ends, inner: Ends) -> None:
    """Copy both ways until one side ends its direction; then end both, because asyncio's TLS cannot half-close."""
    copies = [asyncio.ensure_future(_copy(*pair)) for pair in ((outer[0], inner[1]), (inner[0], outer[1]))]
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)
        for _, writer in (outer, inner):
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
