"""Targets of commands about pods."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.errors import ApiError, HatchwayError
from hatchway.kube.api import Object
from hatchway.kube.workload import (
    Workload,
    choose_container,
    find_pods,
    in_order,
    label_selector_of,
    parse_workload,
    pick_pod,
)
from hatchway.target import TargetError
from tests.unit.fake_client import FakeClient


def pod(name: str, *, ready: bool = True, phase: str = "Running", node: str = "n1", **metadata: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "here", **metadata},
        "spec": {"nodeName": node, "containers": [{"name": "a"}, {"name": "b"}]},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("web-0", Workload("", "web-0", "here")),
        ("pod/web-0", Workload("pods", "web-0", "here")),
        ("po/web.0", Workload("pods", "web.0", "here")),
        ("svc/web", Workload("services", "web", "here")),
        ("Deploy/web", Workload("deployments.apps", "web", "here")),
        ("sts/db", Workload("statefulsets.apps", "db", "here")),
        ("job/import", Workload("jobs.batch", "import", "here")),
        ("web.shop", Workload("services", "web", "shop")),
        ("web.shop.svc.cluster.local", Workload("services", "web", "shop")),
    ],
)
def test_arguments(text: str, found: Workload) -> None:
    assert parse_workload(text, None, "here") == found


@pytest.mark.parametrize(
    "text", ["node/n1", "configmap/x", "svc/web:80", "web:80", "pod/", "", "a/b/c", "web.shop.other"]
)
def test_types_without_pods(text: str) -> None:
    with pytest.raises(TargetError):
        parse_workload(text, None, "here")


async def test_a_name_without_a_type_is_a_pod_or_else_a_service() -> None:
    client = FakeClient()
    client.objects["pods", "here", "web"] = pod("web")
    client.objects["services", "here", "web"] = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}}}
    assert (await find_pods(client, Workload("", "web", "here"))).is_one_pod
    del client.objects["pods", "here", "web"]
    found = await find_pods(client, Workload("", "web", "here"))
    assert (found.workload.resource, found.label_selector) == ("services", "app=web")


async def test_the_error_about_a_missing_object_suggests_similar_names() -> None:
    client = FakeClient()
    client.objects["namespaces", "", "here"] = {"metadata": {"name": "here"}}
    client.objects["pods", "here", "web-0"] = pod("web-0")
    with pytest.raises(HatchwayError) as caught:
        await find_pods(client, Workload("", "web-1", "here"))
    assert "pod/web-0" in caught.value.hint


async def test_the_error_about_a_missing_namespace_suggests_a_similar_name() -> None:
    client = FakeClient()
    client.objects["namespaces", "", "here"] = {"metadata": {"name": "here"}}
    with pytest.raises(HatchwayError) as caught:
        await find_pods(client, Workload("", "web", "heer"))
    assert caught.value.hint == 'there is no namespace "heer"; did you mean here?'


async def test_a_service_without_a_selector() -> None:
    client = FakeClient()
    client.objects["services", "here", "out"] = {"metadata": {"name": "out"}, "spec": {"type": "ExternalName"}}
    with pytest.raises(HatchwayError, match="no selector"):
        await find_pods(client, Workload("services", "out", "here"))


def test_the_ready_pod_comes_first() -> None:
    pods = [
        pod("failed", phase="Failed"),
        pod("going", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("waiting", ready=False),
        pod("pending", phase="Pending", ready=False, node=""),
        pod("good"),
    ]
    assert [one["metadata"]["name"] for one in in_order(pods)] == ["good", "waiting", "failed", "pending", "going"]


async def test_a_workload_whose_pods_have_ended() -> None:
    client = FakeClient()
    client.objects["pods", "here", "web-0"] = pod("web-0", phase="Succeeded")

    async def listed(*_: Any, **__: Any) -> list[Object]:
        return client.all("pods", "here")

    client.list = listed  # type: ignore[method-assign]
    client.objects["services", "here", "web"] = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}}}
    with pytest.raises(HatchwayError, match="has no running pod; 1 have ended"):
        await pick_pod(client, await find_pods(client, Workload("services", "web", "here")))


def test_containers() -> None:
    plain = pod("web")
    annotated = pod("web", annotations={"kubectl.kubernetes.io/default-container": "b"})
    wrong = pod("web", annotations={"kubectl.kubernetes.io/default-container": "c"})
    assert [choose_container(one) for one in (plain, annotated, wrong)] == ["a", "b", "a"]
    assert choose_container(plain, "b") == "b"
    with pytest.raises(ApiError, match="container c not found in pod web"):
        choose_container(plain, "c")


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({"b": "2", "a": "1"}, "a=1,b=2"),
        ({"matchLabels": {"a": "1"}}, "a=1"),
        (
            {
                "matchLabels": {"a": "1"},
                "matchExpressions": [
                    {"key": "b", "operator": "In", "values": ["x", "y"]},
                    {"key": "c", "operator": "NotIn", "values": ["z"]},
                    {"key": "d", "operator": "Exists"},
                    {"key": "e", "operator": "DoesNotExist"},
                ],
            },
            "a=1,b in (x,y),c notin (z),d,!e",
        ),
        (None, ""),
        ({}, ""),
    ],
)
def test_selectors(selector: Any, text: str) -> None:
    assert label_selector_of({"spec": {"selector": selector}}) == text
