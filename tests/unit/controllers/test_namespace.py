"""A deleted namespace is emptied, its pods first; then it is removed."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.controllers.controller import ControllerConfig
from hatchway.cluster.controllers.namespace import NamespaceController
from hatchway.cluster.controllers.serviceaccount import ServiceAccountController
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from tests.unit.controllers.world import World, pod


def namespace(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def config_map(name: str, **metadata: Any) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}}


async def test_all_objects_of_a_namespace_are_deleted_and_no_others() -> None:
    world = World(NamespaceController)
    async with world.running():
        for name in ("a", "b"):
            await world.client.create("namespaces", namespace(name))
            await world.client.create("pods", pod("bound", nodeName="n"), name)
            await world.client.create("configmaps", config_map("settings"), name)
            await world.client.create("events", {"kind": "Event", "metadata": {"name": "e"}}, name)
        await world.client.delete("namespaces", "a")
        await world.client.settle()
        # The kubelet has not ended the pod yet, so the objects that the pod uses still exist.
        assert len(world.client.all("configmaps", "a")) == 1
        await world.client.settle()
        conditions = {c["type"]: c for c in world.client.objects["namespaces", "", "a"]["status"]["conditions"]}
        assert conditions["NamespaceContentRemaining"]["status"] == "True"
        assert conditions["NamespaceContentRemaining"]["message"] == (
            "Some resources are remaining: pods has 1 resource instances"
        )
        await world.client.delete("pods", "bound", "a", grace_period=0)
        await world.settle()
        assert [found["metadata"]["name"] for found in world.client.all("namespaces")] == ["b"]
        assert {place for _, place, _ in world.client.objects if place} == {"b"}


async def test_a_finalizer_delays_the_deletion_and_is_reported() -> None:
    world = World(NamespaceController)
    async with world.running():
        await world.client.create("namespaces", namespace("a"))
        await world.client.create("configmaps", config_map("held", finalizers=["example.com/wait"]), "a")
        await world.client.delete("namespaces", "a")
        for _ in range(3):
            await world.client.settle()
        conditions = {c["type"]: c for c in world.client.objects["namespaces", "", "a"]["status"]["conditions"]}
        assert "example.com/wait in 1 resource instances" in conditions["NamespaceFinalizersRemaining"]["message"]
        await world.client.patch("configmaps", "held", {"metadata": {"finalizers": None}}, "a")
        await world.settle()
        assert world.client.all("namespaces") == []


async def test_every_namespace_has_a_service_account_and_the_ca_certificate() -> None:
    world = World(ServiceAccountController, config=ControllerConfig(ca_certificate="PEM"))
    await world.client.create("namespaces", namespace("a"))
    async with world.running():
        await world.client.create("namespaces", namespace("b"))
        await world.settle()
        for name in ("a", "b"):
            assert [s["metadata"]["name"] for s in world.client.all("serviceaccounts", name)] == ["default"]
            assert [m["data"] for m in world.client.all("configmaps", name)] == [{"ca.crt": "PEM"}]
        await world.client.delete("serviceaccounts", "default", "a")
        await world.client.patch("configmaps", "kube-root-ca.crt", {"data": {"ca.crt": "forged"}}, "b")
        await world.settle()
        assert len(world.client.all("serviceaccounts", "a")) == 1
        assert world.client.objects["configmaps", "b", "kube-root-ca.crt"]["data"] == {"ca.crt": "PEM"}


async def test_a_namespace_that_is_being_deleted_gets_no_new_objects() -> None:
    world = World(
        ServiceAccountController,
        NamespaceController,
        config=ControllerConfig(ca_certificate="PEM"),
    )
    async with world.running():
        await world.client.create("namespaces", namespace("a"))
        await world.settle()
        await world.client.delete("namespaces", "a")
        await world.settle()
        assert world.client.objects == {}


async def test_a_refused_deletion_is_reported_and_retried() -> None:
    world = World(NamespaceController)
    refusals = [ApiError(403, "Forbidden", "not this one")]

    def refuse(verb: str, resource: str, _obj: Any) -> ApiError | None:
        return refusals.pop() if refusals and (verb, resource) == ("delete", "configmaps") else None

    seen: list[Any] = []
    world.context.cache("namespaces").subscribe(lambda _k, obj, _b: seen.append(obj["status"].get("conditions")))
    world.client.refuse = refuse
    async with world.running():
        await world.client.create("namespaces", namespace("a"))
        await world.client.create("configmaps", config_map("x"), "a")
        await world.client.delete("namespaces", "a")
        await world.settle()
        assert world.client.all("namespaces") == []
        told = [c for conditions in seen if conditions for c in conditions if c["status"] == "True"]
        assert any("not this one" in c["message"] for c in told)
