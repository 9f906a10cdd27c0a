"""Cycles of owners, long chains and many dependents are deleted, and other work continues meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from hatchway.cluster.controllers import garbage
from hatchway.cluster.controllers.garbage import GarbageCollector
from hatchway.kube.api import Object
from tests.unit.controllers.test_garbage import MAPS, make, names
from tests.unit.controllers.world import World


def reference(owner: Object, **more: object) -> Object:
    metadata = owner["metadata"]
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": metadata["name"], "uid": metadata["uid"], **more}


async def circle(world: World, size: int) -> list[Object]:
    """Make a cycle of ConfigMaps: each owns the next, the last owns the first, and each blocks its owner's deletion."""
    made = [await make(world, f"c{number}") for number in range(size)]
    for owner, dependent in zip(made, [*made[1:], made[0]], strict=True):
        owners = [reference(owner, blockOwnerDeletion=True)]
        await world.client.patch(MAPS, dependent["metadata"]["name"], {"metadata": {"ownerReferences": owners}}, "d")
    await world.settle()
    return made


@pytest.mark.parametrize("size", [1, 2, 3, 10])
@pytest.mark.parametrize("propagation", ["Foreground", "Background"])
async def test_a_cycle_is_deleted_as_a_whole(size: int, propagation: str) -> None:
    world = World(GarbageCollector)
    async with world.running(), asyncio.timeout(20):
        await circle(world, size)
        await make(world, "other")
        await world.client.delete(MAPS, "c0", "d", propagation=propagation)
        await world.settle()
        assert names(world) == {"other"}


async def test_a_cycle_becomes_a_chain_when_one_object_orphans_its_dependents() -> None:
    world = World(GarbageCollector)
    async with world.running(), asyncio.timeout(20):
        await circle(world, 3)
        await world.client.delete(MAPS, "c0", "d", propagation="Orphan")
        await world.settle()
        assert names(world) == {"c1", "c2"}
        await world.client.delete(MAPS, "c1", "d", propagation="Foreground")
        await world.settle()
        assert names(world) == set()


@pytest.mark.parametrize("size", [2, 5])
async def test_all_objects_of_a_cycle_deleted_by_the_client(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "_CIRCLE_SECONDS", 0.0)
    world = World(GarbageCollector)
    async with world.running(), asyncio.timeout(20):
        for one in await circle(world, size):
            await world.client.delete(MAPS, one["metadata"]["name"], "d", propagation="Foreground")
        await world.settle()
        assert names(world) == set()


async def test_foreground_deletion_of_a_chain_deletes_the_root_last() -> None:
    world = World(GarbageCollector)
    gone: list[str] = []
    world.context.cache(MAPS).subscribe(
        lambda kind, obj, _: gone.append(obj["metadata"]["name"]) if kind == "DELETED" else None
    )
    async with world.running(), asyncio.timeout(30):
        last = await make(world, "n0")
        for number in range(1, 60):
            last = await make(world, f"n{number}", last, blockOwnerDeletion=True)
        await world.client.delete(MAPS, "n0", "d", propagation="Foreground")
        await world.settle()
        assert gone == [f"n{number}" for number in reversed(range(60))]


@pytest.mark.parametrize("propagation", ["Foreground", "Background", "Orphan"])
async def test_many_dependents(propagation: str) -> None:
    world = World(GarbageCollector)
    async with world.running(), asyncio.timeout(60):
        root = await make(world, "root")
        for number in range(300):
            await make(world, f"n{number}", root, blockOwnerDeletion=True)
        await world.client.delete(MAPS, "root", "d", propagation=propagation)
        await world.settle()
        assert len(names(world)) == (300 if propagation == "Orphan" else 0)


async def test_an_owner_is_deleted_after_its_last_blocking_dependent() -> None:
    world = World(GarbageCollector)
    async with world.running():
        root = await make(world, "root")
        await make(world, "held", root, blockOwnerDeletion=True)
        await world.client.patch(MAPS, "held", {"metadata": {"finalizers": ["example.com/wait"]}}, "d")
        await world.client.delete(MAPS, "root", "d", propagation="Foreground")
        await world.settle()
        assert names(world) == {"root", "held"}
        await world.client.patch(MAPS, "held", {"metadata": {"ownerReferences": [reference(root)]}}, "d")
        await world.settle()
        assert names(world) == {"held"}


async def test_an_owner_in_another_namespace_is_reported() -> None:
    world = World(GarbageCollector)
    async with world.running():
        root = await make(world, "root", namespace="elsewhere")
        await make(world, "child", root)
        await world.settle()
        assert "child" not in names(world)
        assert ("child", "OwnerRefInvalidNamespace") in [event[:2] for event in world.recorder.events]


async def test_a_cluster_scoped_object_with_a_namespaced_owner_is_kept() -> None:
    world = World(GarbageCollector)
    async with world.running():
        root = await make(world, "root")
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "ownerReferences": [reference(root)]}}
        await world.client.create("nodes", node)
        await world.client.delete(MAPS, "root", "d")
        await world.settle()
        assert [found["metadata"]["name"] for found in world.client.all("nodes")] == ["n"]
        assert "OwnerRefInvalidNamespace" in world.recorder.reasons()
