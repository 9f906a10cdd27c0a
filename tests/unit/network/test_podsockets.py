"""Sockets in pods' networks, which are made in advance and kept for a short time."""

from __future__ import annotations

import asyncio
import socket

import pytest

from hatchway.cluster.network import podsockets
from hatchway.cluster.network.podsockets import PodSockets


class Maker:
    """Makes sockets. asked: the number of requested sockets, for each call. released: calls wait until it is set."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.made: list[socket.socket] = []
        self.released = asyncio.Event()

    async def __call__(self, _: str, count: int, family: socket.AddressFamily) -> list[socket.socket]:
        self.asked.append(count)
        await self.released.wait()
        made = [socket.socket(family) for _ in range(count)]
        self.made += made
        return made

    @property
    def open(self) -> int:
        return sum(sock.fileno() >= 0 for sock in self.made)


async def test_the_number_of_requested_sockets_grows_with_use() -> None:
    maker = Maker()
    pods = PodSockets(maker)
    maker.released.set()
    taken = [await pods.take("a") for _ in range(61)]
    assert maker.asked == [4, 8, 16, 32, 32]
    for sock in taken:
        sock.close()
    pods.close()
    assert maker.open == 0


async def test_waiting_callers_share_the_sockets_of_one_request() -> None:
    maker = Maker()
    pods = PodSockets(maker)
    waiting = [asyncio.ensure_future(pods.take("a")) for _ in range(12)]
    await asyncio.sleep(0)
    left = waiting.pop(3)
    left.cancel()
    maker.released.set()
    taken = await asyncio.gather(*waiting)
    assert sum(maker.asked) == 12 and len(set(taken)) == 11
    for sock in taken:
        sock.close()
    pods.close()
    assert maker.open == 0


async def test_unused_sockets_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podsockets, "_KEPT_SECONDS", 0.01)
    maker = Maker()
    pods = PodSockets(maker)
    maker.released.set()
    (await pods.take("a")).close()
    assert maker.open == 3
    async with asyncio.timeout(20):
        while maker.open:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    (await pods.take("a")).close()
    assert maker.asked == [4, 4]
    pods.close()


async def test_close_while_sockets_are_on_their_way() -> None:
    maker = Maker()
    pods = PodSockets(maker)
    waiting = asyncio.ensure_future(pods.take("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    pods.close()
    maker.released.set()
    with pytest.raises(OSError, match="closed"):
        await waiting
    assert maker.open == 0
