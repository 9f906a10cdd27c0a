"""Go's rules for HTTPS_PROXY and NO_PROXY."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from hatchway.kube.envproxy import from_environment

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("url", "no_proxy", "proxied"),
    [
        ("https://k8s.example", "", True),
        ("https://localhost:6443", "", False),
        ("https://127.9.9.9:6443", "", False),
        ("https://[::1]:6443", "", False),
        ("https://k8s.example", "*", False),
        ("https://k8s.example", "other, example", False),
        ("https://k8s.example", "k8s.example", False),
        ("https://myk8s.example", "k8s.example", True),
        ("https://k8s.example", ".k8s.example", True),
        ("https://a.k8s.example", ".k8s.example", False),
        ("https://a.k8s.example", "*.k8s.example", False),
        ("https://k8s.example:6443", "k8s.example:443", True),
        ("https://k8s.example", "k8s.example:443", False),
        ("https://10.1.2.3", "10.0.0.0/8", False),
        ("https://11.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3:6443", "10.1.2.3:6443", False),
        ("https://[fd00::1]", "fd00::/8", False),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", False),
    ],
)
def test_hosts_that_no_proxy_matches(url: str, no_proxy: str, proxied: bool) -> None:
    found = from_environment(urlsplit(url), {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})
    assert found == (PROXY if proxied else "")


def test_the_variable_that_is_used() -> None:
    url = urlsplit("https://x")
    assert from_environment(url, {}) == ""
    assert from_environment(url, {"HTTP_PROXY": PROXY}) == ""
    assert from_environment(urlsplit("http://x"), {"http_proxy": PROXY}) == PROXY
    assert from_environment(url, {"https_proxy": "a:1", "HTTPS_PROXY": "b:2"}) == "http://b:2"
