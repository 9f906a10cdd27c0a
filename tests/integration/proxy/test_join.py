"""Two connections that are joined after one of them has sent data or has ended."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from hatchway.proxy.join import EarlyReceiver, join
from tests.integration.proxy.wire import until


class Pair:
    """A connection: one end waits to be joined, the test uses the other end."""

    def __init__(self, waiting: EarlyReceiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.waiting, self.reader, self.writer = waiting, reader, writer


@pytest.fixture
async def make() -> AsyncIterator[Callable[[], object]]:
    pairs: list[Pair] = []

    async def make_one() -> Pair:
        outer, inner = socket.socketpair()
        _, waiting = await asyncio.get_running_loop().connect_accepted_socket(EarlyReceiver, inner)
        pairs.append(Pair(waiting, *await asyncio.open_connection(sock=outer)))
        return pairs[-1]

    yield make_one
    for pair in pairs:
        pair.writer.transport.abort()
        pair.waiting.transport.abort()


async def test_data_and_ends_from_before_the_join_are_forwarded(make: Callable[[], object]) -> None:
    near, far = [await make() for _ in range(2)]  # type: ignore[misc]
    for pair, data in ((near, b"from near"), (far, b"from far")):
        pair.waiting.transport.resume_reading()
        pair.writer.write(data)
        await until(lambda pair=pair: pair.waiting.early)
    far.waiting.eof_received()
    ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    join(near.waiting, far.waiting, ended.set_result)
    assert await far.reader.readexactly(9) == b"from near"
    assert await near.reader.read() == b"from far"
    near.writer.write(b" more")
    assert await far.reader.readexactly(5) == b" more"
    near.writer.close()
    assert await far.reader.read() == b""
    far.writer.close()
    assert await ended is None


@pytest.mark.parametrize("lost", [("near",), ("far",), ("near", "far")])
async def test_a_lost_connection_ends_the_other_one(make: Callable[[], object], lost: tuple[str, ...]) -> None:
    pairs = {"near": await make(), "far": await make()}  # type: ignore[misc]
    for name in lost:
        pairs[name].waiting.transport.abort()
        await until(lambda name=name: pairs[name].waiting.lost)
    ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    join(pairs["near"].waiting, pairs["far"].waiting, ended.set_result)
    async with asyncio.timeout(30):
        await ended
        for pair in pairs.values():
            assert await pair.reader.read() == b""
