"""The ingress controller runs only while there are Ingresses for it."""

from __future__ import annotations

import pytest

from hatchway.cluster.addonmanifests import ingress as manifests
from hatchway.cluster.addonmanifests.addons import ingress_controller
from hatchway.cluster.addonmanifests.shapes import NAMESPACE
from hatchway.cluster.controllers import ingressstart
from hatchway.cluster.controllers.controller import ControllerConfig
from hatchway.cluster.controllers.ingressstart import IngressStartController
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from tests.unit.controllers.world import World

INGRESSES, CLASSES = "ingresses.networking.k8s.io", "ingressclasses.networking.k8s.io"
NAME = manifests.INGRESS
CONFIG = ControllerConfig(ingress_controller=manifests.CONTROLLER, ingress_manifests=tuple(ingress_controller()))


def ingress(name: str, of_class: str = manifests.INGRESS_CLASS) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"ingressClassName": of_class}}


async def make_class(world: World) -> None:
    for resource, obj in manifests.ingress_class():
        await world.client.create(resource, obj)
    await world.settle()


async def create(world: World, obj: Object) -> None:
    await world.client.create(INGRESSES, obj)
    await world.settle()


async def replicas(world: World) -> int | None:
    """Return the Deployment's replicas; None while there is no Deployment."""
    try:
        found = await world.client.get("deployments.apps", NAME, NAMESPACE)
    except ApiError:
        return None
    return int(found["spec"].get("replicas", 1))


async def test_the_controller_starts_with_the_first_ingress() -> None:
    world = World(IngressStartController, config=CONFIG)
    async with world.running():
        await make_class(world)
        await create(world, ingress("other", "nginx"))
        assert await replicas(world) is None
        await create(world, ingress("first"))
        assert await replicas(world) == 1
        service = await world.client.get("services", NAME, NAMESPACE)
        assert service["spec"]["type"] == "LoadBalancer"


async def test_the_annotation_can_name_the_class() -> None:
    world = World(IngressStartController, config=CONFIG)
    async with world.running():
        await make_class(world)
        annotations = {"kubernetes.io/ingress.class": manifests.INGRESS_CLASS}
        await create(world, {"metadata": {"name": "a", "namespace": "default", "annotations": annotations}, "spec": {}})
        assert await replicas(world) == 1


async def test_the_controller_ends_with_the_last_ingress_and_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingressstart, "_IDLE_SECONDS", 0.0)
    world = World(IngressStartController, config=CONFIG)
    async with world.running():
        await make_class(world)
        await create(world, ingress("a"))
        await create(world, ingress("b"))
        await world.client.delete(INGRESSES, "a", "default")
        await world.settle()
        assert await replicas(world) == 1
        await world.client.delete(INGRESSES, "b", "default")
        await world.settle()
        assert await replicas(world) == 0
        await create(world, ingress("c"))
        assert await replicas(world) == 1


async def test_replicas_set_by_a_user_are_kept() -> None:
    world = World(IngressStartController, config=CONFIG)
    async with world.running():
        await make_class(world)
        await create(world, ingress("a"))
        await world.client.patch("deployments.apps", NAME, {"spec": {"replicas": 0}}, NAMESPACE)
        await create(world, ingress("b"))
        assert await replicas(world) == 0
        await world.client.patch("deployments.apps", NAME, {"spec": {"replicas": 3}}, NAMESPACE)
        await create(world, ingress("c"))
        assert await replicas(world) == 3


async def test_a_deleted_deployment_is_made_again() -> None:
    world = World(IngressStartController, config=CONFIG)
    async with world.running():
        await make_class(world)
        await create(world, ingress("a"))
        await world.client.delete("deployments.apps", NAME, NAMESPACE)
        await world.settle()
        assert await replicas(world) == 1


async def test_without_the_add_on_the_deployment_is_not_made() -> None:
    world = World(IngressStartController)
    async with world.running():
        await make_class(world)
        await create(world, ingress("a"))
        assert await replicas(world) is None
