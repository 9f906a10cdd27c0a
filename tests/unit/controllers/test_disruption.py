"""The number of evictions that a PodDisruptionBudget allows (cases of `disruption_test.go`)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hatchway.cluster.controllers.disruption import DisruptionController, count_budget
from hatchway.cluster.controllers.replicaset import ReplicaSetController
from hatchway.cluster.controllers.replicationcontroller import ReplicationController
from hatchway.kube.api import Object
from tests.unit.controllers.world import World, replica_set, template

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BUDGETS = "poddisruptionbudgets.policy"


def budget(status: Object | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **spec},
        "status": status or {},
    }


def pod(name: str, ready: bool = True, **metadata: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "d", "uid": name, **metadata},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


THREE = [pod("a"), pod("b"), pod("c", ready=False)]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"minAvailable": 1}, (3, 2, 1, 1)),
        ({"minAvailable": 2}, (3, 2, 2, 0)),
        ({"minAvailable": "50%"}, (5, 2, 3, 0)),
        ({"maxUnavailable": 3}, (5, 2, 2, 0)),
        ({"maxUnavailable": "100%"}, (5, 2, 0, 2)),
        ({"maxUnavailable": 9}, (5, 2, 0, 2)),
        ({}, (3, 2, 0, 2)),
    ],
)
def test_allowed_disruptions(spec: Object, wanted: tuple[int, int, int, int]) -> None:
    found = count_budget(budget(**spec), THREE, 5, NOW)
    assert (found.expected, found.healthy, found.desired, found.allowed) == wanted


def test_pods_with_an_allowed_eviction_do_not_count_for_two_minutes() -> None:
    known = {"a": "2026-01-01T11:59:00Z", "b": "2026-01-01T11:57:00Z", "gone": "2026-01-01T11:59:00Z"}
    found = count_budget(budget({"disruptedPods": known}, minAvailable=1), THREE, 0, NOW)
    assert found.disrupted == {"a": "2026-01-01T11:59:00Z"}
    assert [one["metadata"]["name"] for one in found.stale] == ["b"]
    assert (found.healthy, found.again) == (1, 60.0)


def test_a_budget_without_pods_allows_no_evictions() -> None:
    assert count_budget(budget(minAvailable=0), [], 0, NOW).allowed == 0


async def test_the_status_follows_changes_of_pods_and_replica_sets() -> None:
    world = World(ReplicaSetController, DisruptionController)
    async with world.running():
        await world.client.create("replicasets.apps", replica_set("web", 3), "d")
        await world.client.create(BUDGETS, budget(maxUnavailable=1), "d")
        await world.settle()
        await world.kubelets()
        status = (await world.client.get(BUDGETS, "b", "d"))["status"]
        counts = {key: value for key, value in status.items() if key != "conditions"}
        assert counts == {
            "observedGeneration": 1,
            "disruptionsAllowed": 1,
            "currentHealthy": 3,
            "desiredHealthy": 2,
            "expectedPods": 3,
        }
        assert [(one["type"], one["reason"]) for one in status["conditions"]] == [
            ("DisruptionAllowed", "SufficientPods")
        ]


async def test_a_replication_controller_keeps_its_number_of_pods() -> None:
    world = World(ReplicationController)
    spec = {"replicas": 2, "selector": {"app": "web"}, "template": template({"app": "web"})}
    controller = {"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "web"}, "spec": spec}
    async with world.running():
        await world.client.create("replicationcontrollers", controller, "d")
        await world.settle()
        await world.kubelets()
        first, _ = world.pods(app="web")
        assert first["metadata"]["ownerReferences"][0]["kind"] == "ReplicationController"
        await world.client.patch("pods", first["metadata"]["name"], {"metadata": {"labels": {"app": "x"}}}, "d")
        await world.settle()
        await world.kubelets()
        assert len(world.pods(app="web")) == 2
        status = (await world.client.get("replicationcontrollers", "web", "d"))["status"]
        assert (status["replicas"], status["readyReplicas"]) == (2, 2)
        assert "terminatingReplicas" not in status
