"""Limits on connections in a kubelet's port-forward over SPDY; servers on this machine take the place of pods."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Coroutine
from typing import Any

import pytest

from hatchway.cluster import sockets
from hatchway.cluster.descriptors import ClientQuota
from hatchway.cluster.node.streaming.clientlink import SocketLink
from hatchway.cluster.node.streaming.podports import PodPorts
from hatchway.cluster.node.streaming.portforwarding import PortForwardServer
from hatchway.kube.streams.portforwardsession import PortForwardSession
from hatchway.kube.streams.spdyconnection import SpdyConnection
from tests.integration.kube.streams.peers import Client, echo, listening, until


async def _dial(port: int) -> socket.socket:
    return await sockets.connect("127.0.0.1", port, 10)


async def test_connections_to_a_namespace_are_limited() -> None:
    quota = ClientQuota(10, 2)
    tasks: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        tasks.add(asyncio.get_running_loop().create_task(work))

    def serve() -> asyncio.Protocol:
        return SocketLink(PortForwardServer(PodPorts(_dial, "default", "web", quota), spawn))

    server = await asyncio.get_running_loop().create_server(serve, "127.0.0.1", 0)
    async with listening(echo) as port, server:
        connection = SpdyConnection(server=False, tunnel=False)
        address = server.sockets[0].getsockname()
        await asyncio.get_running_loop().create_connection(lambda: connection, *address)
        session = PortForwardSession(connection, "default/web")
        opened = [await session.create_connection(Client, port) for _ in range(3)]
        assert "too many open files" in str(await opened[2][1].lost)
        opened[0][0].abort()
        await until(lambda: quota.held == 1)
        transport, client = await session.create_connection(Client, port)
        transport.write(b"hello")
        assert await client.has(5) == b"hello"
        await session.aclose()
        await until(lambda: quota.held == 0)


async def test_a_connection_that_fails_is_not_counted() -> None:
    async def refuse(port: int) -> socket.socket:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    quota = ClientQuota(10, 1)
    ports = PodPorts(refuse, "default", "web", quota)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            await ports.connect(80)
    assert quota.held == 0
