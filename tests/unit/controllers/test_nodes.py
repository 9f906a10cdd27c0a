"""Nodes that do not renew their leases, and pods whose kubelet is gone."""

from __future__ import annotations

import time
from typing import Any

from hatchway.cluster.controllers.controller import ControllerConfig
from hatchway.cluster.controllers.nodelife import NodeLifecycleController
from hatchway.cluster.controllers.podgc import PodGarbageCollector
from hatchway.kube.api import Object
from tests.unit.controllers.world import World, pod
from tests.unit.fake_client import copied

LEASES = "leases.coordination.k8s.io"


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def new_world() -> tuple[World, Clock, NodeLifecycleController]:
    world = World(NodeLifecycleController)
    controller = world.controller(NodeLifecycleController)
    controller.monotonic = clock = Clock()
    return world, clock, controller


def node(world: World, name: str = "n1") -> Object:
    return world.client.objects["nodes", "", name]


def ready(world: World, name: str = "n1") -> tuple[str, str]:
    found = next(c for c in node(world, name)["status"]["conditions"] if c["type"] == "Ready")
    return found["status"], found.get("reason", "")


def taints(world: World, name: str = "n1") -> set[tuple[str, str]]:
    return {(t["key"].rpartition("/")[2], t["effect"]) for t in node(world, name)["spec"].get("taints", [])}


async def renew(world: World, name: str = "n1") -> None:
    obj = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name},
        "spec": {"renewTime": str(time.monotonic_ns())},
    }
    if (LEASES, "kube-node-lease", name) in world.client.objects:
        await world.client.patch(LEASES, name, {"spec": obj["spec"]}, "kube-node-lease")
    else:
        await world.client.create(LEASES, obj, "kube-node-lease")


async def look(world: World, controller: Any, name: str = "n1") -> None:
    controller.queue.add(("", name))
    await world.settle()


async def test_a_node_is_not_ready_until_it_renews_its_lease() -> None:
    world, clock, controller = new_world()
    await world.node("n1")
    await renew(world)
    await world.client.create("pods", pod("web", nodeName="n1"), "d")
    await world.set_ready(world.client.objects["pods", "d", "web"], True)
    async with world.running():
        clock.seconds += 30
        await renew(world)
        await world.settle()
        clock.seconds += 30
        await look(world, controller)
        assert ready(world)[0] == "True", "the lease was renewed 30 seconds ago"
        clock.seconds += 11
        await look(world, controller)
        assert ready(world) == ("Unknown", "NodeStatusUnknown")
        assert taints(world) == {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
        conditions = {c["type"]: c["status"] for c in world.client.objects["pods", "d", "web"]["status"]["conditions"]}
        assert conditions["Ready"] == "False", "no traffic for its pods"
        assert "NodeNotReady" in world.recorder.reasons()
        before = world.client.writes
        await look(world, controller)
        assert world.client.writes == before
        await renew(world)
        found = copied(node(world))
        found["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        await world.client.update("nodes", found, subresource="status")
        await world.settle()
        assert taints(world) == set()


async def test_pods_are_evicted_after_their_toleration_seconds() -> None:
    world, clock, controller = new_world()
    await world.node("n1")
    unreachable = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
    await world.client.create("pods", pod("stays", nodeName="n1", tolerations=[unreachable]), "d")
    await world.client.create("pods", pod("plain", nodeName="n1"), "d")
    patient = {**unreachable, "tolerationSeconds": 1000}
    await world.client.create("pods", pod("patient", nodeName="n1", tolerations=[patient]), "d")

    def there() -> set[str]:
        return {found["metadata"]["name"] for found in world.pods()}

    async with world.running():
        clock.seconds += 41
        await look(world, controller)
        world.pass_time(299)
        await look(world, controller)
        assert there() == {"stays", "plain", "patient"}
        world.pass_time(2)
        await look(world, controller)
        assert there() == {"stays", "patient"}
        world.pass_time(1000)
        await look(world, controller)
        assert there() == {"stays"}


async def test_a_users_taint_evicts_at_once() -> None:
    world, _, _ = new_world()
    await world.node("n1", taints=[{"key": "maintenance", "effect": "NoExecute"}])
    await world.client.create("pods", pod("plain", nodeName="n1"), "d")
    tolerant = [{"key": "maintenance", "operator": "Exists"}]
    await world.client.create("pods", pod("tolerant", nodeName="n1", tolerations=tolerant), "d")
    async with world.running():
        assert [found["metadata"]["name"] for found in world.pods()] == ["tolerant"]


async def test_not_ready_and_cordoned_nodes_are_tainted() -> None:
    world, _, _ = new_world()
    await world.node("n1", ready=False)
    await world.node("n2", unschedulable=True)
    async with world.running():
        assert taints(world, "n1") == {("not-ready", "NoSchedule"), ("not-ready", "NoExecute")}
        assert taints(world, "n2") == {("unschedulable", "NoSchedule")}
        found = copied(node(world, "n2"))
        found["spec"]["unschedulable"] = False
        await world.client.update("nodes", found)
        await world.settle()
        assert taints(world, "n2") == set()


async def test_old_leases_after_a_restart_of_the_control_plane_are_tolerated() -> None:
    world, _, _ = new_world()
    await world.node("n1")
    await renew(world)
    async with world.running():
        # The lease is old, but its age counts from the start of the controller.
        assert ready(world)[0] == "True"
        assert taints(world) == set()


async def test_pods_whose_node_does_not_exist_are_deleted() -> None:
    world = World(PodGarbageCollector, config=ControllerConfig(orphan_grace=0.5))
    await world.node("n1")
    for name, spec in (("lost", {"nodeName": "gone"}), ("fine", {"nodeName": "n1"}), ("waiting", {})):
        await world.client.create("pods", pod(name, **spec), "d")
    held = pod("held")
    held["metadata"]["finalizers"] = ["x"]
    await world.client.create("pods", held, "d")
    await world.client.delete("pods", "held", "d")
    async with world.running():
        assert {found["metadata"]["name"] for found in world.client.all("pods")} == {"fine", "waiting", "held"}
        await world.client.delete("nodes", "n1")
        await world.settle()
        assert {found["metadata"]["name"] for found in world.client.all("pods")} == {"waiting", "held"}


async def test_a_new_node_keeps_its_taint_until_it_is_ready() -> None:
    world, _, controller = new_world()
    await world.node("n1", taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    reported = node(world)["status"].pop("conditions")
    async with world.running():
        await look(world, controller)
        assert taints(world) == {("not-ready", "NoSchedule")}
        await world.client.patch("nodes", "n1", {"status": {"conditions": reported}}, subresource="status")
        await look(world, controller)
        assert taints(world) == set()


async def test_toleration_seconds_of_a_taint_without_a_time() -> None:
    """Kubectl writes no timeAdded, so the toleration's time begins when the controller first receives the taint."""
    world, _, controller = new_world()
    await world.node("n1")
    some = [{"key": "maintenance", "operator": "Exists", "tolerationSeconds": 60}]
    for name in ("pod", "stays"):
        await world.client.create("pods", pod(name, nodeName="n1", tolerations=some), "d")

    async def taint(*wanted: Object) -> None:
        found = copied(node(world))
        found["spec"]["taints"] = list(wanted)
        await world.client.update("nodes", found)
        await world.settle()

    async with world.running():
        await taint({"key": "maintenance", "effect": "NoExecute"})
        for _ in range(3):
            world.pass_time(15)
            await look(world, controller)
        # The taint is removed and added again, so the time begins again.
        await taint()
        assert world.recorder.events[-1][1:] == ("TaintManagerEviction", "Cancelling deletion of Pod d/stays")
        await taint({"key": "maintenance", "effect": "NoExecute"})
        world.pass_time(45)
        await look(world, controller)
        assert len(world.pods()) == 2
        tolerant = {"spec": {"tolerations": [{"key": "maintenance", "operator": "Exists"}]}}
        await world.client.patch("pods", "stays", tolerant, "d")
        world.pass_time(16)
        await look(world, controller)
        going = world.client.objects["pods", "d", "pod"]
        assert "deletionTimestamp" in going["metadata"]
        [condition] = [one for one in going["status"]["conditions"] if one["type"] == "DisruptionTarget"]
        assert (condition["reason"], condition["message"]) == (
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
        )
        assert [found["metadata"]["name"] for found in world.pods()] == ["stays"]
