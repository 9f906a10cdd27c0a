from __future__ import annotations

from hatchway.cluster.network.balancer import Balancer
from hatchway.cluster.network.servicerules import Endpoint, Rule

ENDPOINTS = tuple(Endpoint(f"10.244.1.{i}", 80) for i in range(2, 12))


def test_every_endpoint_is_tried_once_and_each_comes_first_at_times() -> None:
    balancer = Balancer(Rule("web", ENDPOINTS))
    orders = [balancer.candidates("10.244.0.2", 0) for _ in range(500)]
    assert all(sorted(order) == sorted(ENDPOINTS) for order in orders)
    assert {order[0] for order in orders} == set(ENDPOINTS)


def test_affinity_holds_until_it_expires_or_the_endpoint_goes() -> None:
    balancer = Balancer(Rule("web", ENDPOINTS, affinity=10))
    balancer.chosen("client", ENDPOINTS[3], 100)
    assert all(balancer.candidates("client", 109)[0] == ENDPOINTS[3] for _ in range(50))
    assert {balancer.candidates("client", 110)[0] for _ in range(500)} == set(ENDPOINTS)
    balancer.update(Rule("web", ENDPOINTS[:4], affinity=10))
    assert all(balancer.candidates("client", 109)[0] == ENDPOINTS[3] for _ in range(50))
    balancer.update(Rule("web", ENDPOINTS[:3], affinity=10))
    assert {balancer.candidates("client", 109)[0] for _ in range(200)} == set(ENDPOINTS[:3])


def test_an_endpoint_that_went_while_it_was_dialed_is_not_remembered() -> None:
    balancer = Balancer(Rule("web", ENDPOINTS[:2], affinity=10))
    balancer.chosen("client", ENDPOINTS[5], 0)
    assert sorted(balancer.candidates("client", 1)) == sorted(ENDPOINTS[:2])


def test_the_number_of_remembered_clients_is_limited() -> None:
    balancer = Balancer(Rule("web", ENDPOINTS, affinity=10))
    for i in range(10_001):
        balancer.chosen(str(i), ENDPOINTS[0], 0)
    assert all(balancer.candidates("10000", 1)[0] == ENDPOINTS[0] for _ in range(50))
    assert {balancer.candidates("0", 1)[0] for _ in range(500)} == set(ENDPOINTS)
