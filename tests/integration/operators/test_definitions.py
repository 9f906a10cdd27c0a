"""CustomResourceDefinitions of real operators: very large ones, and ones that admission policies check."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from hatchway.cluster.api.admission.builtin import builtin_plugins, policy_plugins
from hatchway.cluster.api.admission.chain import AdmissionChain
from hatchway.cluster.api.connect.webhookclient import WebhookClient
from hatchway.cluster.api.definitions.customtypes import CustomTypes
from hatchway.cluster.api.definitions.definitioncontroller import DefinitionController
from hatchway.cluster.api.registry.custom.conversionwebhooks import ConversionWebhooks
from hatchway.cluster.auth.rbac import Authorizer
from tests.integration.api import world as worlds
from tests.integration.api.world import World

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "/apis/admissionregistration.k8s.io/v1"
NAME = "fleets.ships.example.com"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with worlds.world() as found:
        found.patience = 60
        found.api.admission = AdmissionChain(
            [
                *builtin_plugins(found.store),
                *policy_plugins(found.store, lambda: found.registry.rows, Authorizer(found.store).decide),
            ]
        )
        types = CustomTypes(found.store, found.registry, ConversionWebhooks(WebhookClient()))
        controller = DefinitionController(found.store, found.client, types.prepare)
        controller.start()
        try:
            yield found
        finally:
            types.close()
            await controller.aclose()


def definition(fields: int = 1) -> dict[str, Any]:
    text = {"type": "string", "maxLength": 63, "description": "The word for this part. " * 4}
    parts = {f"part{number}": text for number in range(fields)}
    spec = {"type": "object", "properties": {"spec": {"type": "object", "properties": parts}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": "ships.example.com",
            "scope": "Namespaced",
            "names": {"plural": "fleets", "singular": "fleet", "kind": "Fleet"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": spec}}],
        },
    }


async def until(world: World, status: int, path: str) -> None:
    async with world.watch(f"{DEFINITIONS}?watch=true&fieldSelector=metadata.name={NAME}") as events:
        while (await world.send("GET", path)).status != status:
            await asyncio.wait_for(events.get(), 20)


# Argo CD's ApplicationSet has 1.4 MiB of YAML, and 24,000 values.
@pytest.mark.parametrize("kind", ["application/yaml", "application/apply-patch+yaml"])
async def test_a_yaml_definition_of_more_than_a_mebibyte_is_accepted(world: World, kind: str) -> None:
    made = yaml.dump(definition(9000), Dumper=_Plain).encode()
    assert len(made) > 1024 * 1024
    if kind == "application/yaml":
        reply = await world.send("POST", DEFINITIONS, made, {"Content-Type": kind})
    else:
        reply = await world.send("PATCH", f"{DEFINITIONS}/{NAME}?fieldManager=m", made, {"Content-Type": kind})
    assert reply.status == 201, reply.body[:500]
    served = "/apis/ships.example.com/v1/namespaces/default/fleets"
    await until(world, 200, served)
    fleet = {"apiVersion": "ships.example.com/v1", "kind": "Fleet", "metadata": {"name": "f"}}
    assert (await world.send("POST", served, {**fleet, "spec": {"part8999": "x" * 64}})).status == 422
    assert (await world.send("POST", served, {**fleet, "spec": {"part8999": "x" * 63}})).status == 201


class _Plain(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    def ignore_aliases(self, _: Any) -> bool:
        return True


async def test_a_policy_about_definitions_does_not_block_their_deletion(world: World) -> None:
    # An example is the Gateway API's policy `safe-upgrades`: it denies updates of definitions with some annotations.
    assert (await world.send("POST", DEFINITIONS, definition())).status == 201
    await until(world, 200, "/apis/ships.example.com/v1")
    rule = {"apiGroups": ["apiextensions.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"]}
    match = {"resourceRules": [{**rule, "resources": ["customresourcedefinitions"]}]}
    policy = {"matchConstraints": match, "validations": [{"expression": "false", "message": "no updates"}]}
    bound = {"policyName": "p", "validationActions": ["Deny"]}
    for kind, spec in (("validatingadmissionpolicies", policy), ("validatingadmissionpolicybindings", bound)):
        assert (await world.send("POST", f"{GROUP}/{kind}", {"metadata": {"name": "p"}, "spec": spec})).status == 201
    merge = {"Content-Type": "application/merge-patch+json"}
    denied = await world.send("PATCH", f"{DEFINITIONS}/{NAME}", {"metadata": {"labels": {"a": "b"}}}, merge)
    assert (denied.status, "no updates" in denied.json["message"]) == (422, True)
    assert (await world.send("DELETE", f"{DEFINITIONS}/{NAME}")).status == 200
    await until(world, 404, f"{DEFINITIONS}/{NAME}")
