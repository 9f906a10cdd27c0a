"""`status.typeChecking` of ValidatingAdmissionPolicies: the errors in their expressions for the matched types.

Expected texts are those of Kubernetes' `typechecking_test.go` and of its e2e test `validatingadmissionpolicy.go`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchway.cluster.api.connect.webhookclient import WebhookClient
from hatchway.cluster.api.definitions.customtypes import CustomTypes
from hatchway.cluster.api.definitions.definitioncontroller import DefinitionController
from hatchway.cluster.api.definitions.policystatus import PolicyStatusController
from hatchway.cluster.api.operations.local import LocalClient
from hatchway.cluster.api.registry.custom.conversionwebhooks import ConversionWebhooks
from tests.integration.api import world as worlds
from tests.integration.api.test_admission_policies import MERGE, POLICIES, validations
from tests.integration.api.world import World

DEPLOYMENTS = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}
MAPS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with worlds.world() as found:
        types = CustomTypes(found.store, found.registry, ConversionWebhooks(WebhookClient()))
        definitions = DefinitionController(found.store, found.client, types.prepare)
        client = LocalClient(found.api, manager="validatingadmissionpolicy-status")
        controller = PolicyStatusController(found.store, client, lambda: found.registry.rows)
        definitions.start()
        controller.start()
        yield found
        await controller.aclose()
        await definitions.aclose()
        types.close()


async def checked(world: World, *expressions: str, rules: Any = (DEPLOYMENTS,), **spec: Any) -> dict[str, Any]:
    """The policy with such expressions, once it has been checked."""
    spec = {"matchConstraints": {"resourceRules": list(rules)}, "validations": validations(*expressions), **spec}
    made = await world.send("POST", POLICIES, {"metadata": {"generateName": "p-"}, "spec": spec})
    assert made.status == 201, made.json
    return await wait_for_check(world, made.json["metadata"]["name"], 1)


async def wait_for_check(world: World, name: str, generation: int) -> dict[str, Any]:
    checked = asyncio.Event()

    def follow(_type: str, _old: Any, new: Any) -> None:
        if new is not None and new["metadata"]["name"] == name:
            checked.set()

    end = world.store.subscribe("validatingadmissionpolicies.admissionregistration.k8s.io", follow)
    try:
        async with asyncio.timeout(30):
            while True:
                found: dict[str, Any] = (await world.send("GET", f"{POLICIES}/{name}")).json
                if found["status"].get("observedGeneration") == generation:
                    return found
                await checked.wait()
                checked.clear()
    finally:
        end()


def warnings(policy: dict[str, Any]) -> dict[str, str]:
    found = policy["status"]["typeChecking"].get("expressionWarnings") or []
    return {one["fieldRef"]: one["warning"] for one in found}


async def test_an_expression_that_fits_has_no_warning(world: World) -> None:
    found = await checked(
        world,
        "object.spec.replicas > 1 && object.metadata.labels['a'] == oldObject.metadata.name",
        "object.spec.template.spec.containers.all(c, c.image.startsWith('x') && c.env.exists(e, e.name == 'E'))",
        "type(object.spec.strategy.rollingUpdate.maxSurge) == int ? object.spec.strategy.rollingUpdate.maxSurge > 1"
        " : object.spec.strategy.rollingUpdate.maxSurge == '10%'",
        "object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')",
        "authorizer.group('apps').resource('deployments').check('get').allowed() && request.name != ''",
    )
    assert found["status"] == {"observedGeneration": 1, "typeChecking": {}}
    owners = [one["manager"] for one in found["metadata"]["managedFields"]]
    assert "validatingadmissionpolicy-status" in owners


async def test_warnings_are_worded_as_in_kubernetes(world: World) -> None:
    rule = {"expression": "object.spec.replicas > '1'", "messageExpression": "'got ' + object.spec.replicas"}
    found = await checked(world, validations=[rule])
    assert warnings(found) == {
        "spec.validations[0].expression": (
            "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to "
            "'(int, string)'\n | object.spec.replicas > '1'\n | .....................^\n"
        ),
        "spec.validations[0].messageExpression": (
            "apps/v1, Kind=Deployment: ERROR: <input>:1:8: found no matching overload for '_+_' applied to "
            "'(string, int)'\n | 'got ' + object.spec.replicas\n | .......^\n"
        ),
    }


async def test_each_kind_of_the_rules_is_checked(world: World) -> None:
    rules = [DEPLOYMENTS, {**MAPS, "resources": ["configmaps", "secrets", "configmaps/x", "nope"]}]
    found = warnings(await checked(world, "object.data.size() > 0 && object.spec.replicas > 0", rules=rules))
    shown = found["spec.validations[0].expression"]
    assert [line.split(": ")[0] for line in shown.splitlines() if "Kind=" in line] == [
        "/v1, Kind=ConfigMap",
        "/v1, Kind=Secret",
        "apps/v1, Kind=Deployment",
    ]
    assert "undefined field 'spec'" in shown
    assert "undefined field 'data'" in shown


async def test_the_check_does_not_try_all_combinations(world: World) -> None:
    many = [f"x{number}" for number in range(2000)]
    rule = {**DEPLOYMENTS, "apiGroups": ["apps", *many], "apiVersions": ["v1", *many], "resources": ["pods", *many]}
    found = await checked(world, "object.nope == 1", rules=[rule, DEPLOYMENTS])
    assert list(warnings(found)) == ["spec.validations[0].expression"]


async def test_rules_with_wildcards_are_not_checked(world: World) -> None:
    found = await checked(world, "object.nope == 1", rules=[{**DEPLOYMENTS, "apiGroups": ["*"]}])
    assert found["status"] == {"observedGeneration": 1, "typeChecking": {}}


async def test_variables_and_parameters_have_types(world: World) -> None:
    found = await checked(
        world,
        "variables.count + 1 > 0",
        "variables.count == 'x'",
        "params.data.all(k, params.data[k] == 'x')",
        "params.data.a > 1",
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        variables=[{"name": "count", "expression": "object.spec.replicas"}],
    )
    assert list(warnings(found)) == ["spec.validations[1].expression", "spec.validations[3].expression"]


async def test_a_custom_type_is_checked(world: World) -> None:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {"cronSpec": {"type": "string"}, "replicas": {"type": "integer"}},
            }
        },
    }
    definition = {
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "scope": "Namespaced",
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    reply = await world.send("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    assert reply.status == 201, reply.json
    served = asyncio.Event()
    world.registry.subscribe(served.set)
    if world.registry.by_name("crontabs.stable.example.com") is None:
        await asyncio.wait_for(served.wait(), 30)
    rule = {"apiGroups": ["stable.example.com"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["crontabs"]}
    good = await checked(world, "object.spec.replicas > 1 && object.metadata.labels.size() > 0", rules=[rule])
    assert good["status"]["typeChecking"] == {}
    bad = await checked(world, "object.spec.replicas > '1'", "object.spec.maxRetries < 10", rules=[rule])
    assert "applied to '(int, string)'" in warnings(bad)["spec.validations[0].expression"]
    assert warnings(bad)["spec.validations[1].expression"].startswith(
        "stable.example.com/v1, Kind=CronTab: ERROR: <input>:1:12: undefined field 'maxRetries'"
    )


async def test_a_changed_policy_is_checked_again(world: World) -> None:
    found = await checked(world, "object.spec.nope == 1")
    assert warnings(found)
    name = found["metadata"]["name"]
    change = {"spec": {"validations": validations("object.spec.replicas == 1")}}
    await world.send("PATCH", f"{POLICIES}/{name}", change, headers=MERGE)
    assert (await wait_for_check(world, name, 2))["status"]["typeChecking"] == {}


async def test_what_the_check_does_not_know(world: World) -> None:
    found = await checked(
        world,
        "has(object.spec.template.spec.containers[0].resources.limits)",
        "authorizer.requestResource.check('get').allowed()",
    )
    assert [one.splitlines()[0].rpartition(": ")[2] for one in warnings(found).values()] == [
        "undefined field 'limits'",
        "unexpected failed resolution of 'kubernetes.authorization.Authorizer'",
    ]


async def test_a_type_in_itself_has_no_fields_there(world: World) -> None:
    rule = {
        "apiGroups": ["apiextensions.k8s.io"],
        "apiVersions": ["v1"],
        "operations": ["*"],
        "resources": ["customresourcedefinitions"],
    }
    path = "object.spec.versions[0].schema.openAPIV3Schema"
    found = await checked(world, f"{path}.type == 'object'", f"{path}.not.type == 'object'", rules=[rule])
    assert list(warnings(found)) == ["spec.validations[1].expression"]
