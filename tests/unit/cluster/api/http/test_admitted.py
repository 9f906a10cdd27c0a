"""Repeated heads on a connection are admitted without a new check, while the result of the first check is valid."""

from __future__ import annotations

import datetime
import inspect
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from hatchway.cluster.auth import credentialfiles
from hatchway.cluster.auth.authenticators import Identity
from hatchway.cluster.auth.serviceaccounts import ISSUER
from hatchway.cluster.auth.user import UserInfo
from hatchway.proxy.routing import App, CachedDecision, Decision, Forward, RequestHead, Respond

from ...auth.fakes import request, rule
from .test_filters import Server

WEB = "/api/v1/namespaces/team-a/services/web/proxy/"
ACCOUNT = {"metadata": {"namespace": "n", "name": "robot", "uid": "u1"}}
POD = {"metadata": {"namespace": "n", "name": "web-0", "uid": "p1"}, "spec": {}}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path)
    yield found
    found.authenticator.close()
    found.log.close()


class Client:
    """A connection on which the same head is sent repeatedly."""

    def __init__(self, server: Server, path: str, **more: str) -> None:
        self._server = server
        self._cached: CachedDecision | None = None
        self._path = path
        self._more = more

    def begin(self) -> tuple[RequestHead, Decision | Awaitable[Decision]]:
        """Send the head once more; return it, and the decision that the engine would carry out."""
        head = request(self._path, **self._more)  # type: ignore[arg-type]
        cached = self._cached
        repeated = cached.begin(lambda: head) if cached is not None else None
        if repeated is not None:
            return head, repeated
        decision = self._server.filters.route(head)
        self._cached = head.cached
        return head, decision

    def status(self) -> int:
        """Send the head once more; return the status of the answer, 200 if the request is admitted."""
        _, decision = self.begin()
        assert not inspect.isawaitable(decision)
        return decision.status if isinstance(decision, Respond) else 200


def looks(server: Server, monkeypatch: pytest.MonkeyPatch) -> list[RequestHead]:
    """Return a list that collects the requests whose sender is authenticated."""
    found: list[RequestHead] = []
    really = server.authenticator.authenticate

    def authenticate(head: RequestHead) -> Identity | Awaitable[UserInfo]:
        found.append(head)
        return really(head)

    monkeypatch.setattr(server.authenticator, "authenticate", authenticate)
    return found


def test_a_new_check_only_after_a_change_of_an_object(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = looks(server, monkeypatch)
    client = Client(server, WEB, token="alice")
    for _ in range(3):
        assert client.status() == 200
    assert len(looked) == len(server.proxy.requests) == 1
    server.source.put("pods", POD)  # a change of any object
    for _ in range(2):
        assert client.status() == 200
    assert len(looked) == len(server.proxy.requests) == 2
    # Another client.
    assert Client(server, WEB, token="alice").status() == 200
    assert len(looked) == 3


def take_right(server: Server) -> None:
    server.source.remove("rolebindings.rbac.authorization.k8s.io", "team-a", "alice-web-proxy")


def narrow_right(server: Server) -> None:
    server.source.role("web-proxy", rule("get", "services/proxy", names="other"), namespace="team-a")


def delete_token(server: Server) -> None:
    server.state.tokens_file.write_text(json.dumps({"tokens": []}))


def give_token_away(server: Server) -> None:
    server.state.tokens_file.write_text(json.dumps({"tokens": [{"user": "carol", "token": "alice"}]}))


@pytest.mark.parametrize(
    ("change", "status"), [(take_right, 403), (narrow_right, 403), (delete_token, 401), (give_token_away, 403)]
)
def test_a_revoked_right_or_token_is_refused_at_the_next_request(
    server: Server, change: Callable[[Server], None], status: int
) -> None:
    client = Client(server, WEB, token="alice")
    assert [client.status(), client.status()] == [200, 200]
    change(server)
    assert [client.status(), client.status()] == [status, status]


def test_a_new_right_is_effective_at_the_next_request(server: Server) -> None:
    client = Client(server, WEB, token="carol")
    assert [client.status(), client.status()] == [403, 403]
    server.source.bind("carol", "web-proxy", "User:carol", namespace="team-a")
    assert client.status() == 200


def test_an_expired_token(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    token = credentialfiles.mint_token(server.state, user="alice", groups=[], seconds=60)
    client = Client(server, WEB, token=token)
    assert [client.status(), client.status()] == [200, 200]
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert client.status() == 401


def robot(server: Server) -> Client:
    """Return a client with a token bound to a pod, which requests the list of API groups."""
    server.source.put("serviceaccounts", ACCOUNT)
    server.source.put("pods", POD)
    token, _ = server.authenticator.service_accounts.issue(ACCOUNT, audiences=[ISSUER], seconds=600, bound=("pod", POD))
    return Client(server, "/apis", token=token)


@pytest.mark.parametrize(("resource", "name"), [("pods", "web-0"), ("serviceaccounts", "robot")])
def test_a_bound_token_is_invalid_after_the_deletion_of_its_object(server: Server, resource: str, name: str) -> None:
    client = robot(server)
    assert [client.status(), client.status()] == [200, 200]
    server.source.remove(resource, "n", name)
    assert client.status() == 401


def test_a_deleted_pods_token_is_valid_for_a_minute(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    client = robot(server)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    server.source.put("pods", {**POD, "metadata": {**POD["metadata"], "deletionTimestamp": now}})
    assert [client.status(), client.status()] == [200, 200]
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert client.status() == 401


def test_a_revoked_right_to_impersonate_is_refused(server: Server) -> None:
    server.source.role("as-alice", rule("impersonate", "users", names="alice"))
    server.source.bind("carol-as-alice", "as-alice", "User:carol")
    client = Client(server, WEB, token="carol", Impersonate_User="alice")
    assert [client.status(), client.status()] == [200, 200]
    server.source.remove("clusterrolebindings.rbac.authorization.k8s.io", "", "carol-as-alice")
    assert client.status() == 403


async def test_a_new_password(server: Server) -> None:
    credentialfiles.set_password(server.state, user="alice", groups=[], password="old")
    client = Client(server, WEB, Authorization="Basic YWxpY2U6b2xk")
    _, pending = client.begin()
    assert inspect.isawaitable(pending)
    assert isinstance(await pending, Forward)
    assert [client.status(), client.status()] == [200, 200]
    credentialfiles.set_password(server.state, user="alice", groups=[], password="new")
    _, pending = client.begin()
    assert inspect.isawaitable(pending)
    refused = await pending
    assert isinstance(refused, Respond)
    assert refused.status == 401


def test_each_repeated_request_counts_against_the_limit_of_requests(tmp_path: Path) -> None:
    server = Server(tmp_path, max_in_flight=1)
    client = Client(server, "/api", token="alice")
    assert client.status() == 200
    assert isinstance(server.ask(request("/api", token="bob")), Respond)
    server.filters.requests.in_flight = 0
    under_way, decision = client.begin()
    assert isinstance(decision, App)
    assert server.filters.requests.in_flight == 1
    assert client.status() == 429
    assert under_way.on_complete is not None
    under_way.on_complete(200, 0, 0)
    assert server.filters.requests.in_flight == 0
    assert client.status() == 200
    server.authenticator.close()
    server.log.close()


def test_each_repeated_request_has_an_audit_event_of_its_own(server: Server) -> None:
    client = Client(server, WEB, token="alice")
    for status in (200, 502):
        head, decision = client.begin()
        assert isinstance(decision, Forward)
        assert head.on_complete is not None
        head.on_complete(status, 0, 0)
    first, second = server.events()
    assert first.pop("auditID") != second.pop("auditID")
    assert first.pop("stageTimestamp") <= second.pop("requestReceivedTimestamp")
    assert first.pop("requestReceivedTimestamp") <= second.pop("stageTimestamp")
    assert [first.pop("responseStatus")["code"], second.pop("responseStatus")["code"]] == [200, 502]
    assert first == second
    assert first["user"]["username"] == "alice"
