"""Users cannot use an admission policy to read objects that they may not read (Kubernetes' `authz.go` of policies)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchway.cluster.api.http.restapp import RestApp
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.apiserver import access_check
from hatchway.cluster.auth.rbac import Authorizer
from hatchway.cluster.auth.user import UserInfo
from tests.integration.api import world as worlds
from tests.integration.api.test_admission_policies import BINDINGS, GROUP, MERGE, POLICIES, policy, validations
from tests.integration.api.world import ADMIN, Reply, World

EVE = UserInfo("eve", ("system:authenticated",))
SECRETS = {"apiVersion": "v1", "kind": "Secret"}
NO_KIND = (
    'user "eve" must have "get" permission on all objects of the referenced paramKind (kind=Secret, apiVersion=v1)'
)
NO_OBJECT = 'user "eve" does not have "get" permission on the object referenced by paramRef'


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with worlds.world() as found:
        authorizer = Authorizer(found.store)
        found.api = Api(
            found.store, found.registry, access_check(authorizer, found.store, found.registry), authorizer.require
        )
        found.app = RestApp(found.api)
        yield found


async def _grant(world: World, *rules: dict[str, Any]) -> None:
    resource = "clusterroles.rbac.authorization.k8s.io"
    await world.client.create(resource, {"metadata": {"name": "eve"}, "rules": list(rules)})
    binding = {
        "metadata": {"name": "eve"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "eve"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"}],
    }
    await world.client.create("clusterrolebindings.rbac.authorization.k8s.io", binding)


def _get(*names: str) -> dict[str, Any]:
    return {
        "apiGroups": [""],
        "resources": ["secrets"],
        "verbs": ["get"],
        **({"resourceNames": names} if names else {}),
    }


def _policy() -> dict[str, Any]:
    return policy(validations=validations("false", messageExpression="string(params.data.a)"), paramKind=SECRETS)


async def _bind(world: World, user: UserInfo, name: str = "top", namespace: str = "kube-system") -> Reply:
    reference = {"name": name, "namespace": namespace, "parameterNotFoundAction": "Deny"}
    spec = {"policyName": "p", "validationActions": ["Deny"], "paramRef": reference}
    return await world.send("POST", BINDINGS, {"metadata": {"name": "b"}, "spec": spec}, user=user)


async def test_a_policy_reads_only_kinds_that_its_writer_may_read(world: World) -> None:
    reply = await world.send("POST", POLICIES, _policy(), user=EVE)
    assert (reply.status, reply.json["reason"]) == (422, "Invalid")
    assert reply.json["message"].endswith(f"spec.paramKind: Forbidden: {NO_KIND}")
    await _grant(world, _get())
    assert (await world.send("POST", POLICIES, _policy(), user=EVE)).status == 201


@pytest.mark.parametrize("dry_run", ["", "?dryRun=All"])
async def test_a_policy_does_not_get_another_kind_by_a_patch(world: World, dry_run: str) -> None:
    assert (await world.send("POST", POLICIES, policy(validations=validations("true")))).status == 201
    change = {"spec": {"paramKind": SECRETS}}
    reply = await world.send("PATCH", f"{POLICIES}/p{dry_run}", change, MERGE, user=EVE)
    assert reply.status == 422
    assert NO_KIND in reply.json["message"]


async def test_other_changes_of_a_policy_need_no_right_to_its_parameters(world: World) -> None:
    assert (await world.send("POST", POLICIES, _policy())).status == 201
    change = {"spec": {"failurePolicy": "Ignore"}}
    assert (await world.send("PATCH", f"{POLICIES}/p", change, MERGE, user=EVE)).status == 200


async def test_a_binding_names_only_objects_that_its_writer_may_read(world: World) -> None:
    assert (await world.send("POST", POLICIES, _policy())).status == 201
    await _grant(world, _get("known"))
    reply = await _bind(world, EVE)
    assert reply.status == 422
    assert reply.json["message"].endswith(f"spec.paramRef: Forbidden: {NO_OBJECT}")
    assert (await _bind(world, EVE, "known")).status == 201
    change = {"spec": {"paramRef": {"name": "top"}}}
    assert (await world.send("PATCH", f"{BINDINGS}/b", change, MERGE, user=EVE)).status == 422
    assert (await world.send("PATCH", f"{BINDINGS}/b", change, MERGE, user=ADMIN)).status == 200


async def test_mutating_policies_are_checked_alike(world: World) -> None:
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}]
    text = "Object{data: {'secret': string(params.data.a)}}"
    spec = {
        "matchConstraints": {"resourceRules": rules},
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}}],
        "reinvocationPolicy": "Never",
        "paramKind": SECRETS,
    }
    made = {"metadata": {"name": "m"}, "spec": spec}
    policies, bindings = (f"{GROUP}/mutatingadmission{one}" for one in ("policies", "policybindings"))
    reply = await world.send("POST", policies, made, user=EVE)
    assert reply.status == 422
    assert reply.json["message"].endswith(f"spec.paramKind: Forbidden: {NO_KIND}")
    assert (await world.send("POST", policies, made)).status == 201
    reference = {"selector": {}, "namespace": "kube-system", "parameterNotFoundAction": "Deny"}
    binding = {"metadata": {"name": "m"}, "spec": {"policyName": "m", "paramRef": reference}}
    await _grant(world, _get())
    reply = await world.send("POST", bindings, binding, user=EVE)
    assert reply.status == 422
    # A parameter chosen by a selector needs the right to list.
    assert reply.json["message"].endswith(NO_OBJECT.replace('"get"', '"list"'))
    await world.client.patch(
        "clusterroles.rbac.authorization.k8s.io", "eve", {"rules": [{**_get(), "verbs": ["list"]}]}
    )
    assert (await world.send("POST", bindings, binding, user=EVE)).status == 201


async def test_a_binding_of_a_policy_that_is_made_later_needs_the_right_to_everything(world: World) -> None:
    await _grant(world, _get())
    reply = await _bind(world, EVE)
    assert reply.status == 422
    assert NO_OBJECT in reply.json["message"]
