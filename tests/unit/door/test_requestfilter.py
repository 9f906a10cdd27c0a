"""The filter of requests that `kubectl proxy` has."""

from __future__ import annotations

import pytest

from hatchway.door import requestfilter
from hatchway.door.clean import cleaned
from hatchway.door.dooroptions import default_filter
from hatchway.errors import HatchwayError


@pytest.mark.parametrize(
    ("host", "accepted"),
    [
        (b"localhost", True),
        (b"localhost:8001", True),
        (b"LOCALHOST:1", True),
        (b"127.0.0.1:8001", True),
        (b"[::1]", True),
        (b"[::1]:8001", True),
        (b"", False),
        (b"localhost.", False),
        (b"evil.example", False),
        (b"localhost.evil.example:8001", False),
        (b"127.0.0.1.evil.example", False),
        (b"[::2]:8001", False),
        (b"127.0.0.2", False),
        (b"localhost:", True),
        (b"localhost:evil", False),
        (b"localhost:80:80", False),
        (b"user@localhost:8001", False),
        (b"localhost :8001", False),
        (b"[localhost]:8001", False),
        (b"[::1].evil.example:8001", False),
        (b"[::1]8001", False),
        (b"[::1]:evil", False),
        (b"[::1", False),
        (b"::1", False),
    ],
)
def test_hosts(host: bytes, accepted: bool) -> None:
    assert default_filter().accepts_host(host) is accepted


@pytest.mark.parametrize(
    ("path", "accepted"),
    [
        (b"/", True),
        (b"/api/v1/namespaces/n/pods/p/exec", False),
        (b"/api/v1/namespaces/n/pods/p/%65xec", False),
        (b"/api/v1/namespaces/n/pods/p/attach", False),
        (b"/api/v1/namespaces/n/pods/p/portforward", True),
        (b"/apis/x/pods/p/exec", True),
        (b"/api/v1/\xff/pods/x/exec", False),
    ],
)
def test_paths(path: bytes, accepted: bool) -> None:
    assert default_filter().accepts("GET", path) is accepted


def test_lists_and_empty_values() -> None:
    def made(**changed: str) -> requestfilter.RequestFilter:
        values = {
            "accept_paths": requestfilter.ACCEPT_PATHS,
            "reject_paths": requestfilter.REJECT_PATHS,
            "accept_hosts": requestfilter.ACCEPT_HOSTS,
            "reject_methods": requestfilter.REJECT_METHODS,
        }
        return requestfilter.RequestFilter.of(**{**values, **changed})

    assert not made(accept_hosts="").accepts_host(b"localhost")
    assert not made(accept_paths="").accepts("GET", b"/")
    assert made(reject_paths="").accepts("GET", b"/api/v1/pods/p/exec")
    assert not made(reject_methods="POST,PUT").accepts("POSTX", b"/")
    assert made(reject_methods="POST,PUT").accepts("GET", b"/")
    assert made(accept_hosts="localhost").accepts_host(b"xlocalhostx")
    with pytest.raises(HatchwayError, match=r'--accept-hosts: "\(" is not a regular expression'):
        made(accept_hosts="a,(")


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        (b"/", b"/"),
        (b"/a/b/", b"/a/b/"),
        (b"/a//b", b"/a/b"),
        (b"//a/./b/../c/", b"/a/c/"),
        (b"/..", b"/"),
        (b"/../../x", b"/x"),
        (b"/a/..", b"/"),
        (b"/.well-known/x", b"/.well-known/x"),
        (b"/%2e%2e/x", b"/%2e%2e/x"),
    ],
)
def test_paths_are_cleaned_as_go_does(path: bytes, clean: bytes) -> None:
    assert cleaned(path) == clean
