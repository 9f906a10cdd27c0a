"""Checks that every kind of port-forward session must pass, with every kind of server."""

from __future__ import annotations

import asyncio

from hatchway.kube.streams.portforwardsession import PortForwardSession
from tests.integration.kube.streams.peers import Client, count, listening, pour


async def check_half_close(session: PortForwardSession) -> None:
    """Check that a client that has closed its sending side still gets the answer."""
    async with listening(count) as port:
        transport, client = await session.create_connection(Client, port)
        for _ in range(100):
            transport.write(bytes(10_000))
        transport.write_eof()
        assert await client.has(7) == b"1000000"
        assert await client.lost is None


async def check_aborted_connections(session: PortForwardSession) -> None:
    """Check that the data of connections arrive completely while other connections of the session are aborted."""
    async with listening(pour) as port:
        size = 300_000
        opened = [await session.create_connection(Client, port) for _ in range(60)]
        for transport, _ in opened:
            transport.write(b"%d\n" % size)
        for transport, client in opened[::10]:
            await client.has(1)
            transport.abort()
        for index, (_, client) in enumerate(opened):
            assert await client.lost is None
            assert index % 10 == 0 or len(client.data) == size


async def check_pod_that_does_not_read(session: PortForwardSession) -> None:
    """Check that a pod that does not read pauses only its own client, and that no data are lost."""
    released = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        await count(reader, writer)

    async with listening(slow) as port, listening(count) as other:
        assert await session.check(5.0)
        blocked, client = await session.create_connection(Client, port)
        sent = 0
        while not client.full:
            blocked.write(bytes(65536))
            sent += 65536
            await asyncio.sleep(0)
            assert sent < 100_000_000
        transport, lively = await session.create_connection(Client, other)
        transport.write(bytes(500_000))
        transport.write_eof()
        assert await lively.has(6) == b"500000"
        released.set()
        blocked.write_eof()
        assert await client.has(len(str(sent))) == b"%d" % sent
