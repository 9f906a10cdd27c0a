"""Dependents of deleted objects are deleted in the background, in the foreground, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.cluster.controllers.deployment import DeploymentController
from hatchway.cluster.controllers.garbage import GarbageCollector
from hatchway.cluster.controllers.replicaset import ReplicaSetController
from hatchway.kube.api import Object
from tests.unit.controllers.world import World, deployment

MAPS = "configmaps"


async def make(world: World, name: str, *owners: Object, namespace: str = "d", **reference: Any) -> Object:
    references = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            **reference,
        }
        for owner in owners
    ]
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": references}}
    return await world.client.create(MAPS, obj, namespace)


def names(world: World) -> set[str]:
    return {found["metadata"]["name"] for found in world.client.all(MAPS)}


async def test_background() -> None:
    world = World(GarbageCollector)
    async with world.running():
        root = await make(world, "root")
        child = await make(world, "child", root)
        await make(world, "grandchild", child)
        await make(world, "other")
        await world.settle()
        assert names(world) == {"root", "child", "grandchild", "other"}
        await world.client.delete(MAPS, "root", "d")
        await world.settle()
        assert names(world) == {"other"}


async def test_an_object_is_kept_while_one_of_its_owners_exists() -> None:
    world = World(GarbageCollector)
    async with world.running():
        one, two = await make(world, "one"), await make(world, "two")
        await make(world, "child", one, two)
        await world.client.delete(MAPS, "one", "d")
        await world.settle()
        [reference] = world.client.objects[MAPS, "d", "child"]["metadata"]["ownerReferences"]
        assert reference["name"] == "two"
        await world.client.delete(MAPS, "two", "d")
        await world.settle()
        assert names(world) == set()


async def test_foreground_waits_for_blocking_dependents() -> None:
    world = World(GarbageCollector)
    async with world.running():
        root = await make(world, "root")
        child = await make(world, "child", root, blockOwnerDeletion=True)
        held = await make(world, "held", child, blockOwnerDeletion=True)
        held["metadata"]["finalizers"] = ["example.com/wait"]
        await world.client.update(MAPS, held)
        await world.settle()
        await world.client.delete(MAPS, "root", "d", propagation="Foreground")
        await world.settle()
        assert names(world) == {"root", "child", "held"}
        await world.client.patch(MAPS, "held", {"metadata": {"finalizers": None}}, "d")
        await world.settle()
        assert names(world) == set()


async def test_foreground_does_not_wait_for_other_dependents() -> None:
    world = World(GarbageCollector)
    async with world.running():
        root = await make(world, "root")
        child = await make(world, "child", root)
        child["metadata"]["finalizers"] = ["example.com/wait"]
        await world.client.update(MAPS, child)
        await world.settle()
        await world.client.delete(MAPS, "root", "d", propagation="Foreground")
        await world.settle()
        assert names(world) == {"child"}


async def test_orphan() -> None:
    world = World(GarbageCollector)
    async with world.running():
        root = await make(world, "root")
        await make(world, "child", root)
        await world.settle()
        await world.client.delete(MAPS, "root", "d", propagation="Orphan")
        await world.settle()
        assert names(world) == {"child"}
        assert "ownerReferences" not in world.client.objects[MAPS, "d", "child"]["metadata"]


async def test_an_owner_that_never_existed_and_an_owner_in_another_namespace() -> None:
    world = World(GarbageCollector)
    async with world.running():
        far = await make(world, "far", namespace="elsewhere")
        await make(world, "child", far)
        await make(world, "lost", {"metadata": {"name": "ghost", "uid": "uid-of-a-ghost"}})
        again = await make(world, "again")
        await make(world, "stale", {"metadata": {"name": "again", "uid": "its-former-uid"}})
        await world.settle()
        assert names(world) == {"far", "again"}
        assert again["metadata"]["name"] == "again"


async def test_an_object_with_an_owner_of_an_unknown_type_is_kept() -> None:
    world = World(GarbageCollector)
    async with world.running():
        owner = {"metadata": {"name": "w", "uid": "u"}}
        await make(world, "child", owner, apiVersion="example.com/v1", kind="Widget")
        await world.settle()
        assert names(world) == {"child"}


@pytest.mark.parametrize("propagation", ["", "Background", "Foreground"])
async def test_sets_and_pods_are_deleted_with_their_deployment(propagation: str) -> None:
    world = World(GarbageCollector, DeploymentController, ReplicaSetController)
    async with world.running():
        await world.client.create("deployments.apps", deployment("web", 3), "d")
        await world.settle()
        await world.kubelets()
        assert len(world.pods()) == 3
        await world.client.delete("deployments.apps", "web", "d", propagation=propagation)
        await world.settle()
        await world.kubelets()
        assert world.client.objects == {}


async def test_orphaned_pods_are_adopted_again() -> None:
    world = World(GarbageCollector, DeploymentController, ReplicaSetController)
    async with world.running():
        await world.client.create("deployments.apps", deployment("web", 2), "d")
        await world.settle()
        before = {found["metadata"]["uid"] for found in world.pods()}
        await world.client.delete("deployments.apps", "web", "d", propagation="Orphan")
        await world.settle()
        [orphan] = world.client.all("replicasets.apps")
        assert "ownerReferences" not in orphan["metadata"]
        await world.client.create("deployments.apps", deployment("web", 2), "d")
        await world.settle()
        assert {found["metadata"]["uid"] for found in world.pods()} == before
