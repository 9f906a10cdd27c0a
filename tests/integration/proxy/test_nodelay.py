"""Small writes are sent before the previous one is acknowledged (TCP_NODELAY)."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from hatchway.proxy import transports
from hatchway.proxy.limits import Limits


class End(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        transports.note_lost(self.transport)


async def test_both_ends_send_small_writes_at_once() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    dialed = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    accepted.setblocking(False)
    client, server = End(), End()
    await transports.accept(lambda: server, accepted, Limits())
    await transports.connect(client, dialed, Limits())
    for end in (client, server):
        sock = end.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        end.transport.abort()
    listener.close()
    await asyncio.sleep(0.01)
