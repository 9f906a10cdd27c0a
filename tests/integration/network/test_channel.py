"""Messages with file descriptors over a socket pair."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.network import channel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SOCK_SEQPACKET and memory files are Linux's")


@pytest.mark.parametrize("size", [0, 1000, 32_760, 40_000, 5_000_000])
def test_any_size_and_descriptors_arrive(size: int, tmp_path: Path) -> None:
    left, right = channel.pair()
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    with left, right:
        channel.send(left, {"text": "ä" * size}, (file, file))
        received = channel.receive(right)
        assert received is not None
        message, descriptors = received
        assert message == {"text": "ä" * size}
        assert [os.fstat(each).st_ino for each in descriptors] == [os.fstat(file).st_ino] * 2
        assert not any(os.get_inheritable(each) for each in descriptors)
        channel.close_all([*descriptors, file])
        with pytest.raises(BlockingIOError):
            channel.receive(right)
        left.close()
        assert channel.receive(right) is None


async def test_a_full_socket_delays_messages_and_keeps_their_order_and_descriptors(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    left, right = channel.pair()
    got: list[tuple[Any, int]] = []
    closed = loop.create_future()
    all_there = asyncio.Event()

    def receive(message: channel.Message, descriptors: list[int]) -> None:
        got.append((message["n"], len(descriptors)))
        channel.close_all(descriptors)
        if len(got) == 2000:
            all_there.set()

    sender = channel.Channel(loop, left, lambda *_: None, lambda: None)
    for n in range(2000):
        file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        sender.send({"n": n, "text": "x" * 500}, (file,))
        os.close(file)
    receiver = channel.Channel(loop, right, receive, lambda: closed.set_result(None))
    async with asyncio.timeout(30):
        await all_there.wait()
        assert got == [(n, 1) for n in range(2000)]
        sender.close()
        await closed
    receiver.send({"to": "nobody"})
    assert receiver.closed
