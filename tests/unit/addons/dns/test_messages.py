"""Answers to questions for names of the cluster, as bytes of DNS messages."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from dnslib import DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from hatchway.addons.dns.dnsquery import BadDnsQuery, deserves_answer, parse_query
from hatchway.addons.dns.message import DnsAnswer, Resolver, failure, refusal
from hatchway.addons.dns.zone import MAX_SRV, Zone
from hatchway.kube.api import Object

OWN_RANGES = [ipaddress.IPv4Network(one) for one in ("10.96.0.0/16", "10.244.0.0/16")]


def service(name: str, namespace: str = "d", **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def endpoint_slice(name: str, service: str, endpoints: list[Object], ports: list[Object] | None = None) -> Object:
    return {
        "metadata": {"name": name, "namespace": "d", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports if ports is not None else [{"name": "sql", "port": 5432, "protocol": "TCP"}],
    }


def endpoint(ip: str, hostname: str = "", ready: bool = True) -> Object:
    return {"addresses": [ip], "conditions": {"ready": ready}, **({"hostname": hostname} if hostname else {})}


@pytest.fixture
def zone() -> Zone:
    zone = Zone()
    for name in ("d", "kube-system"):
        zone.namespace_changed("ADDED", {"metadata": {"name": name}})
    http = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    for obj in (
        service("kube-dns", "kube-system", clusterIP="10.96.0.10"),
        service("web", clusterIP="10.96.1.1", clusterIPs=["10.96.1.1", "fd00::1"], ports=http),
        service("db", clusterIP="None", ports=[{"name": "sql", "port": 5432}]),
        service("out", type="ExternalName", externalName="Example.org."),
        service("alias", type="ExternalName", externalName="web.d.svc.cluster.local"),
        service("loop", type="ExternalName", externalName="loop.d.svc.cluster.local"),
        service("empty", clusterIP="None"),
    ):
        zone.service_changed("ADDED", obj)
    endpoints = [endpoint("10.244.1.3", "db-0"), endpoint("10.244.2.3"), endpoint("10.244.2.9", "db-9", ready=False)]
    zone.slice_changed("ADDED", endpoint_slice("db-1", "db", endpoints))
    return zone


def ask(zone: Zone, name: str, kind: str = "A", **more: Any) -> DNSRecord:
    data = DNSRecord.question(name, kind).pack()
    answer = Resolver(zone, own_ranges=OWN_RANGES).answer(parse_query(data))
    assert answer is not None, "not a name of the cluster"
    return DNSRecord.parse(answer.pack(more.get("limit", 65535)))


def values(record: DNSRecord) -> list[str]:
    return sorted(str(rr.rdata) for rr in record.rr)


def code(record: DNSRecord) -> int:
    return int(record.header.rcode)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web.d.svc.cluster.local", "A", ["10.96.1.1"]),
        ("web.d.svc.cluster.local", "AAAA", ["fd00::1"]),
        ("WEB.d.SVC.cluster.LOCAL", "A", ["10.96.1.1"]),
        ("db.d.svc.cluster.local", "A", ["10.244.1.3", "10.244.2.3"]),
        ("db-0.db.d.svc.cluster.local", "A", ["10.244.1.3"]),
        ("10-244-2-3.db.d.svc.cluster.local", "A", ["10.244.2.3"]),
        ("_http._tcp.web.d.svc.cluster.local", "SRV", ["0 100 80 web.d.svc.cluster.local."]),
        ("_dns._udp.web.d.svc.cluster.local", "SRV", ["0 100 53 web.d.svc.cluster.local."]),
        (
            "_sql._tcp.db.d.svc.cluster.local",
            "SRV",
            ["0 100 5432 10-244-2-3.db.d.svc.cluster.local.", "0 100 5432 db-0.db.d.svc.cluster.local."],
        ),
        ("10-1-2-3.d.pod.cluster.local", "A", ["10.1.2.3"]),
        ("2001-db8--1.d.pod.cluster.local", "AAAA", ["2001:db8::1"]),
        ("out.d.svc.cluster.local", "A", ["example.org."]),
        ("out.d.svc.cluster.local", "CNAME", ["example.org."]),
        ("alias.d.svc.cluster.local", "A", ["10.96.1.1", "web.d.svc.cluster.local."]),
        ("ns.dns.cluster.local", "A", ["10.96.0.10"]),
        ("dns-version.cluster.local", "TXT", ['"1.1.0"']),
        ("1.1.96.10.in-addr.arpa", "PTR", ["web.d.svc.cluster.local."]),
        ("3.1.244.10.in-addr.arpa", "PTR", ["db-0.db.d.svc.cluster.local."]),
        ("cluster.local", "NS", ["ns.dns.cluster.local."]),
    ],
)
def test_names(zone: Zone, name: str, kind: str, expected: list[str]) -> None:
    found = ask(zone, name, kind)
    assert values(found) == expected
    assert code(found) == 0
    assert found.header.aa == 1
    assert {rr.ttl for rr in found.rr} <= {5, 30}


def test_an_srv_answer_includes_the_addresses(zone: Zone) -> None:
    found = ask(zone, "_sql._tcp.db.d.svc.cluster.local", "SRV")
    extra = {(str(rr.rname), str(rr.rdata)) for rr in found.ar}
    assert extra == {
        ("db-0.db.d.svc.cluster.local.", "10.244.1.3"),
        ("10-244-2-3.db.d.svc.cluster.local.", "10.244.2.3"),
    }


NODATA, NXDOMAIN = 0, 3


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web.d.svc.cluster.local", "MX", NODATA),
        ("web.d.svc.cluster.local", "TYPE4242", NODATA),
        ("db.d.svc.cluster.local", "AAAA", NODATA),
        ("empty.d.svc.cluster.local", "A", NODATA),
        ("_tcp.web.d.svc.cluster.local", "SRV", NODATA),
        ("_sctp.web.d.svc.cluster.local", "SRV", NXDOMAIN),
        ("d.svc.cluster.local", "A", NODATA),
        ("d.pod.cluster.local", "A", NODATA),
        ("svc.cluster.local", "A", NODATA),
        ("cluster.local", "A", NODATA),
        ("nothing.d.svc.cluster.local", "A", NXDOMAIN),
        ("web.nowhere.svc.cluster.local", "A", NXDOMAIN),
        ("nowhere.svc.cluster.local", "A", NXDOMAIN),
        ("10-1-2-3.nowhere.pod.cluster.local", "A", NXDOMAIN),
        ("10-1-2-999.d.pod.cluster.local", "A", NXDOMAIN),
        ("db-9.db.d.svc.cluster.local", "A", NXDOMAIN),
        ("_http._udp.web.d.svc.cluster.local", "SRV", NXDOMAIN),
        ("_nope._tcp.web.d.svc.cluster.local", "SRV", NXDOMAIN),
        ("a.b.c.d.e.f.cluster.local", "A", NXDOMAIN),
        ("web.d.svc.cluster.local.d.svc.cluster.local", "A", NXDOMAIN),
        ("99.99.244.10.in-addr.arpa", "PTR", NXDOMAIN),
    ],
)
def test_missing_names_and_records(zone: Zone, name: str, kind: str, expected: int) -> None:
    data = DNSRecord.question(name, kind if not kind.startswith("TYPE") else "A").pack()
    if kind.startswith("TYPE"):
        data = data[:-4] + struct.pack("!HH", int(kind[4:]), 1)
    answer = Resolver(zone, own_ranges=OWN_RANGES).answer(parse_query(data))
    assert answer is not None
    found = DNSRecord.parse(answer.pack(512))
    assert code(found) == expected
    assert not found.rr
    [soa] = found.auth
    assert str(soa.rname) == "cluster.local."
    assert soa.ttl == 5


def test_a_chain_of_aliases_ends(zone: Zone) -> None:
    found = ask(zone, "loop.d.svc.cluster.local")
    assert 0 < len(found.rr) <= 8


@pytest.mark.parametrize("name", ["example.org", "cluster.local.org", "notcluster.local", "", "8.8.8.8.in-addr.arpa"])
def test_names_outside_the_cluster_are_not_answered(zone: Zone, name: str) -> None:
    data = DNSRecord.question(name).pack()
    assert Resolver(zone, own_ranges=OWN_RANGES).answer(parse_query(data)) is None


def test_answers_follow_changes_of_objects(zone: Zone) -> None:
    zone.slice_changed("MODIFIED", endpoint_slice("db-1", "db", [endpoint("10.244.7.7", "db-0")]))
    assert values(ask(zone, "db-0.db.d.svc.cluster.local")) == ["10.244.7.7"]
    assert values(ask(zone, "7.7.244.10.in-addr.arpa", "PTR")) == ["db-0.db.d.svc.cluster.local."]
    moved = endpoint_slice("db-1", "other", [endpoint("10.244.7.7", "db-0")])
    zone.slice_changed("MODIFIED", moved)
    assert code(ask(zone, "db-0.db.d.svc.cluster.local")) == NXDOMAIN
    zone.slice_changed("DELETED", moved)
    zone.service_changed("DELETED", service("web"))
    assert code(ask(zone, "web.d.svc.cluster.local")) == NXDOMAIN
    zone.namespace_changed("DELETED", {"metadata": {"name": "d"}})
    assert code(ask(zone, "d.svc.cluster.local")) == NXDOMAIN


def test_the_answer_keeps_the_case_of_the_question(zone: Zone) -> None:
    found = ask(zone, "wEb.D.sVc.ClUsTeR.lOcAl")
    assert str(found.q.qname) == "wEb.D.sVc.ClUsTeR.lOcAl."
    assert str(found.rr[0].rname) == "wEb.D.sVc.ClUsTeR.lOcAl."


def test_queries_for_any_record_and_for_zone_transfers(zone: Zone) -> None:
    [answer] = ask(zone, "web.d.svc.cluster.local", "ANY").rr
    assert answer.rtype == 13
    assert code(ask(zone, "cluster.local", "AXFR")) == 5


def edns(size: int = 4096, version: int = 0) -> bytes:
    query = bytearray(DNSRecord.question("web.d.svc.cluster.local").pack())
    query[11] = 1
    return bytes(query) + struct.pack("!BHHIH", 0, 41, size, version << 16, 0)


def test_edns(zone: Zone) -> None:
    query = parse_query(edns())
    assert (query.payload, query.edns) == (4096, 0)
    answer = Resolver(zone, own_ranges=OWN_RANGES).answer(query)
    assert answer is not None
    packed = DNSRecord.parse(answer.pack(65535))
    [option] = packed.ar
    assert (option.rtype, option.edns_len, option.edns_ver) == (41, 1232, 0)
    assert parse_query(edns(size=100)).payload == 512
    newer = Resolver(zone, own_ranges=OWN_RANGES).answer(parse_query(edns(version=1)))
    assert newer is not None
    [option] = DNSRecord.parse(newer.pack(65535)).ar
    assert option.edns_rcode == 1, "BADVERS"


@given(st.integers(1, 300), st.integers(512, 4096))
def test_answers_that_do_not_fit_are_truncated(count: int, limit: int) -> None:
    zone = Zone()
    zone.service_changed("ADDED", service("db", clusterIP="None", ports=[{"name": "sql", "port": 5432}]))
    endpoints = [endpoint(f"10.244.{n // 250}.{n % 250}") for n in range(count)]
    zone.slice_changed("ADDED", endpoint_slice("s", "db", endpoints))
    for kind in ("A", "SRV"):
        name = "db.d.svc.cluster.local" if kind == "A" else "_sql._tcp.db.d.svc.cluster.local"
        answer = Resolver(zone, own_ranges=OWN_RANGES).answer(parse_query(DNSRecord.question(name, kind).pack()))
        assert answer is not None
        packed = answer.pack(limit)
        assert len(packed) <= limit
        found = DNSRecord.parse(packed)
        assert (found.header.tc == 1) == (len(found.rr) < count)
        assert found.rr


@given(st.binary(max_size=300))
def test_any_bytes_are_answered_or_dropped(data: bytes) -> None:
    _survives(data)


@given(st.data())
def test_damaged_queries_are_answered_or_dropped(draw: st.DataObject) -> None:
    data = bytearray(edns())
    for _ in range(draw.draw(st.integers(1, 5))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    _survives(bytes(data[: draw.draw(st.integers(0, len(data)))]))


def _survives(data: bytes) -> None:
    if not deserves_answer(data):
        assert len(data) < 12 or data[2] & 0x80
        return
    answer: DnsAnswer | None
    try:
        query = parse_query(data)
    except BadDnsQuery as error:
        answer = refusal(data, error.rcode)
    else:
        answer = Resolver(Zone()).answer(query) or failure(query, "SERVFAIL")
    packed = answer.pack(512)
    assert 12 <= len(packed) <= 512
    assert packed[:2] == data[:2]
    assert packed[2] & 0x80


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (struct.pack("!HHHHHH", 1, 0x0900, 1, 0, 0, 0) + b"\0\0\1\0\1", "NOTIMP"),
        (struct.pack("!HHHHHH", 1, 0x2800, 1, 0, 0, 0) + b"\0\0\1\0\1", "NOTIMP"),
        (struct.pack("!HHHHHH", 1, 0, 0, 0, 0, 0), "FORMERR"),
        (struct.pack("!HHHHHH", 1, 0, 2, 0, 0, 0) + b"\0\0\1\0\1" * 2, "FORMERR"),
        (struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", "FORMERR"),
        (struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\x05abc", "FORMERR"),
        (
            struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\x3f" + b"a" * 63 + (b"\x3f" + b"a" * 63) * 3 + b"\0\0\1\0\1",
            "FORMERR",
        ),
        (b"\0\1" + edns()[2:-11] + struct.pack("!BHHIH", 0, 41, 512, 0, 9), "FORMERR"),
    ],
)
def test_invalid_queries(data: bytes, rcode: str) -> None:
    with pytest.raises(BadDnsQuery) as caught:
        parse_query(data)
    assert caught.value.rcode == rcode
    assert refusal(data, rcode).rcode == rcode


def test_the_answer_for_a_service_with_many_endpoints_and_ports_is_limited(zone: Zone) -> None:
    ports = [{"name": f"p{number}", "port": number + 1, "protocol": "TCP"} for number in range(1000)]
    many = [endpoint(f"10.244.{number // 250}.{number % 250}") for number in range(1000)]
    zone.service_changed("ADDED", service("many", clusterIP="None", ports=ports))
    zone.slice_changed("ADDED", endpoint_slice("many-1", "many", many, ports))
    answer = zone.lookup(["many", "d", "svc"])
    assert len(answer.records) <= 1000 + MAX_SRV
    assert ask(zone, "many.d.svc.cluster.local", "SRV").header.tc == 1
