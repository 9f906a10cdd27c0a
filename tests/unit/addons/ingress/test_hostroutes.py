"""Which backend serves a host and a path."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.addons.ingress import hostroutes
from hatchway.addons.ingress.hostroutes import RouteTable, wildcard_of
from hatchway.addons.ingress.ingressrules import IngressBackend, canonical_path, class_of, parse_ingress

Json = dict[str, Any]


def path(text: str, service: str, kind: str = "Prefix") -> Json:
    return {"path": text, "pathType": kind, "backend": {"service": {"name": service, "port": {"number": 80}}}}


def ingress(
    name: str, *rules: tuple[str, list[Json]], default: str = "", created: str = "2026-01-01T00:00:00Z", **spec: Any
) -> Json:
    made: Json = {"rules": [{"host": host, "http": {"paths": paths}} for host, paths in rules], **spec}
    if default:
        made["defaultBackend"] = {"service": {"name": default, "port": {"number": 80}}}
    return {"metadata": {"name": name, "namespace": "ns", "uid": name, "creationTimestamp": created}, "spec": made}


def table(*ingresses: Json) -> RouteTable:
    made = RouteTable()
    for one in sorted(map(parse_ingress, ingresses), key=lambda one: one.age):
        made.add(one)
    return made


def found(routes: RouteTable, host: str, text: str) -> str:
    backend = routes.find(host, text.encode())
    return backend.service if backend is not None else ""


# The examples of the documentation of Ingresses ("Examples" of path types), and some more.
@pytest.mark.parametrize(
    ("kind", "rule", "request_path", "expected"),
    [
        ("Prefix", "/", "/any/path", True),
        ("Exact", "/foo", "/foo", True),
        ("Exact", "/foo", "/bar", False),
        ("Exact", "/foo", "/foo/", False),
        ("Exact", "/foo/", "/foo", False),
        ("Prefix", "/foo", "/foo", True),
        ("Prefix", "/foo", "/foo/", True),
        ("Prefix", "/foo/", "/foo", True),
        ("Prefix", "/foo/", "/foo/", True),
        ("Prefix", "/aaa/bb", "/aaa/bbb", False),
        ("Prefix", "/aaa/bbb", "/aaa/bbb", True),
        ("Prefix", "/aaa/bbb/", "/aaa/bbb", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbb/", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbb/ccc", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbbxyz", False),
        ("Prefix", "/Foo", "/foo", False),
        ("Prefix", "/a b", "/a%20b/c", True),
        ("Prefix", "/a/b", "/a%2Fb", False),
        ("Exact", "/admin", "/%61dmin", True),
        ("ImplementationSpecific", "/foo", "/foo/bar", True),
        ("ImplementationSpecific", "", "/bar", True),
    ],
)
def test_paths(kind: str, rule: str, request_path: str, expected: bool) -> None:
    routes = table(ingress("a", ("", [path(rule, "s", kind)])))
    assert found(routes, "any.example", request_path) == ("s" if expected else "")


def test_longest_path_first_and_exact_before_prefix() -> None:
    paths = [
        path("/", "root"),
        path("/a", "a"),
        path("/a/b", "exact", "Exact"),
        path("/a/b", "ab"),
        path("/a/b/c", "abc"),
    ]
    routes = table(ingress("a", ("x.example", paths)))
    wanted = {"/": "root", "/ab": "root", "/a": "a", "/a/x": "a", "/a/b": "exact", "/a/b/": "ab", "/a/b/c/d": "abc"}
    assert {text: found(routes, "x.example", text) for text in wanted} == wanted


def test_hosts() -> None:
    routes = table(
        ingress(
            "a",
            ("a.example", [path("/a", "exact")]),
            ("*.example", [path("/", "wildcard")]),
            ("", [path("/", "all")]),
        )
    )
    assert found(routes, "a.example", "/a") == "exact"
    # If no rule for the request's host matches, the wildcard's rules are tried, then the rules without a host.
    assert found(routes, "a.example", "/other") == "wildcard"
    assert found(routes, "b.example", "/") == "wildcard"
    # A wildcard matches one label.
    assert found(routes, "b.a.example", "/") == found(routes, "example", "/") == found(routes, "", "/") == "all"


def test_default_backends() -> None:
    routes = table(
        ingress("a", ("a.example", [path("/a", "a")]), default="of-a"),
        ingress("b", ("b.example", [path("/b", "b")])),
    )
    assert found(routes, "a.example", "/x") == found(routes, "c.example", "/") == "of-a"
    routes = table(
        ingress("a", ("a.example", [path("/a", "a")]), default="of-a"),
        ingress("z", default="everything", created="2026-02-01T00:00:00Z"),
    )
    assert found(routes, "a.example", "/x") == "of-a"
    assert found(routes, "c.example", "/") == "everything"


def test_older_ingress_wins_and_conflicts_are_reported() -> None:
    new = ingress("new", ("x.example", [path("/", "new"), path("/a/", "new"), path("/b", "new")]), created="2026-02-01")
    old = ingress("old", ("X.example", [path("/", "old"), path("/a", "old"), path("/b", "old", "Exact")]))
    routes = table(new, old)
    assert [found(routes, "x.example", text) for text in ("/", "/a", "/b", "/b/c")] == ["old", "old", "old", "new"]
    conflict = routes.conflicts.pop(("ns", "new"))
    assert (conflict.count, conflict.rule, conflict.winner) == (2, "x.example/", ("ns", "old"))
    assert not routes.conflicts


def test_repeated_path_of_one_ingress_is_no_conflict() -> None:
    routes = table(ingress("a", ("x.example", [path("/", "first"), path("/", "second")])))
    assert found(routes, "x.example", "/") == "first"
    assert not routes.conflicts


def test_rules_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostroutes, "MAX_RULES", 3)
    many = [path(f"/{index}", "s") for index in range(5)]
    routes = table(ingress("old", ("", many[:2])), ingress("new", ("", many[2:]), created="2026-02-01"))
    assert routes.rules == 3
    assert routes.cut == {("ns", "new")}


def test_path_that_is_too_long_is_ignored() -> None:
    parsed = parse_ingress(ingress("a", ("", [path("/" + "a" * 5000, "s"), path("/b", "s")])))
    assert (len(parsed.rules), parsed.ignored) == (1, 1)


def test_backends_that_are_not_services() -> None:
    bucket = {"path": "/", "pathType": "Prefix", "backend": {"resource": {"kind": "Bucket", "name": "b"}}}
    assert table(ingress("a", ("", [bucket]))).find("", b"/") == IngressBackend("ns", "", 0)


def test_hosts_of_certificates() -> None:
    parsed = parse_ingress(
        ingress("a", ("A.example", []), ("", []), tls=[{"secretName": "s"}, {"hosts": ["*.B.example"]}])
    )
    assert parsed.tls == ((("a.example",), "s"), (("*.b.example",), ""))


def test_class() -> None:
    assert class_of({"metadata": {}, "spec": {"ingressClassName": "a"}}) == "a"
    assert class_of({"metadata": {"annotations": {"kubernetes.io/ingress.class": "b"}}, "spec": {}}) == "b"
    assert class_of({"metadata": {}}) == ""


def test_wildcards() -> None:
    assert [wildcard_of(host) for host in ("a.b.c", "b", "", "a.")] == ["*.b.c", "*", "*", "*"]


@given(st.binary(max_size=40))
def test_canonical_path_of_a_canonical_path_is_the_same(raw: bytes) -> None:
    once = canonical_path(raw)
    if b"%" not in once:
        assert canonical_path(once) == once


_ELEMENTS = st.lists(st.sampled_from(["a", "b", "ab", ""]), max_size=4)
_PATHS = _ELEMENTS.map(lambda elements: "/" + "/".join(elements))


def _matches(rule: str, kind: str, asked: str) -> bool:
    """Compare two paths element by element, as the Ingress API describes it."""
    if kind == "Exact":
        return rule == asked
    wanted, given_ = rule.rstrip("/").split("/"), asked.split("/")
    return given_[: len(wanted)] == wanted


@given(st.lists(st.tuples(_PATHS, st.sampled_from(["Exact", "Prefix"])), max_size=6), _PATHS)
def test_routes_match_as_the_ingress_api_describes(rules: list[tuple[str, str]], asked: str) -> None:
    routes = table(ingress("a", ("", [path(rule, f"{kind}:{rule}", kind) for rule, kind in rules])))
    best = [
        (len(rule.rstrip("/").split("/")) if kind == "Prefix" else 100, -index, f"{kind}:{rule}")
        for index, (rule, kind) in enumerate(rules)
        if _matches(rule, kind, asked)
    ]
    assert found(routes, "h", asked) == (max(best)[2] if best else "")


def test_hostile_paths_cost_little() -> None:
    deep = "/" + "/".join("a" * 1 for _ in range(2000))
    routes = table(ingress("a", ("", [path(deep, "deep"), path("/x", "x")])))
    asked = b"/" + b"%2e/" * 16000
    began = time.process_time()
    for _ in range(20):
        assert routes.find("h", asked) is None
    # A quadratic search would take minutes.
    assert time.process_time() - began < 5
