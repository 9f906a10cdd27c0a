"""Autoscalers and disruption budgets of custom types, and metrics of other APIs, with an API server in this process.

Expected texts are those of kube-controller-manager (`pkg/controller/podautoscaler`, `pkg/controller/disruption`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hatchway.cluster.api.connect.webhookclient import WebhookClient
from hatchway.cluster.api.definitions.customtypes import CustomTypes
from hatchway.cluster.api.definitions.definitioncontroller import DefinitionController
from hatchway.cluster.api.registry.custom.conversionwebhooks import ConversionWebhooks
from hatchway.cluster.api.registry.types import scalable_resources
from hatchway.cluster.apiserver import served_types
from hatchway.cluster.controllers.controller import ControllerConfig, ControllerContext
from hatchway.cluster.controllers.disruption import DisruptionController
from hatchway.cluster.controllers.horizontal import RESOURCE, HorizontalController
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from tests.integration.api import world as worlds
from tests.integration.api.world import World

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
FARMS = "farms.example.com"
SERVED = "/apis/example.com/v1/namespaces/default/farms"
BUDGETS = "poddisruptionbudgets.policy"


class Apis:
    """The metrics APIs: their answers by path, and the received requests."""

    def __init__(self) -> None:
        self.registered: dict[str, list[str]] = {}
        self.answers: dict[str, list[Object] | ApiError] = {}
        self.asked: list[str] = []

    def versions(self, group: str) -> Sequence[str] | None:
        return self.registered.get(group)

    async def values(self, group: str, version: str, path: str, what: str) -> list[Object]:
        self.asked.append(f"{group}/{version}{path}")
        found = self.answers.get(path, ApiError(404, "NotFound", f"no such thing (get {what})"))
        if isinstance(found, ApiError):
            raise found
        return found


class Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def event(self, obj: Object, type: str, reason: str, message: str) -> None:
        self.events.append((reason, message))


class Scaling:
    """A world with the controllers that scale."""

    def __init__(self, world: World, apis: Apis, recorder: Recorder) -> None:
        self.world, self.apis, self.recorder = world, apis, recorder

    async def until(self, resource: str, name: str, holds: Callable[[Object], Any]) -> Object:
        """Wait until an object meets the condition; return it."""
        row = self.world.registry.by_name(resource)
        assert row is not None
        path = f"/apis/{row.group}/{row.version}/namespaces/default/{row.plural}"
        async with self.world.watch(f"{path}?watch=true&fieldSelector=metadata.name={name}") as events:
            while True:
                found: Object = (await asyncio.wait_for(events.get(), 20))["object"]
                if holds(found):
                    return found

    async def scale(self, *metrics: Object, replicas: int = 2, target: Object | None = None, name: str = "h") -> None:
        spec = {
            "scaleTargetRef": target or {"apiVersion": "example.com/v1", "kind": "Farm", "name": "f"},
            "minReplicas": 1,
            "maxReplicas": 50,
            "metrics": list(metrics),
        }
        hpa = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name}}
        await self.world.client.create(RESOURCE, {**hpa, "spec": spec}, "default")

    async def inactive(self, name: str = "h") -> tuple[str, str]:
        """Wait until an autoscaler reports that it cannot scale; return the reason and the message."""
        found = await self.until(RESOURCE, name, lambda one: condition(one, "ScalingActive").get("status") == "False")
        why = condition(found, "ScalingActive")
        return why["reason"], why["message"]


def condition(obj: Object, kind: str) -> Object:
    found = [one for one in (obj.get("status") or {}).get("conditions") or () if one["type"] == kind]
    return found[0] if found else {}


@asynccontextmanager
async def scaling_world() -> AsyncIterator[Scaling]:
    async with worlds.world() as world:
        types = CustomTypes(world.store, world.registry, ConversionWebhooks(WebhookClient()))
        definitions = DefinitionController(world.store, world.client, types.prepare)
        definitions.start()
        apis, recorder = Apis(), Recorder()
        config = ControllerConfig(
            types=served_types(world.registry), scalable=scalable_resources(), metrics_apis=apis, autoscaler_sync=0.05
        )
        context = ControllerContext(world.client, config, lambda _: recorder)
        controllers = [HorizontalController(context), DisruptionController(context)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.run()) for one in (*context.caches.values(), *controllers)]
            try:
                yield Scaling(world, apis, recorder)
            finally:
                for task in tasks:
                    task.cancel()
                types.close()
                await definitions.aclose()


@pytest.fixture
async def scaling() -> AsyncIterator[Scaling]:
    """Create a custom object with a scale subresource, and two ready pods."""
    async with scaling_world() as found:
        world = found.world
        free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        paths = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}
        version = {
            "name": "v1",
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": free, "status": free}}},
            "subresources": {"status": {}, "scale": {**paths, "labelSelectorPath": ".status.selector"}},
        }
        without = {**version, "subresources": {}}
        for plural, kind, one in (("farms", "Farm", version), ("fields", "Field", without)):
            names = {"plural": plural, "singular": kind.lower(), "kind": kind}
            spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [one]}
            made = {"metadata": {"name": f"{plural}.example.com"}, "spec": spec}
            assert (await world.send("POST", DEFINITIONS, made)).status == 201
            async with world.watch(f"{DEFINITIONS}?watch=true") as events:
                while world.registry.by_name(f"{plural}.example.com") is None:
                    await asyncio.wait_for(events.get(), 20)
        farm = await world.send("POST", SERVED, {"metadata": {"name": "f"}, "spec": {"size": 2}})
        status = {"status": {"size": 2, "selector": "app=farm"}}
        merge = {"Content-Type": "application/merge-patch+json"}
        assert (await world.send("PATCH", f"{SERVED}/f/status", status, merge)).status == 200
        await pods(world, "Farm", "f", farm.json["metadata"]["uid"], "farm", 2)
        yield found


async def pods(world: World, kind: str, name: str, uid: str, app: str, count: int) -> None:
    owner = {"apiVersion": "example.com/v1", "kind": kind, "name": name, "uid": uid, "controller": True}
    for number in range(count):
        metadata = {"name": f"{app}-{number}", "labels": {"app": app}, "ownerReferences": [owner]}
        spec = {"containers": [{"name": "c", "image": "i"}]}
        pod = await world.client.create("pods", {"metadata": metadata, "spec": spec}, "default")
        ready = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
        changed = {**pod, "status": {"phase": "Running", "conditions": ready, "startTime": "2026-01-01T00:00:00Z"}}
        await world.client.update("pods", changed, subresource="status")


def value(text: str, name: str = "") -> Object:
    return {"value": text, "timestamp": "2026-01-01T00:00:00Z", "describedObject": {"name": name}}


POD_METRIC: Object = {
    "type": "Pods",
    "pods": {
        "metric": {"name": "requests", "selector": {"matchLabels": {"verb": "GET"}}},
        "target": {"type": "AverageValue", "averageValue": "10"},
    },
}


def external(**target: str) -> Object:
    found = {"metric": {"name": "queue"}, "target": target}
    return {"type": "External", "external": found}


async def test_a_metric_of_pods_scales_a_custom_type(scaling: Scaling) -> None:
    scaling.apis.registered["custom.metrics.k8s.io"] = ["v1beta2", "v1beta1"]
    path = "/namespaces/default/pods/*/requests?labelSelector=app%3Dfarm&metricLabelSelector=verb%3DGET"
    scaling.apis.answers[path] = [value("15", "farm-0"), value("20500m", "farm-1")]
    await scaling.scale(POD_METRIC)
    found = await scaling.until(FARMS, "f", lambda one: one["spec"]["size"] != 2)
    assert found["spec"]["size"] == 4
    assert f"custom.metrics.k8s.io/v1beta2{path}" in scaling.apis.asked
    hpa = await scaling.until(RESOURCE, "h", lambda one: one["status"].get("currentMetrics"))
    assert hpa["status"]["currentMetrics"] == [
        {"type": "Pods", "pods": {"metric": POD_METRIC["pods"]["metric"], "current": {"averageValue": "17750m"}}}
    ]
    assert ("SuccessfulRescale", "New size: 4; reason: pods metric requests above target") in scaling.recorder.events


async def test_a_metric_of_an_object_scales_by_its_value(scaling: Scaling) -> None:
    scaling.apis.registered["custom.metrics.k8s.io"] = ["v1beta1"]
    scaling.apis.answers["/namespaces/default/ingresses.networking.k8s.io/main/hits"] = [value("2k")]
    described = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"}
    target = {"type": "Value", "value": "1k"}
    await scaling.scale(
        {"type": "Object", "object": {"describedObject": described, "metric": {"name": "hits"}, "target": target}}
    )
    found = await scaling.until(FARMS, "f", lambda one: one["spec"]["size"] != 2)
    assert found["spec"]["size"] == 4
    hpa = await scaling.until(RESOURCE, "h", lambda one: one["status"].get("currentMetrics"))
    assert hpa["status"]["currentMetrics"][0]["object"]["current"] == {"value": "2k"}


async def test_an_external_metric_scales_by_its_average_per_pod(scaling: Scaling) -> None:
    scaling.apis.answers["/namespaces/default/queue"] = [value("12"), value("4500m")]
    await scaling.scale(external(type="AverageValue", averageValue="5"))
    found = await scaling.until(FARMS, "f", lambda one: one["spec"]["size"] != 2)
    assert found["spec"]["size"] == 4
    hpa = await scaling.until(RESOURCE, "h", lambda one: one["status"].get("currentMetrics"))
    assert hpa["status"]["currentMetrics"][0]["external"]["current"] == {"averageValue": "8250m"}
    reason = "New size: 4; reason: external metric queue(nil) above target"
    assert ("SuccessfulRescale", reason) in scaling.recorder.events


@pytest.mark.parametrize(
    ("metric", "versions", "reason", "message", "described"),
    [
        (
            POD_METRIC,
            None,
            "FailedGetPodsMetric",
            "unable to get metric requests: unable to fetch metrics from custom metrics API: "
            "no custom metrics API (custom.metrics.k8s.io) registered",
            "failed to get pods metric value: ",
        ),
        (
            POD_METRIC,
            [],
            "FailedGetPodsMetric",
            "unable to get metric requests: unable to fetch metrics from custom metrics API: "
            "no known available metric versions found",
            "failed to get pods metric value: ",
        ),
        (
            external(type="Value", value="1"),
            None,
            "FailedGetExternalMetric",
            "unable to get external metric default/queue/nil: unable to fetch metrics from external metrics API: "
            "no such thing (get queue.external.metrics.k8s.io)",
            "failed to get queue external metric value: failed to get external metric queue: ",
        ),
        (
            {
                "type": "Object",
                "object": {
                    "describedObject": {"apiVersion": "v1", "kind": "Barn", "name": "b"},
                    "metric": {"name": "hits"},
                    "target": {"type": "AverageValue", "averageValue": "1"},
                },
            },
            ["v1beta2"],
            "FailedGetObjectMetric",
            "unable to get metric hits: Barn on default b/unable to fetch metrics from custom metrics API: "
            'unable to map kind Barn to resource: no matches for kind "Barn" in group ""',
            "failed to get object metric value: failed to get hits object metric: ",
        ),
    ],
)
async def test_a_metric_that_cannot_be_read_is_named(
    scaling: Scaling, metric: Object, versions: list[str] | None, reason: str, message: str, described: str
) -> None:
    if versions is not None:
        scaling.apis.registered["custom.metrics.k8s.io"] = versions
    await scaling.scale(metric)
    assert await scaling.inactive() == (reason, f"the HPA was unable to compute the replica count: {message}")
    assert (reason, message) in scaling.recorder.events
    first = f"invalid metrics (1 invalid out of 1), first error is: {described}{message}"
    await scaling.until(RESOURCE, "h", lambda _: ("FailedComputeMetricsReplicas", first) in scaling.recorder.events)


async def test_hostile_values_of_a_metric_have_a_limited_effect(scaling: Scaling) -> None:
    path = "/namespaces/default/queue"
    scaling.apis.answers[path] = [value("9" * 400)]
    await scaling.scale(external(type="Value", value="1"))
    found = await scaling.until(FARMS, "f", lambda one: one["spec"]["size"] != 2)
    # Even for a huge value, the number of replicas grows only as fast as Kubernetes allows.
    assert found["spec"]["size"] == 4
    scaling.apis.answers[path] = [value("many")]
    reason, message = await scaling.inactive()
    assert reason == "FailedGetExternalMetric"
    assert "a metric without a value that is a quantity: 'many'" in message


async def test_two_autoscalers_of_the_same_pods_are_ambiguous(scaling: Scaling) -> None:
    scaling.apis.answers["/namespaces/default/queue"] = [value("1")]
    await scaling.scale(external(type="Value", value="1"))
    await scaling.until(RESOURCE, "h", lambda one: condition(one, "ScalingActive").get("status") == "True")
    await scaling.scale(external(type="Value", value="1"), name="i")
    text = "pods by selector app=farm are controlled by multiple HPAs: [default/h default/i]"
    assert await scaling.inactive("i") == ("AmbiguousSelector", text)
    assert await scaling.inactive("h") == ("AmbiguousSelector", text)
    await scaling.world.client.delete(RESOURCE, "i", "default")
    await scaling.until(RESOURCE, "h", lambda one: condition(one, "ScalingActive").get("status") == "True")


@pytest.mark.parametrize(
    ("selector", "why"),
    [
        ("", "the HPA target's scale is missing a selector"),
        ("a=b,,", "couldn't convert selector into a corresponding internal selector object: "),
        (",".join(f"a{number}" for number in range(5000)), "it is longer than 16384 characters"),
    ],
)
async def test_a_scale_with_a_bad_selector_is_named(scaling: Scaling, selector: str, why: str) -> None:
    merge = {"Content-Type": "application/merge-patch+json"}
    status = {"status": {"size": 2, "selector": selector}}
    assert (await scaling.world.send("PATCH", f"{SERVED}/f/status", status, merge)).status == 200
    await scaling.scale(POD_METRIC)
    reason, message = await scaling.inactive()
    assert reason == "InvalidSelector" and why in message


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("Field", "the server could not find the requested resource"),
        ("Barn", 'no matches for kind "Barn" in group "example.com"'),
    ],
)
async def test_a_type_without_a_scale_is_not_scaled(scaling: Scaling, kind: str, why: str) -> None:
    await scaling.scale(POD_METRIC, target={"apiVersion": "example.com/v1", "kind": kind, "name": "f"})
    found = await scaling.until(RESOURCE, "h", lambda one: condition(one, "AbleToScale"))
    text = f"the HPA controller was unable to get the target's current scale: {why}"
    assert condition(found, "AbleToScale")["message"] == text


async def budget(scaling: Scaling, app: str) -> Object:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": app}}}
    made = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": app}, "spec": spec}
    await scaling.world.client.create(BUDGETS, made, "default")
    found = await scaling.until(BUDGETS, app, lambda one: condition(one, "DisruptionAllowed"))
    return dict(found["status"])


async def test_a_budget_uses_the_replicas_of_a_custom_types_scale(scaling: Scaling) -> None:
    await scaling.world.client.patch(FARMS, "f", {"spec": {"size": 3}}, "default")
    status = await budget(scaling, "farm")
    assert (status["expectedPods"], status["desiredHealthy"], status["disruptionsAllowed"]) == (3, 2, 0)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("Field", "fields.example.com does not implement the scale subresource"),
        ("Barn", 'no matches for kind "Barn" in version "example.com/v1"'),
        ("Farm", 'found no controllers for pod "lone-0"'),
    ],
)
async def test_a_budget_of_pods_whose_owner_has_no_scale_fails(scaling: Scaling, kind: str, problem: str) -> None:
    await scaling.world.client.create(
        "fields.example.com", {"apiVersion": "example.com/v1", "kind": "Field", "metadata": {"name": "f"}}, "default"
    )
    await pods(scaling.world, kind, "f", "another", "lone", 1)
    status = await budget(scaling, "lone")
    assert condition({"status": status}, "DisruptionAllowed")["message"] == problem
