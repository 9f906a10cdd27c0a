"""The possible meanings of host names in a cluster."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.addresses import parse_address
from hatchway.socks.names import Meaning, meanings


@pytest.mark.parametrize(
    ("host", "first"),
    [
        ("web", Meaning("services", "web", "here")),
        ("WEB.Shop.", Meaning("services", "web", "shop")),
        ("web.shop", Meaning("services", "web", "shop")),
        ("web.shop.svc", Meaning("services", "web", "shop")),
        ("web.shop.svc.cluster.local", Meaning("services", "web", "shop")),
        ("web.shop.svc.cluster.local.", Meaning("services", "web", "shop")),
        ("db-0.db.shop", Meaning("pods", "db-0", "shop", "db")),
        ("db-0.db.shop.svc.cluster.local", Meaning("pods", "db-0", "shop", "db")),
        ("10-244-1-3.shop.pod.cluster.local", Meaning("address", "10.244.1.3", "shop")),
        ("fd00--1.shop.pod", Meaning("address", "fd00::1", "shop")),
        ("10.96.0.10", Meaning("address", "10.96.0.10")),
        ("[fd00::7]", Meaning("address", "fd00::7")),
        ("::ffff:10.96.0.10", Meaning("address", "10.96.0.10")),
    ],
)
def test_a_name_of_the_cluster(host: str, first: Meaning) -> None:
    assert meanings(host, "here")[0] == first


def test_a_short_name_may_also_mean_a_pod() -> None:
    assert Meaning("pods", "web-0", "here") in meanings("web-0", "here")
    assert Meaning("pods", "web-0", "shop") in meanings("web-0.shop", "here")
    assert Meaning("pods", "db-0", "here", "db") in meanings("db-0.db", "here")


@pytest.mark.parametrize(
    "host",
    ["www.example.co.uk", "a.b.c.d.svc", "", ".", "web..shop", "web.cluster.local", "a_b", "fe80::1%eth0",
     "x" * 64, "kubernetes.default.svc.other.domain", "svc.cluster.local", "web shop", "web\nshop"],
)  # fmt: skip
def test_names_outside_the_cluster(host: str) -> None:
    assert meanings(host, "here") == []


def test_another_cluster_domain() -> None:
    assert meanings("web.shop.svc.k8s.example.com", "here", "k8s.example.com") == [Meaning("services", "web", "shop")]
    assert meanings("web.shop.svc.cluster.local", "here", "k8s.example.com") == []


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_none(host: str) -> None:
    for meaning in meanings(host, "here"):
        assert meaning.name
        assert "/" not in meaning.name + meaning.namespace


@given(st.ip_addresses())
def test_addresses_have_one_canonical_form(address: object) -> None:
    assert parse_address(parse_address(str(address))) == parse_address(str(address)) != ""
