"""A program for pods: `python3 forward_server.py ADDRESS BULK_PORT UPGRADE_PORT`.

On BULK_PORT, the answer to a line `N` is N zero bytes, after which the connection ends. The answer to a line `take` is
the number of bytes that follow the line. On UPGRADE_PORT, a request is answered with 101, and the connection stays
open.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading

_PIECE = bytes(256 * 1024)


def _bulk(sock: socket.socket) -> None:
    with sock, contextlib.suppress(OSError):  # the peer may disconnect at any time
        line = b""
        while not line.endswith(b"\n"):
            piece = sock.recv(1)
            if not piece:
                return
            line += piece
        if line == b"take\n":
            count, buffer = 0, bytearray(len(_PIECE))
            while got := sock.recv_into(buffer):
                count += got
            sock.sendall(b"%d" % count)
            return
        left = int(line)
        while left > 0:
            left -= sock.send(_PIECE[: min(left, len(_PIECE))])


def _serve_bulk(address: str, port: int) -> None:
    listener = socket.create_server((address, port), backlog=1024)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_bulk, args=(sock,), daemon=True).start()


async def _upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await reader.read()
    writer.close()


async def _serve_upgrades(address: str, port: int) -> None:
    server = await asyncio.start_server(_upgrade, address, port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    threading.Thread(target=_serve_bulk, args=(sys.argv[1], int(sys.argv[2])), daemon=True).start()
    asyncio.run(_serve_upgrades(sys.argv[1], int(sys.argv[3])))
