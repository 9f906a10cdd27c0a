"""ReplicaSets reach their number of pods after any series of events."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatchway.cluster.controllers.replicaset import ReplicaSetController
from hatchway.errors import ApiError
from tests.unit.controllers.world import World, pod, replica_set
from tests.unit.fake_client import copied

SETS = "replicasets.apps"


async def scale(world: World, name: str, replicas: int) -> None:
    while True:
        found = copied(world.client.objects[SETS, "d", name])
        found["spec"]["replicas"] = replicas
        try:
            await world.client.update(SETS, found)
            return
        except ApiError as error:
            # If the controller writes the status between the read and the write, the write is a conflict.
            if error.reason != "Conflict":
                raise


async def test_a_new_set_makes_its_pods_and_no_more() -> None:
    world = World(ReplicaSetController)
    await world.client.create(SETS, replica_set("web", 3), "d")
    async with world.running():
        assert len(world.pods(app="web")) == 3
        owner = world.pods()[0]["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("ReplicaSet", "web", True)
        assert world.pods()[0]["metadata"]["name"].startswith("web-")
        assert world.recorder.reasons() == ["SuccessfulCreate"] * 3
        await world.kubelets()
        status = (await world.client.get(SETS, "web", "d"))["status"]
        assert (status["replicas"], status["readyReplicas"], status["availableReplicas"]) == (3, 3, 3)
        assert status["observedGeneration"] == 1
        before = world.client.writes
        world.controllers[0].queue.add(("d", "web"))
        await world.settle()
        assert world.client.writes == before


async def test_deleted_and_finished_pods_are_replaced() -> None:
    world = World(ReplicaSetController)
    await world.client.create(SETS, replica_set("web", 2), "d")
    async with world.running():
        first, second = world.pods()
        await world.client.delete("pods", first["metadata"]["name"], "d")
        second["status"]["phase"] = "Failed"
        await world.client.update("pods", second, subresource="status")
        await world.settle()
        assert len([p for p in world.pods() if p["status"]["phase"] != "Failed"]) == 2


async def test_a_pod_whose_labels_do_not_match_any_more_is_released_and_replaced() -> None:
    world = World(ReplicaSetController)
    await world.client.create(SETS, replica_set("web", 2), "d")
    async with world.running():
        chosen = world.pods()[0]["metadata"]["name"]
        await world.client.patch("pods", chosen, {"metadata": {"labels": {"app": "debug"}}}, "d")
        await world.settle()
        assert len(world.pods(app="web")) == 2
        [released] = world.pods(app="debug")
        assert released["metadata"]["name"] == chosen
        assert "ownerReferences" not in released["metadata"]
        await world.client.patch("pods", chosen, {"metadata": {"labels": {"app": "web"}}}, "d")
        await world.settle()
        assert len(world.pods(app="web")) == 2


async def test_a_matching_pod_without_owner_is_adopted() -> None:
    world = World(ReplicaSetController)
    await world.client.create("pods", pod("alone", labels={"app": "web"}), "d")
    await world.client.create(SETS, replica_set("web", 2), "d")
    async with world.running():
        assert len(world.pods()) == 2
        [alone] = [p for p in world.pods() if p["metadata"]["name"] == "alone"]
        assert alone["metadata"]["ownerReferences"][0]["name"] == "web"


async def test_scaling_down_deletes_pods_in_the_order_of_kubernetes() -> None:
    world = World(ReplicaSetController)
    await world.client.create(SETS, replica_set("web", 4), "d")
    async with world.running():
        pods = world.pods()
        for found in pods[:3]:
            await world.set_ready(found, True)
        world.pass_time(60)
        await world.client.patch(
            "pods",
            pods[0]["metadata"]["name"],
            {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "100"}}},
            "d",
        )
        await world.set_ready(pods[1], False)
        await world.set_ready(pods[1], True)
        await world.settle()
        await scale(world, "web", 3)
        await world.settle()
        assert pods[3]["metadata"]["name"] not in {p["metadata"]["name"] for p in world.pods()}
        await scale(world, "web", 2)
        await world.settle()
        assert {p["metadata"]["name"] for p in world.pods()} == {
            pods[0]["metadata"]["name"],
            pods[2]["metadata"]["name"],
        }


async def test_a_refused_pod_is_reported_in_the_status_and_retried() -> None:
    world = World(ReplicaSetController)
    refused = [
        ApiError(403, "Forbidden", "no more pods"),
        ApiError(403, "Forbidden", "no more pods"),
    ]

    def refuse(verb: str, resource: str, _obj: Any) -> ApiError | None:
        return refused.pop() if refused and (verb, resource) == ("create", "pods") else None

    world.client.refuse = refuse
    seen: list[Any] = []
    world.context.cache(SETS).subscribe(lambda _k, obj, _b: seen.append(obj.get("status", {}).get("conditions")))
    await world.client.create(SETS, replica_set("web", 1), "d")
    async with world.running():
        assert len(world.pods()) == 1
        [failure] = next(conditions for conditions in seen if conditions)
        assert (failure["type"], failure["reason"], failure["message"]) == (
            "ReplicaFailure", "FailedCreate", "no more pods",
        )  # fmt: skip
        assert "conditions" not in (await world.client.get(SETS, "web", "d"))["status"]


async def test_pods_count_as_available_after_min_ready_seconds() -> None:
    world = World(ReplicaSetController)
    await world.client.create(SETS, replica_set("web", 1, minReadySeconds=30), "d")
    async with world.running():
        await world.kubelets()
        status = (await world.client.get(SETS, "web", "d"))["status"]
        assert status["readyReplicas"] == 1
        assert "availableReplicas" not in status
        world.pass_time(31)
        world.controllers[0].queue.add(("d", "web"))
        await world.settle()
        assert (await world.client.get(SETS, "web", "d"))["status"]["availableReplicas"] == 1


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("scale"), st.integers(0, 6)),
        st.tuples(
            st.sampled_from(["delete", "kill", "fail", "label", "label back", "ready", "unready"]), st.integers(0, 9)
        ),
        st.tuples(st.just("settle"), st.just(0)),
    ),
    max_size=25,
)


async def do(world: World, operation: str, number: int) -> None:
    pods = world.client.all("pods")
    if not pods:
        return
    chosen = pods[number % len(pods)]
    name = chosen["metadata"]["name"]
    if operation == "delete":
        await world.client.delete("pods", name, "d")
    elif operation == "kill":
        await world.client.delete("pods", name, "d", grace_period=0)
    elif operation == "fail":
        chosen["status"]["phase"] = "Failed"
        await world.client.update("pods", chosen, subresource="status")
    elif operation.startswith("label"):
        label = "web" if operation == "label back" else "out"
        await world.client.patch("pods", name, {"metadata": {"labels": {"app": label}}}, "d")
    elif chosen["status"]["phase"] != "Failed":
        await world.set_ready(chosen, operation == "ready")


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(OPERATIONS)
async def test_a_replica_set_converges_after_any_events(operations: list[tuple[str, int]]) -> None:
    world = World(ReplicaSetController)
    await world.client.create(SETS, replica_set("web", 3), "d")
    async with world.running():
        wanted = 3
        for operation, number in operations:
            if operation == "scale":
                wanted = number
                await scale(world, "web", number)
            elif operation == "settle":
                await world.settle()
            else:
                # The pod may have been deleted since it was read.
                with contextlib.suppress(ApiError):
                    await do(world, operation, number)
        await world.settle()
        await world.kubelets()
        mine = [p for p in world.pods(app="web") if p["status"]["phase"] != "Failed"]
        assert len(mine) == wanted
        assert all(p["metadata"]["ownerReferences"][0]["name"] == "web" for p in mine)
        assert all(
            "ownerReferences" not in p["metadata"] for p in world.pods(app="out") if p["status"]["phase"] != "Failed"
        )
        status = (await world.client.get(SETS, "web", "d"))["status"]
        assert status["replicas"] == wanted
        assert status.get("readyReplicas", 0) == sum(
            any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", [])) for p in mine
        )
