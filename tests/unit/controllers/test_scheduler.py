"""The scheduler binds a pod to a suitable node, or writes the reason why there is none."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from hatchway.cluster.controllers import scheduler
from hatchway.cluster.controllers.placement import Decision, choose
from hatchway.cluster.controllers.replicaset import ReplicaSetController
from hatchway.cluster.controllers.scheduler import Scheduler
from hatchway.cluster.controllers.scheduling.podinfo import PodInfo, requests, scaled
from hatchway.cluster.controllers.scheduling.tolerations import tolerates
from hatchway.kube.api import Object
from tests.unit.controllers.world import World, container, pod, replica_set


def placed(world: World) -> dict[str, str]:
    return {p["metadata"]["name"]: p["spec"].get("nodeName", "") for p in world.client.all("pods")}


async def create(world: World, name: str, **spec: object) -> None:
    await world.client.create("pods", pod(name, **spec), "d")


async def test_replicas_are_spread() -> None:
    world = World(Scheduler, ReplicaSetController)
    for name in ("a", "b", "c"):
        await world.node(name)
    await world.client.create("replicasets.apps", replica_set("web", 6), "d")
    async with world.running():
        assert Counter(placed(world).values()) == {"a": 2, "b": 2, "c": 2}
        assert world.recorder.reasons().count("Scheduled") == 6
        assert "Successfully assigned d/web-" in next(m for _, r, m in world.recorder.events if r == "Scheduled")


async def test_a_pod_waits_with_a_reason_until_a_node_fits() -> None:
    world = World(Scheduler)
    await world.node("small", allocatable={"cpu": "500m"})
    await world.node("tainted", taints=[{"key": "only", "value": "gpu", "effect": "NoSchedule"}])
    await world.node("shut", unschedulable=True)
    async with world.running():
        await create(world, "big", containers=[container(resources={"requests": {"cpu": "1", "memory": "1Gi"}})])
        await world.settle()
        [condition] = world.client.all("pods")[0]["status"]["conditions"]
        assert condition["reason"] == "Unschedulable"
        assert condition["message"] == (
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), "
            "1 node(s) were unschedulable. preemption: 0/3 nodes are available: "
            "3 Preemption is not helpful for scheduling."
        )
        assert world.recorder.events == [("big", "FailedScheduling", condition["message"])]
        await world.node("large")
        await world.settle()
        assert placed(world) == {"big": "large"}
        conditions = world.client.all("pods")[0]["status"]["conditions"]
        assert [(c["type"], c["status"]) for c in conditions] == [("PodScheduled", "True")]


async def test_freed_resources_are_used() -> None:
    world = World(Scheduler)
    await world.node("only", allocatable={"pods": "1"})
    async with world.running():
        await create(world, "one")
        await world.settle()
        await create(world, "two")
        await world.settle()
        assert placed(world) == {"one": "only", "two": ""}
        assert "Too many pods" in world.recorder.events[-1][2]
        await world.client.delete("pods", "one", "d", grace_period=0)
        await world.settle()
        assert placed(world) == {"two": "only"}


async def test_many_pods_at_once_do_not_exceed_a_nodes_resources() -> None:
    world = World(Scheduler)
    await world.node("a", allocatable={"cpu": "1"})
    await world.node("b", allocatable={"cpu": "1"})
    async with world.running():
        for number in range(12):
            await create(world, f"p{number}", containers=[container(resources={"requests": {"cpu": "250m"}})])
        await world.settle()
        assert Counter(placed(world).values()) == {"a": 4, "b": 4, "": 4}


async def test_selectors_affinity_tolerations_and_ports() -> None:
    world = World(Scheduler)
    await world.node("a", labels={"disk": "ssd", "size": "3"})
    await world.node("b", labels={"disk": "hdd", "size": "7"})
    await world.node("c", taints=[{"key": "t", "value": "v", "effect": "NoExecute"}], labels={"size": "9"})

    def affinity(*expressions: Object, field: str = "matchExpressions") -> Object:
        required = {"nodeSelectorTerms": [{field: list(expressions)}]}
        return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}

    async with world.running():
        await create(world, "selector", nodeSelector={"disk": "hdd"})
        await create(world, "gt", affinity=affinity({"key": "size", "operator": "Gt", "values": ["5"]}))
        await create(
            world,
            "field",
            affinity=affinity({"key": "metadata.name", "operator": "In", "values": ["a"]}, field="matchFields"),
        )
        await create(
            world,
            "tolerates",
            tolerations=[{"key": "t", "operator": "Exists"}],
            affinity=affinity({"key": "disk", "operator": "DoesNotExist"}),
        )
        await create(world, "nothing", affinity=affinity())
        await create(world, "elsewhere", schedulerName="mine")
        await create(world, "gated", schedulingGates=[{"name": "wait"}])
        await world.settle()
        port = [container(ports=[{"containerPort": 80, "hostPort": 80}])]
        for name in ("port1", "port2", "port3"):
            await create(world, name, containers=port)
        await world.settle()
        found = placed(world)
        ports = sorted(found.pop(name) for name in ("port1", "port2", "port3"))
        assert ports == ["", "a", "b"]
        assert found == {
            "selector": "b", "gt": "b", "field": "a", "tolerates": "c",
            "nothing": "", "elsewhere": "", "gated": "",
        }  # fmt: skip


async def test_waiting_pods_are_placed_on_a_node_that_becomes_ready() -> None:
    world = World(Scheduler)
    node = await world.node("late", ready=False)
    async with world.running():
        await create(world, "one")
        await world.settle()
        assert placed(world) == {"one": ""}
        node["status"]["conditions"][0]["status"] = "True"
        await world.client.update("nodes", node, subresource="status")
        await world.settle()
        assert placed(world) == {"one": "late"}


async def test_no_nodes_at_all() -> None:
    world = World(Scheduler)
    async with world.running():
        await create(world, "one")
        await world.settle()
        assert world.recorder.events == [("one", "FailedScheduling", "no nodes available to schedule pods")]


def test_requests_of_a_pod() -> None:
    def wants(cpu: str, **more: object) -> Object:
        return container(resources={"requests": {"cpu": cpu}}, **more)

    found = pod("p", containers=[wants("100m"), wants("200m")], initContainers=[wants("1"), wants("50m")])
    assert requests(found) == {"cpu": 1000}
    sidecar = pod("p", containers=[wants("100m")], initContainers=[wants("50m", restartPolicy="Always"), wants("1")])
    assert requests(sidecar) == {"cpu": 1050}
    limited = pod("p", containers=[container(resources={"limits": {"memory": "1Mi"}})], overhead={"memory": "1"})
    assert requests(limited) == {"memory": 1048577}


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "a", "operator": "Exists"}, True),
        ({"key": "a", "value": "1"}, True),
        ({"key": "a", "operator": "Equal", "value": "2"}, False),
        ({"key": "b", "operator": "Exists"}, False),
        ({"key": "a", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"value": "1"}, False),
    ],
)
def test_tolerations(toleration: Object, expected: bool) -> None:
    assert tolerates(toleration, {"key": "a", "value": "1", "effect": "NoSchedule"}) is expected


@pytest.mark.parametrize(
    ("text", "cpu", "whole"),
    [
        ("500m", 500, 1),
        ("2", 2000, 2),
        ("1.5Gi", 1610612736000, 1610612736),
        ("1e3", 1000000, 1000),
        ("1k", 10**6, 1000),
    ],
)
def test_quantities(text: str, cpu: int, whole: int) -> None:
    assert scaled("cpu", text) == cpu
    assert scaled("memory", text) == whole


async def test_a_node_that_is_not_ready_gets_pods_with_the_toleration() -> None:
    world = World(Scheduler)
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    await world.node("new", ready=False, taints=[taint])
    async with world.running():
        await create(world, "plain")
        await create(world, "agent", tolerations=[{**taint, "operator": "Exists"}])
        await world.settle()
        assert placed(world)["agent"] == "new"
        assert not placed(world)["plain"]


async def test_a_pod_with_a_long_decision_is_not_retried_at_every_ended_pod(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decided: list[str] = []
    seconds = 0.0

    def slowly(wanted: PodInfo, *rest: Any, **more: Any) -> Decision:
        nonlocal seconds
        decided.append(wanted.key[1])
        if wanted.key[1] == "picky":
            seconds += 1
        return choose(wanted, *rest, **more)

    monkeypatch.setattr(scheduler, "choose", slowly)
    monkeypatch.setattr(scheduler, "thread_time", lambda: seconds)
    world = World(Scheduler)
    await world.node("only")
    async with world.running():
        small, large = ({"requests": {"cpu": cpu}} for cpu in ("50m", "1950m"))
        for number in range(20):
            await create(world, f"p{number}", containers=[container(resources=small)])
        await create(world, "picky", containers=[container(resources=large)])
        await create(world, "quick", containers=[container(resources=large)])
        await world.settle()
        before = Counter(decided)
        for number in range(18):
            await world.client.delete("pods", f"p{number}", "d", grace_period=0)
            await world.settle()
        assert Counter(decided)["picky"] == before["picky"]
        assert Counter(decided)["quick"] > before["quick"]
        # The next attempt finds the node that fits.
        await world.node("better", allocatable={"cpu": "8"})
        await world.settle()
        for controller in world.controllers:
            controller.queue.add(("d", "picky"))
        await world.settle()
        assert placed(world)["picky"] == "better"
