"""MutatingAdmissionPolicies for subresources, for other versions of a type and for custom types.

The cases are those of Kubernetes' `test/integration/apiserver/cel/mutatingadmissionpolicy_test.go`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchway.cluster.api.admission.builtin import builtin_plugins, policy_plugins
from hatchway.cluster.api.admission.chain import AdmissionChain
from hatchway.cluster.api.connect.webhookclient import WebhookClient
from hatchway.cluster.api.definitions.customtypes import CustomTypes
from hatchway.cluster.api.definitions.definitioncontroller import DefinitionController
from hatchway.cluster.api.registry.custom.conversionwebhooks import ConversionWebhooks
from hatchway.cluster.auth.rbac import Authorizer
from tests.integration.api import world as worlds
from tests.integration.api.test_mutating_policies import (
    DEPLOYMENTS,
    MERGE,
    applied,
    bind,
    deployment,
    patched,
    policy,
    rule,
)
from tests.integration.api.world import World

PANDAS = "/apis/awesome.bears.com/{}/namespaces/default/pandas"
SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "toys": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 1}},
                    },
                },
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        }
    },
}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with worlds.world() as found:
        rows, decide = lambda: found.registry.rows, Authorizer(found.store).decide
        found.api.admission = AdmissionChain(
            [*builtin_plugins(found.store), *policy_plugins(found.store, rows, decide)]
        )
        types = CustomTypes(found.store, found.registry, ConversionWebhooks(WebhookClient()))
        definitions = DefinitionController(found.store, found.client, types.prepare)
        definitions.start()
        yield found
        await definitions.aclose()
        types.close()


def for_rules(*rules: dict[str, Any], mutations: Any, **spec: Any) -> dict[str, Any]:
    return policy(*mutations, matchConstraints={"resourceRules": list(rules)}, **spec)


async def define_pandas(world: World) -> None:
    versions = [
        {"name": name, "served": True, "storage": name == "v2", "schema": {"openAPIV3Schema": SCHEMA}}
        for name in ("v1", "v2")
    ]
    definition = {
        "metadata": {"name": "pandas.awesome.bears.com"},
        "spec": {
            "group": "awesome.bears.com",
            "scope": "Namespaced",
            "names": {"plural": "pandas", "singular": "panda", "kind": "Panda"},
            "versions": versions,
        },
    }
    served = asyncio.Event()
    world.registry.subscribe(served.set)
    reply = await world.send("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    assert reply.status == 201, reply.json
    if world.registry.by_name("pandas.awesome.bears.com") is None:
        await asyncio.wait_for(served.wait(), 30)


async def test_the_scale_of_a_workload(world: World) -> None:
    await world.send("POST", DEPLOYMENTS, deployment())
    mutation = applied("Object{spec: Object.spec{replicas: object.kind == 'Scale' ? 3 : 0}}")
    scale = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["*/scale"]}
    await bind(world, for_rules(scale, mutations=[mutation]))
    reply = await world.send("PATCH", f"{DEPLOYMENTS}/web/scale", {"spec": {"replicas": 9}}, headers=MERGE)
    assert reply.status == 200, reply.json
    assert reply.json["spec"]["replicas"] == 3
    assert (await world.send("GET", f"{DEPLOYMENTS}/web")).json["spec"]["replicas"] == 3


async def test_a_status(world: World) -> None:
    mutation = applied(
        "Object{status: Object.status{conditions: [Object.status.conditions{"
        "type: 'NamespaceDeletionContentFailure', message: 'mutated'}]}}"
    )
    await bind(world, for_rules(rule("namespaces/status", operations=["*"]), mutations=[mutation]))
    found = (await world.send("GET", "/api/v1/namespaces/default")).json
    condition = {"type": "NamespaceDeletionContentFailure", "status": "Unknown"}
    found["status"]["conditions"] = [condition]
    reply = await world.send("PUT", "/api/v1/namespaces/default/status", found)
    (found,) = reply.json["status"]["conditions"]
    assert found.items() >= {**condition, "message": "mutated"}.items()


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_custom_objects_in_all_versions(world: World, version: str) -> None:
    await define_pandas(world)
    mutation = applied(
        "Object{metadata: Object.metadata{labels: {'as': request.kind.version + object.apiVersion.split('/')[1]}}, "
        "spec: Object.spec{toys: [Object.spec.toys{name: 'ball', count: 2}, Object.spec.toys{name: 'rope'}]}}"
    )
    await bind(world, for_rules(rule("pandas", "awesome.bears.com"), mutations=[mutation]))
    made = {"metadata": {"name": "p"}, "spec": {"toys": [{"name": "ball"}, {"name": "car"}]}}
    reply = await world.send("POST", PANDAS.format(version), made)
    assert reply.status == 201, reply.json
    # The rule names v1, and with `matchPolicy: Equivalent` it matches other versions of the same objects.
    assert reply.json["metadata"]["labels"] == {"as": "v1v1"}
    assert reply.json["apiVersion"] == f"awesome.bears.com/{version}"
    assert reply.json["spec"]["toys"] == [
        {"name": "ball", "count": 2},
        {"name": "car", "count": 1},
        {"name": "rope", "count": 1},
    ]


@pytest.mark.parametrize(
    ("mutation", "why"),
    [
        (applied("Object{spec: Object.spec{nope: 1}}"), ".spec.nope: field not declared in schema"),
        (applied("Object{spec: Object.spec{toys: [{'count': 1}]}}"), ".spec.toys: element 0: "),
    ],
)
async def test_custom_objects_keep_their_schema(world: World, mutation: dict[str, Any], why: str) -> None:
    await define_pandas(world)
    await bind(world, for_rules(rule("pandas", "awesome.bears.com"), mutations=[mutation]))
    reply = await world.send("POST", PANDAS.format("v1"), {"metadata": {"name": "p"}})
    assert reply.status == 403, reply.json
    assert why in reply.json["message"]


async def test_a_json_patch_of_a_custom_object_is_pruned(world: World) -> None:
    await define_pandas(world)
    mutation = patched(
        "[JSONPatch{op: 'add', path: '/spec', value: {'nope': 1}}, "
        "JSONPatch{op: 'add', path: '/spec/free', value: {'kept': [1]}}]"
    )
    await bind(world, for_rules(rule("pandas", "awesome.bears.com"), mutations=[mutation]))
    reply = await world.send("POST", PANDAS.format("v2"), {"metadata": {"name": "p"}})
    assert reply.json["spec"] == {"free": {"kept": [1]}}


async def test_another_group_serves_the_same_objects(world: World) -> None:
    await bind(world, for_rules(rule("events"), mutations=[applied("Object{message: 'm:' + object.message}")]))
    event = {
        "metadata": {"name": "e", "namespace": "default"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "eventTime": "2024-01-01T00:00:00.000000Z",
        "reportingController": "example.com/c",
        "reportingInstance": "c",
        "action": "A",
        "reason": "R",
        "type": "Normal",
        "note": "text",
    }
    reply = await world.send("POST", "/apis/events.k8s.io/v1/namespaces/default/events", event)
    assert reply.status == 201, reply.json
    assert reply.json["note"] == "m:text"
