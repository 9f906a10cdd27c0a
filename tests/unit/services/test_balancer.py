from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from hatchway.cluster.services.balancer import AffinityTable, Balancer
from hatchway.cluster.services.endpointpools import EndpointAddress, EndpointPool, PortEndpoints, ServiceEndpoint
from hatchway.cluster.services.nodeplaces import NodePlace, NodePlaces
from hatchway.cluster.services.servicerules import CLIENTS_NODE, ServiceRule

ALL = tuple(ServiceEndpoint(f"10.244.1.{i}", 80) for i in range(2, 12))
NODES = NodePlaces(
    NodePlace(f"node-{number}", f"172.18.0.{number + 2}", IPv4Network(f"10.244.{number}.0/24")) for number in range(3)
)


def rule(*endpoints: ServiceEndpoint, affinity: int = 0) -> ServiceRule:
    return ServiceRule("web", PortEndpoints.of(*endpoints), affinity)


def first(balancer: Balancer, client: str, now: float) -> ServiceEndpoint:
    return next(balancer.candidates(client, now))


def test_every_endpoint_is_tried_once_in_random_order() -> None:
    balancer = Balancer(rule(*ALL))
    orders = [list(balancer.candidates("10.244.0.2", 0)) for _ in range(500)]
    assert all(sorted(order) == sorted(ALL) for order in orders)
    assert {order[0] for order in orders} == set(ALL)


@pytest.mark.parametrize("affinity", [0, 60])
def test_endpoints_that_lead_back_to_the_proxy_are_skipped(affinity: int) -> None:
    own = set(ALL[1:])
    balancer = Balancer(rule(*ALL, affinity=affinity), leads_back=lambda rule, endpoint: endpoint in own)
    assert {balancer.choose("10.244.0.2", 0) for _ in range(200)} == {ALL[0]}
    assert list(balancer.candidates("10.244.0.2", 0)) == [ALL[0]]
    own.add(ALL[0])
    assert balancer.choose("10.244.0.2", 0) is None


def test_of_very_many_endpoints_some_are_tried() -> None:
    addresses = (EndpointAddress(f"10.244.{i // 250}.{i % 250}", "", True) for i in range(2000))
    many = PortEndpoints([(80, EndpointPool([tuple(addresses)]))])
    tried = list(many.in_random_order())
    assert len(tried) == len(set(tried))
    assert 60 < len(tried) < 70


def test_affinity_lasts_until_it_expires_or_the_endpoint_is_removed() -> None:
    balancer = Balancer(rule(*ALL, affinity=10))
    balancer.remember("client", ALL[3], 100)
    assert all(first(balancer, "client", 109) == ALL[3] for _ in range(50))
    assert sorted(balancer.candidates("client", 109)) == sorted(ALL)
    assert {first(balancer, "client", 110) for _ in range(500)} == set(ALL)
    balancer.update(rule(*ALL[:4], affinity=10))
    assert all(first(balancer, "client", 109) == ALL[3] for _ in range(50))
    balancer.update(rule(*ALL[:3], affinity=10))
    assert {first(balancer, "client", 109) for _ in range(200)} == set(ALL[:3])


def test_frontends_of_one_port_share_the_affinity_of_clients() -> None:
    table = AffinityTable()
    one, other = (Balancer(rule(*ALL, affinity=10), NODES, table) for _ in range(2))
    one.remember("client", ALL[5], 0)
    assert all(first(other, "client", 1) == ALL[5] for _ in range(50))


def test_an_endpoint_removed_during_the_connection_attempt_is_not_used() -> None:
    balancer = Balancer(rule(*ALL[:2], affinity=10))
    balancer.remember("client", ALL[5], 0)
    assert sorted(balancer.candidates("client", 1)) == sorted(ALL[:2])
    assert balancer.offers(ALL[0], "client")
    assert not balancer.offers(ALL[5], "client")


def test_the_number_of_remembered_clients_is_limited() -> None:
    balancer = Balancer(rule(*ALL, affinity=10))
    for i in range(10_001):
        balancer.remember(str(i), ALL[0], 0)
    assert all(first(balancer, "10000", 1) == ALL[0] for _ in range(50))
    assert {first(balancer, "0", 1) for _ in range(500)} == set(ALL)


def spread(scope: str | None) -> Balancer:
    addresses = tuple(EndpointAddress(f"10.244.{node}.9", f"node-{node}", True) for node in range(2))
    return Balancer(ServiceRule("web", PortEndpoints([(80, EndpointPool([addresses]))]), scope=scope), NODES)


@pytest.mark.parametrize(
    ("scope", "client", "ips"),
    [
        (None, "10.244.1.5", ["10.244.0.9", "10.244.1.9"]),
        (CLIENTS_NODE, "10.244.1.5", ["10.244.1.9"]),
        (CLIENTS_NODE, "172.18.0.3", ["10.244.1.9"]),
        (CLIENTS_NODE, "10.244.2.5", []),
        # Clients that are not on a node.
        (CLIENTS_NODE, "127.0.0.1", ["10.244.0.9", "10.244.1.9"]),
        ("node-1", "10.244.0.5", ["10.244.1.9"]),
        ("node-2", "10.244.0.5", []),
        # A node's own pods use all endpoints (kube-proxy: "pod traffic for external destinations").
        ("node-2", "10.244.2.5", ["10.244.0.9", "10.244.1.9"]),
    ],
)
def test_local_policies(scope: str | None, client: str, ips: list[str]) -> None:
    assert sorted(endpoint.ip for endpoint in spread(scope).candidates(client, 0)) == ips


def test_source_ranges() -> None:
    found = ServiceRule("web", PortEndpoints.of(*ALL), sources=(IPv4Network("127.0.0.0/30"),))
    assert [Balancer(found).permits(ip) for ip in ("127.0.0.1", "127.0.0.9")] == [True, False]
    assert Balancer(rule(*ALL)).permits("127.0.0.9")
