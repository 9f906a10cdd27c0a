"""Deployments roll out, roll back and scale within their limits, and their status is correct."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatchway.cluster.controllers.deployment import DeploymentController
from hatchway.cluster.controllers.replicaset import ReplicaSetController
from hatchway.cluster.controllers.rollout import REVISION, proportional_sizes, template_hash
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from tests.unit.controllers.world import World, deployment
from tests.unit.fake_client import copied

RESOURCE, SETS = "deployments.apps", "replicasets.apps"


async def make(name: str = "web", replicas: int = 3, **more: Any) -> World:
    world = World(DeploymentController, ReplicaSetController)
    await world.client.create(RESOURCE, deployment(name, replicas, **more), "d")
    return world


async def change(world: World, **spec: Any) -> None:
    found = copied(world.client.objects[RESOURCE, "d", "web"])
    image = spec.pop("image", None)
    found["spec"].update(spec)
    if image:
        found["spec"]["template"]["spec"]["containers"][0]["image"] = image
    await world.client.update(RESOURCE, found)


def current(world: World) -> Object:
    return world.client.objects[RESOURCE, "d", "web"]


def sizes(world: World) -> dict[str, int]:
    """Return the sizes of the ReplicaSets by image."""
    return {
        found["spec"]["template"]["spec"]["containers"][0]["image"]: found["spec"]["replicas"]
        for found in world.client.all(SETS)
    }


def condition(world: World, kind: str) -> tuple[str, str]:
    found = next(c for c in current(world)["status"]["conditions"] if c["type"] == kind)
    return found["status"], found["reason"]


async def test_a_new_deployment_becomes_available() -> None:
    world = await make()
    async with world.running():
        [found] = world.client.all(SETS)
        label = found["metadata"]["labels"]["pod-template-hash"]
        assert found["metadata"]["name"] == f"web-{label}"
        assert found["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": label}
        assert len(world.pods(**{"pod-template-hash": label})) == 3
        assert condition(world, "Available") == ("False", "MinimumReplicasUnavailable")
        await world.kubelets()
        assert condition(world, "Available") == ("True", "MinimumReplicasAvailable")
        assert condition(world, "Progressing") == ("True", "NewReplicaSetAvailable")
        status = current(world)["status"]
        assert {status[f] for f in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")} == {3}
        assert "unavailableReplicas" not in status
        assert current(world)["metadata"]["annotations"][REVISION] == "1"
        assert ("web", "ScalingReplicaSet", f"Scaled up replica set web-{label} from 0 to 3") in world.recorder.events
        before = world.client.writes
        world.controller(DeploymentController).queue.add(("d", "web"))
        await world.settle()
        assert world.client.writes == before


async def test_rolling_update_obeys_max_unavailable_and_max_surge() -> None:
    world = await make(replicas=10)
    async with world.running():
        await world.kubelets()
        await change(world, image="v2")
        await world.settle()
        lowest, highest = 10, 10
        for _ in range(200):
            pods = world.pods()
            ready = [p for p in pods if any(c["type"] == "Ready" for c in p["status"].get("conditions", []))]
            lowest, highest = min(lowest, len(ready)), max(highest, len(pods))
            waiting = [p for p in pods if p["status"]["phase"] == "Pending"]
            gone = [p for p in world.client.all("pods") if "deletionTimestamp" in p["metadata"]]
            if not waiting and not gone:
                break
            for found in gone[:1]:
                await world.client.delete("pods", found["metadata"]["name"], "d", grace_period=0)
            for found in waiting[:1]:
                await world.set_ready(found, True)
            await world.settle()
        assert sizes(world) == {"x": 0, "v2": 10}
        assert lowest >= 8, "25% of 10, rounded down, may be unavailable"
        assert highest <= 13, "25% of 10, rounded up, may be added"
        assert condition(world, "Progressing") == ("True", "NewReplicaSetAvailable")


async def test_undo_brings_the_old_set_back_with_a_new_revision() -> None:
    world = await make()
    async with world.running():
        await world.kubelets()
        await change(world, image="v2")
        await world.settle()
        await world.kubelets()
        assert current(world)["metadata"]["annotations"][REVISION] == "2"
        await change(world, image="x")
        await world.settle()
        await world.kubelets()
        assert sizes(world) == {"x": 3, "v2": 0}
        revisions = {
            found["spec"]["template"]["spec"]["containers"][0]["image"]: found["metadata"]["annotations"]
            for found in world.client.all(SETS)
        }
        assert (revisions["x"][REVISION], revisions["v2"][REVISION]) == ("3", "2")
        assert revisions["x"]["deployment.kubernetes.io/revision-history"] == "1"
        assert current(world)["metadata"]["annotations"][REVISION] == "3"


async def test_a_rollout_that_never_gets_ready_keeps_the_old_pods_and_times_out() -> None:
    world = await make(replicas=4)
    async with world.running():
        await world.kubelets()
        await change(world, image="broken")
        await world.settle()
        for _ in range(5):
            await world.kubelets(ready=False)
        assert sizes(world) == {"x": 3, "broken": 2}
        assert condition(world, "Available")[0] == "True"
        world.pass_time(700)
        world.controller(DeploymentController).queue.add(("d", "web"))
        await world.settle()
        assert condition(world, "Progressing") == ("False", "ProgressDeadlineExceeded")
        await change(world, image="x")
        await world.settle()
        await world.kubelets()
        assert sizes(world) == {"x": 4, "broken": 0}
        assert condition(world, "Progressing") == ("True", "NewReplicaSetAvailable")


async def test_recreate_never_runs_two_versions() -> None:
    world = await make(strategy={"type": "Recreate"})
    async with world.running():
        await world.kubelets()
        for found in world.client.all("pods"):
            # Pods on a node are deleted after their grace period, by the kubelet.
            bound = copied(found)
            bound["spec"]["nodeName"] = "n"
            await world.client.update("pods", bound)
        await change(world, image="v2")
        await world.settle()
        assert sizes(world) == {"x": 0}
        assert len(world.client.all("pods")) == 3
        await world.kubelets()
        assert sizes(world) == {"x": 0, "v2": 3}
        assert len(world.pods()) == 3


async def test_a_paused_deployment_is_scaled_but_not_rolled_out() -> None:
    world = await make()
    async with world.running():
        await world.kubelets()
        await change(world, paused=True, image="v2")
        await world.settle()
        assert sizes(world) == {"x": 3}
        assert condition(world, "Progressing") == ("Unknown", "DeploymentPaused")
        await change(world, replicas=5)
        await world.settle()
        assert sizes(world) == {"x": 5}
        await change(world, paused=False)
        await world.settle()
        await world.kubelets()
        assert sizes(world) == {"x": 0, "v2": 5}
        assert condition(world, "Progressing") == ("True", "NewReplicaSetAvailable")


async def test_old_sets_beyond_the_history_limit_are_deleted() -> None:
    world = await make(revisionHistoryLimit=2)
    async with world.running():
        for number in range(5):
            await change(world, image=f"v{number}")
            await world.settle()
            await world.kubelets()
        assert sizes(world) == {"v2": 0, "v3": 0, "v4": 3}


async def test_annotations_are_copied_to_the_set() -> None:
    world = await make()
    async with world.running():
        patch = {"metadata": {"annotations": {"kubernetes.io/change-cause": "why"}}}
        await world.client.patch(RESOURCE, "web", patch, "d")
        await world.settle()
        [found] = world.client.all(SETS)
        assert found["metadata"]["annotations"]["kubernetes.io/change-cause"] == "why"


async def test_the_hash_is_changed_if_another_set_has_the_name() -> None:
    world = await make()
    wanted = current(world)["spec"]["template"]
    name = "web-" + template_hash(wanted, None)
    stranger = {
        "metadata": {"name": name},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"z": "z"}}, "template": {}},
    }
    await world.client.create(SETS, {"apiVersion": "apps/v1", "kind": "ReplicaSet", **stranger}, "d")
    async with world.running():
        assert current(world)["status"]["collisionCount"] == 1
        assert len(world.pods(app="web")) == 3


async def test_a_refused_set_is_reported_in_the_status() -> None:
    world = await make()
    refused = [True]

    def refuse(verb: str, resource: str, _obj: Any) -> ApiError | None:
        bad = refused and (verb, resource) == ("create", SETS)
        return ApiError(422, "Invalid", "bad template") if bad else None

    world.client.refuse = refuse
    with contextlib.suppress(AssertionError):
        # The creation is tried again until it is accepted.
        async with world.running():
            pass
    assert condition(world, "Progressing") == ("False", "ReplicaSetCreateError")


def test_proportional_sizes() -> None:
    def sized(name: str, replicas: int, most: int) -> Object:
        annotations = {"deployment.kubernetes.io/max-replicas": str(most)}
        return {"metadata": {"name": name, "annotations": annotations}, "spec": {"replicas": replicas}}

    rolling = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}
    goal = {"metadata": {}, "spec": {"replicas": 15, **rolling}}
    # The documentation's example of proportional scaling: from 10 replicas to 15 during a rollout.
    assert proportional_sizes(goal, [sized("new", 5, 13), sized("old", 8, 13)]) == {"old": 11, "new": 7}
    down = {"metadata": {}, "spec": {"replicas": 5, **rolling}}
    assert sum(proportional_sizes(down, [sized("new", 5, 13), sized("old", 8, 13)]).values()) == 8
    zero = {"metadata": {}, "spec": {"replicas": 0, **rolling}}
    assert proportional_sizes(zero, [sized("new", 5, 13), sized("old", 8, 13)]) == {"old": 0, "new": 0}


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("scale"), st.integers(0, 6)),
        st.tuples(st.just("image"), st.integers(1, 3)),
        st.tuples(st.sampled_from(["pause", "resume", "kubelets", "settle", "recreate", "roll"]), st.just(0)),
        st.tuples(st.sampled_from(["delete set", "delete pod"]), st.integers(0, 5)),
    ),
    max_size=15,
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(OPERATIONS)
async def test_a_deployment_converges_after_any_events(operations: list[tuple[str, int]]) -> None:
    world = await make()
    wanted, image = 3, "x"
    async with world.running():
        for operation, number in operations:
            with contextlib.suppress(ApiError):
                if operation == "scale":
                    await change(world, replicas=number)
                    wanted = number
                elif operation == "image":
                    await change(world, image=f"v{number}")
                    image = f"v{number}"
                elif operation in ("pause", "resume"):
                    await change(world, paused=operation == "pause")
                elif operation == "recreate":
                    await change(world, strategy={"type": "Recreate"})
                elif operation == "roll":
                    await change(world, strategy={"type": "RollingUpdate"})
                elif operation == "kubelets":
                    await world.kubelets()
                elif operation == "settle":
                    await world.settle()
                elif found := world.client.all(resource := SETS if operation == "delete set" else "pods"):
                    chosen = found[number % len(found)]["metadata"]["name"]
                    await world.client.delete(resource, chosen, "d", grace_period=0)
        for _ in range(10):
            # The update may have had a conflict with the controller's update, so write it again.
            with contextlib.suppress(ApiError):
                await change(world, paused=False, replicas=wanted, image=image)
                break
        await world.settle()
        await world.kubelets()
        assert {k: v for k, v in sizes(world).items() if v} == ({image: wanted} if wanted else {})
        sets = {found["metadata"]["uid"] for found in world.client.all(SETS)}
        owned = [found for found in world.pods() if found["metadata"]["ownerReferences"][0]["uid"] in sets]
        assert len(owned) == wanted
        assert condition(world, "Progressing") == ("True", "NewReplicaSetAvailable")
