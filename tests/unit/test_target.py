"""The three spellings of a target are exact inverses of their parsers, whatever the names look like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.target import (
    Target,
    TargetError,
    find_domain,
    format_argument,
    format_door_url,
    format_host_name,
    format_proxy_path,
    join_scheme_name_port,
    parse_argument,
    parse_host_name,
    parse_proxy_path,
    split_scheme_name_port,
)

# Names that look like schemes, ports, escapes or kinds.
TRICKY = ["http", "https", "80", "svc", "pod", "node", "a--b", "a---b", "port--https", "a-b", "localhost", "proxy"]
label = st.from_regex(r"[a-z0-9](-{0,3}[a-z0-9]){0,12}", fullmatch=True) | st.sampled_from(TRICKY)
dotted = st.lists(label, min_size=1, max_size=3).map(".".join).filter(lambda name: len(name) < 40)
port = (
    st.just("")
    | st.integers(1, 65535).map(str)
    | st.from_regex(r"[a-z](-?[a-z0-9]){0,13}", fullmatch=True)
    | st.sampled_from(["http", "https", "port", "p"])
)
scheme = st.sampled_from(["", "http", "https"])


@st.composite
def targets(draw: st.DrawFn) -> Target:
    kind = draw(st.sampled_from(["services", "pods", "nodes"]))
    name = draw(label if kind == "services" else dotted)
    return Target(kind, name, "" if kind == "nodes" else draw(label), draw(scheme), draw(port))


@given(targets())
def test_host_name_round_trip(target: Target) -> None:
    assert parse_host_name(format_host_name(target)) == target
    assert parse_host_name(format_host_name(target, "example.test"), "example.test") == target


@given(targets(), st.sampled_from(["localhost", "example.test", "door.dev.example.com"]))
def test_the_domain_of_a_host_name(target: Target, domain: str) -> None:
    host = format_host_name(target, domain)
    found = find_domain(host)
    # If a name looks like a kind, the host name is ambiguous, and the result is one of the possible targets.
    assert host.endswith("." + found)
    if not {"svc", "pod", "node"} & {target.name, target.namespace, target.port}:
        assert (found, parse_host_name(host, found)) == (domain, target)


def test_a_url_at_the_door() -> None:
    target = Target("services", "web", "x", "", "8080")
    assert format_door_url(target) == "http://8080.web.x.svc.localhost:8001/"
    assert format_door_url(target, "/a?b", port=80, domain="d.test") == "http://8080.web.x.svc.d.test/a?b"
    with pytest.raises(TargetError):
        find_domain("www.example.com")


@given(targets(), st.sampled_from(["", "/", "/a/b?", "/%2F//..", "/proxy/x"]))
def test_proxy_path_round_trip(target: Target, rest: str) -> None:
    parsed = parse_proxy_path(format_proxy_path(target, rest))
    assert (parsed.target, parsed.rest) == (target, rest)
    assert parsed.raw_name == join_scheme_name_port(target.scheme, target.name, target.port)


@given(targets())
def test_argument_round_trip(target: Target) -> None:
    assert parse_argument(format_argument(target), target.namespace) == target


@given(st.text(alphabet="ab:https/%.-", max_size=12))
def test_split_and_join_are_inverses(raw: str) -> None:
    try:
        parts = split_scheme_name_port(raw)
    except TargetError:
        return
    assert split_scheme_name_port(join_scheme_name_port(*parts)) == parts


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        ("web", ("", "web", "")),
        ("web:http", ("", "web", "http")),
        ("web:", ("", "web", "")),
        ("https:web:", ("https", "web", "")),
        ("https:web", ("", "https", "web")),
        (":web:80", ("", "web", "80")),
    ],
)
def test_name_forms(raw: str, parts: tuple[str, str, str]) -> None:
    assert split_scheme_name_port(raw) == parts


@pytest.mark.parametrize("raw", ["", ":http", "ftp:web:80", "a:b:c:d", "https::443", "::"])
def test_bad_names(raw: str) -> None:
    with pytest.raises(TargetError):
        split_scheme_name_port(raw)


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("grafana.monitoring.svc.localhost", Target("services", "grafana", "monitoring")),
        ("HTTPS.443.web.default.SVC.localhost.", Target("services", "web", "default", "https", "443")),
        ("https.web.default.svc.localhost", Target("services", "web", "default", "https")),
        ("port--https.web.default.svc.localhost", Target("services", "web", "default", "", "https")),
        ("8080.web-0--a.x.pod.localhost", Target("pods", "web-0.a", "x", "", "8080")),
        ("n1--example--com.node.localhost", Target("nodes", "n1.example.com")),
    ],
)
def test_host_names(host: str, target: Target) -> None:
    assert parse_host_name(host) == target


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "svc.localhost",
        "web.svc.localhost",
        "a.b.c.d.e.svc.localhost",
        "x.y.what.localhost",
        "a..b.svc.localhost",
        "web.x.svc.example.com",
    ],
)
def test_host_names_that_name_no_target(host: str) -> None:
    with pytest.raises(TargetError):
        parse_host_name(host)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v1/namespaces/x/services/web",
        "/api/v1/namespaces/x/services/web/proxyx",
        "/api/v1/nodes/proxy",
        "/apis/v1/namespaces/x/pods/p/proxy/",
    ],
)
def test_paths_that_are_no_proxy_paths(path: str) -> None:
    with pytest.raises(TargetError):
        parse_proxy_path(path)


def test_the_error_about_a_name_too_long_for_a_host_name_has_a_hint() -> None:
    with pytest.raises(TargetError) as caught:
        format_host_name(Target("pods", "x" * 64, "default"))
    assert "/api/v1/namespaces/default/pods/" in caught.value.hint


@pytest.mark.parametrize(
    "bad", [("services", "a/b", "x"), ("services", "..", "x"), ("pods", "p", ""), ("nodes", "n", "x")]
)
def test_invalid_targets(bad: tuple[str, str, str]) -> None:
    with pytest.raises(TargetError):
        Target(*bad)  # type: ignore[arg-type]
