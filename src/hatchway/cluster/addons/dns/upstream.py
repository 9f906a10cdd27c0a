"""Names outside the cluster: handed on to the resolvers of /etc/resolv.conf, as CoreDNS' `forward . /etc/resolv.conf`.

Pods in a private network have no route to the outside. Then sending fails at once and the answer is SERVFAIL at once: a
program learns quickly that it is alone. A resolver that has just failed is left alone for a while, for the same reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterable
from pathlib import Path

_UDP_SECONDS, _TCP_SECONDS = 1.5, 3.0
_DOWN_SECONDS = 5.0
_AT_ONCE = 200


class Unreachable(Exception):
    """No resolver has answered."""


class Upstream:
    """Resolvers outside the cluster, asked in order. servers: addresses with their port."""

    def __init__(self, servers: Iterable[tuple[str, int]]) -> None:
        self._servers = list(servers)
        self._down: dict[tuple[str, int], float] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def ask(self, query: bytes, *, tcp: bool) -> bytes:
        """The answer to a query, with its id. Raises Unreachable."""
        loop = asyncio.get_running_loop()
        if self._slots.locked():
            raise Unreachable("too many queries are under way")
        async with self._slots:
            for server in self._servers:
                if self._down.get(server, 0.0) > loop.time():
                    continue
                try:
                    answer = await (_ask_tcp if tcp else _ask_udp)(server, query)
                except (OSError, EOFError, TimeoutError):
                    self._down[server] = loop.time() + _DOWN_SECONDS
                    continue
                return query[:2] + answer[2:]
        raise Unreachable("no resolver outside the cluster can be reached")


def read_servers(path: Path, own: str = "") -> list[tuple[str, int]]:
    """The nameservers of a resolv.conf, but for this server's own address (which would ask itself for ever)."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        # Without the file there is nobody to ask.
        return []
    words = (line.split() for line in text.splitlines())
    return [(found[1], 53) for found in words if len(found) > 1 and found[0] == "nameserver" and found[1] != own]


class _Exchange(asyncio.DatagramProtocol):
    def __init__(self, wanted: bytes) -> None:
        self._wanted = wanted
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        # Only the answer to this very question counts: id, and the question itself in whatever case.
        length = len(self._wanted)
        genuine = len(data) >= length and data[:2] == self._wanted[:2] and data[2] & 0x80
        if genuine and data[12:length].lower() == self._wanted[12:].lower() and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _ask_udp(server: tuple[str, int], query: bytes) -> bytes:
    asked = secrets.token_bytes(2) + query[2:]
    loop = asyncio.get_running_loop()
    transport, exchange = await loop.create_datagram_endpoint(
        lambda: _Exchange(asked[: _question_end(asked)]), remote_addr=server
    )
    try:
        transport.sendto(asked)
        async with asyncio.timeout(_UDP_SECONDS):
            return await exchange.answer
    finally:
        transport.close()


async def _ask_tcp(server: tuple[str, int], query: bytes) -> bytes:
    asked = secrets.token_bytes(2) + query[2:]
    async with asyncio.timeout(_TCP_SECONDS):
        reader, writer = await asyncio.open_connection(*server)
        try:
            writer.write(len(asked).to_bytes(2, "big") + asked)
            length = int.from_bytes(await reader.readexactly(2), "big")
            answer = await reader.readexactly(length)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    if len(answer) < 12 or answer[:2] != asked[:2]:
        raise EOFError("the answer belongs to another question")
    return answer


def _question_end(query: bytes) -> int:
    """Where the question of a well-formed query ends."""
    offset = 12
    while query[offset]:
        offset += 1 + query[offset]
    return offset + 5
