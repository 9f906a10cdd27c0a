"""The control plane answers DNS queries, on sockets of the private network, with this machine's resolvers."""

# ruff: noqa: ASYNC110  conditions change without events

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from dnslib import QTYPE, RCODE, RR, A, DNSRecord

from hatchway.cluster import sockets
from hatchway.cluster.network.egress import hostnames
from hatchway.cluster.network.egress.hostnames import HostNames
from tests.freeports import free_port

Answer = Callable[[bytes], bytes | None]


class _Answering(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.DatagramTransport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if answer := self._answer(data):
            self._transport.sendto(answer, addr)


class _OneAnswer(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self.got.done():
            self.got.set_result(data)


def address(ip: str) -> Answer:
    def answer(data: bytes) -> bytes:
        reply = DNSRecord.parse(data).reply()
        reply.add_answer(RR(reply.q.qname, QTYPE.A, ttl=60, rdata=A(ip)))
        return bytes(reply.pack())

    return answer


class Place:
    """A `HostNames`, the resolvers that it uses, and a client of it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._open: list[asyncio.BaseTransport] = []
        self.names: HostNames | None = None
        self.where = ("", 0)

    async def resolver(self, answer: Answer) -> int:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Answering(answer), ("127.0.0.1", 0)
        )
        self._open.append(transport)
        return int(transport.get_extra_info("sockname")[1])

    def use(self, *ports: int) -> None:
        self.file.write_text("".join(f"{port}\n" for port in ports))

    def start(self) -> None:
        connections = sockets.listen("127.0.0.1", port := free_port())
        queries = sockets.datagram("127.0.0.1", port)
        self.where = queries.getsockname()
        self.names = HostNames(queries, connections, self.file)

    async def ask(self, query: bytes) -> DNSRecord:
        transport, one = await asyncio.get_running_loop().create_datagram_endpoint(_OneAnswer, remote_addr=self.where)
        try:
            async with asyncio.timeout(30):
                transport.sendto(query)
                return DNSRecord.parse(await one.got)
        finally:
            transport.close()

    async def address_of(self, name: str) -> str:
        answer = await self.ask(bytes(DNSRecord.question(name).pack()))
        return str(answer.rr[0].rdata) if answer.rr else str(RCODE.get(answer.header.rcode))

    async def until(self, name: str, wanted: str) -> None:
        """Resolve a name until the address is the wanted one, because the first queries may fail on a busy machine."""
        async with asyncio.timeout(60):
            while await self.address_of(name) != wanted:
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        if self.names is not None:
            await self.names.close()
        for transport in self._open:
            transport.close()


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    def read(path: Path) -> list[tuple[str, int]]:
        return [("127.0.0.1", int(line)) for line in path.read_text().split()] if path.exists() else []

    # Each line of this file is the port of a resolver, because a real resolv.conf cannot contain ports.
    monkeypatch.setattr(hostnames, "read_servers", read)
    made = Place(tmp_path / "resolv.conf")
    yield made
    await made.close()


async def test_changes_of_the_resolvers_are_followed(place: Place) -> None:
    first, second = await place.resolver(address("203.0.113.1")), await place.resolver(address("203.0.113.2"))
    place.use(first)
    place.start()
    await place.until("www.example.com", "203.0.113.1")
    place.use(second, first)
    await place.until("www.example.com", "203.0.113.2")


async def test_without_a_resolver_names_fail(place: Place) -> None:
    place.start()
    assert await place.address_of("www.example.com") == "SERVFAIL"
    # Now the only resolver's port is closed.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    place.use(port)
    assert await place.address_of("www.example.com") == "SERVFAIL"


async def test_the_next_resolver_is_used_when_the_first_one_is_silent(place: Place) -> None:
    silent, speaking = await place.resolver(lambda _: None), await place.resolver(address("203.0.113.2"))
    place.use(silent, speaking)
    place.start()
    await place.until("www.example.com", "203.0.113.2")


async def test_forged_answers_do_not_count(place: Place) -> None:
    def forged(data: bytes) -> bytes:
        right = address("203.0.113.66")(data)
        if DNSRecord.parse(data).q.qtype != QTYPE.A:
            return right
        # Depending on the query's id, the forged answer has another id or another question.
        return bytes([right[0] ^ 1]) + right[1:] if right[1] & 1 else right.replace(b"example", b"evilone")

    honest = await place.resolver(address("203.0.113.2"))
    place.use(await place.resolver(forged), honest)
    place.start()
    await place.until("www.example.com", "203.0.113.2")


async def test_malformed_queries_get_no_answer_and_do_no_harm(place: Place) -> None:
    place.use(await place.resolver(address("203.0.113.1")))
    place.start()
    query = bytes(DNSRecord.question("www.example.com").pack())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(place.where)
        for data in (b"", b"x", query[:-1], bytes(4097), query[:2] + b"\x80" + query[3:], query[:12] + b"\xff" * 40):
            sock.send(data)
        reader, writer = await asyncio.open_connection(*place.where)
        writer.write(b"\0\5hello")
        assert await reader.read() == b""
        writer.close()
        await place.until("www.example.com", "203.0.113.1")
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(100)


async def test_many_queries_at_once(place: Place) -> None:
    place.use(await place.resolver(address("203.0.113.1")))
    place.start()
    await place.until("www.example.com", "203.0.113.1")
    found = await asyncio.gather(*(place.address_of(f"n{number}.example.com") for number in range(150)))
    assert set(found) == {"203.0.113.1"}


async def test_one_client_does_not_take_all_queries_and_connections(place: Place) -> None:
    silent, speaking = await place.resolver(lambda _: None), await place.resolver(address("203.0.113.1"))
    place.use(speaking)
    place.start()
    await place.until("www.example.com", "203.0.113.1")
    assert place.names is not None
    place.use(silent)
    query = bytes(DNSRecord.question("slow.example.com").pack())
    for _ in range(300):
        place.names.datagram(query, ("127.0.0.9", 9))
    assert place.names.under_way("127.0.0.9") == 200
    # If there are too many connections, the oldest are closed.
    first, closing = await asyncio.open_connection(*place.where)
    others = [await asyncio.open_connection(*place.where) for _ in range(64)]
    async with asyncio.timeout(60):
        assert await first.read() == b""
    place.use(speaking)
    await place.until("www.example.com", "203.0.113.1")
    for writer in (closing, *(writer for _, writer in others)):
        writer.close()
