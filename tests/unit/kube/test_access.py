"""The cache of access reviews, and the missing RBAC rule in a form that kubectl can apply."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import yaml

from hatchway.errors import ApiError
from hatchway.kube import access
from hatchway.kube.access import Rules, missing_rule


class Server:
    """Answers access reviews, and counts them."""

    def __init__(self, answer: dict[str, Any] | ApiError) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    async def create(self, resource: str, obj: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(obj)
        await asyncio.sleep(0)
        if isinstance(self.answer, ApiError):
            raise self.answer
        return {"status": self.answer}


async def test_the_same_review_is_requested_once() -> None:
    server = Server({"allowed": True, "reason": "RBAC"})

    async def ask() -> access.Answer:
        return await access.may(server, verb="list", resource="endpointslices.discovery.k8s.io")  # type: ignore[arg-type]

    assert await asyncio.gather(ask(), ask()) == [(True, "RBAC")] * 2
    assert await ask() == (True, "RBAC")
    (question,) = server.asked
    assert question["apiVersion"] == "authorization.k8s.io/v1"
    assert question["spec"]["resourceAttributes"] == {
        "verb": "list",
        "group": "discovery.k8s.io",
        "resource": "endpointslices",
    }
    access.forget(server)  # type: ignore[arg-type]
    await ask()
    assert len(server.asked) == 2


async def test_a_review_from_before_a_refusal_is_neither_cached_nor_shared() -> None:
    begun, answered = asyncio.Event(), asyncio.Event()

    class SlowServer(Server):
        async def create(self, resource: str, obj: dict[str, Any]) -> dict[str, Any]:
            answer = await super().create(resource, obj)
            if not begun.is_set():
                begun.set()
                await answered.wait()
            return answer

    server = SlowServer({"allowed": True})

    async def ask() -> access.Answer:
        return await access.may(server, verb="list", resource="pods")  # type: ignore[arg-type]

    before = asyncio.ensure_future(ask())
    await begun.wait()
    # During the review, the right is withdrawn, and another request is refused.
    server.answer = {"allowed": False}
    access.forget(server)  # type: ignore[arg-type]
    after = asyncio.ensure_future(ask())
    await asyncio.sleep(0)
    answered.set()
    assert await before == (True, "")
    assert await after == (False, "")
    assert await ask() == (False, "")
    assert len(server.asked) == 2


async def test_a_refused_review_means_no_and_an_unreachable_server_is_an_error() -> None:
    refusing = Server(ApiError(403, "Forbidden", "not even that"))
    assert await access.may(refusing, verb="get", resource="pods") == (False, "not even that")  # type: ignore[arg-type]
    away = Server(ApiError(503, "", "away"))
    with pytest.raises(ApiError):
        await access.may(away, verb="get", resource="pods")  # type: ignore[arg-type]
    away.answer = {"allowed": True}
    assert (await access.may(away, verb="get", resource="pods"))[0]  # type: ignore[arg-type]


def test_rules() -> None:
    rules = Rules(
        (
            {"verbs": ["get"], "apiGroups": [""], "resources": ["services/proxy"], "resourceNames": ["web"]},
            {"verbs": ["list", "watch"], "apiGroups": ["*"], "resources": ["pods"]},
            {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"]},
        ),
        incomplete=False,
    )
    assert rules.allow("get", "services", "proxy", "web")
    assert not rules.allow("get", "services", "proxy", "other")
    assert not rules.allow("get", "services")
    assert rules.allow("watch", "pods")
    assert rules.allow("delete", "deployments.apps")
    assert not rules.allow("delete", "pods")


@pytest.mark.parametrize("namespace", ["", "team", "123"])
@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("jane: doe", {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane: doe"}),
        ('a"b', {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": 'a"b'}),
        ("x\n- kind: Group", {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "x\n- kind: Group"}),
        ("system:serviceaccount:ci:robot", {"kind": "ServiceAccount", "name": "robot", "namespace": "ci"}),
        ("system:serviceaccount:0:1", {"kind": "ServiceAccount", "name": "1", "namespace": "0"}),
        ("", {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "THE-USER"}),
    ],
)
def test_the_missing_rule(namespace: str, user: str, subject: dict[str, str]) -> None:
    text = missing_rule(verb="get", resource="services", subresource="proxy", namespace=namespace, name="w", user=user)
    role, binding = yaml.safe_load_all(text)
    kind = "Role" if namespace else "ClusterRole"
    assert role["kind"] == kind
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["services/proxy"], "resourceNames": ["w"], "verbs": ["get"]}
    ]
    assert binding["kind"] == f"{kind}Binding"
    assert binding["subjects"] == [subject]
    assert binding["roleRef"]["name"] == role["metadata"]["name"] == "hatchway-get-services-proxy"
    assert role["metadata"].get("namespace", "") == binding["metadata"].get("namespace", "") == namespace
