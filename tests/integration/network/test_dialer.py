"""The two ends of the dialer over a socket pair: every request gets an answer, a socket or an error."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from hatchway.cluster import sockets
from hatchway.cluster.network import channel
from hatchway.cluster.network.dialer import DialServer, PrivateDialer
from hatchway.cluster.runtime import Runtime

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SOCK_SEQPACKET is Linux's")


class Inside:
    async def dial(self, ip: str, port: int, timeout: float = 10.0) -> socket.socket:
        return await sockets.connect(ip, port, timeout)

    async def listen(self, ip: str, port: int) -> socket.socket:
        return sockets.listen(ip, port)

    def make_pod_sockets(self, uid: str, count: int, family: socket.AddressFamily) -> list[socket.socket]:
        if uid != "known":
            raise OSError(errno.ENETDOWN, "the pod's network is gone")
        return [sockets.new_stream(family) for _ in range(count)]


@asynccontextmanager
async def dialer() -> AsyncIterator[PrivateDialer]:
    outer, inner = channel.pair()
    server = DialServer(cast(Runtime, Inside()), inner)
    found = PrivateDialer(outer)
    try:
        async with asyncio.timeout(20):
            yield found
    finally:
        found.close()
        await server.close()


async def test_sockets_of_the_network_arrive_outside() -> None:
    async with dialer() as outside:
        with await outside.listen("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
            with await outside.connect("127.0.0.1", port) as sock:
                assert sock.getpeername() == ("127.0.0.1", port)
        with pytest.raises(OSError) as caught:
            await outside.connect("127.0.0.1", port)
        assert caught.value.errno == errno.ECONNREFUSED


@pytest.mark.parametrize("port", [70_000, -1])
async def test_a_failed_dial_gets_an_answer(port: int) -> None:
    async with dialer() as outside:
        for ask in (outside.connect, outside.listen):
            with pytest.raises(OSError) as caught:
                await ask("127.0.0.1", port)
            assert caught.value.errno == errno.EINVAL


async def test_waiting_requests_fail_when_the_network_ends() -> None:
    outer, inner = channel.pair()
    found = PrivateDialer(outer)
    waiting = asyncio.create_task(found.connect("127.0.0.1", 1))
    await asyncio.sleep(0)
    inner.close()
    with pytest.raises(OSError) as caught:
        await asyncio.wait_for(waiting, 10)
    assert caught.value.errno == errno.ENETDOWN
    found.close()


async def test_sockets_of_pods_come_in_groups() -> None:
    async with dialer() as outside:
        pods = outside.pods
        assert pods is not None
        assert pods.take_now("known") is None
        taken = await asyncio.gather(*(pods.take("known") for _ in range(20)))
        assert len({sock.fileno() for sock in taken}) == 20 and not any(sock.getblocking() for sock in taken)
        kept = pods.take_now("known")
        assert kept is not None
        with await outside.listen("127.0.0.1", 0) as listener:
            kept.setblocking(True)
            kept.connect(("127.0.0.1", listener.getsockname()[1]))
        for sock in (*taken, kept):
            sock.close()


async def test_all_waiting_requests_fail_if_the_pod_has_no_network() -> None:
    async with dialer() as outside:
        assert outside.pods is not None
        found = await asyncio.gather(*(outside.pods.take("gone") for _ in range(9)), return_exceptions=True)
        assert [error.errno for error in found if isinstance(error, OSError)] == [errno.ENETDOWN] * 9


async def test_requests_for_sockets_fail_when_the_network_ends() -> None:
    outer, inner = channel.pair()
    outside = PrivateDialer(outer)
    assert outside.pods is not None
    waiting = asyncio.ensure_future(outside.pods.take("known"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    inner.close()
    with pytest.raises(OSError) as caught:
        await waiting
    assert caught.value.errno == errno.ENETDOWN
    outside.close()
