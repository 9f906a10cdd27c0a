"""POST bindings, ComponentStatuses and VolumeAttributesClasses over the API, with Kubernetes' answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchway.cluster.componentstatus import ComponentStatuses
from hatchway.cluster.controllers.scheduler import Scheduler
from tests.integration.api.world import World, world

MERGE = {"Content-Type": "application/merge-patch+json"}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
PODS, BINDINGS = "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/bindings"
COMPONENTS = "/api/v1/componentstatuses"
ATTRIBUTES = "/apis/storage.k8s.io/v1/volumeattributesclasses"
POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


@pytest.fixture
async def api() -> AsyncIterator[World]:
    async with world() as made:
        yield made


def binding(**target: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": target}


async def test_a_binding_assigns_the_named_pod_to_a_node(api: World) -> None:
    assert (await api.send("POST", PODS, POD)).status == 201
    refused = await api.send("POST", BINDINGS, binding(kind="Service", name="n"))
    assert refused.status == 422
    assert 'target.kind: Unsupported value: "Service"' in refused.json["message"]
    assert (await api.send("POST", f"{BINDINGS}?dryRun=All", binding(kind="Node", name="n"))).status == 201
    assert "nodeName" not in (await api.send("GET", f"{PODS}/p")).json["spec"]
    bound = await api.send("POST", BINDINGS, binding(kind="Node", name="n"))
    assert (bound.status, bound.json["kind"], bound.json["status"]) == (201, "Status", "Success")
    assert (await api.send("GET", f"{PODS}/p")).json["spec"]["nodeName"] == "n"
    again = await api.send("POST", BINDINGS, binding(kind="Node", name="m"))
    assert (again.status, again.json["reason"]) == (409, "Conflict")
    assert 'pod p is already assigned to node "n"' in again.json["message"]


async def test_bindings_can_only_be_created(api: World) -> None:
    for method, path in (("GET", BINDINGS), ("GET", "/api/v1/bindings"), ("DELETE", f"{BINDINGS}/p")):
        assert (await api.send(method, path)).status == 405, path
    missing = binding(kind="Node", name="n") | {"metadata": {}}
    assert (await api.send("POST", BINDINGS, missing)).json["message"] == "Name parameter required."
    assert (await api.send("POST", BINDINGS, binding(kind="Node", name="n"))).status == 404


async def test_component_statuses_report_the_health_of_components(api: World) -> None:
    components = ComponentStatuses(api.store)
    api.registry.computed["componentstatuses"] = components.objects
    components.controllers = {}
    listed = await api.send("GET", COMPONENTS)
    assert listed.header("warning") == '299 - "v1 ComponentStatus is deprecated in v1.19+"'
    assert [one["metadata"]["name"] for one in listed.json["items"]] == ["controller-manager", "etcd-0", "scheduler"]
    assert {one["conditions"][0]["status"] for one in listed.json["items"]} == {"True"}
    components.controllers = {Scheduler.name: "it has failed: no", "job-controller": "it has ended"}
    rows = (await api.send("GET", COMPONENTS, headers=TABLE)).json["rows"]
    assert [row["cells"] for row in rows] == [
        ["controller-manager", "Unhealthy", "", "job-controller: it has ended"],
        ["etcd-0", "Healthy", "ok", ""],
        ["scheduler", "Unhealthy", "", "it has failed: no"],
    ]
    one = await api.send("GET", f"{COMPONENTS}/scheduler")
    condition = {"type": "Healthy", "status": "False", "error": "it has failed: no"}
    assert one.json["conditions"] == [condition]
    assert len((await api.send("GET", f"{COMPONENTS}?fieldSelector=metadata.name=etcd-0")).json["items"]) == 1
    assert (await api.send("GET", f"{COMPONENTS}?labelSelector=a=b")).json["items"] == []
    assert (await api.send("GET", f"{COMPONENTS}/etcd-1")).status == 404
    assert (await api.send("POST", COMPONENTS, {"metadata": {"name": "x"}})).status == 405


async def test_volume_attributes_classes_cannot_be_changed(api: World) -> None:
    bad = await api.send("POST", ATTRIBUTES, {"metadata": {"name": "gold"}})
    causes = {cause["field"]: cause["message"] for cause in bad.json["details"]["causes"]}
    assert causes == {
        "driverName": "Required value",
        "parameters": "Required value: must contain at least one key/value pair",
    }
    gold = {"metadata": {"name": "gold"}, "driverName": "x.io", "parameters": {"iops": "100"}}
    made = await api.send("POST", ATTRIBUTES, gold)
    assert made.json["metadata"]["finalizers"] == ["kubernetes.io/vac-protection"]
    changed = await api.send("PATCH", f"{ATTRIBUTES}/gold", {"parameters": {"iops": "200"}}, MERGE)
    assert "parameters: Forbidden: updates to parameters are forbidden." in changed.json["message"]
    assert (await api.send("PATCH", f"{ATTRIBUTES}/gold", {"metadata": {"labels": {"a": "b"}}}, MERGE)).status == 200
    assert (await api.send("GET", ATTRIBUTES, headers=TABLE)).json["rows"][0]["cells"][:2] == ["gold", "x.io"]


async def test_the_attributes_class_of_a_claim_cannot_be_removed(api: World) -> None:
    claims = "/api/v1/namespaces/default/persistentvolumeclaims"
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    spec["volumeAttributesClassName"] = "gold"
    await api.send("POST", claims, {"metadata": {"name": "c"}, "spec": spec})
    status = {"status": {"phase": "Bound", "currentVolumeAttributesClassName": "gold"}}
    assert (await api.send("PATCH", f"{claims}/c/status", status, MERGE)).status == 200
    for value, word in ((None, "nil"), ("", "empty string")):
        reply = await api.send("PATCH", f"{claims}/c", {"spec": {"volumeAttributesClassName": value}}, MERGE)
        assert f"update to {word} is forbidden when status.currentVolumeAttributesClassName" in reply.json["message"]
    other = {"spec": {"volumeAttributesClassName": "silver"}}
    assert (await api.send("PATCH", f"{claims}/c", other, MERGE)).status == 200


async def test_only_volumes_of_drivers_have_an_attributes_class(api: World) -> None:
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
    volume = {"metadata": {"name": "v"}, "spec": {**spec, "volumeAttributesClassName": "gold"}}
    reply = await api.send("POST", "/api/v1/persistentvolumes", volume)
    assert "spec.csi: Required value: has to be specified when using volumeAttributesClassName" in reply.json["message"]
