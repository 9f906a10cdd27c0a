from __future__ import annotations

import ipaddress
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.policies.policyrules import Allowance, Ranges, merge, parse_policy
from tests.unit.policies.world import policy

MOST = 5000


def parsed(key: str = "ingress", **rule: Any) -> tuple[Allowance, ...]:
    spec = {"policyTypes": [key.title()], key: [rule]}
    return parse_policy(policy("p", **spec), MOST).rules["ingress" if key == "ingress" else "egress"]


def test_policy_types_decide_the_directions_of_isolation() -> None:
    assert parse_policy(policy("p"), MOST).rules == {"ingress": ()}
    assert parse_policy(policy("p", policyTypes=["Egress"]), MOST).rules == {"egress": ()}
    both = policy("p", policyTypes=["Ingress", "Egress"], egress=[{}])
    assert parse_policy(both, MOST).rules == {"ingress": (), "egress": (Allowance(None),)}


def test_a_rule_without_peers_or_ports_allows_all() -> None:
    assert parsed() == (Allowance(None),)
    assert parsed(**{"from": [], "ports": []}) == (Allowance(None),)
    assert parsed(**{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}) == (Allowance(None),)


def test_a_rule_with_peers_that_cannot_exist_allows_nothing() -> None:
    assert parsed(**{"from": [{"ipBlock": {"cidr": "fd00::/8", "except": ["fd00::/16"]}}]}) == ()


def test_ports_are_merged_by_protocol() -> None:
    ports: list[dict[str, Any]] = [
        {"port": 80},
        {"port": 81, "endPort": 90},
        {"port": 85},
        {"port": "web"},
        {"port": "web"},
        {"port": 53, "protocol": "UDP"},
        {"protocol": "SCTP"},
    ]
    assert parsed(ports=ports) == (
        Allowance(None, "TCP", (80, 90)),
        Allowance(None, "UDP", (53, 53)),
        Allowance(None, "SCTP"),
        Allowance(None, "TCP", None, "web"),
    )


_networks = st.builds(
    lambda number, length: str(ipaddress.ip_network((number, length), strict=False)),
    st.integers(0, 255).map(lambda low: 0x0AF40000 + low),
    st.integers(24, 32),
)


@given(_networks, st.lists(_networks, max_size=4))
def test_blocks_agree_with_pythons_ipaddress(cidr: str, exceptions: list[str]) -> None:
    found = parsed(**{"from": [{"ipBlock": {"cidr": cidr, "except": exceptions}}]})
    for low in range(256):
        address = ipaddress.IPv4Address(0x0AF40000 + low)
        wanted = address in ipaddress.ip_network(cidr)
        wanted = wanted and not any(address in ipaddress.ip_network(one) for one in exceptions)
        assert any(isinstance(one.peers, Ranges) and one.peers.has_address(str(address)) for one in found) == wanted


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 8)), max_size=8))
def test_merged_ranges_have_the_same_numbers_and_do_not_touch(pairs: list[tuple[int, int]]) -> None:
    ranges = [(first, first + length) for first, length in pairs]
    merged = merge(ranges)
    assert {n for a, b in merged for n in range(a, b + 1)} == {n for a, b in ranges for n in range(a, b + 1)}
    assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(merged))


@pytest.mark.parametrize(
    "rule",
    [
        {"ports": [{"port": 2 * number} for number in range(200)]},
        {"from": [{"podSelector": {"matchLabels": {"app": str(number)}}} for number in range(200)]},
        {"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"] * 200}]}}]},
        {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": [f"10.0.{n}.0/24" for n in range(0, 256, 2)] * 5}}]},
    ],
)
def test_the_weight_of_a_policy_grows_with_its_content(rule: dict[str, Any]) -> None:
    large = policy("p", ingress=[rule])
    assert parse_policy(large, 100).weight > 100
    assert parse_policy(large, 100).without_rules().rules == {"ingress": ()}
