from __future__ import annotations

import gc
import gzip
import json
import socket
import ssl
from typing import Any

import pytest

from hatchway.cluster.api.connect.handler import ConnectRequest
from hatchway.cluster.api.connect.podlog import PodLog
from hatchway.cluster.api.connect.proxyverb import Prepared, ProxyVerb
from hatchway.cluster.api.connect.resourcelocation import Locator
from hatchway.kube.http import HttpClient
from hatchway.proxy.routing import (
    App,
    Decision,
    Forward,
    Headers,
    Peer,
    ProxyError,
    RequestHead,
    Respond,
    ResponseHead,
    Upstream,
)
from tests.conformance.cluster import FakeCluster, decide, endpoint, recorded_cluster

B10, B11, NODE_IP = "10.244.1.10", "10.244.1.11", "172.18.0.3"


async def no_dial(address: str, port: int) -> socket.socket:
    raise AssertionError(f"dialed {address}:{port}")


@pytest.fixture
def cluster() -> FakeCluster:
    return recorded_cluster(B10, B11, NODE_IP, "10.244.1.0/24", 10250)


def verb_of(cluster: FakeCluster, **options: Any) -> ProxyVerb:
    return ProxyVerb(locator_of(cluster, options.pop("allow_loopback_pods", False)), **options)


def locator_of(cluster: FakeCluster, allow_loopback_pods: bool = False) -> Locator:
    return Locator(
        lookup=cluster,
        dial=no_dial,
        kubelet_tls=ssl.create_default_context(),
        allow_loopback_pods=allow_loopback_pods,
    )


def request(
    verb: ProxyVerb,
    name: str,
    path: str | bytes = b"/",
    *,
    method: str = "GET",
    query: bytes | None = None,
    headers: Headers | None = None,
    upgrade: bytes | None = None,
    resource: str = "services",
    namespace: str = "default",
) -> Decision:
    path = path.encode() if isinstance(path, str) else path
    where = b"" if resource == "nodes" else b"/namespaces/" + namespace.encode()
    prefix = b"/api/v1" + where + b"/" + resource.encode() + b"/" + name.encode() + b"/proxy"
    target = prefix + path + (b"?" + query if query is not None else b"")
    head = RequestHead(
        method,
        target,
        prefix + path,
        query,
        headers or [(b"Host", b"api:6443")],
        "1.1",
        Peer(("192.0.2.7", 5), "https"),
        upgrade,
    )
    return decide(
        verb,
        head,
        ConnectRequest(resource, "" if resource == "nodes" else namespace, name, prefix, path, method, query),
    )


def forward(decision: Decision) -> Forward:
    assert isinstance(decision, Forward), decision
    return decision


def dialed(decision: Decision) -> Any:
    return forward(decision).upstream.key


def refused(decision: Decision) -> tuple[int, str, str]:
    assert isinstance(decision, Respond), decision
    status = json.loads(decision.body)
    assert status["code"] == decision.status
    return decision.status, status.get("reason", ""), status["message"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("web-named:http", ("http", B10, 8080)),
        ("http:web-named:80", ("http", B10, 8080)),
        ("web-unnamed", ("http", B10, 8080)),
        ("web-unnamed:", ("http", B10, 8080)),
        ("web-multi:8000", ("http", B10, 8081)),
        ("https:web-multi:https", ("https", B10, 8443)),
        ("https:web-https:443", ("https", B10, 8443)),
    ],
)
def test_names_of_services(cluster: FakeCluster, name: str, key: object) -> None:
    decision = forward(request(verb_of(cluster), name))
    assert decision.upstream.key == key
    assert (decision.upstream.tls is not None) == (key[0] == "https")  # type: ignore[index]
    if decision.upstream.tls:
        assert decision.upstream.tls.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("resource", "name", "expected"),
    [
        ("services", "web-named", (503, "ServiceUnavailable", 'no endpoints available for service "web-named"')),
        (
            "services",
            "web-notready:http",
            (503, "ServiceUnavailable", 'no endpoints available for service "web-notready:http"'),
        ),
        (
            "services",
            "web-noref:http",
            (503, "ServiceUnavailable", 'no endpoints available for service "web-noref:http"'),
        ),
        ("services", "web-named:81", (503, "ServiceUnavailable", 'no service port 81 found for service "web-named"')),
        ("services", "missing:81", (404, "NotFound", 'services "missing" not found')),
        ("services", "ftp:web-named:http", (400, "BadRequest", 'invalid service request "ftp:web-named:http"')),
        ("services", "a:b:c:d", (400, "BadRequest", 'invalid service request "a:b:c:d"')),
        ("services", ":http", (400, "BadRequest", 'invalid service request ":http"')),
        ("pods", "a:b:c:d", (400, "BadRequest", 'invalid pod request "a:b:c:d"')),
        ("pods", "missing:1", (404, "NotFound", 'pods "missing" not found')),
        (
            "pods",
            "b10:99999",
            (503, "ServiceUnavailable", "error trying to reach service: dial tcp: address 99999: invalid port"),
        ),
        (
            "pods",
            "b10:nope",
            (503, "ServiceUnavailable", "error trying to reach service: dial tcp: lookup tcp/nope: unknown port"),
        ),
        ("nodes", "a:b:c:d", (400, "BadRequest", 'invalid node request "a:b:c:d"')),
        ("nodes", "missing", (404, "NotFound", 'nodes "missing" not found')),
    ],
)
def test_refusals(cluster: FakeCluster, resource: str, name: str, expected: object) -> None:
    assert refused(request(verb_of(cluster), name, resource=resource)) == expected


def test_pods_and_nodes(cluster: FakeCluster) -> None:
    verb = verb_of(cluster)
    assert dialed(request(verb, "b10:8080", resource="pods")) == ("http", B10, 8080)
    assert dialed(request(verb, "https:b10:", resource="pods")) == ("https", B10, 443)
    assert dialed(request(verb, "b10", resource="pods")) == ("http", B10, 80)
    cluster.add_pod(
        "default", "ported", B11, {"name": "web", "containerPort": 3000}, {"name": "adm", "containerPort": 3001}
    )
    assert dialed(request(verb, "ported", resource="pods")) == ("http", B11, 3000)
    assert dialed(request(verb, "ported:adm", resource="pods")) == ("http", B11, 3001)
    for name in ("node-1", "node-1:10250", "https:node-1:10250", "http:node-1:"):
        kubelet = forward(request(verb, name, resource="nodes")).upstream
        assert kubelet.key == ("kubelet", NODE_IP, 10250)
        assert kubelet.tls is not None and kubelet.server_hostname == NODE_IP
    assert dialed(request(verb, "node-1:9100", resource="nodes")) == ("http", NODE_IP, 9100)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "::1", "fe80::1", "::ffff:127.0.0.1", "x", ""]
)
def test_addresses_that_are_never_dialed(cluster: FakeCluster, address: str) -> None:
    verb = verb_of(cluster)
    cluster.add_pod("default", "bad", address)
    cluster.add_node("bad", address, "10.244.9.0/24")
    cluster.add_service("default", "bad", {"port": 80})
    cluster.add_slice("default", "bad", [{"port": 80}], [endpoint(address, "bad", "default")])
    assert refused(request(verb, "bad", resource="pods")) == (400, "BadRequest", "address not allowed")
    assert refused(request(verb, "bad", resource="nodes")) == (400, "BadRequest", "address not allowed")
    assert refused(request(verb, "bad:9100", resource="nodes")) == (400, "BadRequest", "address not allowed")
    assert refused(request(verb, "bad"))[0] == 503


def test_loopback_addresses_of_pods_in_their_nodes_range() -> None:
    cluster = recorded_cluster("127.65.0.2", "127.65.0.3", "127.64.0.2", "127.65.0.0/24", 10250)
    verb = verb_of(cluster, allow_loopback_pods=True)
    assert dialed(request(verb, "b10:8080", resource="pods")) == ("http", "127.65.0.2", 8080)
    assert dialed(request(verb, "web-unnamed")) == ("http", "127.65.0.2", 8080)
    assert dialed(request(verb, "node-1", resource="nodes")) == ("kubelet", "127.64.0.2", 10250)
    for address, node in (("127.0.0.1", "node-1"), ("127.65.0.9", "no-such-node")):
        cluster.add_pod("default", "bad", address, node=node)
        assert refused(request(verb, "bad", resource="pods"))[0] == 400
    assert refused(request(verb_of(cluster), "b10", resource="pods"))[0] == 400


def test_endpoints_must_have_the_addresses_of_the_pods_that_they_name(cluster: FakeCluster) -> None:
    cluster.add_pod("team-a", "theirs", "10.244.1.99")
    cluster.add_service("default", "forged", {"port": 80})
    cluster.add_slice(
        "default", "forged", [{"port": 80}],
        [
            endpoint("10.244.1.99", "theirs", "team-a"),
            endpoint("10.244.1.99", "b10", "default"),
            endpoint("10.244.1.99", "gone", "default"),
            endpoint("10.96.0.1", "", "default"),
        ],
    )  # fmt: skip
    assert refused(request(verb_of(cluster), "forged"))[0] == 503


def test_primary_family_first(cluster: FakeCluster) -> None:
    cluster.add_service("default", "dual", {"port": 80}, ipFamilies=["IPv6", "IPv4"])
    cluster.add_pod("default", "six", B10)
    cluster.objects[("pods", "default", "six")]["status"]["podIPs"].append({"ip": "fd00::5"})
    cluster.add_slice("default", "dual", [{"port": 80}], [endpoint(B10, "six", "default")])
    verb = verb_of(cluster)
    assert dialed(request(verb, "dual")) == ("http", B10, 80)
    cluster.add_slice("default", "dual", [{"port": 80}], [endpoint("fd00::5", "six", "default")], addressType="IPv6")
    assert dialed(request(verb, "dual")) == ("http", "fd00::5", 80)


def test_decisions_are_cached_until_objects_change(cluster: FakeCluster) -> None:
    verb = verb_of(cluster)
    first = forward(request(verb, "web-unnamed")).upstream
    assert forward(request(verb, "web-unnamed")).upstream is first
    cluster.add_pod("default", "b10", "10.244.1.77")
    assert refused(request(verb, "web-unnamed"))[0] == 503
    cluster.slices[("default", "web-unnamed")] = []
    cluster.add_slice("default", "web-unnamed", [{"port": 1}], [endpoint("10.244.1.77", "b10", "default", ready=None)])
    assert dialed(request(verb, "web-unnamed")) == ("http", "10.244.1.77", 1)


def test_every_ready_endpoint_is_chosen_and_tried(cluster: FakeCluster) -> None:
    verb = verb_of(cluster)
    seen = set()
    for _ in range(64):
        decision = forward(request(verb, "web-two:http"))
        assert decision.next_upstream is not None
        second = decision.next_upstream(1)
        assert second is not None and second.next_upstream is not None and second.next_upstream(2) is None
        assert {decision.upstream.key, second.upstream.key} == {("http", B10, 8080), ("http", B11, 8080)}
        seen.add(decision.upstream.key)
    assert len(seen) == 2


def test_a_decision_is_freed_without_the_garbage_collector(cluster: FakeCluster) -> None:
    verb = verb_of(cluster)
    request(verb, "web-two:http")
    gc.collect()
    gc.disable()
    try:
        decision = forward(request(verb, "web-two:http"))
        assert decision.next_upstream is not None and decision.next_upstream(1) is not None
        del decision
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("path", "query", "target"),
    [
        ("/", None, b"/"),
        ("/echo/../x", None, b"/x"),
        ("/echo/%2e%2E/x/", b"", b"/x/"),
        ("/../../../secrets", None, b"/secrets"),
        ("//a//b", None, b"/a/b"),
        ("/a%2Fb/%20!'(*", b"x=1&y=%2F&z=a+b&path=/other", b"/a%2Fb/%20!'(*?x=1&y=%2F&z=a+b&path=/other"),
        ("/echo#frag", None, b"/echo%23frag"),
        ("/x", b"q=%zz", b"/x?q=%zz"),
        ("/x", b"a=dryRun", b"/x?a=dryRun"),
        ("/x", b"dryrun=1&dryRuns=1&a%26dryRun=1&dry%2552un", b"/x?dryrun=1&dryRuns=1&a%26dryRun=1&dry%2552un"),
    ],
)
def test_targets(cluster: FakeCluster, path: str, query: bytes | None, target: bytes) -> None:
    assert forward(request(verb_of(cluster), "web-unnamed", path, query=query)).target == target


@pytest.mark.parametrize("path", ["/%00", "/a%zz", "/%", "/%4", "/\0"])
def test_bad_escapes(cluster: FakeCluster, path: str) -> None:
    assert refused(request(verb_of(cluster), "web-unnamed", path))[:2] == (400, "BadRequest")


KUBERNETES: Headers = [(b"Host", b"h"), (b"X-Hatchway-Rewrite", b"kubernetes")]
EXACT: Headers = [(b"Host", b"h"), (b"X-Hatchway-Path", b"exact")]


@pytest.mark.parametrize(
    ("path", "kubernetes", "otherwise"),
    [
        ("/api%2Fhealth", "/api/health", "/api/health"),
        ("/api%2fhealth%2F", "/api/health/", "/api/health/"),
        ("/%2Fapi%2Fhealth", "/api/health", "/api/health"),
        ("/a%2F..%2F..%2Fb%20c%3Fd", "/b%20c%3Fd", "/b%20c%3Fd"),
        ("/a%252Fb", "/a%252Fb", "/a%252Fb"),
        ("/a%2Fb%252F!", "/a/b%252F%21", "/a/b%252F%21"),
        # A path that also has a literal slash is not decoded, because GitLab's projects and registries' repositories
        # need this.
        ("/projects/group%2Fproject", "/projects/group/project", "/projects/group%2Fproject"),
        ("/api%2Fhealth/", "/api/health/", "/api%2Fhealth/"),
        ("/~!$&'()*,=@:x[]%7e", "/~%21$&%27%28%29%2A,=@:x%5B%5D~", "/~!$&'()*,=@:x[]%7e"),
        ("/%E3%81%82/\xe3\x81\x82", "/%E3%81%82/%C3%A3%C2%81%C2%82", "/%E3%81%82/\xe3\x81\x82"),
        ("/%2e%2e/x", "/x", "/x"),
        ("/a/..", "/", "/"),
        ("//a//", "/a/", "/a/"),
    ],
)
def test_paths_that_the_backend_receives(cluster: FakeCluster, path: str, kubernetes: str, otherwise: str) -> None:
    verb = verb_of(cluster)
    for upgrade in (None, b"websocket"):
        found = forward(request(verb, "web-unnamed", path, headers=KUBERNETES, upgrade=upgrade))
        assert found.target == kubernetes.encode()
    assert forward(request(verb, "web-unnamed", path)).target == otherwise.encode()
    exact = forward(request(verb, "web-unnamed", path, headers=EXACT)).target
    assert exact == (path.encode() if path.startswith("/api%2") or path == "/a%2Fb%252F!" else exact)
    assert b"/../" not in exact + b"/"


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/a%20b", "/proxy/a%20b"),
        ("/%3Fq/", "/proxy/%3Fq/"),
        ("/../secrets", "/secrets"),
        ("/x/..", "/proxy/"),
        ("/%0d%0aA:b/../x", "/proxy/x"),
    ],
)
def test_x_forwarded_uri_with_kubernetes_rewriting(cluster: FakeCluster, path: str, uri: str) -> None:
    found = dict(forward(request(verb_of(cluster), "web-unnamed", path, headers=KUBERNETES)).headers)
    assert found[b"X-Forwarded-Uri"] == b"/api/v1/namespaces/default/services/web-unnamed" + uri.encode()


def test_a_location_that_go_cannot_parse(cluster: FakeCluster) -> None:
    """Kubernetes 1.36 replaces the response by an error; Hatchway's own rewriting leaves the field unchanged."""
    verb = verb_of(cluster)
    for mode, status in ((KUBERNETES, 500), (None, 302)):
        decision = forward(request(verb, "web-unnamed", headers=mode))
        assert decision.edit_response is not None
        head = ResponseHead(302, b"Found", [(b"Location", b"::bad"), (b"Content-Length", b"3")])
        transform = decision.edit_response(head)
        assert head.status == status
        if status == 500:
            assert transform is not None and transform.feed(b"abc") == b""
            body = json.loads(transform.finish())
            message = 'error trying to parse Location header: parse "::bad": missing protocol scheme'
            assert (body["reason"], body["details"]) == ("InternalError", {"causes": [{"message": message}]})


def test_dry_run_and_methods(cluster: FakeCluster) -> None:
    verb = verb_of(cluster)
    for query in (
        b"dryRun=All",
        b"dryRun",
        b"a=1&dryRun&b",
        b"dry%52un=All",
        b"x&%64%72%79%52%75%6e=",
        b"%64ryRu%6E=All",
    ):
        assert refused(request(verb, "a:b:c:d", query=query)) == (400, "BadRequest", "dryRun is not supported")
    expected = (405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    assert refused(request(verb, "web-unnamed", method="TRACE")) == expected
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
        assert dialed(request(verb, "web-unnamed", method=method)) == ("http", B10, 8080)


def test_missing_slash(cluster: FakeCluster) -> None:
    verb = verb_of(cluster)
    prefix = b"/api/v1/namespaces/default/services/web-unnamed/proxy"
    for query, asked in ((None, b""), (b"", b""), (b"a=%20", b"?a=%20")):
        answer = request(verb, "web-unnamed", "", query=query)
        assert isinstance(answer, Respond) and answer.status == 301
        assert (b"Location", prefix + b"/" + asked) in answer.headers
    assert forward(request(verb, "web-unnamed", "", method="POST")).target == b"/"
    assert forward(request(verb, "web-unnamed", "", upgrade=b"websocket", query=b"x=1")).target == b"/?x=1"
    assert refused(request(verb, "missing", ""))[0] == 404
    as_kubernetes = verb_of(cluster, rewriting="kubernetes")
    assert forward(request(as_kubernetes, "web-unnamed", "", method="POST")).target == b"/"
    assert forward(request(as_kubernetes, "web-unnamed", "", method="PUT", query=b"x=1")).target == b"/?x=1"


def test_no_prefix_becomes_a_host_or_a_header_field(cluster: FakeCluster) -> None:
    verb = verb_of(cluster)
    for prefix in (
        b"//api/v1/namespaces/default/services/web-unnamed/proxy",
        b"/api/x%0d%0aA:b/proxy",
        b"/a\"'>%22/proxy",
    ):
        head = RequestHead("GET", prefix, prefix, None, [(b"Host", b"h")], "1.1", Peer(None, "https"))
        answer = decide(verb, head, ConnectRequest("services", "default", "web-unnamed", prefix, b"", "GET", None))
        assert isinstance(answer, Respond)
        location = dict(answer.headers)[b"Location"]
        assert location.startswith(b"/") and not location.startswith(b"//")
        assert not set(location) & set(b"\r\n\"'> ")


def test_request_headers(cluster: FakeCluster) -> None:
    sent: Headers = [
        (b"hOST", b"api:6443"),
        (b"authorization", b"Bearer secret"),
        (b"Proxy-Authorization", b"Basic x"),
        (b"X-Remote-User", b"admin"),
        (b"X-Remote-Extra-Scopes", b"x"),
        (b"Impersonate-User", b"alice"),
        (b"impersonate-extra-a", b"b"),
        (b"X-Forwarded-For", b"1.2.3.4"),
        (b"X-Forwarded-Uri", b"/forged"),
        (b"X-Forwarded-Proto", b"https"),
        (b"User-Agent", b""),
        (b"Cookie", b"a=1"),
        (b"X-Real-IP", b"9.9.9.9"),
    ]  # fmt: skip
    got = forward(request(verb_of(cluster), "web-unnamed", "/a%20b/%0a?", headers=sent)).headers
    assert got == [
        (b"hOST", b"api:6443"),
        (b"X-Forwarded-Proto", b"https"),
        (b"Cookie", b"a=1"),
        (b"X-Real-IP", b"9.9.9.9"),
        (b"X-Forwarded-For", b"1.2.3.4, 192.0.2.7"),
        (b"X-Forwarded-Uri", b"/api/v1/namespaces/default/services/web-unnamed/proxy/a%20b/%0a?"),
    ]


def test_upgrades_are_forwarded_without_the_token_and_without_x_forwarded_uri(cluster: FakeCluster) -> None:
    bearer = b"base64url.bearer.authorization.k8s.io.c2VjcmV0"
    for offered, passed in ((b"chat, %s, v2" % bearer, [b"chat, v2"]), (bearer, []), (b"chat", [b"chat"])):
        decision = request(
            verb_of(cluster), "web-unnamed", "/ws", upgrade=b"websocket",
            headers=[(b"Host", b"h"), (b"Sec-WebSocket-Protocol", offered)],
        )  # fmt: skip
        got = forward(decision).headers
        assert [value for name, value in got if name == b"Sec-WebSocket-Protocol"] == passed
        assert not [name for name, _ in got if name == b"X-Forwarded-Uri"]


@pytest.mark.parametrize(
    ("error", "upgrade", "expected"),
    [
        (
            ProxyError("tls", "not a TLS handshake"),
            False,
            (503, "ServiceUnavailable", "error trying to reach service: not a TLS handshake"),
        ),
        (ProxyError("read", "EOF"), False, (503, "ServiceUnavailable", "error trying to reach service: EOF")),
        (ProxyError("dial", "no"), True, (500, "", f"error dialing backend: dial tcp {B10}:8080: no")),
        (ProxyError("upgrade", "x", 302), True, (500, "", "invalid upgrade response: status code 302")),
    ],
)
def test_errors(cluster: FakeCluster, error: ProxyError, upgrade: bool, expected: object) -> None:
    decision = forward(request(verb_of(cluster), "web-unnamed", "/ws", upgrade=b"websocket" if upgrade else None))
    assert refused(decision.error_response(error)) == expected


def test_a_refused_connection_has_the_error_text_of_go(cluster: FakeCluster) -> None:
    error = ProxyError("dial", "x")
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    answer = forward(request(verb_of(cluster), "web-unnamed")).error_response(error)
    assert refused(answer)[2] == f"error trying to reach service: dial tcp {B10}:8080: connect: connection refused"


def edited(
    cluster: FakeCluster, status: int, headers: Headers, headers_sent: Headers | None = None, **how: Any
) -> tuple[Headers, bytes | None]:
    decision = forward(request(verb_of(cluster), "web-unnamed", headers=headers_sent, **how))
    assert decision.edit_response is not None
    head = ResponseHead(status, b"", headers)
    transform = decision.edit_response(head)
    return head.headers, None if transform is None else transform.feed(b'<a href="/x">') + transform.finish()


PREFIX = b"/api/v1/namespaces/default/services/web-unnamed/proxy"
CACHE = (b"Cache-Control", b"no-cache, private")
HTML = (b"Content-Type", b"Text/HTML ; charset=x")


def test_response_headers(cluster: FakeCluster) -> None:
    headers, body = edited(
        cluster, 302,
        [
            (b"access-control-allow-origin", b"*"),
            (b"Access-Control-Expose-Headers", b"x"),
            (b"Location", b"/x"),
            (b"Set-Cookie", b"a=1; Path=/"),
            (b"Set-Cookie", b"b=1; Path=/b"),
            (b"Cache-Control", b"max-age=1"),
            HTML,
        ],
    )  # fmt: skip
    assert body is None
    assert headers == [
        CACHE,
        (b"Access-Control-Expose-Headers", b"x"),
        (b"Location", PREFIX + b"/x"),
        (b"Set-Cookie", b"a=1; Path=" + PREFIX),
        (b"Set-Cookie", b"b=1; Path=" + PREFIX + b"/b"),
        (b"Cache-Control", b"max-age=1"),
        HTML,
    ]


def test_html_is_rewritten(cluster: FakeCluster) -> None:
    headers, body = edited(cluster, 404, [HTML, (b"Content-Length", b"13"), (b"Accept-Ranges", b"bytes")])
    assert (headers, body) == ([CACHE, HTML], b'<a href="' + PREFIX + b'/x">')
    # Required for HEAD, too: otherwise the engine would send the Content-Length of the original page.
    assert edited(cluster, 404, [HTML, (b"Content-Length", b"13")], method="HEAD") == (headers, body)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, [(b"Content-Type", b"application/pdf"), (b"Content-Length", b"13")]),
        (200, [(b"Content-Length", b"13")]),
        (200, [HTML, (b"Content-Encoding", b"br"), (b"Content-Length", b"13")]),
        (206, [HTML, (b"Content-Range", b"bytes 0-3/9")]),
        (304, [(b"ETag", b"x")]),
    ],
)
def test_other_bodies_are_not_rewritten(cluster: FakeCluster, status: int, headers: Headers) -> None:
    assert edited(cluster, status, headers) == ([CACHE, *headers], None)


def test_xhtml_is_rewritten_but_not_with_kubernetes_rewriting(cluster: FakeCluster) -> None:
    fields = [(b"Content-Type", b"application/xhtml+xml"), (b"Content-Length", b"13")]
    assert edited(cluster, 200, fields[:]) == ([CACHE, fields[0]], b'<a href="' + PREFIX + b'/x">')
    kubernetes: Headers = [(b"X-Hatchway-Rewrite", b"kubernetes")]
    assert edited(cluster, 200, fields[:], kubernetes) == ([CACHE, *fields], None)


def test_not_modified_has_no_content_type(cluster: FakeCluster) -> None:
    assert edited(cluster, 304, [HTML, (b"ETag", b"x")]) == ([CACHE, (b"ETag", b"x")], None)


def test_gzip_is_decoded_for_clients_that_do_not_accept_it(cluster: FakeCluster) -> None:
    coded = [(b"Content-Type", b"text/plain"), (b"Content-Encoding", b"gzip"), (b"Content-Length", b"9")]
    decision = forward(request(verb_of(cluster), "web-unnamed"))
    head = ResponseHead(200, b"", list(coded))
    assert decision.edit_response is not None
    transform = decision.edit_response(head)
    assert transform is not None and head.headers == [CACHE, coded[0]]
    assert transform.feed(gzip.compress(b"x")) + transform.finish() == b"x"
    for field in ((b"Accept-Encoding", b"gzip"), (b"Range", b"bytes=0-3")):
        got = edited(cluster, 200, list(coded), headers_sent=[(b"Host", b"h"), field])
        assert got == ([CACHE, *coded], None)


def test_a_refused_upgrade_is_relayed_unchanged(cluster: FakeCluster) -> None:
    headers = [HTML, (b"Access-Control-Allow-Origin", b"*")]
    assert edited(cluster, 404, headers, upgrade=b"websocket") == (headers, None)


def logs(cluster: FakeCluster, name: str, query: bytes | None = None, upgrade: bytes | None = None) -> Decision:
    fields = [(b"Host", b"h"), (b"Authorization", b"x")]
    head = RequestHead("GET", b"/", b"/", query, fields, "1.1", Peer(None, "https"), upgrade=upgrade)
    asked = ConnectRequest("pods", "default", name, head.path, b"", "GET", head.query)
    return decide(PodLog(cluster, locator_of(cluster), HttpClient()), head, asked)


def test_logs_come_from_the_kubelet(cluster: FakeCluster) -> None:
    decision = forward(
        logs(
            cluster,
            "b10",
            b"follow=true&tailLines=0&timestamps&pretty=true&previous=false&sinceTime=2026-01-02T03:04:05.5%2B01:00",
        )
    )
    assert decision.upstream.key == ("kubelet", NODE_IP, 10250)
    path, _, query = decision.target.partition(b"?")
    assert path == b"/containerLogs/default/b10/c"
    assert query == b"follow=true&sinceTime=2026-01-02T03%3A04%3A05.5%2B01%3A00&tailLines=0&timestamps=true"
    assert decision.headers == [(b"Host", b"172.18.0.3:10250"), (b"Accept", b"*/*")]
    assert forward(logs(cluster, "b10")).target == path
    head = ResponseHead(200, b"", [(b"Content-Type", b"text/html"), (b"Set-Cookie", b"x")])
    assert decision.edit_response is not None and decision.edit_response(head) is None
    assert head.headers == [CACHE, (b"Content-Type", b"text/plain")]


def test_requests_for_logs_with_an_upgrade_are_handled_by_an_application(cluster: FakeCluster) -> None:
    assert isinstance(logs(cluster, "b10", upgrade=b"websocket"), App)
    assert isinstance(logs(cluster, "b10", upgrade=b"h2c"), App)
    assert refused(logs(cluster, "missing", upgrade=b"websocket"))[0] == 404
    cluster.objects[("pods", "default", "b10")]["spec"]["nodeName"] = ""
    assert isinstance(logs(cluster, "b10", upgrade=b"websocket"), Respond)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"tailLines=x", (400, "BadRequest", 'tailLines: parsing "x": invalid syntax')),
        (b"limitBytes=99999999999999999999", (400, "BadRequest", 'limitBytes: parsing "99999999999999999999": value out of range')),
        (b"sinceTime=yesterday", (400, "BadRequest", 'sinceTime: parsing time "yesterday": its form is 2006-01-02T15:04:05Z')),
        (b"tailLines=-1", (422, "Invalid", 'PodLogOptions "b10" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0')),
        (b"limitBytes=0", (422, "Invalid", 'PodLogOptions "b10" is invalid: limitBytes: Invalid value: 0: must be greater than 0')),
        (b"sinceSeconds=0", (422, "Invalid", 'PodLogOptions "b10" is invalid: sinceSeconds: Invalid value: 0: must be greater than 0')),
        (b"sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z", (422, "Invalid", 'PodLogOptions "b10" is invalid: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified')),
        (b"container=nope", (400, "BadRequest", "container nope is not valid for pod b10")),
    ],
)  # fmt: skip
def test_log_options(cluster: FakeCluster, query: bytes, expected: object) -> None:
    assert refused(logs(cluster, "b10", query)) == expected


def test_logs_need_a_container_and_a_node(cluster: FakeCluster) -> None:
    assert refused(logs(cluster, "missing")) == (404, "NotFound", 'pods "missing" not found')
    spec = cluster.objects[("pods", "default", "b10")]["spec"]
    spec["containers"] = [{"name": "a"}, {"name": "b"}]
    assert refused(logs(cluster, "b10"))[2] == "a container name must be specified for pod b10, choose one of: [a b]"
    spec["initContainers"] = [{"name": "i"}]
    expected = "a container name must be specified for pod b10, choose one of: [a b] or one of the init containers: [i]"
    assert refused(logs(cluster, "b10"))[2] == expected
    assert forward(logs(cluster, "b10", b"container=i")).target == b"/containerLogs/default/b10/i"
    spec["nodeName"] = ""
    empty = logs(cluster, "b10", b"container=a")
    assert isinstance(empty, Respond) and (empty.status, empty.body) == (204, b"")


@pytest.mark.parametrize(
    ("code", "reason", "message"),
    [
        (400, "BadRequest", "waiting to start"),
        (500, "InternalError", "Internal error occurred: waiting to start"),
        (404, "NotFound", "the server could not find the requested resource ( pods/log b10)"),
        (403, "", "the kubelet answered 403: waiting to start"),
    ],
)
def test_the_kubelets_refusal_becomes_a_status(cluster: FakeCluster, code: int, reason: str, message: str) -> None:
    decision = forward(logs(cluster, "b10"))
    head = ResponseHead(code, b"", [(b"Content-Length", b"17"), (b"Content-Type", b"text/plain")])
    assert decision.edit_response is not None
    transform = decision.edit_response(head)
    assert transform is not None
    body = transform.feed(b"waiting ") + transform.feed(b"to start\n") + transform.finish()
    status = json.loads(body)
    assert (status["code"], status.get("reason", ""), status["message"]) == (code, reason, message)
    assert head.headers == [CACHE, (b"Content-Type", b"application/json")]


def test_an_unreachable_kubelet(cluster: FakeCluster) -> None:
    error = ProxyError("dial", "refused")
    answer = forward(logs(cluster, "b10")).error_response(error)
    assert refused(answer) == (
        500, "", f'Get "https://{NODE_IP}:10250/containerLogs/default/b10/c": dial tcp {NODE_IP}:10250: refused',
    )  # fmt: skip


def test_each_address_and_scheme_has_an_upstream_of_its_own(cluster: FakeCluster) -> None:
    verb = verb_of(cluster)
    upstreams: list[Upstream] = [
        forward(request(verb, name, resource=resource)).upstream
        for resource, name in (
            ("pods", "b10:8080"),
            ("pods", "https:b10:8080"),
            ("pods", "b11:8080"),
            ("nodes", "node-1"),
        )
    ]
    assert len({upstream.key for upstream in upstreams}) == 4


def test_the_same_response_head_is_edited_in_the_same_way(cluster: FakeCluster) -> None:
    head = RequestHead("GET", b"/", b"/", None, [(b"Host", b"h")], "1.1", Peer(None, "https"))
    prefix = b"/api/v1/namespaces/default/services/web-unnamed/proxy"
    prepared = verb_of(cluster).prepare(
        head, ConnectRequest("services", "default", "web-unnamed", prefix, b"/", "GET", None)
    )
    assert isinstance(prepared, Prepared)

    def edited(status: int, *fields: tuple[bytes, bytes]) -> tuple[Headers, bool]:
        answer = ResponseHead(status, b"", list(fields))
        edit = prepared.forward().edit_response
        assert edit is not None
        transform = edit(answer)
        found = answer.headers[:]
        answer.headers.clear()  # The caller may change the request.
        return found, transform is not None

    location, cookie = (b"Location", b"/x"), (b"Set-Cookie", b"a=b; Path=/")
    page, text = (b"Content-Type", b"text/html"), (b"Content-Type", b"text/plain")
    answers = [(302, location), (200, cookie), (200, page), (200, text), (304, text), (200, cookie, text)]
    first = [edited(*answer) for answer in answers]  # type: ignore[arg-type]
    assert (b"Location", prefix + b"/x") in first[0][0]
    assert [transformed for _, transformed in first] == [False, False, True, False, False, False]
    assert first[3][0] != first[4][0]
    for answer, expected in zip(answers, first, strict=True):
        assert [edited(*answer), edited(*answer)] == [expected, expected]  # type: ignore[arg-type]


def test_every_exchange_chooses_its_endpoint(cluster: FakeCluster) -> None:
    cluster.add_service("default", "both", {"name": "", "port": 80})
    cluster.add_slice(
        "default",
        "both",
        [{"name": "", "port": 8080, "protocol": "TCP"}],
        [endpoint(B10, "b10", "default"), endpoint(B11, "b11", "default")],
    )
    head = RequestHead("GET", b"/", b"/", None, [], "1.0", Peer(None, "https"))
    prepared = verb_of(cluster).prepare(head, ConnectRequest("services", "default", "both", b"/p", b"/", "GET", None))
    assert isinstance(prepared, Prepared)
    seen = set()
    for _ in range(200):
        found = prepared.forward()
        assert found.next_upstream is not None
        second = found.next_upstream(1)
        assert second is not None and second.next_upstream is not None
        assert second.next_upstream(2) is None
        seen.add((found.upstream.key[1], second.upstream.key[1], found.headers[0], second.headers[0]))  # type: ignore[index]
    hosts = (b"Host", f"{B10}:8080".encode()), (b"Host", f"{B11}:8080".encode())
    assert seen == {(B10, B11, hosts[0], hosts[1]), (B11, B10, hosts[1], hosts[0])}
