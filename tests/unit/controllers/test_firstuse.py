"""The annotation of Services that start on first use is removed when their Deployment has started."""

from __future__ import annotations

import pytest

from hatchway.cluster.controllers import firstuse
from hatchway.cluster.controllers.deployment import DeploymentController
from hatchway.cluster.controllers.endpointslice import EndpointSliceController
from hatchway.cluster.controllers.firstuse import FirstUseController
from hatchway.cluster.controllers.replicaset import ReplicaSetController
from hatchway.kube.api import Object
from hatchway.kube.firstuse import STARTS_ON_FIRST_USE
from tests.unit.controllers.world import World

NAMESPACE, NAME = "kube-system", "elasticsearch-logging"
KINDS = (FirstUseController, DeploymentController, ReplicaSetController, EndpointSliceController)


def named(kind: str, name: str, spec: Object, annotation: str = "") -> Object:
    annotations = {STARTS_ON_FIRST_USE: annotation} if annotation else {}
    return {
        "apiVersion": "v1" if kind == "Service" else "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "annotations": annotations},
        "spec": spec,
    }


def service(name: str) -> Object:
    return named("Service", name, {"selector": {"k8s-app": NAME}, "ports": [{"port": 9200, "protocol": "TCP"}]})


def deployment(replicas: int, annotation: str = "true") -> Object:
    template = {"metadata": {"labels": {"k8s-app": NAME}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    selector = {"matchLabels": {"k8s-app": NAME}}
    return named("Deployment", NAME, {"replicas": replicas, "selector": selector, "template": template}, annotation)


async def state(world: World, resource: str = "services", name: str = NAME) -> str:
    found = await world.client.get(resource, name, NAMESPACE)
    return str((found["metadata"].get("annotations") or {}).get(STARTS_ON_FIRST_USE, ""))


async def scale(world: World, replicas: int) -> None:
    await world.client.patch("deployments.apps", NAME, {"spec": {"replicas": replicas}}, NAMESPACE)
    await world.settle()


async def make(world: World, found: Object) -> None:
    await world.client.create("deployments.apps", found)
    for name in (NAME, "kibana-logging", "web"):
        await world.client.create("services", service(name))
    await world.settle()


async def test_the_annotation_changes_from_waiting_to_starting_to_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firstuse, "_SETTLE_SECONDS", 0.0)
    world = World(*KINDS)
    async with world.running():
        await make(world, deployment(0))
        assert await state(world) == await state(world, name="kibana-logging") == "waiting"
        assert await state(world, name="web") == ""
        await scale(world, 1)
        assert await state(world) == await state(world, name="kibana-logging") == "starting"
        await world.kubelets()
        await world.settle()
        assert await state(world) == await state(world, name="kibana-logging") == ""
        assert await state(world, "deployments.apps") == ""
        # From now on the user decides: a Deployment that was scaled to 0 stays at 0.
        await scale(world, 0)
        assert await state(world) == ""


async def test_a_deployment_of_an_earlier_release_is_not_changed() -> None:
    world = World(*KINDS)
    async with world.running():
        await make(world, deployment(1, annotation=""))
        assert await state(world) == ""
        await scale(world, 0)
        assert await state(world) == ""


async def test_a_wrong_annotation_of_a_service_is_removed() -> None:
    world = World(*KINDS)
    async with world.running():
        await make(world, deployment(0, annotation=""))
        change = {"metadata": {"annotations": {STARTS_ON_FIRST_USE: "waiting"}}}
        await world.client.patch("services", NAME, change, NAMESPACE)
        await world.settle()
        assert await state(world) == ""
        await world.client.patch(
            "deployments.apps", NAME, {"metadata": {"annotations": {STARTS_ON_FIRST_USE: "true"}}}, NAMESPACE
        )
        await world.settle()
        assert await state(world) == "waiting"
        await world.client.delete("deployments.apps", NAME, NAMESPACE)
        await world.settle()
        assert await state(world) == ""
