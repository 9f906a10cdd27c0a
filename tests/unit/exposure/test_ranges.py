"""Sets of addresses: the operations of sets, and the words for well-known ranges."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.exposure.ranges import EVERYWHERE, MACHINE, NOWHERE, PRIVATE, AddressSet, audience_of, worst

_small = st.lists(
    st.builds(
        lambda first, bits: f"10.0.0.{first & ~((1 << bits) - 1)}/{32 - bits}", st.integers(0, 255), st.integers(0, 6)
    ),
    max_size=6,
)
_ALL = [ipaddress.ip_address(f"10.0.0.{last}") for last in range(256)]


def members(sources: AddressSet) -> set[int]:
    return {number for first, last in sources.v4 for number in range(first, last + 1)}


@settings(max_examples=50)
@given(_small, _small)
def test_operations_agree_with_those_of_python_sets(one: list[str], two: list[str]) -> None:
    first, second = AddressSet.parse(one), AddressSet.parse(two)
    expected = {int(address) for address in _ALL if any(address in ipaddress.ip_network(net) for net in one)}
    other = {int(address) for address in _ALL if any(address in ipaddress.ip_network(net) for net in two)}
    assert members(first) == expected
    assert members(first | second) == expected | other
    assert members(first & second) == expected & other
    assert members(first - second) == expected - other
    assert (EVERYWHERE - first) & first == NOWHERE
    assert (EVERYWHERE - first) | first == EVERYWHERE
    assert AddressSet.parse(first.shown(10_000).split(", ")) == first


@pytest.mark.parametrize(
    ("ranges", "reach"),
    [
        (["0.0.0.0/0"], "internet"),
        (["::/0"], "internet"),
        (["0.0.0.0/1", "128.0.0.0/1"], "internet"),
        (["2000::/3"], "internet"),
        (["8.0.0.0/8"], "internet"),
        (["8.0.0.0/9"], "restricted"),
        (["203.0.113.7"], "restricted"),
        (["2001:db8::/32"], "restricted"),
        (["10.0.0.0/8", "192.0.2.1/32"], "restricted"),
        (["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "169.254.0.0/16"], "private"),
        (["10.1.2.3/8"], "private"),
        (["127.0.0.1/8", "::1/128"], "machine"),
        (["127.0.0.1", "10.0.0.1"], "private"),
        ([], "nobody"),
        (["x", "", "10.0.0.0/99", "1.2.3", "::g"], "nobody"),
        (["224.0.0.0/4"], "private"),
    ],
)
def test_classes_of_ranges(ranges: list[str], reach: str) -> None:
    assert AddressSet.parse(ranges).reach == reach


def test_everything_but_private_networks_is_the_internet() -> None:
    assert (EVERYWHERE - PRIVATE - MACHINE).reach == "internet"
    assert (EVERYWHERE - EVERYWHERE).reach == "nobody"
    assert AddressSet.parse(["0.0.0.0/0"]).shown() == "0.0.0.0/0"
    assert EVERYWHERE.shown(1) == "0.0.0.0/0 ..."


@pytest.mark.parametrize(
    ("address", "audience"),
    [
        ("203.0.113.1", EVERYWHERE),
        ("2001:4860::1", EVERYWHERE),
        ("10.0.0.1", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("fd00::1", PRIVATE),
        ("127.3.2.1", MACHINE),
        ("elb.example", None),
        ("", None),
        ("10.0.0.1/8", None),
    ],
)
def test_the_reach_of_an_address(address: str, audience: AddressSet | None) -> None:
    assert audience_of(address) == audience


def test_the_most_public_reach_counts() -> None:
    assert worst(["private", "internet", "nobody"]) == "internet"
    assert worst([]) == "nobody"
