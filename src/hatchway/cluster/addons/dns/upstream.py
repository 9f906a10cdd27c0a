"""Names outside the cluster: handed on to the resolvers of /etc/resolv.conf, as CoreDNS' `forward . /etc/resolv.conf`.

Pods in a private network have no route to the outside, and a program should learn at once that it is alone. So no
query waits to find out: a resolver is asked in the background whether it answers, before it gets any query and again
after it has failed, and only those that do are used.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_UDP_SECONDS, _TCP_SECONDS = 1.5, 3.0
_PROBE_AGAIN_SECONDS = 5.0
_AT_ONCE = 200
# A query for the root's name servers: every resolver knows them.
_PROBE = bytes.fromhex("0000 0100 0001 0000 0000 0000 00 0002 0001")


class Unreachable(Exception):
    """No resolver has answered."""


@dataclass(slots=True)
class _Server:
    address: tuple[str, int]
    up: bool = False
    # When it was asked last whether it answers (by the loop's clock), and the task that waits for that.
    probed: float = float("-inf")
    probe: asyncio.Task[None] | None = None


class Upstream:
    """Resolvers outside the cluster, used in order. servers: addresses with their port. Close it."""

    def __init__(self, servers: Iterable[tuple[str, int]]) -> None:
        self._servers = [_Server(address) for address in servers]
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def start(self) -> None:
        """Find out which resolvers answer; at most as long as one query may take."""
        await asyncio.gather(*(self._probe(server) for server in self._servers))

    async def close(self) -> None:
        tasks = [server.probe for server in self._servers if server.probe is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def ask(self, query: bytes, *, tcp: bool) -> bytes:
        """The answer to a query, with its id. Raises Unreachable."""
        if self._slots.locked():
            raise Unreachable("too many queries are under way")
        async with self._slots:
            for server in self._servers:
                if not server.up:
                    self._probe_soon(server)
                    continue
                try:
                    answer = await (_ask_tcp if tcp else _ask_udp)(server.address, query)
                except (OSError, EOFError, TimeoutError):
                    server.up = False
                    continue
                return query[:2] + answer[2:]
        raise Unreachable("no resolver outside the cluster can be reached")

    def _probe_soon(self, server: _Server) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - server.probed >= _PROBE_AGAIN_SECONDS and (server.probe is None or server.probe.done()):
            server.probe = loop.create_task(self._probe(server), name=f"probe of {server.address[0]}")

    async def _probe(self, server: _Server) -> None:
        server.probed = asyncio.get_running_loop().time()
        try:
            await _ask_udp(server.address, _PROBE)
        except (OSError, TimeoutError):
            server.up = False
        else:
            server.up = True


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
