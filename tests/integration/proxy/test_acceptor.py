"""Accepting connections when there are no file descriptors left, and when one client has too many connections."""

# ruff: noqa: ASYNC110  the engine reports no events

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from hatchway.proxy import acceptloop
from hatchway.proxy.limits import Limits
from hatchway.proxy.routing import Respond
from tests.integration.proxy.conftest import Authority
from tests.integration.proxy.wire import GET, World


class Poor(socket.socket):
    """A listening socket whose accept fails the first two times. asked: the number of calls."""

    asked = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        if self.asked <= 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_a_listener_without_descriptors_tries_again_after_a_pause(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptloop, "_PAUSE_SECONDS", 0.02)
    sock = Poor()
    sock.bind(("127.0.0.1", 0))
    server = await world.serve(lambda head: Respond(200, [], b"here"), sock=sock)
    client = await world.client(server)
    assert (await client.ask(GET)).body == b"here"
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "Too many open files" in caplog.records[0].getMessage()
    assert sock.asked <= 5  # The engine does not retry in a busy loop.


async def test_connections_of_one_address_are_limited(world: World) -> None:
    server = await world.serve(lambda head: Respond(200, [], b"here"), limits=Limits(connections_per_address=3))
    clients = [await world.client(server) for _ in range(3)]
    for client in clients:
        assert (await client.ask(GET)).body == b"here"
    with pytest.raises((ConnectionError, EOFError)):
        await (await world.client(server)).ask(GET)
    for client in clients:
        client.writer.close()
    async with asyncio.timeout(10):
        while server.connections:
            await asyncio.sleep(0)
    for _ in range(3):
        assert (await (await world.client(server)).ask(GET)).body == b"here"


async def test_handshakes_that_fail_are_not_counted_for_ever(world: World, authority: Authority) -> None:
    limits = Limits(connections_per_address=2)
    server = await world.serve(lambda head: Respond(200, [], b"here"), limits=limits, ssl=authority.server())
    for _ in range(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"no handshake at all")
        await reader.read()
        writer.close()
    assert (await (await world.client(server, authority.client())).ask(GET)).body == b"here"


async def test_a_listener_that_waits_can_be_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptloop, "_PAUSE_SECONDS", 60.0)
    sock = Poor()
    sock.bind(("127.0.0.1", 0))
    server = await world.serve(lambda head: Respond(200, []), sock=sock)
    await world.client(server)
    await server.close()
    assert sock.fileno() == -1
