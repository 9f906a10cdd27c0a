"""Decisions about requests: the backend, its fields, and the pages for errors."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.addons.ingress import backends
from hatchway.addons.ingress.backends import Backends
from hatchway.addons.ingress.hostroutes import RouteTable
from hatchway.addons.ingress.ingressrouter import IngressRouter
from hatchway.addons.ingress.ingressrules import IngressBackend, parse_ingress
from hatchway.kube.objects import Key
from hatchway.proxy.routing import Forward, Headers, Peer, ProxyError, RequestHead, Respond
from tests.unit.addons.ingress.test_hostroutes import ingress, path

Json = dict[str, Any]
HTML = (b"Accept", b"text/html,*/*")


def head(target: str = "/", host: str = "x.example", *fields: tuple[bytes, bytes], scheme: str = "http") -> RequestHead:
    raw = target.encode()
    asked, mark, query = raw.partition(b"?")
    headers: Headers = [(b"Host", host.encode()), *fields]
    return RequestHead("GET", raw, asked, query if mark else None, headers, "1.1", Peer(("10.0.0.9", 5), scheme))


def service(name: str, **spec: Any) -> Json:
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": {"ports": [{"port": 80, "protocol": "TCP"}], **spec}}


def piece(name: str, *endpoints: Json, port: Json | None = None, kind: str = "IPv4") -> Json:
    return {
        "metadata": {"name": f"{name}-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": name}},
        "addressType": kind,
        "ports": [port or {"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


def endpoint(address: str, **conditions: bool) -> Json:
    return {"addresses": [address], "conditions": conditions}


class Cluster:
    def __init__(self) -> None:
        self.services: dict[Key, Json] = {}
        self.backends = Backends(self.services)
        self.router = IngressRouter(self.backends)
        self.use(ingress("a", ("x.example", [path("/", "web")])))

    def use(self, *ingresses: Json) -> None:
        table = RouteTable()
        for one in ingresses:
            table.add(parse_ingress(one))
        self.router.use(table)

    def service(self, found: Json) -> None:
        key = ("ns", found["metadata"]["name"])
        self.services[key] = found
        self.backends.service_changed("MODIFIED", found)

    def route(self, asked: RequestHead) -> Respond | Forward:
        decision = self.router.route(asked)
        assert isinstance(decision, Respond | Forward)
        return decision

    def forward(self, asked: RequestHead) -> Forward:
        decision = self.route(asked)
        assert isinstance(decision, Forward), decision
        return decision

    def refusal(self, asked: RequestHead) -> Respond:
        decision = self.route(asked)
        assert isinstance(decision, Respond), decision
        return decision


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    made.service(service("web"))
    made.backends.slice_changed("ADDED", piece("web", endpoint("10.1.0.1"), endpoint("10.1.0.2", ready=True)))
    return made


def address(decision: Forward) -> tuple[str, int]:
    key = decision.upstream.key
    assert isinstance(key, tuple)
    return key[:2]


def test_forwarded_fields_from_clients_are_replaced(cluster: Cluster) -> None:
    forged = [
        (name, b"forged")
        for name in (
            b"X-Forwarded-For",
            b"x-forwarded-host",
            b"X-FORWARDED-PROTO",
            b"X-Forwarded-Port",
            b"X-Forwarded-Prefix",
            b"X_Forwarded_For",
            b"X-Forwarded_Proto",
            b"X-Real-IP",
            b"X_Real_IP",
            b"Forwarded",
        )
    ]
    kept = [(b"X-Request-Id", b"1"), (b"Cookie", b"a=b"), (b"F", b"x")]
    decision = cluster.forward(head("/p?q=1", "x.example:8443", *forged, *kept, scheme="https"))
    assert decision.target == b"/p?q=1"
    assert decision.headers == [
        (b"Host", b"x.example:8443"),
        *kept,
        (b"X-Forwarded-Port", b"8443"),
        (b"X-Forwarded-Proto", b"https"),
        (b"CDN-Loop", b"hatchway-ingress"),
        (b"X-Forwarded-Host", b"x.example:8443"),
        (b"X-Forwarded-For", b"10.0.0.9"),
        (b"X-Real-IP", b"10.0.0.9"),
    ]


def test_request_loop_is_ended(cluster: Cluster) -> None:
    cluster.use(ingress("a", ("", [path("/", "web")])))
    asked, passes = head("/", "x.example", (b"CDN-Loop", b"another")), 0
    while not isinstance(decision := cluster.router.route(asked), Respond):
        # The backend is the controller itself, so each request would come back to the controller.
        assert isinstance(decision, Forward)
        asked = head("/", "x.example", *decision.headers[1:])
        passes += 1
        assert passes < 10
    assert (decision.status, passes) == (508, 5)
    assert (b"CDN-Loop", b"another") in asked.headers


def test_request_without_a_host(cluster: Cluster) -> None:
    cluster.use(ingress("a", ("", [path("/", "web")])))
    asked = head()
    asked.headers = [(b"Accept", b"*/*")]
    assert cluster.forward(asked).headers == [
        (b"Accept", b"*/*"),
        (b"X-Forwarded-Port", b"80"),
        (b"X-Forwarded-Proto", b"http"),
        (b"CDN-Loop", b"hatchway-ingress"),
        (b"Host", b""),
        (b"X-Forwarded-For", b"10.0.0.9"),
        (b"X-Real-IP", b"10.0.0.9"),
    ]


@pytest.mark.parametrize("host", ["x.example", "X.EXAMPLE", "x.example.", "x.example:80", " x.example "])
def test_spellings_of_a_host(cluster: Cluster, host: str) -> None:
    cluster.forward(head("/", host))


@pytest.mark.parametrize(
    "host",
    ["", "y.example", "x.example:", "x.example:a", "[::1]:80", "x.example:80:80", "x.example:" + "0" * 9, "\xff"],
)
def test_other_hosts(cluster: Cluster, host: str) -> None:
    assert cluster.refusal(head("/", host)).status == 404


def test_dot_segments_do_not_get_around_a_rule(cluster: Cluster) -> None:
    cluster.service(service("admin"))
    cluster.backends.slice_changed("ADDED", piece("admin", endpoint("10.1.0.9")))
    cluster.use(ingress("a", ("x.example", [path("/", "web"), path("/admin", "admin")])))
    for text in ("/public/../admin/x", "/public/%2e%2E/admin/x", "/./admin/x", "/../../admin/x"):
        decision = cluster.forward(head(text))
        assert (address(decision), decision.target) == (("10.1.0.9", 8080), b"/admin/x")
    # Other paths are forwarded byte for byte.
    assert cluster.forward(head("/a//b/%41/..c/x..")).target == b"/a//b/%41/..c/x.."


def test_requests_go_to_the_endpoints_in_turn(cluster: Cluster) -> None:
    asked = head()
    first = cluster.forward(asked)
    cached = asked.cached
    assert cached is not None
    found = [address(first)]
    for _ in range(3):
        decision = cached.begin(head)
        assert isinstance(decision, Forward)
        found.append(address(decision))
    assert found[:2] == found[2:]
    assert set(found) == {("10.1.0.1", 8080), ("10.1.0.2", 8080)}


def test_changes_of_objects_invalidate_cached_decisions(cluster: Cluster) -> None:
    def cached() -> Any:
        asked = head()
        cluster.forward(asked)
        assert asked.cached is not None
        return asked.cached

    changes = [
        lambda: cluster.backends.slice_changed("MODIFIED", piece("web", endpoint("10.1.0.3"))),
        lambda: cluster.service(service("web", sessionAffinity="None")),
        lambda: cluster.use(ingress("a", ("x.example", [path("/", "web")]))),
    ]
    for change in changes:
        found = cached()
        assert found.begin(head) is not None
        change()
        assert found.begin(head) is None
    cluster.backends.slice_changed("ADDED", piece("other", endpoint("10.1.0.4")))
    assert cached().begin(head) is not None


def test_each_endpoint_is_tried_once(cluster: Cluster) -> None:
    decision = cluster.forward(head())
    assert decision.next_upstream is not None
    second = decision.next_upstream(1)
    assert second is not None and second.next_upstream is not None
    assert address(second) != address(decision)
    assert second.next_upstream(2) is None
    answer = second.error_response(ProxyError("dial", "refused"))
    assert answer.status == 503
    assert b"accepts connections" in answer.body
    assert second.error_response(ProxyError("read", "lost")).status == 502


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (None, b"The Service ns/web does not exist."),
        (service("web", type="ExternalName"), b"ExternalName"),
        (service("web", ports=[{"port": 81}]), b"The Service ns/web has no TCP port 80."),
        (service("web", ports=[{"port": 80, "protocol": "UDP"}]), b"The Service ns/web has no TCP port 80."),
        (service("web"), b"The Service ns/web has no endpoint that is ready."),
    ],
)
def test_why_a_backend_cannot_be_reached(found: Json | None, why: bytes) -> None:
    cluster = Cluster()
    if found is not None:
        cluster.service(found)
    answer = cluster.refusal(head())
    assert answer.status == 503
    assert why in answer.body


def test_pages_escape_texts_from_clients(cluster: Cluster) -> None:
    answer = cluster.refusal(head("/<script>", "<b>.example", HTML))
    assert (b"Content-Type", b"text/html; charset=utf-8") in answer.headers
    assert b"&lt;b&gt;.example/&lt;script&gt;" in answer.body
    assert b"<script>" not in answer.body
    plain = cluster.refusal(head("/a", "y.example"))
    assert plain.body == b"404 Not Found: No Ingress of this cluster has a rule for y.example/a\n"
    assert len(cluster.refusal(head("/" + "a" * 60000, "y.example")).body) < 500


def test_named_ports_and_https_backends() -> None:
    cluster = Cluster()
    ports = [{"name": "other", "port": 80}, {"name": "web", "port": 81, "appProtocol": "HTTPS"}]
    cluster.service(service("web", ports=ports))
    named = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"name": "web"}}}}
    cluster.use(ingress("a", ("x.example", [named])))
    cluster.backends.slice_changed(
        "ADDED", piece("web", endpoint("10.1.0.1"), port={"name": "web", "port": 8443, "protocol": "TCP"})
    )
    decision = cluster.forward(head())
    assert address(decision) == ("10.1.0.1", 8443)
    assert decision.upstream.tls is not None


def test_terminating_endpoints_are_used_when_no_other_is_ready(cluster: Cluster) -> None:
    ending = endpoint("10.1.0.1", ready=False, serving=True, terminating=True)
    gone = endpoint("10.1.0.2", ready=False, serving=False, terminating=True)
    cluster.backends.slice_changed("MODIFIED", piece("web", ending, gone))
    assert {address(cluster.forward(head())) for _ in range(3)} == {("10.1.0.1", 8080)}
    cluster.backends.slice_changed("MODIFIED", piece("web", ending, endpoint("10.1.0.3", ready=True)))
    assert {address(cluster.forward(head())) for _ in range(3)} == {("10.1.0.3", 8080)}
    cluster.backends.slice_changed("DELETED", piece("web"))
    assert cluster.refusal(head()).status == 503


def test_slice_that_moves_to_another_service(cluster: Cluster) -> None:
    moved = piece("other", endpoint("10.1.0.1"))
    moved["metadata"]["name"] = "web-1"
    cluster.backends.slice_changed("MODIFIED", moved)
    assert cluster.refusal(head()).status == 503
    names = {"addresses": ["a.example"], "conditions": {}}
    cluster.backends.slice_changed("ADDED", piece("web", names, kind="FQDN"))
    assert cluster.refusal(head()).status == 503


def test_backends_of_ingresses_that_are_gone_are_forgotten(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "MAX_KNOWN", 10)
    version = cluster.backends.version
    for number in range(25):
        cluster.backends.resolve(IngressBackend("ns", f"gone-{number}", 80))
    # Each time that backends are forgotten, cached decisions become invalid.
    assert cluster.backends.version == version + 2
    assert cluster.backends.resolve(IngressBackend("ns", "web", 80)).upstreams


def test_many_endpoints_are_bounded(cluster: Cluster) -> None:
    many = [endpoint(f"10.2.{index // 250}.{index % 250}") for index in range(5000)]
    cluster.backends.slice_changed("MODIFIED", piece("web", *many))
    found = {address(cluster.forward(head())) for _ in range(1500)}
    assert len(found) == 1000


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_methods_that_are_not_supported(cluster: Cluster, method: str) -> None:
    asked = head()
    asked.method = method
    assert cluster.refusal(asked).status == 405
