"""The filters before the API server: recorded exchanges that the filters answer, and requests that they must refuse."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import argon2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api.admission.chain import AdmissionChain
from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionPlugin
from hatchway.cluster.api.connect.handler import ConnectRequest
from hatchway.cluster.api.http.connectroutes import ConnectRoutes
from hatchway.cluster.api.http.filters import Filters
from hatchway.cluster.api.registry.types import ROWS
from hatchway.cluster.auth import audit, basic, credentialfiles, pki
from hatchway.cluster.auth.authenticators import Authenticator
from hatchway.cluster.auth.bootstrap import bootstrap_objects
from hatchway.cluster.auth.rbac import Authorizer
from hatchway.cluster.state import StateDir
from hatchway.errors import ApiError
from hatchway.proxy.routing import App, Decision, Forward, RequestHead, Respond, ResponseHead, Upstream
from tests.conformance.replay import Recording, load

from ...auth.fakes import FakeSource, request, rule

TOKENS = [
    {"user": "admin", "groups": ["system:masters"], "token": "admin"},
    {"user": "alice", "token": "alice"},
    {"user": "bob", "groups": ["devs", "testers"], "token": "bob"},
    {"user": "carol", "token": "carol"},
]


async def rest(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
    await send({"type": "http.response.body", "body": b"ok"})


class FakeProxy:
    """Records the requests that were admitted and forwarded."""

    def __init__(self) -> None:
        self.requests: list[ConnectRequest] = []

    def prepare(self, head: RequestHead, info: ConnectRequest) -> FakePrepared:
        self.requests.append(info)
        return FakePrepared(info)


class FakePrepared:
    def __init__(self, info: ConnectRequest) -> None:
        self._info = info

    def forward(self) -> Forward:
        async def connect() -> Any:
            raise AssertionError("nothing is dialed here")

        return Forward(Upstream("k", connect), self._info.path, [], lambda error: Respond(503, []))


class FakeLogs:
    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []

    def prepare(self, head: RequestHead, info: ConnectRequest) -> Respond:
        self.requests.append((info.namespace, info.name))
        return Respond(200, [], b"log")


class Server:
    def __init__(self, directory: Path, *, max_in_flight: int = 400, admission: AdmissionChain | None = None) -> None:
        self.state = StateDir(directory / "c")
        self.state.create()
        keys = pki.ensure(self.state.pki, cluster_name="c", node_names=["node-1"], node_ips=["172.18.0.3"])
        self.state.tokens_file.write_text(json.dumps({"tokens": TOKENS}))
        self.source = FakeSource()
        # The number of changes that did not affect rights.
        self.without_rights = 0
        for resource, obj in bootstrap_objects():
            self.source.put(resource, obj)
        self.source.role(
            "web-proxy",
            rule("get list watch", "services endpoints pods"),
            rule("get", "services/proxy", names="web web:http plain"),
            namespace="team-a",
        )
        self.source.bind("alice-web-proxy", "web-proxy", "User:alice", namespace="team-a")
        self.source.bind("devs-edit", "edit", "Group:devs", namespace="team-b", kind="ClusterRole")
        self.authenticator = Authenticator(keys, self.state.tokens_file, self.state.basic_file, self.source)
        self.authenticator.file_check_seconds = 0.0
        self.log = audit.AuditLog(self.state.audit_file)
        self.proxy, self.logs = FakeProxy(), FakeLogs()
        self.filters = Filters(
            authenticator=self.authenticator,
            authorizer=Authorizer(self.source),
            connections=ConnectRoutes(ROWS, lambda connect: self.proxy if connect.takes_path else self.logs),
            app=rest,
            revision=lambda: self.source.revision,
            rights_revision=lambda: self.source.revision - self.without_rights,
            log=self.log,
            max_in_flight=max_in_flight,
            admission=admission,
        )

    def is_kept(self, head: RequestHead, change: Callable[[], None]) -> bool:
        """Return True if the cached decision about a request is still valid after a change of the cluster."""
        self.filters.route(head)
        cached, head.cached = head.cached, None
        assert cached is not None
        assert cached.begin(lambda: head) is not None
        change()
        return cached.begin(lambda: head) is not None

    def ask(self, head: RequestHead) -> Decision:
        decision = self.filters.route(head)
        assert not inspect.isawaitable(decision)
        return decision

    def refused(self, head: RequestHead) -> dict[str, Any]:
        decision = self.ask(head)
        assert isinstance(decision, Respond)
        found: dict[str, Any] = json.loads(decision.body)
        assert found["code"] == decision.status
        return found

    def events(self) -> list[dict[str, Any]]:
        self.log.close()
        return [json.loads(line) for line in self.state.audit_file.read_text().splitlines()]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path)
    yield found
    found.authenticator.close()
    found.log.close()


def header(decision: Respond | ResponseHead, name: bytes) -> bytes | None:
    return next((value for key, value in decision.headers if key.lower() == name), None)


def test_decisions_are_valid_until_a_change_that_can_affect_them(server: Server) -> None:
    def change_any() -> None:
        server.source.revision += 1
        server.without_rights += 1

    def change_rights() -> None:
        server.source.revision += 1

    def renew_credentials() -> None:
        server.authenticator.version += 1

    path = "/api/v1/namespaces/team-a/services"
    assert server.is_kept(request(path, token="alice"), change_any)
    assert not server.is_kept(request(path, token="alice"), change_rights)
    assert not server.is_kept(request(path, token="alice"), renew_credentials)
    # The admission of a subresource for connections (proxy, exec ...) may depend on any object.
    assert not server.is_kept(request(f"{path}/web/proxy/", token="alice"), change_any)


# -- recordings


def head_of(recording: Recording) -> RequestHead:
    sent = (recording.get("headers") or {}).items()
    more = {key.replace("-", "_"): value for key, value in sent if value is not None}
    return request(
        recording["path"],
        recording["method"],
        token=recording["user"],
        upgrade=b"websocket" if recording.get("ws") else None,
        **more,
    )


RECORDED = [("proxy", one) for one in load("proxy.jsonl")] + [("api", one) for one in load("api.jsonl")]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that all recordings share, because they do not change it."""
    found = Server(tmp_path_factory.mktemp("recorded"))
    yield found
    found.authenticator.close()
    found.log.close()


@pytest.mark.parametrize(("file", "recording"), RECORDED, ids=[f"{file}-{one['id']}" for file, one in RECORDED])
def test_recorded(recorded: Server, file: str, recording: Recording) -> None:
    """Hatchway refuses the same requests as the recorded server, with the same texts, and forwards none of them."""
    wanted = recording["response"]
    # Not by the status alone: a recorded backend also answers 401.
    ends_here = wanted["status"] in (401, 403) and wanted["body"].startswith('{"kind":"Status"')
    forwarded = len(recorded.proxy.requests)
    decision = recorded.ask(head_of(recording))
    if ends_here:
        assert isinstance(decision, Respond)
        assert decision.status == wanted["status"]
        assert json.loads(decision.body) == json.loads(wanted["body"])
        given = {key.decode().lower(): value.decode() for key, value in decision.headers}
        for key in ("Cache-Control", "Content-Type", "X-Content-Type-Options"):
            assert given.get(key.lower()) == dict(wanted["headers"]).get(key)
        assert len(recorded.proxy.requests) == forwarded
    elif "/log" in recording["path"]:
        assert isinstance(decision, Respond)
        assert decision.body == b"log"
    elif isinstance(decision, Respond):
        # An invalid path: an intended difference from Kubernetes (`conformance/deliberate.py`).
        assert decision.status == 400
        assert "%" in recording["path"]
    elif isinstance(decision, Forward):
        assert "/proxy" in recording["path"]


# -- dispatch


def test_requests_that_are_forwarded(server: Server) -> None:
    head = request("/api/v1/namespaces/n/services/https:web:8443/proxy/a%2Fb/..?x=%20", token="admin")
    assert isinstance(server.ask(head), Forward)
    assert server.proxy.requests == [
        ConnectRequest(
            "services",
            "n",
            "https:web:8443",
            b"/api/v1/namespaces/n/services/https:web:8443/proxy",
            b"/a%2Fb/..",
            "GET",
            b"x=%20",
        )
    ]
    assert head.state["user"].name == "admin"
    assert head.state["info"].resource == "services"
    assert isinstance(server.ask(request("/api/v1/nodes/n1/proxy/pods", token="admin")), Forward)
    assert isinstance(server.ask(request("/api/v1/namespaces/n/pods/p/log?follow=true", token="admin")), Respond)
    assert server.logs.requests == [("n", "p")]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/n/services/web",
        "/api/v1/services/web/proxy/",
        "/api/v1/namespaces/n/nodes/x/proxy/",
        "/api/v2/namespaces/n/services/web/proxy/",
        "/apis/apps/v1/namespaces/n/services/web/proxy/",
        "/api/v1/namespaces/n/configmaps/web/proxy/",
        "/api/v1/proxy/namespaces/n/services/web",
        "/api/v1/namespaces/n/services//proxy/",
        "/api/v1/namespaces/n/pods/p/log/x",
        "/api/v1/pods/p/log",
        "/apis/apps/v1/namespaces/n/pods/p/log",
        "/healthz",
        "/",
    ],
)
def test_requests_for_the_rest_api(server: Server, path: str) -> None:
    assert isinstance(server.ask(request(path, token="admin")), App)
    assert server.proxy.requests == []
    assert server.logs.requests == []


@pytest.mark.parametrize(
    ("path", "grant", "upgrade", "good"),
    [
        ("/api/v1/nodes/n1/proxy/metrics", rule("get", "nodes/proxy"), False, True),
        ("/api/v1/nodes/n1/proxy/exec", rule("get", "nodes/proxy"), True, False),
        ("/api/v1/nodes/n1/proxy/exec", rule("create", "nodes/proxy"), True, True),
        ("/api/v1/namespaces/n/services/web/proxy/ws", rule("get", "services/proxy"), True, True),
        ("/api/v1/namespaces/n/pods/p/proxy/ws", rule("get", "pods/proxy"), True, True),
        ("/api/v1/namespaces/n/pods/p/exec", rule("get", "pods/exec"), True, False),
        ("/api/v1/namespaces/n/pods/p/exec", rule("create", "pods/exec"), True, False),
        ("/api/v1/namespaces/n/pods/p/exec", rule("create get", "pods/exec"), True, True),
        ("/api/v1/namespaces/n/pods/p/exec", rule("get", "pods/exec"), False, False),
        ("/api/v1/namespaces/n/pods/p/portforward", rule("get", "pods/portforward"), True, False),
        ("/api/v1/namespaces/n/pods/p/portforward", rule("create get", "pods/portforward"), True, True),
        ("/api/v1/namespaces/n/pods/p/attach", rule("create get", "pods/attach"), False, True),
        ("/api/v1/namespaces/n/pods/p/log", rule("get", "pods"), False, False),
        ("/api/v1/namespaces/n/pods/p/log", rule("get", "pods/log"), False, True),
        ("/api/v1/namespaces/n/services/x%3A80/proxy/", rule("get", "services/proxy", names="x:80"), False, True),
        ("/api/v1/namespaces/n/services/x:80/proxy/", rule("get", "services/proxy", names="x"), False, False),
        ("/api/v1/namespaces/n/services/web/proxy/../../secrets", rule("get", "secrets"), False, False),
        ("/api/v1/namespaces/n/services/%77eb/proxy/", rule("get", "services/proxy", names="web"), False, True),
        ("/metrics", rule("get", urls="/metrics"), False, True),
        ("/metrics/x", rule("get", urls="/metrics"), False, False),
    ],
)
def test_rights(server: Server, path: str, grant: Any, upgrade: bool, good: bool) -> None:
    server.source.role("carols", grant)
    server.source.bind("carols", "carols", "User:carol")
    head = request(path, token="carol", upgrade=b"websocket" if upgrade else None)
    decision = server.ask(head)
    if good:
        assert not (isinstance(decision, Respond) and decision.status == 403)
        assert head.state["user"].name == "carol"
    else:
        assert isinstance(decision, Respond)
        assert decision.status == 403
        assert "user" not in head.state
        assert server.proxy.requests == []


@pytest.mark.parametrize("path", ["/%00", "/api/v1/namespaces/n/services/%ff/proxy/", "/api/v1/proxy/", "//\x00"])
def test_invalid_paths_are_refused_before_authentication(server: Server, path: str) -> None:
    found = server.refused(request(path, token="no-such-token"))
    assert (found["kind"], found["code"], found["reason"]) == ("Status", 400, "BadRequest")


@pytest.mark.parametrize("path", ["/api/v1/%zz", "/%", "/api/v1/namespaces/n/services/x/proxy/%4", "/%2/%00"])
def test_a_malformed_escape_is_refused_as_go_refuses_it(server: Server, path: str) -> None:
    decision = server.ask(request(path, token="no-such-token"))
    assert isinstance(decision, Respond)
    assert (decision.status, decision.body) == (400, b"400 Bad Request")
    assert (b"Content-Type", b"text/plain; charset=utf-8") in decision.headers


SEGMENTS = st.sampled_from(
    [
        *(
            "",
            "api",
            "apis",
            "v1",
            "namespaces",
            "n",
            "services",
            "pods",
            "nodes",
            "web",
            "proxy",
            "log",
            "exec",
            "watch",
        ),
        *("..", ".", "%2e%2e", "%2F", "%00", "%zz", "%ff", "healthz", "version", "a:b:c:d", "?", "?watch=1", "#", " "),
    ]
)
HEADERS = st.sampled_from(
    [
        (b"Authorization", b"Bearer nope"),
        (b"Authorization", b"Basic !"),
        (b"Impersonate-User", b"admin"),
        (b"Impersonate-Group", b"system:masters"),
        (b"X-Remote-User", b"admin"),
        (b"X-Remote-Group", b"system:masters"),
        (b"Audit-Id", b"\xff"),
        (b"User-Agent", b"\xff"),
        (b"Sec-WebSocket-Protocol", b"base64url.bearer.authorization.k8s.io.YWRtaW4"),
    ]
)
METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "FOO"])
PUBLIC = ("/healthz", "/livez", "/readyz", "/version", "/version/")


@given(st.lists(SEGMENTS, max_size=9), METHODS, st.lists(HEADERS, max_size=3), st.sampled_from([None, b"websocket"]))
def test_unknown_clients_are_refused(
    recorded: Server, segments: list[str], method: str, headers: list[tuple[bytes, bytes]], upgrade: bytes | None
) -> None:
    """Any request of an unknown client is refused with a Status, unless its path is public."""
    head = request("/" + "/".join(segments), method, upgrade=upgrade)
    head.headers += headers
    forwarded = len(recorded.proxy.requests) + len(recorded.logs.requests)
    decision = recorded.ask(head)
    assert len(recorded.proxy.requests) + len(recorded.logs.requests) == forwarded
    if isinstance(decision, App):
        assert head.path.decode() in PUBLIC
        assert method == "GET"
        assert head.state["user"].name == "system:anonymous"
    else:
        assert isinstance(decision, Respond)
        assert decision.status in (400, 401, 403)
        assert decision.body == b"400 Bad Request" or json.loads(decision.body)["kind"] == "Status"
    assert head.on_complete is not None
    head.on_complete(200, 0, 0)


# -- impersonation


def test_impersonation(server: Server) -> None:
    path = "/api/v1/namespaces/team-a/services/web/proxy/"
    head = request(path, token="admin", Impersonate_User="alice")
    assert isinstance(server.ask(head), Forward)
    assert head.state["user"].name == "alice"
    assert head.state["user"].groups == ("system:authenticated",)
    head = request("/api", token="admin", Impersonate_User="bob", Impersonate_Group="devs", Impersonate_Uid="7")
    head.headers += [
        (b"impersonate-group", b"ops"),
        (b"Impersonate-Extra-Example.com%2Fteam", b"x"),
        (b"Impersonate-Extra-Example.com%2Fteam", b"y"),
    ]
    server.ask(head)
    user = head.state["user"]
    assert (user.name, user.groups, user.uid) == ("bob", ("devs", "ops", "system:authenticated"), "7")
    assert user.extra == {"example.com/team": ("x", "y")}
    head = request("/api", token="admin", Impersonate_User="system:serviceaccount:n:robot")
    server.ask(head)
    assert head.state["user"].groups == (
        "system:serviceaccounts",
        "system:serviceaccounts:n",
        "system:authenticated",
    )
    head = request("/healthz", token="admin", Impersonate_User="system:anonymous")
    server.ask(head)
    assert head.state["user"].groups == ("system:unauthenticated",)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Impersonate_User": "root"}, 'users "root" is forbidden: User "carol" cannot impersonate resource "users" in API group "" at the cluster scope'),
        ({"Impersonate_User": "alice", "Impersonate_Group": "system:masters"}, 'groups "system:masters" is forbidden: User "carol" cannot impersonate resource "groups" in API group "" at the cluster scope'),
        ({"Impersonate_User": "alice", "Impersonate_Uid": "1"}, 'uids.authentication.k8s.io "1" is forbidden: User "carol" cannot impersonate resource "uids" in API group "authentication.k8s.io" at the cluster scope'),
        ({"Impersonate_User": "alice", "Impersonate_Extra_scopes": "all"}, 'userextras.authentication.k8s.io "all" is forbidden: User "carol" cannot impersonate resource "userextras/scopes" in API group "authentication.k8s.io" at the cluster scope'),
        ({"Impersonate_User": "system:serviceaccount:kube-system:x"}, 'serviceaccounts "x" is forbidden: User "carol" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "kube-system"'),
    ],
)  # fmt: skip
def test_users_and_groups_that_may_be_impersonated(server: Server, headers: dict[str, str], message: str) -> None:
    server.source.role("carols", rule("impersonate", "users", names="alice"))
    server.source.bind("carols", "carols", "User:carol")
    assert isinstance(server.ask(request("/api", token="carol", Impersonate_User="alice")), App)
    found = server.refused(request("/api", token="carol", **headers))
    assert (found["code"], found["message"]) == (403, message)


def test_impersonation_needs_a_user(server: Server) -> None:
    assert server.refused(request("/api", token="admin", Impersonate_Group="devs"))["code"] == 400
    # An anonymous request may not impersonate any user, not even the anonymous user.
    assert server.refused(request("/api", Impersonate_User="admin"))["code"] == 403


def test_rights_are_those_of_the_impersonated_user(server: Server) -> None:
    found = server.refused(request("/api/v1/nodes", token="admin", Impersonate_User="alice"))
    assert 'User "alice"' in found["message"]
    # A field with an unknown name does not cause impersonation.
    assert isinstance(server.ask(request("/api/v1/nodes", token="admin", Impersonate_Foo="alice")), App)


# -- passwords


async def test_a_browser_with_a_password(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basic, "_HASHER", argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    credentialfiles.set_password(server.state, user="ada", groups=["system:masters"], password="x")
    page = {"Accept": "text/html", "Sec_Fetch_Mode": "navigate"}
    path = "/api/v1/namespaces/n/services/web/proxy/"
    challenge = server.ask(request(path, **page))
    assert isinstance(challenge, Respond)
    assert challenge.status == 401
    assert (header(challenge, b"www-authenticate") or b"").startswith(b"Basic ")
    assert server.refused(request(path))["code"] == 403
    password = "Basic " + base64.b64encode(b"ada:x").decode()
    first = server.filters.route(request(path, Authorization=password, **page))
    assert inspect.isawaitable(first)
    assert isinstance(await first, Forward)
    assert isinstance(server.ask(request(path, Authorization=password, **page)), Forward)
    wrong = server.filters.route(request(path, Authorization="Basic eDp5", **page))
    assert inspect.isawaitable(wrong)
    refused = await wrong
    assert isinstance(refused, Respond)
    assert refused.status == 401


# -- limits


def test_too_many_requests_at_once(tmp_path: Path) -> None:
    server = Server(tmp_path, max_in_flight=2)
    heads = [request("/api", token="alice") for _ in range(3)]
    assert [type(server.ask(head)) for head in heads] == [App, App, Respond]
    found = server.ask(request("/api", token="alice"))
    assert isinstance(found, Respond)
    assert (found.status, header(found, b"retry-after")) == (429, b"1")
    # Long-running requests, refused requests and requests of administrators do not count.
    assert isinstance(server.ask(request("/api/v1/namespaces/team-a/pods?watch=true", token="alice")), App)
    assert isinstance(server.ask(request("/api/v1/namespaces/team-a/services/web/proxy/", token="alice")), Forward)
    assert isinstance(server.ask(request("/api", token="admin")), App)
    assert server.filters.requests.in_flight == 2
    for head in heads:
        assert head.on_complete is not None
        head.on_complete(200, 0, 0)
        head.on_complete(200, 0, 0)
    assert server.filters.requests.in_flight == 0
    assert isinstance(server.ask(request("/api", token="alice")), App)
    server.authenticator.close()
    server.log.close()


# -- ids and the audit log


async def test_every_answer_has_the_requests_id(server: Server) -> None:
    refused = server.ask(request("/api", token="nope", Audit_ID="mine"))
    assert isinstance(refused, Respond)
    assert header(refused, b"audit-id") == b"mine"
    head = request("/api/v1/namespaces/n/services/web/proxy/", token="admin", Audit_ID="mine")
    assert isinstance(server.ask(head), Forward)
    assert head.answer_field == (b"Audit-Id", b"mine")
    head = request("/api", token="admin", Audit_ID="mine")
    decision = server.ask(head)
    assert isinstance(decision, App)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await decision.app({"type": "http", "state": head.state}, asyncio.Queue().get, send)
    assert sent[0]["headers"] == [(b"x", b"y"), (b"audit-id", b"mine")]
    assert sent[1]["body"] == b"ok"


def test_audit_events(server: Server) -> None:
    def done(head: RequestHead, status: int) -> None:
        server.filters.route(head)
        assert head.on_complete is not None
        head.on_complete(status, 1, 2)

    done(
        request("/api/v1/namespaces/team-a/services/web/proxy/login?token=s3cret", token="alice", Cookie="s3cret"), 302
    )
    done(request("/api/v1/namespaces/default/secrets?limit=5", token="admin", Impersonate_User="bob"), 403)
    done(request("/api/v1/nodes", token="s3cret-but-wrong"), 401)
    done(request("/healthz"), 200)
    done(request("/secret"), 403)
    done(request("/api/v1/%zz"), 400)
    text = json.dumps(events := server.events())
    assert "s3cret" not in text
    assert [event["responseStatus"]["code"] for event in events] == [302, 403, 401, 403, 400]
    proxied, impersonated, unknown, anonymous, bad = events
    assert proxied["requestURI"] == "/api/v1/namespaces/team-a/services/web/proxy/login"
    assert proxied["verb"] == "get"
    assert proxied["user"]["username"] == "alice"
    assert proxied["objectRef"] == {
        "resource": "services",
        "subresource": "proxy",
        "namespace": "team-a",
        "name": "web",
        "apiVersion": "v1",
    }
    assert proxied["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert 'RoleBinding "alice-web-proxy/team-a"' in proxied["annotations"]["authorization.k8s.io/reason"]
    assert impersonated["user"]["username"] == "admin"
    assert impersonated["impersonatedUser"]["username"] == "bob"
    assert impersonated["requestURI"].endswith("?limit=5")
    assert impersonated["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert unknown["user"] == {}
    assert "annotations" not in unknown
    assert anonymous["user"]["username"] == "system:anonymous"
    assert bad["requestURI"] == "/api/v1/%zz"


def test_routine_requests_of_nodes_have_no_audit_events(server: Server) -> None:
    server.state.tokens_file.write_text(
        json.dumps({"tokens": [{"user": "system:node:n1", "groups": ["system:nodes"], "token": "n1"}]})
    )
    for method, path, status in (
        ("GET", "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1", 200),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", 200),
        ("POST", "/api/v1/namespaces/n/events", 201),
        ("PATCH", "/api/v1/namespaces/n/pods/p/status", 200),
        ("GET", "/api/v1/namespaces/n/limitranges", 403),
    ):
        head = request(path, method, token="n1")
        server.filters.route(head)
        assert head.on_complete is not None
        head.on_complete(status, 0, 0)
    assert [(event["verb"], event["responseStatus"]["code"]) for event in server.events()] == [
        ("patch", 200),
        ("list", 403),
    ]


class FakeWebhook(AdmissionPlugin):
    """Refuses connections to pods named `no` and `slow-no`; for `slow-no` and `slow`, it decides only after a wait."""

    name = "ValidatingAdmissionWebhook"

    def __init__(self) -> None:
        self.seen: list[AdmissionAttributes] = []

    def validate(self, attributes: AdmissionAttributes) -> Any:
        self.seen.append(attributes)
        if attributes.name.startswith("slow"):
            return self._wait(attributes)
        if attributes.name == "no":
            raise ApiError(403, "Forbidden", "denied")
        return None

    @staticmethod
    async def _wait(attributes: AdmissionAttributes) -> None:
        await asyncio.sleep(0)
        if attributes.name == "slow-no":
            raise ApiError(403, "Forbidden", "denied later")


async def test_connections_are_admitted_before_they_are_forwarded(tmp_path: Path) -> None:
    plugin = FakeWebhook()
    server = Server(tmp_path, admission=AdmissionChain([plugin]))
    pods = "/api/v1/namespaces/team-a/pods"

    async def status(method: str, target: str) -> int:
        head = request(target, method, token="admin")
        decision = server.filters.route(head)
        if inspect.isawaitable(decision):
            decision = await decision
        return decision.status if isinstance(decision, Respond) else 0

    assert await status("POST", f"{pods}/p/exec?command=sh&command=-c&stdin=true&tty=0&container=c&stdout=1") == 200
    seen = plugin.seen[-1]
    assert (seen.operation, seen.resource, seen.subresource, seen.name) == ("CONNECT", "pods", "exec", "p")
    assert seen.object == {
        "kind": "PodExecOptions",
        "apiVersion": "v1",
        "stdin": True,
        "stdout": True,
        "container": "c",
        "command": ["sh", "-c"],
    }
    assert await status("POST", f"{pods}/p/portforward?ports=80,81&ports=x") == 200
    assert plugin.seen[-1].object == {"kind": "PodPortForwardOptions", "apiVersion": "v1", "ports": [80, 81]}
    assert await status("GET", "/api/v1/namespaces/team-a/services/web:http/proxy/a/b") == 0
    assert plugin.seen[-1].object == {"kind": "ServiceProxyOptions", "apiVersion": "v1", "path": "/a/b"}
    assert len(server.proxy.requests) == 1
    count = len(server.logs.requests)
    assert await status("POST", f"{pods}/no/exec?command=sh") == 403
    assert await status("POST", f"{pods}/slow-no/attach") == 403
    assert len(server.logs.requests) == count
    assert await status("POST", f"{pods}/slow/attach") == 200
    # A log is only read, so it needs no admission.
    assert await status("GET", f"{pods}/no/log") == 200
