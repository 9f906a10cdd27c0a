"""HorizontalPodAutoscalers: the replicas for given metrics, the rate of changes, and the status."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.controllers.controller import ControllerConfig
from hatchway.cluster.controllers.deployment import DeploymentController
from hatchway.cluster.controllers.horizontal import RESOURCE, HorizontalController
from hatchway.cluster.controllers.podmetrics import NoMetrics, PodUsage, unavailable
from hatchway.cluster.controllers.replicacalculator import Delays, Tolerance, pod_requests, propose
from hatchway.cluster.controllers.replicaset import ReplicaSetController
from hatchway.cluster.controllers.scalingbehavior import ScalingHistory
from hatchway.kube.api import Object
from tests.unit.controllers.world import START, World, container, deployment, template

NEAR = Tolerance(0.1, 0.1)
LONG_AGO = (START - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
UP = {
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
DOWN = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}


def pod(
    name: str, *, phase: str = "Running", ready: bool = True, started: str = LONG_AGO, request: str = "1"
) -> Object:
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": started}]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": request}}}]},
        "status": {"phase": phase, "startTime": started, "conditions": conditions},
    }


def wanted(current: int, target: int, pods: list[Object], **usage: int) -> int:
    """Return the replicas for a usage (thousandths of a core, by pod). target: percent of the requests."""
    found = {name: PodUsage(value, START, 15.0) for name, value in usage.items()}
    proposal = propose(
        current,
        target,
        pods,
        found,
        resource="cpu",
        requests=pod_requests(pods, "cpu"),
        tolerance=NEAR,
        delays=Delays(),
        moment=START,
    )
    return proposal.replicas


# The cases of replica_calculator_test.go. If a case does not say otherwise, three pods request one core each.
THREE = [pod("a"), pod("b"), pod("c")]


def test_usage_above_the_target_scales_up() -> None:
    assert wanted(3, 30, THREE, a=300, b=500, c=700) == 5


def test_usage_below_the_target_scales_down() -> None:
    five = [pod(name) for name in "abcde"]
    assert wanted(5, 50, five, a=100, b=300, c=500, d=250, e=250) == 3


def test_usage_near_the_target_changes_nothing() -> None:
    assert wanted(3, 100, THREE, a=1010, b=1030, c=1020) == 3


def test_pods_that_are_not_ready_reduce_an_increase() -> None:
    pods = [pod("a"), pod("b", ready=False, started=START.strftime("%Y-%m-%dT%H:%M:%SZ")), pod("c")]
    assert wanted(3, 30, pods, a=400, b=500, c=700) == 4


def test_pods_without_usage_count_as_full_in_a_decrease() -> None:
    assert wanted(3, 50, THREE, a=100, b=100) == 3
    assert wanted(4, 50, [*THREE, pod("d")], a=100, b=100, c=100) == 3


def test_pods_without_usage_count_as_idle_in_an_increase() -> None:
    assert wanted(3, 30, THREE, a=300, b=500) == 3
    assert wanted(3, 15, THREE, a=300, b=500) == 6


def test_failed_pods_do_not_count() -> None:
    gone = pod("c", phase="Failed")
    assert wanted(3, 50, [pod("a"), pod("b"), gone], a=500, b=500, c=10_000) == 3


def test_a_container_without_a_request_is_an_error() -> None:
    bare = pod("a")
    bare["spec"]["containers"][0]["resources"] = {}
    with pytest.raises(NoMetrics, match="missing request for cpu in container c of Pod a"):
        pod_requests([bare], "cpu")


@given(
    st.integers(1, 50),
    st.integers(1, 200),
    st.lists(st.one_of(st.none(), st.integers(0, 5000)), min_size=1, max_size=20),
)
def test_usage_below_the_target_never_scales_up(current: int, target: int, values: list[int | None]) -> None:
    pods = [pod(f"p{index}") for index in range(len(values))]
    usage = {f"p{index}": value for index, value in enumerate(values) if value is not None}
    if not usage:
        return
    replicas = wanted(current, target, pods, **usage)
    average = sum(usage.values()) / len(usage) / 10
    if average <= target:
        assert replicas <= max(current, len(values))
    if average > target * 1.1:
        assert replicas >= min(current, len(values))


def test_without_rules_the_highest_recommendation_of_the_window_holds() -> None:
    history = ScalingHistory()
    assert history.limit_by_default(0, 5, 5, 1, 10, 300).replicas == 5
    found = history.limit_by_default(100, 5, 2, 1, 10, 300)
    assert (found.replicas, found.stabilized[0]) == (5, "ScaleDownStabilized")
    found = history.limit_by_default(301, 5, 2, 1, 10, 300)
    assert (found.replicas, found.stabilized[0]) == (2, "ReadyForNewScale")


@pytest.mark.parametrize(
    ("current", "desired", "replicas", "reason"),
    [
        (1, 9, 4, "ScaleUpLimit"),
        (6, 20, 10, "TooManyReplicas"),
        (3, 1, 2, "TooFewReplicas"),
        (3, 5, 5, "DesiredWithinRange"),
    ],
)
def test_without_rules_the_number_is_at_most_doubled(current: int, desired: int, replicas: int, reason: str) -> None:
    found = ScalingHistory().limit_by_default(0, current, desired, 2, 10, 300)
    assert (found.replicas, found.limit[0], found.is_limited) == (replicas, reason, reason != "DesiredWithinRange")


def test_policies_limit_changes_within_their_periods() -> None:
    history = ScalingHistory()
    rules = {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}
    found = history.limit_by_rules(0, 4, 20, 1, 100, rules, DOWN, 300)
    assert (found.replicas, found.limit[0]) == (6, "ScaleUpLimit")
    history.record_change(0, 4, 6)
    assert history.limit_by_rules(30, 6, 20, 1, 100, rules, DOWN, 300).replicas == 6
    assert history.limit_by_rules(61, 6, 20, 1, 100, rules, DOWN, 300).replicas == 8


def test_the_largest_change_of_all_policies_is_allowed_unless_min_is_selected() -> None:
    assert ScalingHistory().limit_by_rules(0, 10, 50, 1, 100, UP, DOWN, 300).replicas == 20
    assert ScalingHistory().limit_by_rules(0, 1, 50, 1, 100, UP, DOWN, 300).replicas == 5
    least = {**UP, "selectPolicy": "Min"}
    assert ScalingHistory().limit_by_rules(0, 10, 50, 1, 100, least, DOWN, 300).replicas == 14
    none = {**UP, "selectPolicy": "Disabled"}
    assert ScalingHistory().limit_by_rules(0, 10, 50, 1, 100, none, DOWN, 300).replicas == 10


def test_stabilization_windows_delay_increases_and_decreases() -> None:
    history = ScalingHistory()
    up = {**UP, "stabilizationWindowSeconds": 60}
    assert history.limit_by_rules(0, 5, 5, 1, 100, up, DOWN, 300).replicas == 5
    found = history.limit_by_rules(30, 5, 8, 1, 100, up, DOWN, 300)
    assert (found.replicas, found.stabilized[0]) == (5, "ScaleUpStabilized")
    assert history.limit_by_rules(61, 5, 8, 1, 100, up, DOWN, 300).replicas == 8
    down = {**DOWN, "stabilizationWindowSeconds": 0}
    assert history.limit_by_rules(62, 8, 3, 1, 100, UP, down, 300).replicas == 3


# --- the controller


class Metrics:
    """The metrics API. cpu: the usage of each pod in thousandths of a core; None if the API cannot be reached."""

    def __init__(self) -> None:
        self.cpu: int | None = 500
        self.world: World | None = None

    async def fetch(self, namespace: str) -> list[Object]:
        assert self.world is not None
        if self.cpu is None:
            return await unavailable(namespace)
        stamp = self.world.moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        return [
            {
                "metadata": {"name": one["metadata"]["name"], "namespace": namespace},
                "timestamp": stamp,
                "window": "15s",
                "containers": [{"name": "c", "usage": {"cpu": f"{self.cpu}m", "memory": "10Mi"}}],
            }
            for one in self.world.client.all("pods", namespace)
        ]


def autoscaler(**spec: Any) -> Object:
    target = {"type": "Utilization", "averageUtilization": 50}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1,
            "maxReplicas": 6,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            **spec,
        },
        "status": {},
    }


def make_world(metrics: Metrics) -> World:
    config = ControllerConfig(pod_metrics=metrics.fetch)
    world = metrics.world = World(DeploymentController, ReplicaSetController, HorizontalController, config=config)
    return world


async def start(world: World, replicas: int, hpa: Object) -> None:
    labels = {"app": "web"}
    spec = template(labels, containers=[container(resources={"requests": {"cpu": "1"}})])
    await world.client.create("deployments.apps", deployment("web", replicas, template=spec), "default")
    await world.settle()
    await world.kubelets()
    for one in world.client.all("pods"):
        one["status"]["startTime"] = LONG_AGO
        await world.client.update("pods", one, subresource="status")
    world.pass_time(600)
    await world.settle()
    await world.client.create(RESOURCE, hpa, "default")
    await world.settle()


async def again(world: World) -> None:
    world.controller(HorizontalController).queue.add(("default", "web"))
    await world.settle()


def conditions(world: World) -> dict[str, tuple[str, str]]:
    (found,) = world.client.all(RESOURCE)
    return {one["type"]: (one["status"], one["reason"]) for one in found["status"]["conditions"]}


def replicas_of(world: World) -> int:
    (found,) = world.client.all("deployments.apps")
    return int(found["spec"]["replicas"])


async def test_a_deployment_follows_its_load() -> None:
    metrics = Metrics()
    world = make_world(metrics)
    async with world.running():
        metrics.cpu = 900
        await start(world, 2, autoscaler())
        assert replicas_of(world) == 4
        (found,) = world.client.all(RESOURCE)
        status = found["status"]
        assert (status["currentReplicas"], status["desiredReplicas"]) == (2, 4)
        current = {"averageUtilization": 90, "averageValue": "900m"}
        assert status["currentMetrics"] == [{"type": "Resource", "resource": {"name": "cpu", "current": current}}]
        assert conditions(world) == {
            "AbleToScale": ("True", "SucceededRescale"),
            "ScalingActive": ("True", "ValidMetricFound"),
            "ScalingLimited": ("False", "DesiredWithinRange"),
        }
        message = "New size: 4; reason: cpu resource utilization (percentage of request) above target"
        assert ("web", "SuccessfulRescale", message) in world.recorder.events
        await world.kubelets()
        metrics.cpu = 100
        await again(world)
        assert replicas_of(world) == 4
        assert conditions(world)["AbleToScale"] == ("True", "ScaleDownStabilized")
        world.pass_time(301)
        await again(world)
        assert replicas_of(world) == 1
        assert ("web", "SuccessfulRescale", "New size: 1; reason: All metrics below target") in world.recorder.events


async def test_a_new_autoscaler_does_not_scale_down_at_once() -> None:
    metrics = Metrics()
    metrics.cpu = 1
    world = make_world(metrics)
    async with world.running():
        await start(world, 4, autoscaler())
        assert replicas_of(world) == 4
        assert conditions(world)["AbleToScale"] == ("True", "ScaleDownStabilized")
        world.pass_time(301)
        await again(world)
        assert replicas_of(world) == 1


async def test_nothing_is_scaled_without_metrics() -> None:
    metrics = Metrics()
    metrics.cpu = None
    world = make_world(metrics)
    async with world.running():
        await start(world, 2, autoscaler())
        assert replicas_of(world) == 2
        assert conditions(world)["ScalingActive"] == ("False", "FailedGetResourceMetric")
        why = (
            "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource "
            "metrics API: the server is currently unable to handle the request (get pods.metrics.k8s.io)"
        )
        assert ("web", "FailedGetResourceMetric", why) in world.recorder.events
        text = f"invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: {why}"
        assert ("web", "FailedComputeMetricsReplicas", text) in world.recorder.events


async def test_min_and_max_replicas_are_applied_at_once() -> None:
    world = make_world(Metrics())
    async with world.running():
        await start(world, 9, autoscaler())
        assert replicas_of(world) == 6
        reason = "New size: 6; reason: Current number of replicas above Spec.MaxReplicas"
        assert ("web", "SuccessfulRescale", reason) in world.recorder.events


async def test_a_target_with_zero_replicas_is_not_scaled() -> None:
    world = make_world(Metrics())
    async with world.running():
        await start(world, 0, autoscaler())
        assert replicas_of(world) == 0
        assert conditions(world)["ScalingActive"] == ("False", "ScalingDisabled")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("Deployment", 'deployments.apps "other" not found'),
        ("Carousel", 'no matches for kind "Carousel" in group "apps"'),
    ],
)
async def test_a_target_that_does_not_exist(kind: str, why: str) -> None:
    world = make_world(Metrics())
    async with world.running():
        reference = {"apiVersion": "apps/v1", "kind": kind, "name": "other"}
        await start(world, 1, autoscaler(scaleTargetRef=reference))
        assert conditions(world) == {"AbleToScale": ("False", "FailedGetScale")}
        assert ("web", "FailedGetScale", why) in world.recorder.events


async def test_metrics_of_other_apis_are_reported_as_missing() -> None:
    metric = {"metric": {"name": "requests"}, "target": {"type": "AverageValue", "averageValue": "10"}}
    world = make_world(Metrics())
    async with world.running():
        await start(world, 1, autoscaler(metrics=[{"type": "Pods", "pods": metric}]))
        assert conditions(world)["ScalingActive"] == ("False", "FailedGetPodsMetric")


async def test_an_unchanged_status_is_not_written() -> None:
    metrics = Metrics()
    world = make_world(metrics)
    async with world.running():
        await start(world, 2, autoscaler())
        await again(world)
        before = world.client.writes
        await again(world)
        assert world.client.writes == before
