"""Accepting connections when the machine has nothing left to accept them with."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from hatchway.proxy import acceptor
from hatchway.proxy.routing import Respond
from tests.integration.proxy.wire import GET, World


class Poor(socket.socket):
    """A listening socket that cannot accept the first two times. asked: how often it was asked."""

    asked = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        if self.asked <= 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_a_listener_without_descriptors_tries_again_after_a_pause(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor, "_PAUSE", 0.02)
    sock = Poor()
    sock.bind(("127.0.0.1", 0))
    server = await world.serve(lambda head: Respond(200, [], b"here"), sock=sock)
    client = await world.client(server)
    assert (await client.ask(GET)).body == b"here"
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "Too many open files" in caplog.records[0].getMessage()
    assert sock.asked <= 5  # and not again and again


async def test_a_listener_that_waits_can_be_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "_PAUSE", 60.0)
    sock = Poor()
    sock.bind(("127.0.0.1", 0))
    server = await world.serve(lambda head: Respond(200, []), sock=sock)
    await world.client(server)
    await server.close()
    assert sock.fileno() == -1
