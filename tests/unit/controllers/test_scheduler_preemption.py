"""Preemption: victims, the resources reserved for the preemptor, new attempts, and the order of pods."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from hatchway.cluster import watchdog
from hatchway.cluster.controllers import scheduler
from hatchway.cluster.controllers.scheduler import Scheduler
from hatchway.cluster.controllers.scheduling.waiting import NODE_FILTERS, POD_FILTERS, WaitingPods
from hatchway.kube.api import Object
from hatchway.kube.objects import Key
from tests.unit.controllers.scheduling.shapes import HOST, REQUIRED, term
from tests.unit.controllers.world import World, container, pod


async def create(world: World, name: str, cpu: str = "", **spec: Any) -> None:
    containers = [container(**({"resources": {"requests": {"cpu": cpu}}} if cpu else {}))]
    await world.client.create("pods", pod(name, containers=containers, **spec), "d")


def status_of(world: World, name: str) -> Object:
    found: Object = world.client.objects["pods", "d", name]["status"]
    return found


def node_of(world: World, name: str) -> str:
    return str(world.client.objects["pods", "d", name]["spec"].get("nodeName", ""))


async def test_a_pod_of_higher_priority_preempts_another_pod() -> None:
    world = World(Scheduler)
    await world.node("only")
    async with world.running():
        await create(world, "low", "2")
        await world.settle()
        await create(world, "high", "2", priority=10)
        await world.settle()
        going = world.client.objects["pods", "d", "low"]
        assert "deletionTimestamp" in going["metadata"]
        [condition] = [one for one in going["status"]["conditions"] if one["type"] == "DisruptionTarget"]
        assert (condition["status"], condition["reason"]) == ("True", "PreemptionByScheduler")
        assert condition["message"] == "default-scheduler: preempting to accommodate a higher priority pod"
        uid = world.client.objects["pods", "d", "high"]["metadata"]["uid"]
        assert ("low", "Preempted", f"Preempted by pod {uid} on node only") in world.recorder.events
        assert status_of(world, "high")["nominatedNodeName"] == "only"
        # The preemptor waits until the victim has ended; a pod of lower priority does not get the freed resources.
        await create(world, "late", "1", priority=5)
        await world.settle()
        assert (node_of(world, "high"), node_of(world, "late")) == ("", "")
        await world.client.delete("pods", "low", "d", grace_period=0)
        await world.settle()
        assert (node_of(world, "high"), node_of(world, "late")) == ("only", "")


async def test_a_nomination_of_a_pod_of_lower_priority_is_removed() -> None:
    world = World(Scheduler)
    await world.node("only")
    async with world.running():
        await create(world, "low", "2")
        await world.settle()
        await create(world, "middle", "2", priority=5)
        await world.settle()
        assert status_of(world, "middle")["nominatedNodeName"] == "only"
        # The victim `low` has not ended yet. The pod `high` needs no other victim, because it has precedence over
        # `middle`.
        await create(world, "high", "2", priority=9)
        await world.settle()
        await world.client.delete("pods", "low", "d", grace_period=0)
        await world.settle()
        assert (node_of(world, "high"), node_of(world, "middle")) == ("only", "")
        assert status_of(world, "high")["nominatedNodeName"] == "only"
        assert "nominatedNodeName" not in status_of(world, "middle")


async def test_a_nomination_survives_a_restart_of_the_scheduler() -> None:
    world = World(Scheduler)
    await world.node("only")
    await create(world, "high", "2", priority=10, schedulingGates=[{"name": "later"}])
    await create(world, "nominated", "2", priority=10)
    world.client.objects["pods", "d", "nominated"]["status"]["nominatedNodeName"] = "only"
    async with world.running():
        assert node_of(world, "nominated") == "only"
        assert node_of(world, "high") == ""


async def test_the_pod_of_the_highest_priority_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # A pod whose attempt took long has to wait, whatever its priority. So count the attempts here as short.
    monkeypatch.setattr(scheduler, "thread_time", lambda: 0.0)
    monkeypatch.setattr(watchdog, "thread_time", lambda: 0.0)
    world = World(Scheduler)
    for number, priority in enumerate((0, 7, 3, 9)):
        await create(world, f"p{number}", "2", priority=priority)
    async with world.running():
        for name in ("a", "b"):
            await world.node(name)
        await world.settle()
        assert [bool(node_of(world, f"p{number}")) for number in range(4)] == [False, True, False, True]


async def test_labels_of_a_namespace_count() -> None:
    world = World(Scheduler)
    await world.node("only")
    await world.client.create("namespaces", {"metadata": {"name": "other"}, "spec": {}})
    async with world.running():
        wanted = {**term(HOST, app="web"), "namespaceSelector": {"matchLabels": {"team": "a"}}}
        await create(world, "with", affinity={"podAffinity": {REQUIRED: [wanted]}})
        await world.client.create("pods", pod("web", labels={"app": "web"}), "other")
        await world.settle()
        assert node_of(world, "with") == ""
        await world.client.patch("namespaces", "other", {"metadata": {"labels": {"team": "a"}}})
        await world.settle()
        assert node_of(world, "with") == "only"


async def test_replicas_of_a_service_are_spread() -> None:
    world = World(Scheduler)
    for name in ("a", "b"):
        await world.node(name)
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}}}
    await world.client.create("services", service, "d")
    async with world.running():
        await create(world, "heavy", "1500m")
        await world.settle()
        await create(world, "web-0", labels={"app": "web"})
        await world.settle()
        await create(world, "web-1", labels={"app": "web"})
        await world.settle()
        assert {node_of(world, "web-0"), node_of(world, "web-1")} == {"a", "b"}


async def test_a_decision_with_much_work_is_made_on_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_MUCH_WORK", -1)
    world = World(Scheduler)
    await world.node("a")
    async with world.running():
        await create(world, "low", "2")
        await world.settle()
        assert node_of(world, "low") == "a"
        await create(world, "high", "2", priority=1)
        await world.settle()
        assert status_of(world, "high")["nominatedNodeName"] == "a"
        await world.client.delete("pods", "low", "d", grace_period=0)
        await world.settle()
        assert node_of(world, "high") == "a"


async def test_parallel_long_decisions_do_not_exceed_a_nodes_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_MUCH_WORK", -1)
    monkeypatch.setattr(scheduler, "_SOON", 0.01)
    world = World(Scheduler)
    await world.node("a", allocatable={"cpu": "1"})
    await world.node("b", allocatable={"cpu": "1"})
    async with world.running():
        for number in range(12):
            await create(world, f"p{number}", "250m")
        await world.settle()
        assert Counter(node_of(world, f"p{number}") for number in range(12)) == {"a": 4, "b": 4, "": 4}


async def test_parallel_long_decisions_cause_few_new_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduler, "_MUCH_WORK", -1)
    attempts = Counter[str]()
    reconcile = Scheduler.reconcile

    async def counted(self: Scheduler, key: Key) -> float | None:
        attempts[key[1]] += 1
        return await reconcile(self, key)

    monkeypatch.setattr(Scheduler, "reconcile", counted)
    world = World(Scheduler)
    await world.node("only", allocatable={"cpu": "1"})
    async with world.running():
        for number in range(12):
            await create(world, f"p{number}", "500m")
        await world.settle()
        # While a decision is made, two other pods may be bound, and each of them may cause a new attempt.
        assert max(attempts.values()) <= 3, attempts


async def test_the_schedulers_own_writes_cause_no_new_attempts() -> None:
    world = World(Scheduler)
    await world.node("small", allocatable={"cpu": "1"})
    async with world.running():
        await create(world, "big", "2")
        await world.settle()
        writes = world.client.writes
        await world.client.patch("nodes", "small", {"metadata": {"annotations": {"a": "b"}}})
        await world.client.patch("pods", "big", {"status": {"message": "x"}}, "d", subresource="status")
        await world.settle()
        assert world.client.writes == writes + 2
        assert world.recorder.reasons() == ["FailedScheduling"]


def test_waiting_pods_are_tried_after_changes_that_affect_them() -> None:
    waiting = WaitingPods()
    waiting.add(("d", "cpu"), frozenset(("NodeResourcesFit",)), 100.0, 0.0)
    waiting.add(("d", "taint"), frozenset(("TaintToleration",)), 100.0, 0.0)
    waiting.add(("d", "apart"), frozenset(("InterPodAffinity", "TaintToleration")), 100.0, 0.0)

    def affected(plugins: frozenset[str], **more: Any) -> list[str]:
        return [key[1] for key, _ in waiting.affected(plugins, 100.0, **more)]

    assert affected(POD_FILTERS) == ["apart"]
    assert affected(NODE_FILTERS, others=True) == ["cpu", "apart"]
    assert affected(frozenset(), others=True) == ["cpu", "taint", "apart"]
    waiting.start(("d", "apart"))
    assert affected(POD_FILTERS) == []


def test_the_delay_of_pods_with_long_attempts_grows() -> None:
    waiting, plugins = WaitingPods(), frozenset(("NodeResourcesFit",))

    def wait_of(name: str, now: float) -> float:
        return dict(waiting.affected(frozenset(), now, others=True))["d", name]

    waiting.add(("d", "slow"), plugins, 0.0, 0.5)
    assert wait_of("slow", 1.0) == 9.0
    for number in range(25):
        waiting.add(("d", f"p{number}"), plugins, 0.0, 0.0)
    assert wait_of("p3", 0.25) == 0.75
    for _ in range(6):
        waiting.start(("d", "p3"))
        waiting.add(("d", "p3"), plugins, 50.0, 0.0)
    assert (wait_of("p3", 50.0), wait_of("p3", 61.0)) == (10.0, 0.0)
    waiting.forget(("d", "p3"))
    waiting.add(("d", "p3"), plugins, 70.0, 0.0)
    assert wait_of("p3", 70.0) == 1.0
