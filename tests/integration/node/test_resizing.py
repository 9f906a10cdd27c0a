"""Resizes of pods on a real kubelet: granted, deferred, with and without a restart, and after the agent's restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.amounts import Amount
from hatchway.cluster.node.resizing import NodeLedger, Shortage
from hatchway.kube.api import Object
from tests.integration.node.test_kubelet import SERVE
from tests.integration.node.world import NODE, World, container, open_world, ready

RESTART = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]


async def resize(world: World, name: str, **resources: Any) -> Object:
    pod = await world.client.get("pods", name, "default")
    first = {**pod["spec"]["containers"][0], "resources": resources}
    return await world.client.update(
        "pods", {**pod, "spec": {**pod["spec"], "containers": [first]}}, subresource="resize"
    )


def conditions(pod: Object) -> dict[str, Object]:
    return {one["type"]: one for one in pod["status"].get("conditions") or ()}


def is_resized(generation: int) -> Any:
    def holds(pod: Object) -> bool:
        status = pod.get("status") or {}
        return (
            status.get("observedGeneration", 0) >= generation
            and not {"PodResizePending", "PodResizeInProgress"} & conditions(pod).keys()
            and ready(pod)
        )

    return holds


async def test_a_pod_is_resized_in_place_and_by_a_restart(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.node():
        await world.create("web", *SERVE, resources={"requests": {"cpu": "10m", "memory": "16Mi"}})
        before = container(await world.pod("web", ready))
        assert before["allocatedResources"] == {"cpu": "10m", "memory": "16Mi"}
        wanted = {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"cpu": "1"}}
        changed = await resize(world, "web", **wanted)
        found = container(await world.pod("web", is_resized(changed["metadata"]["generation"])))
        assert (found["resources"], found["allocatedResources"]) == (wanted, wanted["requests"])
        assert (found["restartCount"], found["containerID"]) == (0, before["containerID"])
        started = dict(await world.events("web", 1, "ResizeCompleted"))["ResizeCompleted"]
        assert started.startswith('Pod resize completed: {"containers":[{"name":"c","resources":')
        assert started.endswith(f'"generation":{changed["metadata"]["generation"]}}}')


async def test_a_container_is_restarted_when_its_policy_says_so(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.node():
        first = {"name": "c", "image": "hatchway/host", "command": list(SERVE), "resizePolicy": RESTART}
        first["resources"] = {"requests": {"cpu": "10m", "memory": "16Mi"}}
        await world.create("web", containers=[first])
        await world.pod("web", ready)
        changed = await resize(world, "web", requests={"cpu": "20m", "memory": "16Mi"})
        found = container(await world.pod("web", is_resized(changed["metadata"]["generation"])))
        assert found["restartCount"] == 0
        changed = await resize(world, "web", requests={"cpu": "20m", "memory": "32Mi"})
        found = container(await world.pod("web", is_resized(changed["metadata"]["generation"])))
        assert (found["restartCount"], found["allocatedResources"]["memory"]) == (1, "32Mi")
        assert ("Killing", "Container c resize requires restart") in await world.events("web", 1, "Killing")


async def test_a_resize_waits_for_room_even_after_a_restart_of_the_agent(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        async with world.node():
            node = await world.client.get("nodes", NODE.name)
            most = Amount.parse(node["status"]["allocatable"]["cpu"]).nano // 10**6
            await world.create("big", *SERVE, resources={"requests": {"cpu": f"{most - 100}m"}})
            await world.create("web", *SERVE, resources={"requests": {"cpu": "50m"}})
            for name in ("big", "web"):
                await world.pod(name, ready)
            changed = await resize(world, "web", requests={"cpu": "200m"})
            found = await world.pod("web", lambda pod: "PodResizePending" in conditions(pod))
            pending = conditions(found)["PodResizePending"]
            assert (pending["status"], pending["reason"]) == ("True", "Deferred")
            assert pending["observedGeneration"] == changed["metadata"]["generation"]
            assert pending["message"] == (
                f"Node didn't have enough resource: cpu, requested: 200, used: {most - 100}, capacity: {most}"
            )
            assert container(found)["allocatedResources"] == {"cpu": "50m"}
            assert (await world.events("web", 1, "ResizeDeferred"))[0][1].startswith("Pod resize Deferred: {")
        async with world.node():
            found = await world.pod("web", ready)
            assert container(found)["allocatedResources"] == {"cpu": "50m"}
            await world.client.delete("pods", "big", "default", grace_period=0)
            found = await world.pod("web", is_resized(changed["metadata"]["generation"]))
            assert container(found)["resources"] == {"requests": {"cpu": "200m"}}


def pod_of(priority: int, kind: str = "Burstable") -> Object:
    return {"spec": {"priority": priority}, "status": {"qosClass": kind}}


def test_waiting_pods_are_retried_in_kubernetes_order() -> None:
    ledger, asked = NodeLedger({"cpu": "1"}), []
    for uid, pod in (("a", pod_of(0)), ("b", pod_of(0, "Guaranteed")), ("c", pod_of(9)), ("d", pod_of(0))):
        ledger.wait(uid, pod, lambda uid=uid: asked.append(uid))  # type: ignore[misc]
    ledger.give_up("d")
    ledger.reserve("x", {"cpu": Amount.parse("500m")})
    assert asked == []
    ledger.release("x")
    assert asked == ["c", "b", "a"]


def test_a_smaller_request_is_always_granted() -> None:
    ledger = NodeLedger({"cpu": "1", "pods": "1"})
    ledger.reserve("a", {"cpu": Amount.parse("2")})
    assert ledger.shortage("a", {"cpu": Amount.parse("1500m")}) is None
    assert ledger.shortage("a", {"cpu": Amount.parse("2500m")}) == Shortage("cpu", 2500, 0, 1000)
    assert ledger.shortage("b", {}) == Shortage("pods", 1, 1, 1)


async def test_a_pod_that_the_node_cannot_run_is_rejected(tmp_path: Path) -> None:
    """The pods name their node themselves, so the scheduler has not checked them."""
    port = {"ports": [{"containerPort": 8080, "hostPort": 21017}]}
    async with open_world(tmp_path) as world, world.node():
        await world.create("first", *SERVE, **port)
        await world.pod("first", ready)
        await world.create("second", *SERVE, **port)
        await world.create("large", *SERVE, resources={"requests": {"memory": "1000Ti"}})
        second, large = [await world.pod(name, is_failed) for name in ("second", "large")]
        assert (second["status"]["reason"], second["status"]["message"]) == (
            "NodePorts",
            "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        )
        assert large["status"]["reason"] == "OutOfmemory"
        assert "Node didn't have enough resource: memory, requested: 1099511627776000" in large["status"]["message"]
        await world.client.delete("pods", "first", "default", grace_period=0)
        await world.create("third", *SERVE, **port)
        await world.pod("third", ready)


def is_failed(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") == "Failed"


@pytest.mark.parametrize("memory", ["64Mi", "0.0625Gi"])
async def test_the_same_amount_in_another_notation_is_not_a_resize(tmp_path: Path, memory: str) -> None:
    async with open_world(tmp_path) as world, world.node():
        await world.create("web", *SERVE, resources={"requests": {"memory": "65536Ki"}})
        await world.pod("web", ready)
        changed = await resize(world, "web", requests={"memory": memory})
        await world.pod("web", is_resized(changed["metadata"]["generation"]))
        assert not [one for one in await world.events("web", 3) if one[0].startswith("Resize")]
