"""The application of `soak.py`: it answers, streams, echoes or resets; a request's path chooses which.

It uses only the standard library, because it is passed to the cluster as text and runs in a pod.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct

PORT = 8080
DOWNLOAD = 1024 * 1024
PIECE = b"x" * 65536
# RFC 8446 section 5.1, ContentType.handshake: after a reset, a proxy may try TLS, which this program does not support.
_TLS_HANDSHAKE = b"\x16"


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by a reset (RST), even if bytes were sent before."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def body_of(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """Read the body of a request. head: the request's head."""
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if (length := fields.get(b"content-length")) is not None:
        return await reader.readexactly(int(length))
    body = b""
    if fields.get(b"transfer-encoding") == b"chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    return body


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer one request. Return False when the connection is over."""
    first = await reader.readexactly(1)
    if first == _TLS_HANDSHAKE:
        return False
    head = first + await reader.readuntil(b"\r\n\r\n")
    path = head.split(b" ")[1].partition(b"?")[0].rpartition(b"/")[2]
    if path == b"silent":
        await reader.read()
        return False
    if b"\r\nupgrade: echo" in head.lower():
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        if path == b"reset-switched":
            writer.write(b"hello")
            await writer.drain()
            reset(writer)
            return False
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        return False
    if path == b"reset":
        reset(writer)
        return False
    if path == b"reset-head":
        writer.write(b"HTTP/1.1 200 OK\r\nConte")
    elif path == b"reset-body":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    elif path == b"reset-chunk":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf")
    if path.startswith(b"reset-"):
        await writer.drain()
        reset(writer)
        return False
    body = await body_of(reader, head)
    if path == b"flood":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (16 * DOWNLOAD))
        for _ in range(16 * DOWNLOAD // len(PIECE)):
            writer.write(PIECE)
            await writer.drain()
    elif path == b"download":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % DOWNLOAD)
        for _ in range(DOWNLOAD // len(PIECE)):
            writer.write(PIECE)
            await writer.drain()
    elif path == b"stream":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(8):
            writer.write(b"1000\r\n" + PIECE[:4096] + b"\r\n")
        writer.write(b"0\r\n\r\n")
    else:
        status = b"404 Not Found" if path == b"missing" else b"200 OK"
        large = b"X-Large: " + PIECE + PIECE + b"\r\n" if path == b"large" else b""
        body = body or b"ok"
        writer.write(
            b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\n%bContent-Length: %d\r\n\r\n" % (status, large, len(body))
            + body
        )
    await writer.drain()
    return True


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        while await answer(reader, writer):
            pass
    writer.close()


async def main() -> None:
    """Serve on the pod's address for ever."""
    address = os.environ.get("HATCHWAY_POD_IP", "0.0.0.0")
    async with await asyncio.start_server(serve, address, PORT, limit=4 * 1024 * 1024, backlog=1024) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
