"""The DNS server over real sockets: UDP, TCP, truncation, names outside the cluster, probes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dnslib import RR, A, DNSRecord

from hatchway import outsideresolvers
from hatchway.addons.dns import monitoring
from hatchway.addons.dns import server as dnsserver
from hatchway.addons.dns.message import Resolver
from hatchway.addons.dns.server import DnsServer
from hatchway.addons.dns.zone import Zone
from hatchway.outsideresolvers import OutsideResolvers, read_servers


def big_zone(endpoints: int = 200) -> Zone:
    zone = Zone()
    zone.namespace_changed("ADDED", {"metadata": {"name": "d"}})
    zone.service_changed("ADDED", {"metadata": {"name": "web", "namespace": "d"}, "spec": {"clusterIP": "10.96.1.1"}})
    zone.service_changed("ADDED", {"metadata": {"name": "many", "namespace": "d"}, "spec": {"clusterIP": "None"}})
    zone.slice_changed(
        "ADDED",
        {
            "metadata": {"name": "s", "namespace": "d", "labels": {"kubernetes.io/service-name": "many"}},
            "endpoints": [{"addresses": [f"10.244.0.{n}"]} for n in range(endpoints)],
            "ports": [],
        },
    )
    return zone


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    server = DnsServer(Resolver(big_zone()), OutsideResolvers([]))
    await server.start("127.0.0.1", 0)
    yield server
    await server.close()


async def udp(port: int, data: bytes, host: str = "127.0.0.1") -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((host, port))
        await loop.sock_sendall(sock, data)
        async with asyncio.timeout(10):
            return await loop.sock_recv(sock, 65535)


async def tcp(port: int, *queries: bytes) -> list[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for data in queries:
            writer.write(struct.pack("!H", len(data)) + data)
        async with asyncio.timeout(10):
            return [await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")) for _ in queries]
    finally:
        writer.close()
        await writer.wait_closed()


async def test_udp_and_tcp_give_the_same_answers(server: DnsServer) -> None:
    query = DNSRecord.question("web.d.svc.cluster.local").pack()
    for answer in (await udp(server.port, query), *(await tcp(server.port, query, query))):
        found = DNSRecord.parse(answer)
        assert found.header.id == DNSRecord.parse(query).header.id
        assert [str(rr.rdata) for rr in found.rr] == ["10.96.1.1"]
    assert server.metrics.requests == {"udp": 1, "tcp": 2}


async def test_an_answer_that_is_too_large_for_udp_comes_by_tcp(server: DnsServer) -> None:
    query = DNSRecord.question("many.d.svc.cluster.local").pack()
    short = await udp(server.port, query)
    assert len(short) <= 512
    assert DNSRecord.parse(short).header.tc == 1
    [whole] = await tcp(server.port, query)
    found = DNSRecord.parse(whole)
    assert found.header.tc == 0
    assert len(found.rr) == 200


async def test_malformed_messages_do_not_end_the_server(server: DnsServer) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for data in (b"", b"x", bytes(12), b"\xff" * 500):
            sock.sendto(data, ("127.0.0.1", server.port))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"\x00\x05hello")
    assert await reader.read() == b"", "the connection is closed"
    writer.close()
    await writer.wait_closed()
    query = DNSRecord.question("web.d.svc.cluster.local").pack()
    assert DNSRecord.parse(await udp(server.port, query)).rr


async def test_other_names_without_a_resolver_fail_at_once(server: DnsServer) -> None:
    query = DNSRecord.question("example.org").pack()
    assert DNSRecord.parse(await udp(server.port, query)).header.rcode == 2
    [answer] = await tcp(server.port, query)
    assert DNSRecord.parse(answer).header.rcode == 2
    assert server.metrics.forwards["failed"] == 2


class Outside(asyncio.DatagramProtocol):
    """A resolver outside the cluster. Before each answer it sends a forged one with another id, as an attacker would.

    It does not listen on TCP, and never answers questions for `slow.example`.
    """

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = DNSRecord.parse(data)
        if str(query.q.qname) == "slow.example.":
            return
        forged = query.reply()
        forged.header.id ^= 1
        forged.add_answer(RR(query.q.qname, rdata=A("203.0.113.66")))
        self.transport.sendto(forged.pack(), addr)
        reply = query.reply()
        reply.add_answer(RR(query.q.qname, rdata=A("192.0.2.7")))
        self.transport.sendto(reply.pack(), addr)


async def test_other_names_are_forwarded() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        dead = closed.getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(Outside, ("127.0.0.1", 0))
    alive = transport.get_extra_info("sockname")[1]
    server = DnsServer(Resolver(big_zone()), OutsideResolvers([("127.0.0.1", dead), ("127.0.0.1", alive)]))
    await server.start("127.0.0.1", 0)
    await server.upstream.start()
    try:
        query = DNSRecord.question("example.org")
        found = DNSRecord.parse(await udp(server.port, query.pack()))
        assert found.header.id == query.header.id
        assert [str(rr.rdata) for rr in found.rr] == ["192.0.2.7"]
        transport.close()
        await asyncio.sleep(0)
        for _ in range(2):
            # One query finds that the resolver is gone; later queries do not wait for it.
            failed = DNSRecord.parse(await udp(server.port, query.pack()))
            assert failed.header.rcode == 2
    finally:
        await server.close()
        transport.close()


async def test_a_failed_query_does_not_affect_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outsideresolvers, "_UDP_SECONDS", 0.5)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Outside, ("127.0.0.1", 0))
    resolver = transport.get_extra_info("sockname")
    server = DnsServer(Resolver(big_zone()), OutsideResolvers([resolver]))
    await server.start("127.0.0.1", 0)
    await server.upstream.start()
    try:
        query = DNSRecord.question("example.org").pack()
        for spoiler in (udp(server.port, DNSRecord.question("slow.example").pack()), tcp(server.port, query)):
            spoiled = await spoiler
            found = spoiled[0] if isinstance(spoiled, list) else spoiled
            assert DNSRecord.parse(found).header.rcode == 2
            assert [str(rr.rdata) for rr in DNSRecord.parse(await udp(server.port, query)).rr] == ["192.0.2.7"]
    finally:
        await server.close()
        transport.close()


async def test_idle_connections_are_closed_for_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnsserver, "_CONNECTIONS", 3)
    server = DnsServer(Resolver(big_zone()), OutsideResolvers([]))
    await server.start("127.0.0.1", 0)
    idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
    try:
        for _ in range(5):
            [answer] = await tcp(server.port, DNSRecord.question("web.d.svc.cluster.local").pack())
            assert DNSRecord.parse(answer).header.rcode == 0
        assert await idle[0][0].read() == b""
    finally:
        for _, writer in idle:
            writer.close()
        await server.close()


async def test_queries_for_a_silent_resolver_fail(server: DnsServer) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        server.upstream = OutsideResolvers([silent.getsockname()])
        query = DNSRecord.question("example.org").pack()
        assert DNSRecord.parse(await udp(server.port, query)).header.rcode == 2
        silent.setblocking(False)
        probe = await asyncio.get_running_loop().sock_recv(silent, 512)
        assert str(DNSRecord.parse(probe).q.qname) == "."


async def test_the_name_of_a_missing_service_does_not_exist(server: DnsServer) -> None:
    found = DNSRecord.parse(await udp(server.port, DNSRecord.question("wbe").pack()))
    assert found.header.rcode == 3


def test_resolvers_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# x\nsearch a b\nnameserver 192.0.2.1\nnameserver 10.0.0.5\nnameserver\noptions ndots:5\n")
    assert read_servers(file, own="10.0.0.5") == [("192.0.2.1", 53)]
    assert read_servers(tmp_path / "missing") == []


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"HEAD /ready?x=1 HTTP/1.0\r\n\r\n", 200),
        (b"GET /other HTTP/1.1\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"POST /ready HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
    ],
)
async def test_probes(request_bytes: bytes, status: int) -> None:
    server = await monitoring.serve("127.0.0.1", 0, "/ready", lambda: (200, "OK", "OK"))
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_bytes)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    server.close()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    # A browser that opens the port gets a page that says what the port is for.
    assert (b"DNS server" in answer) == request_bytes.startswith(b"GET / ")
    assert answer.endswith(b"OK") == (status == 200 and request_bytes.startswith(b"GET"))


async def test_metrics(server: DnsServer) -> None:
    await udp(server.port, DNSRecord.question("web.d.svc.cluster.local").pack())
    await udp(server.port, DNSRecord.question("nope.d.svc.cluster.local").pack())
    text = monitoring.metrics_text(server.metrics)
    assert 'coredns_dns_requests_total{proto="udp"} 2' in text
    assert 'coredns_dns_responses_total{rcode="NXDOMAIN"} 1' in text
