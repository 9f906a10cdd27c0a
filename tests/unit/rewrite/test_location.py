from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.rewrite.cookies import rewrite_set_cookie
from hatchway.rewrite.location import collapse_path, rewrite_as_go, rewrite_location

PREFIX = b"/api/v1/namespaces/default/services/web:http/proxy"


def rewritten(value: bytes) -> bytes:
    return rewrite_location(value, prefix=PREFIX, request_host=b"127.0.0.1:6443", endpoint_host=b"10.244.1.3:8080")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"/target", PREFIX + b"/target"),
        (b"/", PREFIX + b"/"),
        (b"/a/", PREFIX + b"/a/"),
        (b"/a?to=/b#/c", PREFIX + b"/a?to=/b#/c"),
        (b"/a//b", PREFIX + b"/a/b"),
        (b"/a%2Fb%20c", PREFIX + b"/a%2Fb%20c"),
        (b"/../../x", PREFIX + b"/x"),
        (b"/%2e%2E/x", PREFIX + b"/x"),
        (b"http://10.244.1.3:8080/x?y", PREFIX + b"/x?y"),
        (b"http://127.0.0.1:6443/x", b"http://127.0.0.1:6443" + PREFIX + b"/x"),
        (b"https://127.0.0.1:6443/x", b"https://127.0.0.1:6443" + PREFIX + b"/x"),
        (b"//127.0.0.1:6443/x", b"//127.0.0.1:6443" + PREFIX + b"/x"),
        (b"HTTP://127.0.0.1:6443/x", b"HTTP://127.0.0.1:6443" + PREFIX + b"/x"),
    ],
)
def test_locations_that_get_the_prefix(value: bytes, expected: bytes) -> None:
    assert rewritten(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"target",
        b"../up",
        b"?q=/x",
        b"#top",
        b"::bad",
        b"http://example.com/x",
        b"//example.com/x",
        b"http://10.244.1.3:8081/x",
        b"http://127.0.0.1:6443",
        b"http://127.0.0.1:6443?x",
        b"http://user@127.0.0.1:6443/x",
        b"mailto:a@b",
        b"javascript:/x/.test(y)",
        b"file:///etc/passwd",
        b"data:text/html,/x",
        b"/a\r\nb",
        PREFIX + b"/x",
        PREFIX,
    ],
)
def test_locations_that_are_not_changed(value: bytes) -> None:
    assert rewritten(value) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"/a%2Fb c!?x=%2F#y", PREFIX + b"/a/b%20c%21?x=%2F#y"),
        (b"/../../x/", PREFIX + b"/x/"),
        (b"/%252e%252e/x", PREFIX + b"/%252e%252e/x"),
        (b"HTTPS://127.0.0.1:6443/x", b"https://127.0.0.1:6443" + PREFIX + b"/x"),
        (b"http://10.244.1.3:8080/x?y", PREFIX + b"/x?y"),
        (b"http://10.244.1.3:8080" + PREFIX + b"/x", PREFIX + b"/x"),
        (b"http://example.com/a b", b"http://example.com/a%20b"),
        (b"HTTP://example.com", b"http://example.com"),
        (b"target page", b"target%20page"),
        (b"../up", b"../up"),
        (b"mailto:a@b", b"mailto:a@b"),
        (b"javascript:/x", b"javascript:/x"),
        (b"//example.com/x", b"//example.com/x"),
    ],
)
def test_locations_are_formatted_as_in_go(value: bytes, expected: bytes) -> None:
    found = rewrite_as_go(value, prefix=PREFIX, request_host=b"127.0.0.1:6443", endpoint_host=b"10.244.1.3:8080")
    assert found == expected


def test_only_the_address_is_removed_if_the_prefix_is_there() -> None:
    assert rewritten(b"http://10.244.1.3:8080" + PREFIX + b"/x") == PREFIX + b"/x"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"", b"/"),
        (b"/", b"/"),
        (b"//", b"/"),
        (b"/a", b"/a"),
        (b"/a/", b"/a/"),
        (b"/a//b///c", b"/a/b/c"),
        (b"/a/../b", b"/b"),
        (b"/a/%2e%2e/b", b"/b"),
        (b"/a/.%2E/b/", b"/b/"),
        (b"/../../..", b"/"),
        (b"/a/..", b"/"),
        (b"/a/../", b"/"),
        (b"/a/b/.", b"/a/b"),
        (b"/a/./b", b"/a/b"),
        (b"/.hidden/..x", b"/.hidden/..x"),
        (b"/a%2F..%2Fb", b"/a%2F..%2Fb"),
        (b"/a%2f%2e%2e/", b"/a%2f%2e%2e/"),
    ],
)
def test_collapse(path: bytes, expected: bytes) -> None:
    assert collapse_path(path) == expected


@given(st.lists(st.sampled_from([b"/", b".", b"..", b"%2e", b"%2E%2e", b"a", b"%2f", b"~"]), max_size=12).map(b"".join))
def test_collapsed_paths_are_stable_and_below_the_root(path: bytes) -> None:
    collapsed = collapse_path(path)
    assert collapse_path(collapsed) == collapsed
    segments = collapsed.lower().replace(b"%2e", b".").split(b"/")
    assert collapsed.startswith(b"/")
    assert not {b".", b".."} & set(segments)
    assert b"//" not in collapsed


@given(st.binary(max_size=60).map(lambda tail: b"/" + tail))
def test_a_second_rewriting_changes_nothing(value: bytes) -> None:
    once = rewritten(value)
    assert rewritten(once) == once


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a=1; Path=/", b"a=1; Path=" + PREFIX),
        (b"a=1; path=/ ; HttpOnly", b"a=1; path=" + PREFIX + b"; HttpOnly"),
        (b"b=2; Path=/x; HttpOnly", b"b=2; Path=" + PREFIX + b"/x; HttpOnly"),
        (b"b=2;path = /x;Secure", b"b=2;path = " + PREFIX + b"/x;Secure"),
        (b"a=1", b"a=1"),
        (b"a=path=/x", b"a=path=/x"),
        (b"a=1; Path=relative", b"a=1; Path=relative"),
        (b"a=1; Path=" + PREFIX + b"/y", b"a=1; Path=" + PREFIX + b"/y"),
        (b"a=1; Path=" + PREFIX, b"a=1; Path=" + PREFIX),
        (b"a=1; Path=" + PREFIX + b"2", b"a=1; Path=" + PREFIX + PREFIX + b"2"),
        (b"a=1; Domain=x.example; Path=/y", b"a=1; Path=" + PREFIX + b"/y"),
        (b"__Host-a=1; Secure; Path=/", b"__Hatchway-Host-a=1; Secure; Path=" + PREFIX),
    ],
)
def test_cookie_paths(value: bytes, expected: bytes) -> None:
    assert rewrite_set_cookie(value, prefix=PREFIX) == expected
