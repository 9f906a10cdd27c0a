"""`DnsSockets`: clients that do not read take no sockets from others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import pytest

from hatchway import dnssockets
from hatchway.dnssockets import DnsSockets
from tests.conftest import wait_for

QUERY = (40).to_bytes(2, "big") + bytes(40)


async def answer(_: bytes) -> bytes:
    return bytes(65000)


def open_sockets() -> int:
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found


@pytest.mark.parametrize("most", [2, 100])
async def test_connections_of_clients_that_do_not_read_are_closed(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are too many, the oldest one is closed at once; the others when they read nothing for some time."""
    monkeypatch.setattr(dnssockets, "_IDLE_SECONDS", 30.0 if most == 2 else 0.3)
    server = DnsSockets(lambda *_: None, answer, most)
    port = await server.listen("127.0.0.1", 0)
    clients = []
    try:
        before = open_sockets()
        for _ in range(6):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.sendall(QUERY * 400)
            clients.append(client)
            await asyncio.sleep(0.05)
        left = 2 if most == 2 else 0
        await asyncio.to_thread(wait_for, lambda: open_sockets() - before - len(clients) <= left, seconds=10)
    finally:
        for client in clients:
            client.close()
        await server.close()


async def test_answers_reach_a_client_that_has_ended_its_queries() -> None:
    server = DnsSockets(lambda *_: None, answer, 2)
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.listen("127.0.0.1", 0))
    try:
        writer.write(QUERY * 20)
        writer.write_eof()
        await asyncio.sleep(0.3)
        assert len(await reader.read(-1)) == 20 * 65002
    finally:
        writer.close()
        await server.close()
