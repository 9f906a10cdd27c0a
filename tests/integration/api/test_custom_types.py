"""CustomResourceDefinitions and their objects at the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchway.cluster.api.connect.webhookclient import WebhookClient
from hatchway.cluster.api.definitions.customtypes import CustomTypes
from hatchway.cluster.api.definitions.definitioncontroller import DefinitionController
from hatchway.cluster.api.registry.custom import valuecheck
from hatchway.cluster.api.registry.custom.conversionwebhooks import ConversionWebhooks
from tests.integration.api import world as worlds
from tests.integration.api.world import Reply, World

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
MERGE = {"Content-Type": "application/merge-patch+json"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 5},
                "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                "port": {"x-kubernetes-int-or-string": True},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "items": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}},
                },
                "when": {"type": "string", "format": "date-time"},
                "maybe": {"type": "string", "nullable": True},
            },
        },
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "phase": {"type": "string"}}},
    },
}
VERSION: dict[str, Any] = {
    "name": "v1",
    "served": True,
    "storage": True,
    "schema": {"openAPIV3Schema": SCHEMA},
    "subresources": {
        "status": {},
        "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.replicas"},
    },
    "additionalPrinterColumns": [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1},
    ],
}


def definition(plural: str = "widgets", *, kind: str = "Widget", scope: str = "Namespaced", **more: Any) -> Any:
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "shortNames": [plural[:2]]}
    spec = {"group": "example.com", "scope": scope, "names": names, "versions": [VERSION], **more}
    return {"metadata": {"name": f"{plural}.example.com"}, "spec": spec}


def widget(called: str, **spec: Any) -> Any:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": called}, "spec": spec}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with worlds.world() as found:
        types = CustomTypes(found.store, found.registry, ConversionWebhooks(WebhookClient()))
        controller = DefinitionController(found.store, found.client, types.prepare)
        controller.start()
        try:
            yield found
        finally:
            types.close()
            await controller.aclose()


async def established(world: World, name: str = "widgets.example.com") -> Any:
    """Wait until a definition is served; return it."""
    async with world.watch(f"{DEFINITIONS}?watch=true&fieldSelector=metadata.name={name}") as events:
        while True:
            found = (await asyncio.wait_for(events.get(), 20))["object"]
            conditions = {one["type"]: one["status"] for one in (found.get("status") or {}).get("conditions") or ()}
            if conditions.get("Established") == "True":
                return found


async def condition(world: World, name: str, kind: str, status: str) -> Any:
    """Wait until a definition has a condition with this status; return the condition."""
    async with world.watch(f"{DEFINITIONS}?watch=true&fieldSelector=metadata.name={name}") as events:
        while True:
            found = (await asyncio.wait_for(events.get(), 20))["object"]
            for one in (found.get("status") or {}).get("conditions") or ():
                if (one["type"], one["status"]) == (kind, status):
                    return one


async def gone(world: World, name: str) -> None:
    """Wait until a definition is deleted."""
    async with world.watch(f"{DEFINITIONS}?watch=true&fieldSelector=metadata.name={name}") as events:
        while (await world.send("GET", f"{DEFINITIONS}/{name}")).status != 404:
            await asyncio.wait_for(events.get(), 20)


async def define(world: World, made: Any) -> Any:
    reply = await world.send("POST", DEFINITIONS, made)
    assert reply.status == 201, reply.json
    return await established(world, made["metadata"]["name"])


def causes(reply: Reply) -> dict[str, str]:
    assert reply.status == 422, reply.json
    return {one["field"]: one["message"] for one in reply.json["details"]["causes"]}


async def test_a_definition_is_served_at_once(world: World) -> None:
    found = await define(world, definition())
    assert found["status"]["acceptedNames"]["listKind"] == "WidgetList"
    assert found["status"]["storedVersions"] == ["v1"]
    assert found["spec"]["conversion"] == {"strategy": "None"}
    resources = (await world.send("GET", "/apis/example.com/v1")).json["resources"]
    assert [one["name"] for one in resources] == ["widgets", "widgets/status", "widgets/scale"]
    # The hash is one recorded from Kubernetes.
    assert resources[0]["storageVersionHash"] == "gIwvi5rymmg="
    assert (await world.send("GET", "/apis/example.com")).json["preferredVersion"]["version"] == "v1"
    document = (await world.send("GET", "/openapi/v3/apis/example.com/v1")).json
    shown = document["components"]["schemas"]["com.example.v1.Widget"]["properties"]
    assert shown["spec"]["properties"]["size"]["maximum"] == 5
    metadata = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    assert shown["metadata"]["allOf"] == [{"$ref": metadata}]
    assert "com.example.v1.Widget" in (await world.send("GET", "/openapi/v2")).json["definitions"]


async def test_objects_get_defaults_and_lose_unknown_fields(world: World) -> None:
    await define(world, definition())
    spec = {"size": 1, "unknown": 1, "color": None, "maybe": None, "free": {"any": [1, {"x": None}]}}
    reply = await world.send("POST", WIDGETS, widget("w", **spec), {"Content-Type": "application/json"})
    assert reply.status == 201, reply.json
    assert reply.json["spec"] == {"size": 1, "color": "red", "maybe": None, "free": {"any": [1, {"x": None}]}}
    assert reply.header("warning") == '299 - "unknown field \\"spec.unknown\\""'
    strict = await world.send("POST", f"{WIDGETS}?fieldValidation=Strict", widget("s", size=1, unknown=1))
    assert strict.status == 400
    assert 'strict decoding error: unknown field "spec.unknown"' in strict.json["message"]
    assert reply.json["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"size": 0}, "spec.size", "Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        ({"size": "a"}, "spec.size",
         'Invalid value: "string": spec.size in body must be of type integer: "string"'),
        ({}, "spec.size", "Required value"),
        ({"size": 1, "color": "green"}, "spec.color",
         'Unsupported value: "green": supported values: "red", "blue"'),
        ({"size": 1, "name": "A1"}, "spec.name", 'Invalid value: "A1": spec.name in body should match \'^[a-z]+$\''),
        ({"size": 1, "name": "abcdef"}, "spec.name", "Too long: may not be more than 5 bytes"),
        ({"size": 1, "tags": ["a", "a"]}, "spec.tags[1]", 'Duplicate value: "a"'),
        ({"size": 1, "items": [{"k": "a"}, {"k": "a"}]}, "spec.items[1]", 'Duplicate value: {"k":"a"}'),
        ({"size": 1, "items": [{}]}, "spec.items[0].k", "Required value"),
        ({"size": 1, "when": "yesterday"}, "spec.when",
         'Invalid value: "yesterday": spec.when in body must be of type date-time: "yesterday"'),
        ({"size": 1, "port": 1.5}, "spec.port",
         'Invalid value: "number": spec.port in body must be of type integer,string: "number"'),
        ({"size": 1, "free": 1}, "spec.free",
         'Invalid value: "integer": spec.free in body must be of type object: "integer"'),
    ],
)  # fmt: skip
async def test_wrong_values(world: World, spec: dict[str, Any], field: str, message: str) -> None:
    await define(world, definition())
    assert causes(await world.send("POST", WIDGETS, widget("w", **spec)))[field] == message


async def test_a_stored_invalid_value_does_not_block_other_changes(world: World) -> None:
    loose = definition()
    loose["spec"]["versions"] = [{**VERSION, "schema": {"openAPIV3Schema": {
        "type": "object", "properties": {"spec": {"type": "object", "properties": {
            "size": {"type": "integer"}, "color": {"type": "string"}}}}}}}]  # fmt: skip
    made = await define(world, loose)
    assert (await world.send("POST", WIDGETS, widget("w", size=9))).status == 201
    made["spec"]["versions"] = [VERSION]
    assert (await world.send("PUT", f"{DEFINITIONS}/widgets.example.com", made)).status == 200
    found = (await world.send("GET", f"{WIDGETS}/w")).json
    # The default was added to the schema after the object was stored.
    assert found["spec"] == {"size": 9, "color": "red"}
    merge = {"Content-Type": "application/merge-patch+json"}
    changed = await world.send("PATCH", f"{WIDGETS}/w", {"spec": {"color": "blue"}}, merge)
    assert changed.status == 200, changed.json
    assert "spec.size" in causes(await world.send("PATCH", f"{WIDGETS}/w", {"spec": {"size": 8}}, merge))


async def test_subresources(world: World) -> None:
    await define(world, definition())
    merge = {"Content-Type": "application/merge-patch+json"}
    await world.send("POST", WIDGETS, {**widget("w", size=2), "status": {"phase": "Up"}})
    assert "status" not in (await world.send("GET", f"{WIDGETS}/w")).json
    change = {"status": {"phase": "Up", "replicas": 2}, "spec": {"size": 5}, "metadata": {"labels": {"a": "b"}}}
    found = (await world.send("PATCH", f"{WIDGETS}/w/status", change, merge)).json
    assert (found["status"], found["spec"]["size"]) == ({"phase": "Up", "replicas": 2}, 2)
    assert (found["metadata"]["generation"], "labels" in found["metadata"]) == (1, False)
    scale = (await world.send("PATCH", f"{WIDGETS}/w/scale", {"spec": {"replicas": 4}}, merge)).json
    assert (scale["kind"], scale["spec"], scale["status"]) == ("Scale", {"replicas": 4}, {"replicas": 2})
    found = (await world.send("GET", f"{WIDGETS}/w")).json
    assert (found["spec"]["size"], found["metadata"]["generation"]) == (4, 2)
    # A change by the scale subresource is checked as other changes are.
    assert causes(await world.send("PATCH", f"{WIDGETS}/w/scale", {"spec": {"replicas": 9}}, merge)).keys() == {
        "spec.size"
    }
    strategic = {"Content-Type": "application/strategic-merge-patch+json"}
    assert (await world.send("PATCH", f"{WIDGETS}/w", {"spec": {}}, strategic)).status == 415


async def test_columns(world: World) -> None:
    await define(world, definition())
    await world.send("POST", WIDGETS, widget("w", size=2))
    table = (await world.send("GET", WIDGETS, headers=TABLE)).json
    assert [(one["name"], one["priority"]) for one in table["columnDefinitions"]] == [
        ("Name", 0), ("Size", 0), ("Color", 1)]  # fmt: skip
    assert table["rows"][0]["cells"] == ["w", 2, "red"]


async def test_versions_differ_in_their_name_only(world: World) -> None:
    beta = {**VERSION, "name": "v1beta1", "storage": False, "deprecated": True}
    await define(world, definition(versions=[beta, VERSION]))
    assert (await world.send("GET", "/apis/example.com")).json["preferredVersion"]["version"] == "v1"
    other = WIDGETS.replace("/v1/", "/v1beta1/")
    made = await world.send("POST", other, {**widget("w", size=2), "apiVersion": "example.com/v1beta1"})
    assert made.json["apiVersion"] == "example.com/v1beta1"
    assert made.header("warning") == '299 - "example.com/v1beta1 Widget is deprecated"'
    assert (await world.send("GET", f"{WIDGETS}/w")).json["apiVersion"] == "example.com/v1"
    async with world.watch(f"{other}?watch=true") as events:
        assert (await asyncio.wait_for(events.get(), 20))["object"]["apiVersion"] == "example.com/v1beta1"


async def test_selectable_fields(world: World) -> None:
    await define(world, definition(versions=[{**VERSION, "selectableFields": [{"jsonPath": ".spec.color"}]}]))
    for name, color in (("a", "red"), ("b", "blue")):
        await world.send("POST", WIDGETS, widget(name, size=1, color=color))
    found = (await world.send("GET", f"{WIDGETS}?fieldSelector=spec.color%3Dblue")).json
    assert [one["metadata"]["name"] for one in found["items"]] == ["b"]
    assert (await world.send("GET", f"{WIDGETS}?fieldSelector=spec.size%3D1")).status == 400


async def test_deletion_of_a_definition_deletes_its_objects_and_ends_watches(world: World) -> None:
    await define(world, definition())
    await world.send("POST", WIDGETS, widget("w", size=1))
    async with world.watch(f"{WIDGETS}?watch=true") as events:
        assert (await asyncio.wait_for(events.get(), 20))["type"] == "ADDED"
        gone = await world.send("DELETE", f"{DEFINITIONS}/widgets.example.com")
        conditions = {one["type"]: one["reason"] for one in gone.json["status"]["conditions"]}
        assert conditions["Terminating"] == "InstanceDeletionPending"
        refused = await world.send("POST", WIDGETS, widget("late", size=1))
        assert refused.status in (404, 405)
        assert (await asyncio.wait_for(events.get(), 20))["type"] == "DELETED"
    async with world.watch(f"{DEFINITIONS}?watch=true") as events:
        while world.store.get("customresourcedefinitions.apiextensions.k8s.io", "", "widgets.example.com"):
            await asyncio.wait_for(events.get(), 20)
    missing = await world.send("GET", WIDGETS)
    assert (missing.status, missing.body) == (404, b"404 page not found\n")
    # A new definition of the same name does not show the former objects.
    await define(world, definition())
    assert (await world.send("GET", WIDGETS)).json["items"] == []


async def test_names_belong_to_the_first_definition(world: World) -> None:
    await define(world, definition())
    assert (await world.send("POST", DEFINITIONS, definition("gadgets"))).status == 201
    async with world.watch(f"{DEFINITIONS}?watch=true&fieldSelector=metadata.name=gadgets.example.com") as events:
        found: dict[str, Any] = {}
        while "NamesAccepted" not in found:
            obj = (await asyncio.wait_for(events.get(), 20))["object"]
            found = {one["type"]: one for one in (obj.get("status") or {}).get("conditions") or ()}
    assert (found["NamesAccepted"]["status"], found["NamesAccepted"]["reason"]) == ("False", "ListKindConflict")
    assert (found["Established"]["status"], found["Established"]["reason"]) == ("False", "NotAccepted")
    # The names are free after the first definition is deleted.
    await world.send("DELETE", f"{DEFINITIONS}/widgets.example.com")
    await established(world, "gadgets.example.com")


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"group": "nodots"}, "spec.group", 'Invalid value: "nodots": should be a domain with at least one dot'),
        ({"scope": "World"}, "spec.scope", 'Unsupported value: "World": supported values: "Cluster", "Namespaced"'),
        ({"versions": [{**VERSION, "schema": {"openAPIV3Schema": {"properties": {"spec": {}}}}}]},
         "spec.validation.openAPIV3Schema.type", "Required value: must not be empty at the root"),
        ({"versions": [{**VERSION, "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "a": {"type": "string", "default": 5}}}}}]},
         "spec.validation.openAPIV3Schema.properties[a].default",
         'Invalid value: "integer":  in body must be of type string: "integer"'),
        ({"versions": [{**VERSION, "storage": False}]}, "spec.versions", None),
        ({"conversion": {"strategy": "Webhook"}}, "spec.conversion.webhookClientConfig",
         "Required value: required when strategy is set to Webhook"),
        ({"conversion": {"strategy": "Hook"}}, "spec.conversion.strategy",
         'Unsupported value: "Hook": supported values: "None", "Webhook"'),
        ({"versions": [{**VERSION, "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "a": {"type": "array"}}}}}]},
         "spec.validation.openAPIV3Schema.properties[a].items", "Required value: must be specified"),
        ({"versions": [{**VERSION, "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "a": {"type": "string", "pattern": "("}}}}}]},
         "spec.validation.openAPIV3Schema.properties[a].pattern", None),
        ({"versions": [{**VERSION, "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "a": {"type": "string", "anyOf": [{"type": "string"}]}}}}}]},
         "spec.validation.openAPIV3Schema.properties[a].anyOf[0].type", "Forbidden: must be empty to be structural"),
    ],
)  # fmt: skip
async def test_wrong_definitions(world: World, change: dict[str, Any], field: str, message: str | None) -> None:
    found = causes(await world.send("POST", DEFINITIONS, definition(**change)))
    assert field in found
    if message is not None:
        assert found[field] == message


@pytest.mark.parametrize(("plural", "kind"), [("roles", "Role"), ("otherroles", "Role"), ("roles", "Other")])
async def test_a_definition_cannot_replace_a_built_in_type(world: World, plural: str, kind: str) -> None:
    group, roles = "rbac.authorization.k8s.io", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles"
    assert (await world.send("POST", roles, {"metadata": {"name": "kept"}, "rules": []})).status == 201
    made = definition(plural, kind=kind, group=group)
    name = f"{plural}.{group}"
    made["metadata"] = {"name": name, "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}}
    assert (await world.send("POST", DEFINITIONS, made)).status == 201
    assert "in use" in (await condition(world, name, "NamesAccepted", "False"))["message"]
    # A status that a user writes does not establish the definition.
    by_hand = {"conditions": [{"type": "Established", "status": "True"}], "acceptedNames": made["spec"]["names"]}
    reply = await world.send("PATCH", f"{DEFINITIONS}/{name}/status", {"status": by_hand}, MERGE)
    assert reply.status == 200, reply.json
    listed = (await world.send("GET", f"/apis/{group}/v1")).json["resources"]
    assert [one["kind"] for one in listed if "role" in one["name"]].count("Role") == 1
    wrong = await world.send("POST", roles, {"metadata": {"name": "w"}, "rules": [{"verbs": []}]})
    assert "rules[0].verbs" in causes(wrong)
    # The deletion of the definition does not delete the built-in type's objects.
    assert (await world.send("DELETE", f"{DEFINITIONS}/{name}")).status == 200
    await gone(world, name)
    assert (await world.send("GET", f"{roles}/kept")).status == 200


async def test_accepted_names_by_hand_do_not_give_the_objects_of_another_type(world: World) -> None:
    await define(world, definition())
    await define(world, definition("gadgets", kind="Gadget"))
    await world.send("POST", WIDGETS, widget("w", size=1))
    taken = {"plural": "widgets", "kind": "Widget"}
    for names in (taken, None, {"plural": "gadgets", "kind": ""}):
        path = f"{DEFINITIONS}/gadgets.example.com/status"
        reply = await world.send("PATCH", path, {"status": {"acceptedNames": names}}, MERGE)
        assert reply.status == 200, reply.json
        assert (await world.send("GET", f"{WIDGETS}/w")).json["kind"] == "Widget"
    await established(world, "gadgets.example.com")


@pytest.mark.parametrize("status", [{"conditions": [{"type": "Established", "status": "False"}]}, None])
async def test_objects_do_not_outlive_a_definition_whose_status_was_written_by_hand(world: World, status: Any) -> None:
    await define(world, definition())
    held = {**widget("w", size=1), "metadata": {"name": "w", "finalizers": ["example.com/held"]}}
    assert (await world.send("POST", WIDGETS, held)).status == 201
    await world.send("DELETE", f"{DEFINITIONS}/widgets.example.com")
    await world.send("PATCH", f"{DEFINITIONS}/widgets.example.com/status", {"status": status}, MERGE)
    await condition(world, "widgets.example.com", "Established", "True")
    refused = await world.send("POST", WIDGETS, widget("late", size=1))
    assert refused.status == 405, refused.json
    released = await world.send("PATCH", f"{WIDGETS}/w", {"metadata": {"finalizers": None}}, MERGE)
    assert released.status == 200, released.json
    await gone(world, "widgets.example.com")
    assert not list(world.store.list("widgets.example.com"))


async def test_a_definition_without_served_versions_can_be_deleted(world: World) -> None:
    await define(world, definition())
    await world.send("POST", WIDGETS, widget("w", size=1))
    versions = [{**VERSION, "served": False}]
    path = f"{DEFINITIONS}/widgets.example.com"
    assert (await world.send("PATCH", path, {"spec": {"versions": versions}}, MERGE)).status == 200
    assert (await world.send("GET", f"{WIDGETS}/w")).status == 404
    await world.send("DELETE", path)
    await gone(world, "widgets.example.com")
    assert not list(world.store.list("widgets.example.com"))


def _spec_schema(**properties: Any) -> Any:
    return {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}}


async def test_versions_without_a_webhook_keep_what_both_have(world: World) -> None:
    # `schemaCoercingConverter` and `unstructuredDefaulter` of apiextensions' `customresource_handler.go`.
    text = {"type": "string"}
    old = {**VERSION, "storage": False, "schema": _spec_schema(both=text, old={**text, "default": "o"})}
    new = {**VERSION, "name": "v2", "schema": _spec_schema(both=text, new={**text, "default": "n"})}
    for one in (old, new):
        for key in ("subresources", "additionalPrinterColumns"):
            one.pop(key)
    await define(world, definition(versions=[old, new]))
    made = (await world.send("POST", WIDGETS, widget("w", both="x", old="y", new="z"))).json
    assert (made["apiVersion"], made["spec"]) == ("example.com/v1", {"both": "x"})
    stored = world.store.get("widgets.example.com", "default", "w")
    assert stored is not None
    assert (stored["apiVersion"], stored["spec"]) == ("example.com/v2", {"both": "x"})
    found = (await world.send("GET", f"{WIDGETS.replace('/v1/', '/v2/')}/w")).json
    assert found["spec"] == {"both": "x", "new": "n"}


async def test_a_remaining_version_shows_objects_of_a_removed_version(world: World) -> None:
    both = [{**VERSION, "storage": True}, {**VERSION, "name": "v2", "storage": False}]
    await define(world, definition(versions=both))
    await world.send("POST", WIDGETS, widget("w", size=1))
    path = f"{DEFINITIONS}/widgets.example.com"
    moved = [{**VERSION, "storage": False}, {**VERSION, "name": "v2", "storage": True}]
    assert (await world.send("PATCH", path, {"spec": {"versions": moved}}, MERGE)).status == 200
    assert (await world.send("PATCH", f"{path}/status", {"status": {"storedVersions": ["v2"]}}, MERGE)).status == 200
    assert (await world.send("PATCH", path, {"spec": {"versions": moved[1:]}}, MERGE)).status == 200
    listed = (await world.send("GET", WIDGETS.replace("/v1/", "/v2/"))).json
    # Unlike those of built-in types, items of lists have their apiVersion and kind.
    assert [(one["apiVersion"], one["kind"]) for one in listed["items"]] == [("example.com/v2", "Widget")]


LONG = "x" * 20_000


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string", "default": LONG}}}},
         [{} for _ in range(1000)]),
        ({"type": "array", "items": {"type": "string", "default": LONG}}, [None] * 1000),
        ({"type": "array", "items": {"type": "integer", "not": {"anyOf": [{"maximum": -n} for n in range(1, 500)]}}},
         [*range(5000)]),
    ],
    ids=["defaults of fields", "defaults of items", "alternatives"],
)  # fmt: skip
async def test_a_small_object_cannot_make_endless_work(
    world: World, monkeypatch: pytest.MonkeyPatch, schema: Any, value: Any
) -> None:
    # A tenth of the usual limit: with all the allowed checks this test would take seconds of CPU time.
    monkeypatch.setattr(valuecheck, "_MOST_CHECKS", valuecheck._MOST_CHECKS // 10)
    root = {"type": "object", "properties": {"spec": schema}}
    await define(world, definition(versions=[{**VERSION, "schema": {"openAPIV3Schema": root}, "subresources": {}}]))
    reply = await world.send("POST", WIDGETS, {**widget("w"), "spec": value})
    assert reply.status == 413, reply.body[:500]


async def test_a_large_enumeration_is_checked_quickly(world: World) -> None:
    values = {"type": "integer", "enum": [*range(3000)]}
    root = {"type": "object", "properties": {"spec": {"type": "array", "items": values}}}
    await define(world, definition(versions=[{**VERSION, "schema": {"openAPIV3Schema": root}, "subresources": {}}]))
    assert (await world.send("POST", WIDGETS, {**widget("w"), "spec": [2999] * 5000})).status == 201
    wrong = await world.send("POST", WIDGETS, {**widget("x"), "spec": [3000] * 5000})
    assert wrong.status == 422
    assert len(wrong.body) < 1024 * 1024
    # true is not accepted as the number 1.
    assert (await world.send("POST", WIDGETS, {**widget("y"), "spec": [True]})).status == 422


async def test_a_large_definition_is_served_as_soon_as_it_is_established(world: World) -> None:
    properties = {f"field{index}": {"type": "string", "description": "d" * 50} for index in range(2000)}
    schema = {
        "openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    }
    await define(world, definition(versions=[{**VERSION, "schema": schema, "subresources": {}}]))
    assert (await world.send("POST", WIDGETS, widget("w", field1="x"))).status == 201


async def test_a_pattern_must_not_be_too_large(world: World) -> None:
    root = {"type": "object", "properties": {"spec": {"type": "string", "pattern": r"(\pL{0,100}){0,10}"}}}
    version = {**VERSION, "schema": {"openAPIV3Schema": root}, "subresources": {}}
    reply = await world.send("POST", DEFINITIONS, definition(versions=[version]))
    found = causes(reply)["spec.validation.openAPIV3Schema.properties[spec].pattern"]
    assert "pattern too large" in found


async def test_a_stored_deep_object_can_be_changed(world: World) -> None:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    await define(world, definition(versions=[{**VERSION, "schema": schema, "subresources": {}}]))

    async def create(name: str, levels: int) -> Reply:
        inner = "[" * levels + "]" * levels
        head = f'{{"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {{"name": "{name}"}}'
        return await world.send("POST", WIDGETS, f'{head}, "any": {inner}}}')

    assert (await create("w", 255)).status == 201
    changed = await world.send("PATCH", f"{WIDGETS}/w", {"metadata": {"labels": {"a": "b"}}}, MERGE)
    assert changed.status == 200, changed.json
    refused = await create("x", 256)
    assert refused.status == 400
    assert "nested too deep" in refused.json["message"]


@pytest.mark.parametrize("metadata", [{"metadata": None}, {}], ids=["null", "missing"])
async def test_an_object_without_metadata_has_no_name(world: World, metadata: Any) -> None:
    await define(world, definition())
    reply = await world.send("POST", WIDGETS, {"spec": {"size": 1}, **metadata})
    assert "metadata.name" in causes(reply)


async def test_versions_are_limited(world: World) -> None:
    versions = [{**VERSION, "name": f"v{number}", "storage": number == 1} for number in range(1, 102)]
    reply = await world.send("POST", DEFINITIONS, definition(versions=versions))
    assert causes(reply)["spec.versions"] == "Too many: 101: must have at most 100 items"


async def test_multiple_of_zero_is_an_error(world: World) -> None:
    root = {"type": "object", "properties": {"spec": {"type": "number", "multipleOf": 0}}}
    await define(world, definition(versions=[{**VERSION, "schema": {"openAPIV3Schema": root}, "subresources": {}}]))
    assert "must be positive" in causes(await world.send("POST", WIDGETS, {**widget("w"), "spec": 1}))["spec"]


@pytest.mark.parametrize(
    "path", [".a[" + "9" * 900 + "]", ".a" * 600, ".a" + "[?(@" * 200], ids=["index", "long", "deep"]
)
async def test_columns_after_one_with_an_invalid_path_are_not_shown(world: World, path: str) -> None:
    columns = [{"name": name, "type": "string", "jsonPath": one} for name, one in (("A", ".kind"), ("B", path))]
    await define(world, definition(versions=[{**VERSION, "additionalPrinterColumns": columns}]))
    await world.send("POST", WIDGETS, widget("w", size=1))
    table = (await world.send("GET", WIDGETS, headers=TABLE)).json
    assert table["rows"][0]["cells"] == ["w", "Widget"]


async def test_rules_refuse_objects(world: World) -> None:
    rules = [
        {"rule": "self.size < 4 || self.color == 'blue'", "message": "large ones are blue"},
        {"rule": "self.size >= oldSelf.size", "message": "never shrinks"},
    ]
    spec = {**SCHEMA["properties"]["spec"], "x-kubernetes-validations": rules}
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "spec": spec}}
    made = definition(versions=[{**VERSION, "schema": {"openAPIV3Schema": schema}}])
    reply = await world.send("POST", DEFINITIONS, made)
    assert reply.status == 201 and reply.header("warning") is None
    await established(world, "widgets.example.com")
    refused = await world.send("POST", WIDGETS, widget("a", size=5))
    assert refused.status == 422
    assert refused.json["message"] == 'Widget.example.com "a" is invalid: spec: Invalid value: large ones are blue'
    assert (await world.send("POST", WIDGETS, widget("a", size=4, color="blue"))).status == 201
    shrunk = await world.send("PATCH", f"{WIDGETS}/a", {"spec": {"size": 3}}, headers=MERGE)
    assert shrunk.status == 422
    assert shrunk.json["message"] == 'Widget.example.com "a" is invalid: spec: Invalid value: never shrinks'
    incomplete = await world.send("POST", WIDGETS, widget("b"))
    assert [one["field"] for one in incomplete.json["details"]["causes"]] == ["spec.size", "<nil>"]


async def test_definitions_with_wrong_rules_are_refused(world: World) -> None:
    spec = {"type": "object", "x-kubernetes-validations": [{"rule": "self.nope == 1"}]}
    schema = {"type": "object", "properties": {"spec": spec}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]
    reply = await world.send("POST", DEFINITIONS, definition(versions=versions))
    assert reply.status == 422
    (cause,) = reply.json["details"]["causes"]
    assert cause["field"] == "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"
    assert cause["message"].endswith(
        "compilation failed: ERROR: <input>:1:5: undefined field 'nope'\n | self.nope == 1\n | ....^"
    )
