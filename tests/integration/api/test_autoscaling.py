"""HorizontalPodAutoscalers and APIServices at the API: defaults, validation, conversion, tables."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.api import world as worlds
from tests.integration.api.world import World

V2 = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
V1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
REFERENCE = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}


def hpa(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": {"scaleTargetRef": REFERENCE, "maxReplicas": 5, **spec}}


@pytest.fixture
async def world() -> Any:
    async with worlds.world() as found:
        yield found


async def test_defaults(world: World) -> None:
    made = (await world.send("POST", V2, hpa(behavior={"scaleDown": {"stabilizationWindowSeconds": 60}}))).json
    assert made["spec"]["minReplicas"] == 1
    target = {"type": "Utilization", "averageUtilization": 80}
    assert made["spec"]["metrics"] == [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = made["spec"]["behavior"]
    assert behavior["scaleDown"] == {
        "stabilizationWindowSeconds": 60,
        "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
    }
    assert [one["type"] for one in behavior["scaleUp"]["policies"]] == ["Pods", "Percent"]


async def test_one_object_is_served_in_both_versions(world: World) -> None:
    made = await world.send("POST", V1, hpa(minReplicas=2, targetCPUUtilizationPercentage=50))
    assert (made.status, made.json["spec"]["targetCPUUtilizationPercentage"]) == (201, 50)
    found = (await world.send("GET", f"{V2}/web")).json
    (metric,) = found["spec"]["metrics"]
    assert metric["resource"]["target"] == {"type": "Utilization", "averageUtilization": 50}
    memory = {
        "type": "Resource",
        "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}},
    }
    found["spec"]["metrics"].append(memory)
    found["spec"]["behavior"] = {"scaleDown": {"stabilizationWindowSeconds": 5}}
    assert (await world.send("PUT", f"{V2}/web", found)).status == 200
    old = (await world.send("GET", f"{V1}/web")).json
    # Values that v1 has no field for are kept when a client of v1 reads and writes the object.
    assert (await world.send("PUT", f"{V1}/web", old)).status == 200
    again = (await world.send("GET", f"{V2}/web")).json
    assert memory in again["spec"]["metrics"]
    assert again["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 5
    assert "annotations" not in again["metadata"]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"maxReplicas": 0}, "spec.maxReplicas: Invalid value: 0: must be greater than 0"),
        ({"minReplicas": 9}, "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`"),
        ({"minReplicas": 0}, "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"),
        ({"scaleTargetRef": {"kind": "Deployment"}}, "spec.scaleTargetRef.name: Required value"),
        ({"metrics": [{"type": "Resource"}]}, "must populate information for the given metric source Resource"),
        (
            {"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}]},
            "must set either a target raw value or a target utilization",
        ),
        (
            {"behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 9999}]}}},
            "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
        ),
    ],
)
async def test_errors(world: World, spec: dict[str, Any], text: str) -> None:
    reply = await world.send("POST", V2, hpa(**spec))
    assert reply.status == 422
    assert text in reply.json["message"]


async def test_the_table_shows_usage_and_target(world: World) -> None:
    made = (await world.send("POST", V2, hpa())).json
    table = (await world.send("GET", V2, headers=TABLE)).json
    assert [column["name"] for column in table["columnDefinitions"]] == [
        "Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age",
    ]  # fmt: skip
    assert table["rows"][0]["cells"][:6] == ["web", "Deployment/web", "cpu: <unknown>/80%", "1", 5, 0]
    current = {
        "type": "Resource",
        "resource": {"name": "cpu", "current": {"averageUtilization": 12, "averageValue": "120m"}},
    }
    made["status"] = {"currentReplicas": 2, "desiredReplicas": 2, "currentMetrics": [current]}
    assert (await world.send("PUT", f"{V2}/web/status", made)).status == 200
    for path in (V2, V1):
        table = (await world.send("GET", path, headers=TABLE)).json
        assert table["rows"][0]["cells"][2:6] == ["cpu: 12%/80%", "1", 5, 2]


SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"


@pytest.mark.parametrize(
    ("name", "spec", "text"),
    [
        ("v1.a", {"group": "b"}, 'must be `spec.version+\\".\\"+spec.group`: \\"v1.b\\"'),
        ("v1.b", {"group": "b", "versionPriority": 0}, "must be positive and less than 1000"),
        ("v1.b", {"group": "b", "insecureSkipTLSVerify": True}, "local APIServices may not have insecureSkipTLSVerify"),
        ("v1.b", {"group": "b", "service": {"name": "x"}}, "spec.service.namespace: Required value"),
        (
            "v1.b",
            {"group": "b", "service": {"name": "x", "namespace": "y", "port": 70000}},
            "port is not valid: must be between 1 and 65535, inclusive",
        ),
    ],
)
async def test_apiservices_are_validated(world: World, name: str, spec: dict[str, Any], text: str) -> None:
    full = {"version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100, **spec}
    reply = await world.send("POST", SERVICES, {"metadata": {"name": name}, "spec": full})
    assert reply.status == 422
    assert text in reply.body.decode()


async def test_apiservices_have_a_table(world: World) -> None:
    spec = {"group": "b", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100}
    await world.send("POST", SERVICES, {"metadata": {"name": "v1.b"}, "spec": spec})
    service = {"name": "x", "namespace": "y"}
    made = await world.send(
        "POST", SERVICES, {"metadata": {"name": "v1.c"}, "spec": {**spec, "group": "c", "service": service}}
    )
    assert made.json["spec"]["service"]["port"] == 443
    rows = (await world.send("GET", SERVICES, headers=TABLE)).json["rows"]
    assert [row["cells"][:3] for row in rows] == [["v1.b", "Local", "True"], ["v1.c", "y/x", "Unknown"]]
