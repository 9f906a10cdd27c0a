"""Clients of Services that start on first use are held until an endpoint exists. Their number and time are limited."""

# ruff: noqa: ASYNC110  the class that holds clients reports no events

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from hatchway.cluster.services.balancer import Balancer
from hatchway.cluster.services.endpointpools import PortEndpoints, ServiceEndpoint
from hatchway.cluster.services.heldclients import HeldClients
from hatchway.cluster.services.servicerules import ServiceRule
from hatchway.cluster.services.socketpoll import open_poll
from hatchway.cluster.services.tcp import TcpListener

WAITING = ServiceRule("kube-system/prometheus:9090", PortEndpoints.of(), starts="prometheus")


class Frontend:
    """A listening frontend, and clients that connect to the frontend."""

    def __init__(self, rule: ServiceRule = WAITING, *, most: int = 64, seconds: float = 30.0) -> None:
        self.used: list[str] = []
        self.held = HeldClients(self.used.append, most=most, seconds=seconds)
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.port: int = sock.getsockname()[1]
        self.poll = open_poll()
        self.listener = TcpListener(Balancer(rule), sock, self.poll, held=self.held)
        self.writers: list[asyncio.StreamWriter] = []

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    def serve(self, *endpoints: ServiceEndpoint, starts: str = "prometheus") -> None:
        self.listener.balancer.update(replace(WAITING, endpoints=PortEndpoints.of(*endpoints), starts=starts))
        self.listener.endpoints_changed()

    async def until_held(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.held) != count:
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(frontend: Frontend) -> AsyncIterator[Frontend]:
    try:
        yield frontend
    finally:
        frontend.listener.abort()
        for writer in frontend.writers:
            writer.close()
        await asyncio.sleep(0)
        frontend.poll.close()


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[ServiceEndpoint]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"echo " + await reader.readline())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield ServiceEndpoint("127.0.0.1", server.sockets[0].getsockname()[1])


async def is_refused(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def refuses(frontend: Frontend) -> bool:
    try:
        reader, _ = await frontend.client()
    except ConnectionResetError:
        return True
    return await is_refused(reader)


async def test_held_clients_are_connected_to_the_endpoint_with_their_data() -> None:
    async with running(Frontend()) as frontend, echo() as endpoint:
        clients = [await frontend.client() for _ in range(3)]
        for number, (_, writer) in enumerate(clients):
            writer.write(b"%d\n" % number)
        await frontend.until_held(3)
        assert set(frontend.used) == {"prometheus"}
        frontend.serve(endpoint)
        for number, (reader, _) in enumerate(clients):
            assert await reader.read() == b"echo %d\n" % number
        await frontend.until_held(0)
        # Now the Service has an endpoint, so a new client is not held.
        reader, writer = await frontend.client()
        writer.write(b"again\n")
        assert await reader.read() == b"echo again\n"
        assert len(frontend.used) == 3


async def test_a_client_that_disconnects_frees_its_place() -> None:
    async with running(Frontend(most=1)) as frontend:
        _, writer = await frontend.client()
        await frontend.until_held(1)
        writer.close()
        await frontend.until_held(0)
        _, writer = await frontend.client()
        writer.write(b"data that is not read\n")
        await frontend.until_held(1)


async def test_the_number_of_held_clients_is_limited() -> None:
    async with running(Frontend(most=2)) as frontend, echo() as endpoint:
        clients = [await frontend.client() for _ in range(2)]
        await frontend.until_held(2)
        for _ in range(5):
            assert await refuses(frontend)
        assert len(frontend.held) == 2
        frontend.serve(endpoint)
        for reader, writer in clients:
            writer.write(b"one\n")
            assert await reader.read() == b"echo one\n"


async def test_the_time_for_which_clients_are_held_is_limited() -> None:
    async with running(Frontend(seconds=0.05)) as frontend:
        reader, _ = await frontend.client()
        assert await is_refused(reader)
        await frontend.until_held(0)


async def test_clients_of_a_removed_service_are_refused() -> None:
    async with running(Frontend()) as frontend:
        reader, _ = await frontend.client()
        await frontend.until_held(1)
        frontend.listener.close()
        assert await is_refused(reader)
        await frontend.until_held(0)


@pytest.mark.parametrize("endpoints", [(), (ServiceEndpoint("127.0.0.1", 1),)])
async def test_clients_of_other_services_are_not_held(endpoints: tuple[ServiceEndpoint, ...]) -> None:
    rule = replace(WAITING, endpoints=PortEndpoints.of(*endpoints), starts="")
    async with running(Frontend(rule)) as frontend:
        assert await refuses(frontend)
        assert frontend.used == []
