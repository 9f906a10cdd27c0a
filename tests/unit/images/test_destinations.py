from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from hatchway.images.pulling.destinations import Reach, authority_of, is_same_server, may_lead, reach_of


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("127.0.0.1", Reach.LOCAL),
        ("127.99.0.1", Reach.LOCAL),
        ("::1", Reach.LOCAL),
        ("::ffff:127.0.0.1", Reach.LOCAL),
        ("0.0.0.0", Reach.LOCAL),
        ("::", Reach.LOCAL),
        ("localhost", Reach.LOCAL),
        ("LOCALHOST.", Reach.LOCAL),
        ("a.localhost", Reach.LOCAL),
        ("169.254.169.254", Reach.LOCAL),
        ("fe80::1%eth0", Reach.LOCAL),
        ("64:ff9b::a9fe:a9fe", Reach.LOCAL),
        ("2002:7f00:1::", Reach.LOCAL),
        ("10.1.2.3", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("168.63.129.16", Reach.LOCAL),
        ("::ffff:168.63.129.16", Reach.LOCAL),
        ("100.100.100.200", Reach.LOCAL),
        ("fd00:ec2::254", Reach.LOCAL),
        ("127.1", Reach.LOCAL),
        ("0x7f000001", Reach.LOCAL),
        ("2130706433.", Reach.LOCAL),
        ("0", Reach.LOCAL),
        ("10.1", Reach.PRIVATE),
        ("100.100.1.2", Reach.PRIVATE),
        ("fd00::1", Reach.PRIVATE),
        ("::ffff:10.1.2.3", Reach.PRIVATE),
        ("8.8.8.8", Reach.PUBLIC),
        ("2606:4700::1111", Reach.PUBLIC),
        ("cdn.example.com", Reach.PUBLIC),
    ],
)
def test_the_reach_of_a_host(host: str, reach: Reach) -> None:
    assert reach_of(host) is reach


def test_redirects_that_are_allowed() -> None:
    allowed = {(registry, target) for registry in Reach for target in Reach if may_lead(registry, target)}
    assert allowed == {*((registry, Reach.PUBLIC) for registry in Reach), (Reach.PRIVATE, Reach.PRIVATE)}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://localhost:5000/a", "http://127.0.0.1:5000/b", True),
        ("http://[::1]:5000/", "http://localhost:5000/", True),
        ("https://r.test/", "https://R.test:443/", True),
        ("https://r.test/", "http://r.test/", False),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/", False),
        ("http://127.0.0.1:5000/", "http://127.0.0.2:5000/", False),
    ],
)
def test_same_server(one: str, other: str, same: bool) -> None:
    assert is_same_server(urlsplit(one), urlsplit(other)) is same


def test_authority() -> None:
    assert authority_of(urlsplit("https://R.test:443/x")) == "r.test"
    assert authority_of(urlsplit("http://[::1]:443/x")) == "[::1]:443"
