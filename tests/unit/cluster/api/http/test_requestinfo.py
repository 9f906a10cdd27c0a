"""The parts of a request's path: the table of apiserver's `requestinfo_test.go`, spellings of names, hostile paths."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api.http.requestinfo import parse
from hatchway.errors import ApiError

# method, target, verb, prefix, group, version, namespace, resource, subresource, name
RESOURCES = [
    ("GET", "/api/v1/namespaces", "list", "api", "", "v1", "", "namespaces", "", ""),
    ("GET", "/api/v1/namespaces/other", "get", "api", "", "v1", "other", "namespaces", "", "other"),
    ("GET", "/api/v1/namespaces/other/pods", "list", "api", "", "v1", "other", "pods", "", ""),
    ("GET", "/api/v1/namespaces/other/pods/", "list", "api", "", "v1", "other", "pods", "", ""),
    ("GET", "/api/v1/namespaces/other/pods/foo", "get", "api", "", "v1", "other", "pods", "", "foo"),
    ("HEAD", "/api/v1/namespaces/other/pods/foo", "get", "api", "", "v1", "other", "pods", "", "foo"),
    ("GET", "/api/v1/pods", "list", "api", "", "v1", "", "pods", "", ""),
    ("POST", "/api/v1/pods", "create", "api", "", "v1", "", "pods", "", ""),
    ("OPTIONS", "/api/v1/pods", "", "api", "", "v1", "", "pods", "", ""),
    ("DELETE", "/api/v1/namespaces/other/pods/foo", "delete", "api", "", "v1", "other", "pods", "", "foo"),
    ("DELETE", "/api/v1/namespaces/other/pods", "deletecollection", "api", "", "v1", "other", "pods", "", ""),
    ("PUT", "/api/v1/namespaces/other/finalize", "update", "api", "", "v1", "other", "namespaces", "finalize", "other"),
    ("PUT", "/api/v1/namespaces/other/status", "update", "api", "", "v1", "other", "namespaces", "status", "other"),
    ("GET", "/api/v1/namespaces/other/pods/foo/log", "get", "api", "", "v1", "other", "pods", "log", "foo"),
    ("GET", "/api/v1/watch/pods", "watch", "api", "", "v1", "", "pods", "", ""),
    ("GET", "/api/v1/watch/namespaces/other/pods", "watch", "api", "", "v1", "other", "pods", "", ""),
    ("GET", "/api/v1/proxy/namespaces/other/pods/foo", "proxy", "api", "", "v1", "other", "pods", "", "foo"),
    ("GET", "/api/v1/namespaces/other/pods?watch=true", "watch", "api", "", "v1", "other", "pods", "", ""),
    ("GET", "/api/v1/namespaces/other/pods?watch=1", "watch", "api", "", "v1", "other", "pods", "", ""),
    ("GET", "/api/v1/namespaces/other/pods?watch=false", "list", "api", "", "v1", "other", "pods", "", ""),
    ("GET", "/api/v1/namespaces/other/pods?watch=", "watch", "api", "", "v1", "other", "pods", "", ""),
    ("GET", "/api/v1/namespaces/other/pods?watch=0&watch=1", "list", "api", "", "v1", "other", "pods", "", ""),
    ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dfoo", "list", "api", "", "v1", "", "pods", "", "foo"),
    ("GET", "/api/v1/pods?fieldSelector=metadata.name!%3Dfoo", "list", "api", "", "v1", "", "pods", "", ""),
    ("PATCH", "/apis/apps/v1/namespaces/n/deployments/d", "patch", "apis", "apps", "v1", "n", "deployments", "", "d"),
    ("PUT", "/apis/apps/v1/namespaces/n/deployments/d/scale", "update", "apis", "apps", "v1", "n", "deployments", "scale", "d"),
    ("GET", "/api/v1/namespaces/n/services/https:web:/proxy/", "get", "api", "", "v1", "n", "services", "proxy", "https:web:"),
    ("POST", "/api/v1/namespaces/n/services/web-named%3Ahttp/proxy", "create", "api", "", "v1", "n", "services", "proxy", "web-named:http"),
    ("GET", "/api/v1/nodes/node-1/proxy/metrics", "get", "api", "", "v1", "", "nodes", "proxy", "node-1"),
    ("GET", "/api/v1/namespaces/a%2Fsecrets", "get", "api", "", "v1", "a/secrets", "namespaces", "", "a/secrets"),
]  # fmt: skip


@pytest.mark.parametrize("case", RESOURCES, ids=[f"{one[0]} {one[1]}" for one in RESOURCES])
def test_resources(case: tuple[str, ...]) -> None:
    method, target, *wanted = case
    path, _, query = target.partition("?")
    info = parse(method, path.encode(), query.encode() if query else None)
    assert info.is_resource
    got = [
        info.verb,
        info.api_prefix,
        info.api_group,
        info.api_version,
        info.namespace,
        info.resource,
        info.subresource,
    ]
    assert [*got, info.name] == wanted


@pytest.mark.parametrize(
    "path", ["/", "", "/healthz", "/version", "/api", "/api/v1", "/apis/apps/v1", "/apis", "/nope/a/b/c"]
)
def test_non_resources(path: str) -> None:
    info = parse("GET", path)
    assert (info.is_resource, info.verb, info.path) == (False, "get", path)


@pytest.mark.parametrize(
    ("path", "prefix", "rest"),
    [
        ("/api/v1/namespaces/n/services/web/proxy", "/api/v1/namespaces/n/services/web/proxy", ""),
        ("/api/v1/namespaces/n/services/web/proxy/", "/api/v1/namespaces/n/services/web/proxy", "/"),
        ("/api/v1/namespaces/n/services/w%3A8/proxy/a%2Fb//c/../d%20!", "/api/v1/namespaces/n/services/w%3A8/proxy", "/a%2Fb//c/../d%20!"),
        ("/api/v1/nodes/x/proxy//", "/api/v1/nodes/x/proxy", "//"),
        ("/api/v1/namespaces/n/pods/p/proxy/%FF", "/api/v1/namespaces/n/pods/p/proxy", "/%FF"),
    ],
)  # fmt: skip
def test_paths_behind_proxy_are_not_changed(path: str, prefix: str, rest: str) -> None:
    info = parse("GET", path.encode())
    assert info.subresource == "proxy"
    assert (info.prefix, info.rest) == (prefix.encode(), rest.encode())


@pytest.mark.parametrize(
    "path", [b"/api/v1/%zz", b"/a%", b"/api/v1/pods/%00", b"/x\x00", b"/api/v1/namespaces/%ff/pods", b"/api/v1/watch"]
)
def test_malformed_paths_are_refused(path: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse("GET", path)
    assert caught.value.code == 400


@given(st.text(min_size=1).filter(lambda name: "\0" not in name and name.encode("utf-8", "ignore").decode() == name))
def test_names_are_decoded_once(name: str) -> None:
    info = parse("GET", f"/api/v1/namespaces/ns/services/{quote(name, safe='')}/proxy/x".encode())
    assert (info.name, info.rest) == (name, b"/x")


@given(st.sampled_from(["GET", "POST", "DELETE", "BREW"]), st.binary(max_size=60), st.binary(max_size=30))
def test_parsing_raises_no_other_exception_than_api_error(method: str, tail: bytes, query: bytes) -> None:
    for head in (b"/", b"/api/v1/", b"/apis/apps/v1/namespaces/"):
        try:
            parse(method, head + tail, query)
        except ApiError as error:
            assert error.code == 400
