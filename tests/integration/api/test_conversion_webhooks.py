"""Custom types whose versions are converted by a webhook: reads, writes, watches, and the version that is stored.

Expected values: apiextensions-apiserver `pkg/apiserver/conversion` and `customresource_handler.go`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.auth import pki

from .conversionworld import (
    APPLY,
    GROUP,
    HOSTS,
    MERGE,
    ConversionWorld,
    conversion_world,
    convert,
    definition,
    good,
    host,
    versions,
)
from .webhookserver import make_keys, patch

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmission"
V1, V2 = HOSTS.format("v1"), HOSTS.format("v2")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    directory: Path = tmp_path_factory.mktemp("keys")
    return make_keys(directory)


@pytest.fixture
async def world(keys: pki.Pki) -> AsyncIterator[ConversionWorld]:
    async with conversion_world(keys) as made:
        yield made


async def event(events: asyncio.Queue[Any]) -> Any:
    return await asyncio.wait_for(events.get(), 20)


async def test_the_definition_keeps_its_webhook_and_gets_the_port(world: ConversionWorld) -> None:
    await world.define(definition({"service": {"namespace": "shop", "name": "hook"}}))
    found = world.store.get("customresourcedefinitions.apiextensions.k8s.io", "", f"hosts.{GROUP}")
    assert found is not None
    hook = found["spec"]["conversion"]["webhook"]
    assert hook["clientConfig"] == {"service": {"namespace": "shop", "name": "hook", "port": 443}}
    assert found["status"]["storedVersions"] == ["v1"]


async def test_an_object_is_read_in_every_version(world: ConversionWorld) -> None:
    await world.define()
    made = good(await world.send("POST", V1, host("a", address="localhost:8080", replicas=2)))
    # A response in the version of the request needs no conversion.
    assert world.hooks.requests == []
    assert made["spec"] == {"address": "localhost:8080", "replicas": 2, "note": "one"}
    found = good(await world.get("a", "v2"))
    assert (found["apiVersion"], found["metadata"]["uid"]) == (f"{GROUP}/v2", made["metadata"]["uid"])
    # The webhook gets the defaults of the stored version. Its result is pruned, and gets no defaults of the new
    # version.
    assert found["spec"] == {"host": "localhost", "port": 8080, "count": 2, "note": "one"}
    review = world.hooks.requests[0]
    assert (review["desiredAPIVersion"], len(review["objects"])) == (f"{GROUP}/v2", 1)
    assert review["objects"][0] == made
    # The result is cached: further reads need no further call.
    assert good(await world.get("a", "v2")) == found
    assert len(world.hooks.requests) == 1


async def test_an_object_is_stored_in_the_storage_version(world: ConversionWorld) -> None:
    await world.define()
    made = good(await world.send("POST", V2, host("a", "v2", host="localhost", port=8080)))
    # An object gets the defaults of the version in which it was written, and at each read those of the stored version.
    assert world.stored("a")["spec"] == {"address": "localhost:8080"}
    assert world.stored("a")["apiVersion"] == f"{GROUP}/v1"
    assert made["apiVersion"] == f"{GROUP}/v2"
    assert made["spec"] == {"host": "localhost", "port": 8080, "note": "one"}
    assert [one["desiredAPIVersion"] for one in world.hooks.requests] == [f"{GROUP}/v1", f"{GROUP}/v2"]
    assert made["metadata"]["managedFields"][0]["apiVersion"] == f"{GROUP}/v2"


async def test_an_object_is_validated_in_the_version_of_the_request(world: ConversionWorld) -> None:
    await world.define()
    reply = await world.send("POST", V2, host("a", "v2", host="localhost", port=0))
    assert [one["field"] for one in reply.json["details"]["causes"]] == ["spec.port"]
    # The webhook's result is not validated.
    good(await world.send("POST", V2, host("a", "v2", host="LOUD", port=1)))
    assert good(await world.get("a"))["spec"]["address"] == "LOUD:1"


async def test_updates_and_patches_of_another_version(world: ConversionWorld) -> None:
    made = definition(world.config)
    # The field `extra` is removed: the stored version lacks it, so its default would count as a change at each write.
    del made["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["extra"]
    await world.define(made)
    good(await world.send("POST", V1, host("a", address="localhost:8080")))
    found = good(await world.get("a", "v2"))
    found["spec"]["port"] = 9090
    updated = good(await world.send("PUT", f"{V2}/a", found))
    assert (updated["spec"]["port"], updated["metadata"]["generation"]) == (9090, 2)
    patched = good(await world.send("PATCH", f"{V2}/a", {"spec": {"count": 3}}, MERGE))
    assert patched["spec"] == {"host": "localhost", "port": 9090, "count": 3, "note": "one"}
    stored = good(await world.get("a"))
    assert stored["spec"] == {"address": "localhost:9090", "replicas": 3, "note": "one"}
    # A patch that changes nothing writes nothing.
    again = good(await world.send("PATCH", f"{V2}/a", {"spec": {"count": 3}}, MERGE))
    assert again["metadata"]["resourceVersion"] == patched["metadata"]["resourceVersion"]
    stale = await world.send("PUT", f"{V2}/a", found)
    assert (stale.status, stale.json["reason"]) == (409, "Conflict")


async def test_a_dry_run_shows_what_would_be_stored(world: ConversionWorld) -> None:
    await world.define()
    made = good(await world.send("POST", f"{V2}?dryRun=All", host("a", "v2", host="h", port=1, extra="lost")))
    assert "note" in made["spec"] and "extra" not in made["spec"]
    assert (await world.get("a")).status == 404


async def test_status_and_scale_of_another_version(world: ConversionWorld) -> None:
    await world.define()
    good(await world.send("POST", V1, host("a", address="localhost:8080", replicas=2)))
    body = {"status": {"phase": "Ready", "replicas": 1}, "spec": {"port": 1}}
    assert good(await world.send("PATCH", f"{V2}/a/status", body, MERGE))["spec"]["port"] == 8080
    assert good(await world.get("a"))["status"] == {"phase": "Ready", "replicas": 1}
    scale = good(await world.get("a", "v2", "/scale"))
    assert (scale["spec"], scale["status"]["replicas"]) == ({"replicas": 2}, 1)
    assert good(await world.send("PATCH", f"{V2}/a/scale", {"spec": {"replicas": 5}}, MERGE))["spec"] == {"replicas": 5}
    assert good(await world.get("a"))["spec"]["replicas"] == 5
    fields = {one["apiVersion"]: one["fieldsV1"] for one in good(await world.get("a"))["metadata"]["managedFields"]
              if one.get("subresource") == "scale"}  # fmt: skip
    assert fields == {f"{GROUP}/v2": {"f:spec": {"f:count": {}}}}


async def test_a_new_storage_version_makes_lists_mixed(world: ConversionWorld) -> None:
    # As "should be able to convert a non homogeneous list of CRs" (`crd_conversion_webhook.go`).
    await world.define()
    good(await world.send("POST", V1, host("one", address="localhost:8080")))
    changed = await world.redefine({"versions": versions("v2")})
    assert changed["status"]["storedVersions"] == ["v1", "v2"]
    good(await world.send("POST", V1, host("two", address="localhost:8080")))
    assert (world.stored("one")["apiVersion"], world.stored("two")["apiVersion"]) == (f"{GROUP}/v1", f"{GROUP}/v2")
    listed = good(await world.send("GET", V1))
    assert [(one["apiVersion"], one["spec"]["address"]) for one in listed["items"]] == [
        (f"{GROUP}/v1", "localhost:8080"), (f"{GROUP}/v1", "localhost:8080")]  # fmt: skip
    listed = good(await world.send("GET", V2))
    assert [(one["apiVersion"], one["spec"]["host"]) for one in listed["items"]] == [
        (f"{GROUP}/v2", "localhost"), (f"{GROUP}/v2", "localhost")]  # fmt: skip
    # Writing an object without a change migrates it.
    good(await world.send("PUT", f"{V1}/one", good(await world.get("one"))))
    assert world.stored("one")["apiVersion"] == f"{GROUP}/v2"


async def test_the_objects_of_a_list_are_sent_together(world: ConversionWorld) -> None:
    await world.define()
    for index in range(120):
        good(await world.send("POST", V1, host(f"a{index:03}", address=f"h:{index}")))
    listed = good(await world.send("GET", V2))
    assert [one["spec"]["port"] for one in listed["items"]] == list(range(120))
    assert [len(one["objects"]) for one in world.hooks.requests] == [100, 20]
    page = good(await world.send("GET", f"{V2}?limit=50"))
    assert (len(page["items"]), page["metadata"]["remainingItemCount"]) == (50, 70)
    assert len(world.hooks.requests) == 2


async def test_readers_at_the_same_time_share_a_call(world: ConversionWorld) -> None:
    await world.define()
    good(await world.send("POST", V1, host("a", address="h:1")))
    found = await asyncio.gather(*(world.get("a", "v2") for _ in range(20)))
    assert {one.status for one in found} == {200}
    assert len(world.hooks.requests) == 1


async def test_a_watch_shows_its_own_version(world: ConversionWorld) -> None:
    await world.define()
    good(await world.send("POST", V1, host("a", address="h:1")))
    async with world.watch(f"{V2}?watch=true") as events:
        first = await event(events)
        assert (first["type"], first["object"]["apiVersion"], first["object"]["spec"]["port"]) == (
            "ADDED", f"{GROUP}/v2", 1)  # fmt: skip
        good(await world.send("PATCH", f"{V1}/a", {"spec": {"address": "h:2"}}, MERGE))
        second = await event(events)
        assert (second["type"], second["object"]["spec"]["port"]) == ("MODIFIED", 2)
        asked = len(world.hooks.requests)
        good(await world.send("DELETE", f"{V1}/a"))
        last = await event(events)
        assert (last["type"], last["object"]["spec"]["port"]) == ("DELETED", 2)
        assert int(last["object"]["metadata"]["resourceVersion"]) > int(second["object"]["metadata"]["resourceVersion"])
        # An earlier event has shown the same object, so its conversion is cached.
        assert len(world.hooks.requests) == asked


async def test_initial_events_end_with_a_bookmark(world: ConversionWorld) -> None:
    await world.define()
    for name in ("a", "b"):
        good(await world.send("POST", V1, host(name, address="h:1")))
    query = "watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    async with world.watch(f"{V2}?{query}") as events:
        found = [await event(events) for _ in range(3)]
    assert [(one["type"], one["object"]["apiVersion"]) for one in found] == [
        ("ADDED", f"{GROUP}/v2"), ("ADDED", f"{GROUP}/v2"), ("BOOKMARK", f"{GROUP}/v2")]  # fmt: skip
    assert found[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watch_ends_with_its_version(world: ConversionWorld) -> None:
    await world.define()
    watch = asyncio.create_task(world.send("GET", f"{V2}?watch=true"))
    some = versions("v1")
    some[1]["served"] = False
    await world.redefine({"versions": some})
    good(await world.send("POST", V1, host("a", address="h:1")))
    reply = await asyncio.wait_for(watch, 20)
    assert (reply.status, reply.body) == (200, b"")
    assert (await world.get("a", "v2")).status == 404


async def test_a_watch_follows_a_change_of_the_definition(world: ConversionWorld) -> None:
    await world.define()
    async with world.watch(f"{V1}?watch=true") as events:
        good(await world.send("POST", V1, host("a", address="h:1")))
        assert (await event(events))["object"]["spec"]["address"] == "h:1"
        await world.redefine({"versions": versions("v2")})
        good(await world.send("POST", V2, host("b", "v2", host="h", port=2)))
        assert (await event(events))["object"]["spec"] == {"address": "h:2"}


async def test_selectors_match_what_is_shown(world: ConversionWorld) -> None:
    def labelled(request: dict[str, Any]) -> dict[str, Any]:
        answer = convert(request)
        for one in answer["convertedObjects"]:
            one["metadata"]["labels"] = {"version": one["apiVersion"].rpartition("/")[2]}
        return answer

    world.answer(labelled)
    await world.define()
    for index in range(3):
        good(await world.send("POST", V1, host(f"a{index}", address=f"h{'x' * index}:1")))
    async with world.watch(f"{V2}?watch=true&labelSelector=version%3Dv2") as events:
        assert [(await event(events))["type"] for _ in range(3)] == ["ADDED"] * 3
        good(await world.send("PATCH", f"{V1}/a0", {"spec": {"address": "h:2"}}, MERGE))
        assert (await event(events))["type"] == "MODIFIED"
    assert len(good(await world.send("GET", f"{V2}?labelSelector=version%3Dv2"))["items"]) == 3
    assert good(await world.send("GET", f"{V1}?labelSelector=version%3Dv2"))["items"] == []
    page = good(await world.send("GET", f"{V2}?labelSelector=version%3Dv2&limit=2"))
    rest = good(await world.send("GET", f"{V2}?labelSelector=version%3Dv2&continue={page['metadata']['continue']}"))
    assert [one["metadata"]["name"] for one in page["items"] + rest["items"]] == ["a0", "a1", "a2"]
    listed = good(await world.send("GET", f"{V2}?fieldSelector=spec.host%3Dhx"))
    assert [one["metadata"]["name"] for one in listed["items"]] == ["a1"]


async def test_tables_and_metadata_of_another_version(world: ConversionWorld) -> None:
    await world.define()
    good(await world.send("POST", V1, host("a", address="localhost:8080")))
    table = good(await world.send("GET", V2, headers=TABLE))
    assert [one["cells"][:2] for one in table["rows"]] == [["a", "localhost"]]
    table = good(await world.send("GET", f"{V1}/a", headers=TABLE))
    assert [one["cells"][:2] for one in table["rows"]] == [["a", "localhost:8080"]]


async def test_applies_of_two_versions_keep_their_fields_apart(world: ConversionWorld) -> None:
    await world.define()
    good(await world.send("PATCH", f"{V1}/a?fieldManager=one", host("a", address="h:1"), APPLY))
    good(await world.send("PATCH", f"{V2}/a?fieldManager=two", host("a", "v2", count=2), APPLY))
    found = good(await world.get("a"))
    assert found["spec"] == {"address": "h:1", "replicas": 2, "note": "one"}
    owners = {one["manager"]: (one["apiVersion"], one["fieldsV1"]) for one in found["metadata"]["managedFields"]}
    assert owners == {
        "one": (f"{GROUP}/v1", {"f:spec": {"f:address": {}}}),
        "two": (f"{GROUP}/v2", {"f:spec": {"f:count": {}}}),
    }
    # A change in one version conflicts with a manager that owns the field in the other version.
    reply = await world.send("PATCH", f"{V2}/a?fieldManager=two", host("a", "v2", count=2, host="x", port=1), APPLY)
    assert reply.status == 409
    assert reply.json["message"] == 'Apply failed with 1 conflict: conflict with "one": .spec.address'
    forced = await world.send(
        "PATCH", f"{V2}/a?fieldManager=two&force=true", host("a", "v2", count=2, host="x", port=1), APPLY
    )
    assert good(forced)["spec"]["host"] == "x"
    owners = {one["manager"]: one["fieldsV1"] for one in good(await world.get("a"))["metadata"]["managedFields"]}
    assert owners == {"two": {"f:spec": {"f:count": {}, "f:host": {}, "f:port": {}}}}
    # An update takes over fields that were applied in other versions, too.
    good(await world.send("PATCH", f"{V1}/a?fieldManager=three", {"spec": {"replicas": 7}}, MERGE))
    owners = {one["manager"]: one["fieldsV1"] for one in good(await world.get("a"))["metadata"]["managedFields"]}
    assert owners["two"] == {"f:spec": {"f:host": {}, "f:port": {}}}
    assert owners["three"] == {"f:spec": {"f:replicas": {}}}


async def test_an_apply_in_another_version_removes_what_it_applied_before(world: ConversionWorld) -> None:
    # structured-merge-diff `merge/update.go`, prune: fields are removed in the version of the previous apply.
    await world.define()
    good(await world.send("PATCH", f"{V1}/a?fieldManager=x", host("a", address="h:1", replicas=2), APPLY))
    good(await world.send("PATCH", f"{V2}/a?fieldManager=y", host("a", "v2", count=2), APPLY))
    found = good(await world.send("PATCH", f"{V2}/a?fieldManager=x", host("a", "v2", note="new"), APPLY))
    # `count` has another owner, in the other version; `address` had no other owner.
    assert found["spec"] == {"count": 2, "note": "new"}
    owners = {one["manager"]: (one["apiVersion"], one["fieldsV1"]) for one in found["metadata"]["managedFields"]}
    assert owners == {
        "x": (f"{GROUP}/v2", {"f:spec": {"f:note": {}}}),
        "y": (f"{GROUP}/v2", {"f:spec": {"f:count": {}}}),
    }


async def test_an_apply_needs_the_webhook_for_owners_in_other_versions(world: ConversionWorld) -> None:
    await world.define()
    good(await world.send("PATCH", f"{V2}/a?fieldManager=x", host("a", "v2", host="h", port=1), APPLY))
    world.answer(lambda _: b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    reply = await world.send("PATCH", f"{V1}/a?fieldManager=y", host("a", replicas=2), APPLY)
    assert (reply.status, reply.json["message"].startswith("conversion webhook for")) == (500, True)
    # Other writes in the stored version work, without managed fields.
    found = good(await world.send("PATCH", f"{V1}/a", {"spec": {"replicas": 2}}, MERGE))
    assert "managedFields" not in found["metadata"]


async def test_deletion_and_finalizers_in_another_version(world: ConversionWorld) -> None:
    await world.define()
    held = host("a", address="h:1")
    held["metadata"]["finalizers"] = ["example.com/held"]
    good(await world.send("POST", V1, held))
    shown = good(await world.send("DELETE", f"{V2}/a"))
    assert (shown["apiVersion"], shown["spec"]["port"]) == (f"{GROUP}/v2", 1)
    assert "deletionTimestamp" in shown["metadata"]
    released = await world.send("PATCH", f"{V2}/a", {"metadata": {"finalizers": None}}, MERGE)
    assert released.status == 200
    assert (await world.get("a")).status == 404
    good(await world.send("POST", V1, host("b", address="h:1")))
    deleted = good(await world.send("DELETE", V2))
    assert [one["spec"]["port"] for one in deleted["items"]] == [1]
    assert good(await world.send("GET", V1))["items"] == []


async def test_admission_webhooks_see_the_version_that_they_want(world: ConversionWorld) -> None:
    await world.define()
    rule = {"apiGroups": [GROUP], "apiVersions": ["v2"], "operations": ["*"], "resources": ["hosts"]}
    seen: list[Any] = []

    def allow(request: dict[str, Any]) -> dict[str, Any]:
        seen.append((request["kind"]["version"], request["requestKind"]["version"], request["object"]))
        return {"allowed": True}

    def change(request: dict[str, Any]) -> dict[str, Any]:
        return patch({"op": "replace", "path": "/spec/port", "value": 99})

    await world.configure("mutating", world.hooks.hook("/change", change, rules=[rule]))
    await world.configure("validating", world.hooks.hook("/allow", allow, rules=[rule]))
    made = good(await world.send("POST", V1, host("a", address="h:1")))
    assert made["spec"]["address"] == "h:99"
    assert [(one[0], one[1], one[2]["spec"]["port"]) for one in seen] == [("v2", "v1", 99)]


async def test_mutating_policies_see_the_version_that_they_want(world: ConversionWorld) -> None:
    await world.define()
    await world.send("POST", V1, host("limits", address="l:7"))
    rule = {"apiGroups": [GROUP], "apiVersions": ["v2"], "operations": ["*"], "resources": ["hosts"]}
    group = "/apis/admissionregistration.k8s.io/v1"
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "paramKind": {"apiVersion": f"{GROUP}/v2", "kind": "Host"},
        "reinvocationPolicy": "Never",
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}}
            for text in (
                "Object{spec: Object.spec{port: object.spec.port + params.spec.port}}",
                "Object{spec: Object.spec{note: object.spec.host + string(object.spec.port) + request.kind.version}}",
            )
        ],
    }
    good(await world.send("POST", f"{group}/mutatingadmissionpolicies", {"metadata": {"name": "p"}, "spec": spec}))
    reference = {"name": "limits", "parameterNotFoundAction": "Deny"}
    binding = {"metadata": {"name": "p"}, "spec": {"policyName": "p", "paramRef": reference}}
    good(await world.send("POST", f"{group}/mutatingadmissionpolicybindings", binding))
    made = good(await world.send("POST", V1, host("a", address="h:1")))
    assert (made["spec"]["address"], made["spec"]["note"]) == ("h:8", "h8v2")
    made = good(await world.send("POST", V2, host("b", "v2", host="h", port=2)))
    assert (made["spec"]["port"], made["spec"]["note"]) == (9, "h9v2")
    # A policy cannot check an object that cannot be converted.
    world.answer(lambda _: {"convertedObjects": [], "result": {"status": "Failure", "message": "no"}})
    reply = await world.send("POST", V1, host("c", address="h:1"))
    assert reply.status == 500
    assert f"conversion webhook for {GROUP}/v1, Kind=Host failed: no" in reply.json["message"]


async def _policy(world: ConversionWorld, binding: dict[str, Any], **spec: Any) -> None:
    made = {"metadata": {"name": "p"}, "spec": spec}
    bound = {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"], **binding}}
    good(await world.send("POST", f"{POLICIES}policies", made))
    good(await world.send("POST", f"{POLICIES}policybindings", bound))


async def test_policies_see_the_version_that_they_want(world: ConversionWorld) -> None:
    await world.define()
    rule = {"apiGroups": [GROUP], "apiVersions": ["v2"], "operations": ["*"], "resources": ["hosts"]}
    rules = [{"expression": "object.spec.port > 10", "messageExpression": "string(object.spec.port) + ' is low'"}]
    await _policy(world, {}, matchConstraints={"resourceRules": [rule]}, validations=rules)
    reply = await world.send("POST", V1, host("a", address="h:1"))
    assert (reply.status, reply.json["message"].endswith("denied request: 1 is low")) == (422, True), reply.body
    good(await world.send("POST", V1, host("a", address="h:11")))
    world.answer(lambda _: b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    reply = await world.send("POST", V1, host("b", address="h:11"))
    assert (reply.status, reply.json["reason"]) == (500, "InternalError")
    assert reply.json["message"].startswith(f"Internal error occurred: conversion webhook for {GROUP}/v1")


async def test_parameters_of_policies_are_converted(world: ConversionWorld) -> None:
    await world.define()
    good(await world.send("POST", V1, host("limits", address="h:5")))
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}
    await _policy(
        world,
        {"paramRef": {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"}},
        paramKind={"apiVersion": f"{GROUP}/v2", "kind": "Host"},
        matchConstraints={"resourceRules": [rule]},
        validations=[{"expression": "size(object.data) < params.spec.port"}],
    )
    maps = "/api/v1/namespaces/default/configmaps"
    good(await world.send("POST", maps, {"metadata": {"name": "a"}, "data": {"a": "b"}}))
    many = {str(index): "x" for index in range(5)}
    assert (await world.send("POST", maps, {"metadata": {"name": "b"}, "data": many})).status == 422
    good(await world.send("PATCH", f"{V1}/limits", {"spec": {"address": "h:6"}}, MERGE))
    good(await world.send("POST", maps, {"metadata": {"name": "b"}, "data": many}))
    world.answer(lambda _: b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    good(await world.send("PATCH", f"{V1}/limits", {"spec": {"address": "h:7"}}, MERGE))
    reply = await world.send("POST", maps, {"metadata": {"name": "c"}, "data": many})
    assert "failed to configure binding: conversion webhook for" in reply.json["message"], reply.body
