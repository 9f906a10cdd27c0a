"""Ends of forwarded connections: a client, and servers in place of pods."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable


class Client(asyncio.Protocol):
    """Collects the received data, and records how the connection ends."""

    def __init__(self, keep_open: bool = False) -> None:
        self.data = bytearray()
        self.eof = asyncio.Event()
        self.grown = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.full = False
        self.resumed = asyncio.Event()
        self.keep_open = keep_open

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.grown.set()

    def eof_received(self) -> bool:
        self.eof.set()
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.resumed.set()

    async def has(self, size: int) -> bytes:
        while len(self.data) < size:
            self.grown.clear()
            await self.grown.wait()
        return bytes(self.data)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def listening(handler: object) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)  # type: ignore[arg-type]
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read a line with a number, then send as many bytes."""
    size = int(await reader.readline())
    with contextlib.suppress(ConnectionError):
        while size > 0:
            piece = bytes(min(size, 65536))
            writer.write(piece)
            await writer.drain()
            size -= len(piece)
        writer.close()


async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read to the end of the stream, then send the number of bytes."""
    size = 0
    while data := await reader.read(1 << 20):
        size += len(data)
    writer.write(b"%d" % size)
    writer.close()
