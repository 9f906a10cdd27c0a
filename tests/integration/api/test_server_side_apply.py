"""Server-side apply and managed fields, at the API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.api.connect.webhookclient import WebhookClient
from hatchway.cluster.api.definitions.customtypes import CustomTypes
from hatchway.cluster.api.definitions.definitioncontroller import DefinitionController
from hatchway.cluster.api.registry.custom.conversionwebhooks import ConversionWebhooks
from hatchway.errors import ApiError
from tests.integration.api import world as worlds
from tests.integration.api.world import Reply, World

MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
APPLY = {"Content-Type": "application/apply-patch+yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
RECORDED = Path(__file__).parents[2] / "conformance/apply.jsonl"


@pytest.fixture
async def made() -> AsyncIterator[World]:
    async with worlds.world() as found:
        types = CustomTypes(found.store, found.registry, ConversionWebhooks(WebhookClient()))
        controller = DefinitionController(found.store, found.client, types.prepare)
        controller.start()
        try:
            yield found
        finally:
            await controller.aclose()


def config_map(name: str = "m", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(replicas: int | None = 2, image: str = "a") -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


async def apply(made: World, target: str, config: Any, manager: str = "one", more: str = "") -> Reply:
    return await made.send("PATCH", f"{target}?fieldManager={manager}{more}", config, APPLY)


def entries(reply: Reply) -> list[tuple[str, str, str]]:
    managed = reply.json["metadata"].get("managedFields", [])
    return [(one["manager"], one["operation"], one.get("subresource", "")) for one in managed]


def fields_of(reply: Reply, manager: str) -> Any:
    return next(one["fieldsV1"] for one in reply.json["metadata"]["managedFields"] if one["manager"] == manager)


async def test_the_recorded_exchanges(made: World) -> None:
    """Managed fields, data and errors are those of Kubernetes 1.36.2."""
    await made.namespace("api")
    for line in RECORDED.read_text().splitlines():
        recording = json.loads(line)
        headers = {"User-Agent": "record/1", **recording["headers"]}
        reply = await made.send(recording["method"], recording["path"], recording["body"] or None, headers)
        wanted = recording["response"]
        assert reply.status == wanted["status"], (recording["id"], reply.body)
        if recording["id"] == "316":
            await _served(made, "widgets.example.com")
            continue
        if not wanted["body"].startswith("{"):
            continue
        theirs, ours = json.loads(wanted["body"]), reply.json
        if theirs["kind"] == "Status":
            for key in ("message", "reason", "details"):
                assert ours.get(key) == theirs.get(key), recording["id"]
        elif "items" not in theirs:
            assert _comparable(ours) == _comparable(theirs), recording["id"]


async def _served(made: World, resource: str) -> None:
    """Wait until a custom type is served."""
    served = asyncio.Event()

    def look() -> None:
        if made.registry.by_name(resource) is not None:
            served.set()

    made.registry.subscribe(look)
    look()
    await asyncio.wait_for(served.wait(), 30)


def _comparable(obj: Any) -> Any:
    # No controllers run in this test, so their entries are left out. The order of entries depends on their times.
    managed = obj["metadata"].get("managedFields", [])
    kept = [
        {key: value for key, value in one.items() if key != "time"}
        for one in managed
        if one["manager"] != "kube-controller-manager"
    ]
    spec = {key: one for key, one in obj.get("spec", {}).items() if not key.startswith("clusterIP")}
    return sorted(kept, key=lambda one: one["manager"]), obj.get("data"), spec


async def test_apply_creates_and_changes(made: World) -> None:
    created = await apply(made, f"{MAPS}/m", config_map(a="1"))
    assert (created.status, created.json["data"]) == (201, {"a": "1"})
    changed = await apply(made, f"{MAPS}/m", config_map(b="2"))
    assert (changed.status, changed.json["data"]) == (200, {"b": "2"})
    assert entries(changed) == [("one", "Apply", "")]


async def test_applying_the_same_again_writes_nothing(made: World) -> None:
    first = await apply(made, f"{DEPLOYMENTS}/d", deployment())
    again = await apply(made, f"{DEPLOYMENTS}/d", deployment())
    assert again.json == first.json


async def test_dry_run_stores_nothing(made: World) -> None:
    assert (await apply(made, f"{MAPS}/m", config_map(a="1"), more="&dryRun=All")).status == 201
    assert (await made.send("GET", f"{MAPS}/m")).status == 404
    await apply(made, f"{MAPS}/m", config_map(a="1"))
    dry = await apply(made, f"{MAPS}/m", config_map(a="2"), "two", "&dryRun=All&force=true")
    assert dry.json["data"] == {"a": "2"}
    assert (await made.send("GET", f"{MAPS}/m")).json["data"] == {"a": "1"}


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("", 422, "fieldManager: Required value: is required for apply patch"),
        ("fieldManager=one&dryRun=Some", 422, 'dryRun: Unsupported value: ["Some"]'),
        ("fieldManager=a%0Ab", 422, "invalid character U+000A"),
    ],
)
async def test_options_are_checked(made: World, query: str, status: int, said: str) -> None:
    reply = await made.send("PATCH", f"{MAPS}/m?{query}", config_map(a="1"), APPLY)
    assert (reply.status, said in reply.json["message"]) == (status, True), reply.body


@pytest.mark.parametrize(
    ("config", "status", "said"),
    [
        (b"", 400, "invalid object type: /, Kind="),
        (b"[]", 400, "must be an object"),
        (b"{", 400, "error decoding YAML"),
        (config_map("other"), 400, "does not match the name on the URL"),
        ({**config_map(), "kind": "Secret"}, 400, "invalid object type: /v1, Kind=Secret"),
        ({**config_map(), "nope": 1}, 500, ".nope: field not declared in schema"),
        ({**config_map(), "metadata": "m"}, 500, ".metadata: expected map"),
        ({**config_map(), "metadata": {"name": "m", "uid": "x"}}, 409, "uid mismatch"),
        ({**config_map(), "metadata": {"name": "m", "managedFields": []}}, 400, "managedFields must be nil"),
        ({**config_map(), "metadata": {"name": "m", "labels": {"a b": "c"}}}, 422, "metadata.labels"),
        (b"a: &x [*x]\n", 400, ""),
        (b"[" * 100_000, 400, ""),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, 400, ""),
    ],
)
async def test_configurations_that_cannot_be_applied(made: World, config: Any, status: int, said: str) -> None:
    reply = await apply(made, f"{MAPS}/m", config)
    assert (reply.status, said in reply.json["message"]) == (status, True), reply.body


async def test_an_old_resource_version_is_a_conflict(made: World) -> None:
    await apply(made, f"{MAPS}/m", config_map(a="1"))
    old = {**config_map(a="2"), "metadata": {"name": "m", "resourceVersion": "1"}}
    reply = await apply(made, f"{MAPS}/m", old)
    assert (reply.status, reply.json["reason"]) == (409, "Conflict")
    assert "has been modified" in reply.json["message"]


async def test_creating_by_apply_needs_the_right_to_create(made: World) -> None:
    def refuse(_: Any) -> None:
        raise ApiError(403, "Forbidden", "no")

    made.api._authorize = refuse
    assert (await apply(made, f"{MAPS}/m", config_map(a="1"))).status == 403
    await made.client.create("configmaps", {"metadata": {"name": "m", "namespace": "default"}})
    assert (await apply(made, f"{MAPS}/m", config_map(a="1"))).status == 200


async def test_repeated_keys_are_warned_of_or_refused(made: World) -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata:\n  a: '1'\n  a: '2'\n"
    warned = await apply(made, f"{MAPS}/m", body)
    assert warned.status == 201
    assert "already set in map" in (warned.header("warning") or "")
    strict = await apply(made, f"{MAPS}/m", body, more="&fieldValidation=Strict")
    assert (strict.status, "error strict decoding patch" in strict.json["message"]) == (400, True)


async def test_every_way_of_writing_has_an_owner(made: World) -> None:
    await made.send("POST", f"{DEPLOYMENTS}?fieldManager=post", deployment())
    found = await made.send("GET", f"{DEPLOYMENTS}/d")
    put = {**found.json, "metadata": {**found.json["metadata"], "labels": {"put": "1"}}}
    await made.send("PUT", f"{DEPLOYMENTS}/d?fieldManager=put", put)
    await made.send("PATCH", f"{DEPLOYMENTS}/d?fieldManager=merge", {"metadata": {"labels": {"merge": "1"}}}, MERGE)
    strategic = {"Content-Type": "application/strategic-merge-patch+json"}
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "s", "image": "i"}]}}}}
    await made.send("PATCH", f"{DEPLOYMENTS}/d?fieldManager=strategic", patch, strategic)
    operations = [{"op": "add", "path": "/spec/paused", "value": True}]
    await made.send("PATCH", f"{DEPLOYMENTS}/d?fieldManager=json", operations, JSON_PATCH)
    status = {"status": {"observedGeneration": 1}, "spec": {"replicas": 9}}
    await made.send("PATCH", f"{DEPLOYMENTS}/d/status?fieldManager=status", status, MERGE)
    await made.send("PATCH", f"{DEPLOYMENTS}/d/scale?fieldManager=scale", {"spec": {"replicas": 5}}, MERGE)
    await made.send(
        "PATCH", f"{DEPLOYMENTS}/d", {"metadata": {"labels": {"agent": "1"}}}, {**MERGE, "User-Agent": "prog/2 x"}
    )
    reply = await made.send("GET", f"{DEPLOYMENTS}/d")
    assert sorted(entries(reply)) == sorted(
        [
            ("post", "Update", ""),
            ("put", "Update", ""),
            ("merge", "Update", ""),
            ("strategic", "Update", ""),
            ("json", "Update", ""),
            ("status", "Update", "status"),
            ("scale", "Update", "scale"),
            ("prog", "Update", ""),
        ]
    )
    assert fields_of(reply, "scale") == {"f:spec": {"f:replicas": {}}}
    assert fields_of(reply, "status") == {"f:status": {"f:observedGeneration": {}}}
    assert "f:replicas" not in fields_of(reply, "post")["f:spec"]


async def test_apply_to_status_and_scale(made: World) -> None:
    await apply(made, f"{DEPLOYMENTS}/d", deployment())
    assert (await apply(made, f"{DEPLOYMENTS}/none/status", {**deployment(), "spec": {}})).status == 404
    base = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}
    reply = await apply(made, f"{DEPLOYMENTS}/d/status", {**base, "status": {"replicas": 7}}, "st")
    assert (reply.status, reply.json["status"]["replicas"]) == (200, 7)
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 4}}
    refused = await apply(made, f"{DEPLOYMENTS}/d/scale", scale, "sc")
    assert refused.status == 409
    assert refused.json["message"] == 'Apply failed with 1 conflict: conflict with "one": .spec.replicas'
    forced = await apply(made, f"{DEPLOYMENTS}/d/scale", scale, "sc", "&force=true")
    assert (forced.status, forced.json["spec"]) == (200, {"replicas": 4})
    found = await made.send("GET", f"{DEPLOYMENTS}/d")
    assert {("sc", "Apply", "scale"), ("st", "Apply", "status")} < set(entries(found))
    assert "f:replicas" not in fields_of(found, "one")["f:spec"]


async def test_managed_fields_can_be_reset(made: World) -> None:
    await apply(made, f"{MAPS}/m", config_map(a="1"))
    replaced = [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]
    reply = await made.send("PATCH", f"{MAPS}/m", replaced, JSON_PATCH)
    assert (reply.status, entries(reply)) == (200, [])
    reply = await apply(made, f"{MAPS}/m", config_map(b="1"), "two")
    assert entries(reply) == [("two", "Apply", ""), ("before-first-apply", "Update", "")]


async def test_a_put_without_managed_fields_keeps_them(made: World) -> None:
    await apply(made, f"{MAPS}/m", config_map(a="1"))
    reply = await made.send("PUT", f"{MAPS}/m?fieldManager=two", config_map(a="1", b="2"))
    assert entries(reply) == [("one", "Apply", ""), ("two", "Update", "")]


async def test_managers_with_long_names_are_refused(made: World) -> None:
    entry = {"manager": "x" * 200, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1"}
    entry["fieldsV1"] = {"f:immutable": {}}  # type: ignore[assignment]
    body = {**config_map(a="1"), "metadata": {"name": "m", "managedFields": [entry]}}
    reply = await made.send("POST", MAPS, body)
    assert (reply.status, "metadata.managedFields[0].manager: Too long" in reply.json["message"]) == (422, True)


async def test_an_object_with_very_many_fields_is_stored_without_owners(made: World) -> None:
    large = config_map(**{f"k{index}": "v" for index in range(20_000)})
    created = await made.send("POST", MAPS, large)
    assert (created.status, entries(created)) == (201, [])
    reply = await made.send("PATCH", f"{MAPS}/m", {"data": {"k1": "w"}}, MERGE)
    assert (reply.status, reply.json["data"]["k1"]) == (200, "w")


async def test_deep_managed_fields_do_no_harm(made: World) -> None:
    fields: dict[str, Any] = {}
    for _ in range(400):
        fields = {"f:a": fields}
    entry = {"manager": "x", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields}
    body = {**config_map(a="1"), "metadata": {"name": "m", "managedFields": [entry]}}
    reply = await made.send("POST", f"{MAPS}?fieldManager=me", body)
    assert (reply.status, entries(reply)) == (201, [("me", "Update", "")])


async def test_an_object_of_two_versions_is_tracked_in_both(made: World) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    base = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}}
    spec = {"scaleTargetRef": target, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50}
    path = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers/h"
    first = await apply(made, path.format("v1"), {**base, "apiVersion": "autoscaling/v1", "spec": spec})
    assert first.status == 201, first.body
    second = {**base, "apiVersion": "autoscaling/v2", "spec": {"scaleTargetRef": target, "maxReplicas": 4}}
    refused = await apply(made, path.format("v2"), second, "two")
    assert refused.json["message"] == 'Apply failed with 1 conflict: conflict with "one": .spec.maxReplicas'
    forced = await apply(made, path.format("v2"), second, "two", "&force=true")
    assert (forced.status, forced.json["spec"]["maxReplicas"]) == (200, 4)
    assert "f:maxReplicas" not in fields_of(forced, "one")["f:spec"]


async def test_custom_types_without_a_schema_of_their_fields(made: World) -> None:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
        "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}  # fmt: skip
    names = {"plural": "frees", "kind": "Free"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    await made.client.create(
        "customresourcedefinitions.apiextensions.k8s.io", {"metadata": {"name": "frees.example.com"}, "spec": spec}
    )
    await _served(made, "frees.example.com")
    free = {"apiVersion": "example.com/v1", "kind": "Free", "metadata": {"name": "f"}}
    path = "/apis/example.com/v1/namespaces/default/frees/f"
    await apply(made, path, {**free, "a": {"b": 1}, "l": [1]})
    reply = await apply(made, path, {**free, "a": {"c": {"d": "x"}}}, "two")
    assert (reply.status, reply.json["a"]) == (200, {"b": 1, "c": {"d": "x"}})
    assert fields_of(reply, "two") == {"f:a": {".": {}, "f:c": {".": {}, "f:d": {}}}}
    gone = await apply(made, path, free)
    assert (gone.json["a"], "l" in gone.json) == ({"c": {"d": "x"}}, False)
