"""MutatingAdmissionPolicies: their changes, their order, and the texts of their failures.

Expected texts are those of apiserver's `pkg/admission/plugin/policy/mutating` and of structured-merge-diff.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hatchway.cluster.api.admission.builtin import builtin_plugins, policy_plugins
from hatchway.cluster.api.admission.chain import AdmissionChain
from hatchway.cluster.auth.rbac import Authorizer
from tests.integration.api import world as worlds
from tests.integration.api.world import Reply, World

GROUP = "/apis/admissionregistration.k8s.io/v1"
POLICIES, BINDINGS = f"{GROUP}/mutatingadmissionpolicies", f"{GROUP}/mutatingadmissionpolicybindings"
MAPS, DEPLOYMENTS = "/api/v1/namespaces/default/configmaps", "/apis/apps/v1/namespaces/default/deployments"
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with worlds.world() as found:
        rows, decide = lambda: found.registry.rows, Authorizer(found.store).decide
        found.api.admission = AdmissionChain(
            [*builtin_plugins(found.store), *policy_plugins(found.store, rows, decide)]
        )
        yield found


def rule(resource: str, group: str = "", version: str = "v1", **more: Any) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "operations": ["CREATE", "UPDATE"],
        "resources": [resource],
        **more,
    }


def applied(expression: str) -> dict[str, Any]:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patched(expression: str) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def policy(*mutations: dict[str, Any], name: str = "p", resource: str = "configmaps", **spec: Any) -> dict[str, Any]:
    rules = [rule("deployments", "apps") if resource == "deployments" else rule(resource)]
    return {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": rules},
            "mutations": list(mutations),
            "reinvocationPolicy": "Never",
            **spec,
        },
    }


async def bind(world: World, made: dict[str, Any], **spec: Any) -> None:
    reply = await world.send("POST", POLICIES, made)
    assert reply.status == 201, reply.json
    name = made["metadata"]["name"]
    binding = {"metadata": {"name": f"{name}-b"}, "spec": {"policyName": name, **spec}}
    reply = await world.send("POST", BINDINGS, binding)
    assert reply.status == 201, reply.json


async def create(world: World, name: str = "m", *, data: Any = None, **metadata: Any) -> Reply:
    return await world.send("POST", MAPS, {"metadata": {"name": name, **metadata}, "data": data or {"a": "1"}})


def deployment(**template: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}], **template}
    labels = {"app": "web"}
    return {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def refusal(name: str, why: str) -> str:
    return f"policy '{name}' with binding '{name}-b' denied request: {why}"


async def test_stored_policies_have_defaults_and_columns(world: World) -> None:
    await bind(world, policy(applied("Object{}")))
    stored = (await world.send("GET", f"{POLICIES}/p")).json
    assert stored["spec"] == {
        "matchConstraints": {
            "namespaceSelector": {},
            "objectSelector": {},
            "resourceRules": [{**rule("configmaps"), "scope": "*"}],
            "matchPolicy": "Equivalent",
        },
        "mutations": [applied("Object{}")],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
    }
    assert stored["metadata"]["generation"] == 1
    assert "status" not in stored
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    assert (await world.send("GET", POLICIES, headers=table)).json["rows"][0]["cells"][:3] == ["p", 1, "<unset>"]
    assert (await world.send("GET", BINDINGS, headers=table)).json["rows"][0]["cells"][:3] == ["p-b", "p", "<unset>"]


async def test_an_apply_configuration_is_merged_by_the_keys_of_lists(world: World) -> None:
    expression = """
        Object{
          metadata: Object.metadata{annotations: {"by": request.userInfo.username}},
          spec: Object.spec{replicas: object.spec.replicas + 2, template: Object.spec.template{
            spec: Object.spec.template.spec{containers: [
              Object.spec.template.spec.containers{name: "b", env: [
                Object.spec.template.spec.containers.env{name: "E", value: "1"}]},
              Object.spec.template.spec.containers{name: "c", image: "z"}]}}}}"""
    await bind(world, policy(applied(expression), resource="deployments"))
    reply = await world.send("POST", DEPLOYMENTS, deployment())
    assert reply.status == 201, reply.json
    assert reply.json["metadata"]["annotations"] == {"by": "admin"}
    assert reply.json["spec"]["replicas"] == 3
    found = reply.json["spec"]["template"]["spec"]["containers"]
    assert [(one["name"], one["image"], one.get("env")) for one in found] == [
        ("a", "x", None),
        ("b", "y", [{"name": "E", "value": "1"}]),
        ("c", "z", None),
    ]
    # Added containers get default values.
    assert found[2]["imagePullPolicy"] == "Always"


async def test_a_json_patch(world: World) -> None:
    expression = """[
        JSONPatch{op: "test", path: "/data/a", value: "1"},
        JSONPatch{op: "add", path: "/metadata/labels", value: {"k": "v"}},
        JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("a.b/c~d"), value: "e"},
        JSONPatch{op: "copy", from: "/data/a", path: "/data/b"},
        JSONPatch{op: "replace", path: "/data/a", value: string(size(object.data))},
        JSONPatch{op: "move", from: "/data/b", path: "/data/c"}]"""
    # Labels cannot have a `~`, but the path must be escaped correctly.
    await bind(world, policy(patched(expression.replace("~d", "d"))))
    reply = await create(world)
    assert reply.json["data"] == {"a": "1", "c": "1"}
    assert reply.json["metadata"]["labels"] == {"k": "v", "a.b/cd": "e"}
    # A JSON patch whose "test" fails changes nothing.
    assert (await create(world, "n", data={"a": "2"})).json["data"] == {"a": "2"}


async def test_patches_can_set_objects(world: World) -> None:
    expression = """[JSONPatch{op: "add", path: "/spec/template/spec/containers/-",
        value: Object.spec.template.spec.containers{name: "c", image: "z", ports: [{"containerPort": 80}]}},
        JSONPatch{op: "add", path: "/spec/template/spec/nodeSelector", value: {"a": "b"}}]"""
    await bind(world, policy(patched(expression), resource="deployments"))
    found = (await world.send("POST", DEPLOYMENTS, deployment())).json["spec"]["template"]["spec"]
    assert [one["name"] for one in found["containers"]] == ["a", "b", "c"]
    assert found["containers"][2]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert found["nodeSelector"] == {"a": "b"}


async def test_mutations_and_policies_follow_one_another(world: World) -> None:
    add = "Object{{data: object.data.transformMap(k, v, v + '{0}')}}"
    await bind(world, policy(applied(add.format("x")), applied(add.format("y")), name="a"))
    await bind(world, policy(applied(add.format("z")), name="b"))
    assert (await create(world)).json["data"] == {"a": "1xyz"}


async def test_variables_see_the_object_as_it_is_now(world: World) -> None:
    variables = [{"name": "count", "expression": "size(object.data)"}]
    mutation = applied("Object{data: {'n' + string(variables.count): 'x'}}")
    await bind(world, policy(mutation, mutation, variables=variables))
    assert (await create(world)).json["data"] == {"a": "1", "n1": "x", "n2": "x"}


async def test_reinvocation(world: World) -> None:
    append = "Object{{data: {{'log': (has(object.data.log) ? object.data.log : '') + '{0}'}}}}"
    await bind(world, policy(applied(append.format("a")), name="a", reinvocationPolicy="IfNeeded"))
    await bind(world, policy(applied(append.format("b")), name="b"))
    # The first policy runs again, because the second has changed the object.
    assert (await create(world)).json["data"]["log"] == "aba"


async def test_a_policy_that_is_not_reinvocable_runs_once(world: World) -> None:
    append = "Object{data: {'log': (has(object.data.log) ? object.data.log : '') + 'x'}}"
    await bind(world, policy(applied(append)))
    assert (await create(world)).json["data"]["log"] == "x"


async def test_conditions_params_and_bindings_limit_a_policy(world: World) -> None:
    await create(world, "params", data={"value": "set"}, labels={"is": "param"})
    conditions = [{"name": "c", "expression": "!has(object.data.skip)"}]
    made = policy(
        applied("Object{data: {'from': params.data.value + params.metadata.name}}"),
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        matchConditions=conditions,
    )
    reference = {"selector": {"matchLabels": {"is": "param"}}, "parameterNotFoundAction": "Deny"}
    limits = {"objectSelector": {"matchLabels": {"mutate": "yes"}}}
    await bind(world, made, paramRef=reference, matchResources=limits)
    assert (await create(world, "a")).json["data"] == {"a": "1"}
    assert (await create(world, "b", labels={"mutate": "yes"})).json["data"] == {"a": "1", "from": "setparams"}
    skipped = await create(world, "c", labels={"mutate": "yes"}, data={"skip": ""})
    assert skipped.json["data"] == {"skip": ""}
    await world.send("DELETE", f"{MAPS}/params")
    reply = await create(world, "d", labels={"mutate": "yes"})
    assert (reply.status, reply.json["reason"]) == (403, "Forbidden")
    assert reply.json["message"] == refusal(
        "p",
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction",
    )


async def test_updates_and_patches_are_mutated(world: World) -> None:
    await create(world)
    await bind(world, policy(applied("Object{metadata: Object.metadata{labels: {'op': request.operation}}}")))
    reply = await world.send("PATCH", f"{MAPS}/m", {"data": {"b": "2"}}, headers=MERGE)
    assert reply.json["metadata"]["labels"] == {"op": "UPDATE"}
    # A dry run shows the change, too.
    reply = await world.send("POST", f"{MAPS}?dryRun=All", {"metadata": {"name": "n"}})
    assert reply.json["metadata"]["labels"] == {"op": "CREATE"}


@pytest.mark.parametrize(
    ("mutation", "why"),
    [
        (applied("Object{spec: Object.spec{nope: 1}}"), ".spec.nope: field not declared in schema"),
        (
            applied("Object{spec: Object.spec{replicas: 'x'}}"),
            '.spec.replicas: expected numeric (int or float), got string',
        ),
        (
            applied("Object{spec: Object.wrong{replicas: 2}}"),
            'type mismatch: unexpected type name "Object.wrong", expected "Object.spec", which matches field name path '
            "from root Object type",
        ),
        (
            applied("Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'a': 'b'}}}}"),
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector",
        ),
        (
            applied(
                "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{"
                "tolerations: [Object.spec.template.spec.tolerations{key: 'a'}]}}}}"
            ),
            "may not mutate atomic arrays, maps or structs: .spec.template.spec.tolerations",
        ),
        (applied("object.spec.nope ? Object{} : Object{}"), "resulted in error: no such key: nope"),
        (applied("Object{spec: Object.spec{replicas: duration('1s')}}"), 'fail to convert field "spec": '),
        (
            patched("[JSONPatch{op: 'remove', path: '/spec/nope'}]"),
            "JSON Patch: error in remove for path: '/spec/nope': Unable to remove nonexistent key: nope: missing value",
        ),
        (
            patched("[JSONPatch{op: 'replace', path: '/spec/nope/a', value: 1}]"),
            "JSON Patch: replace operation does not apply: doc is missing path: /spec/nope/a: missing value",
        ),
        (patched("[JSONPatch{op: 'nope', path: '/spec'}]"), "JSON Patch: Unexpected kind: nope"),
        (
            applied("Object{metadata: Object.metadata{annotations: lists.range(1000).all(x, lists.range(1000)"
                    ".all(y, lists.range(1000).all(z, z >= 0))) ? {'a': 'b'} : {'a': 'c'}}}"),
            "resulted in error: operation cancelled: actual cost limit exceeded",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("failure", ["Fail", "Ignore"])
async def test_errors_follow_the_failure_policy(world: World, mutation: dict[str, Any], why: str, failure: str) -> None:
    await bind(world, policy(mutation, resource="deployments", failurePolicy=failure))
    reply = await world.send("POST", DEPLOYMENTS, deployment())
    if failure == "Ignore":
        assert reply.status == 201
        return
    assert (reply.status, reply.json["reason"]) == (403, "Invalid")
    assert reply.json["message"].startswith(refusal("p", ""))
    assert why in reply.json["message"]
    assert reply.json["details"] == {
        "name": "web",
        "group": "apps",
        "kind": "deployments",
        "causes": [{"message": reply.json["message"]}],
    }


async def test_a_patch_that_makes_no_object_of_the_type_is_an_internal_error(world: World) -> None:
    await bind(world, policy(patched("[JSONPatch{op: 'add', path: '/data/b', value: 1}]")))
    reply = await create(world)
    assert (reply.status, reply.json["reason"]) == (500, "InternalError")
    await world.send("PATCH", f"{POLICIES}/p", {"spec": {"mutations": [
        patched("[JSONPatch{op: 'add', path: '/nope', value: 1}]")]}}, headers=MERGE)  # fmt: skip
    reply = await create(world)
    assert reply.json["message"] == 'Internal error occurred: strict decoding error: unknown field "nope"'


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"mutations": []}, "spec.mutations", "Required value: mutations must contain at least one item"),
        ({"reinvocationPolicy": ""}, "spec.reinvocationPolicy", "Required value"),
        ({"reinvocationPolicy": "Often"}, "spec.reinvocationPolicy", 'supported values: "IfNeeded", "Never"'),
        ({"mutations": [{"patchType": ""}]}, "spec.mutations[0].patchType", "Required value"),
        (
            {"mutations": [{"patchType": "Merge"}]},
            "spec.mutations[0].patchType",
            'Unsupported value: "Merge": supported values: "ApplyConfiguration", "JSONPatch"',
        ),
        (
            {"mutations": [{"patchType": "JSONPatch"}]},
            "spec.mutations[0].jsonPatch",
            "Required value: must be specified when patchType is JSONPatch",
        ),
        (
            {"mutations": [{**applied("Object{}"), **patched("[JSONPatch{}]")}]},
            "spec.mutations[0].applyConfiguration",
            'Invalid value: "{applyConfiguration}": must not be specified when patchType is JSONPatch',
        ),
        ({"mutations": [applied(" ")]}, "spec.mutations[0].applyConfiguration.expression", "Required value"),
        (
            {"mutations": [applied("{'a': 1}")]},
            "spec.mutations[0].applyConfiguration.expression",
            "must evaluate to Object but got map(string, int)",
        ),
        (
            {"mutations": [patched("[]")]},
            "spec.mutations[0].jsonPatch.expression",
            "must evaluate to list(JSONPatch) but got list(dyn)",
        ),
        (
            {"mutations": [patched("[JSONPatch{opp: 'add'}]")]},
            "spec.mutations[0].jsonPatch.expression",
            "undefined field 'opp'",
        ),
        (
            # Only mutations may construct objects.
            {"mutations": [applied("Object{}")], "variables": [{"name": "a", "expression": "Object{}"}]},
            "spec.variables[0].expression",
            "undeclared reference to 'Object'",
        ),
        (
            {"matchConstraints": {"resourceRules": [rule("configmaps", operations=["DELETE"])]}},
            "spec.matchConstraints.resourceRules.operations",
            'Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE"',
        ),
    ],
)
async def test_wrong_policies_are_refused(world: World, spec: Any, field: str, message: str) -> None:
    reply = await world.send("POST", POLICIES, policy(applied("Object{}"), **spec))
    assert reply.status == 422, reply.json
    found = {one["field"]: one["message"] for one in reply.json["details"]["causes"]}
    assert message in found[field]


async def test_wrong_bindings_are_refused(world: World) -> None:
    limits = {"resourceRules": [rule("configmaps", operations=["DELETE"])]}
    made = {"metadata": {"name": "b"}, "spec": {"policyName": "", "matchResources": limits}}
    reply = await world.send("POST", BINDINGS, made)
    assert {one["field"] for one in reply.json["details"]["causes"]} == {
        "spec.policyName",
        "spec.matchResources.resourceRules.operations",
    }


async def test_a_policy_that_breaks_everything_can_be_removed(world: World) -> None:
    everything = rule("*", "*", "*")
    made = policy(applied("object.nope == 1 ? Object{} : Object{}"))
    made["spec"]["matchConstraints"]["resourceRules"] = [everything]
    await bind(world, made)
    assert (await create(world)).status == 403
    assert (await world.send("DELETE", f"{BINDINGS}/p-b")).status == 200
    assert (await create(world)).status == 201


async def test_changes_at_the_same_time_are_mutated_one_after_the_other(world: World) -> None:
    await create(world, data={"n": "0"})
    await bind(world, policy(applied("Object{data: {'n': string(int(oldObject.data.n) + 1)}}")))
    changes = [{"data": {f"by-{number}": "x"}} for number in range(8)]
    replies = await asyncio.gather(*(world.send("PATCH", f"{MAPS}/m", change, headers=MERGE) for change in changes))
    assert [one.status for one in replies] == [200] * 8
    found = (await world.send("GET", f"{MAPS}/m")).json["data"]
    assert found == {"n": "8", **{f"by-{number}": "x" for number in range(8)}}


async def test_the_pages_policy_adds_a_label_and_a_sidecar(world: World) -> None:
    """The policy of docs/admission-policies.md adds both only once, although it runs again after its own change."""
    page = (Path(__file__).parents[3] / "docs/admission-policies.md").read_text()
    (example,) = re.findall(r"### A sidecar\n.*?```yaml\n(.*?)```", page, re.DOTALL)
    made, binding = yaml.safe_load_all(example)
    await world.send("POST", "/api/v1/namespaces", {"metadata": {"name": "shop"}})
    for path, body in (POLICIES, made), (BINDINGS, binding):
        reply = await world.send("POST", path, body)
        assert reply.status == 201, reply.json
    account = {"metadata": {"name": "default"}}
    await world.send("POST", "/api/v1/namespaces/shop/serviceaccounts", account)
    new = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "main", "image": "any"}]}}
    reply = await world.send("POST", "/api/v1/namespaces/shop/pods", new)
    assert reply.status == 201, reply.json
    assert reply.json["metadata"]["labels"] == {"team": "shop"}
    assert [(one["name"], one.get("command")) for one in reply.json["spec"]["containers"]] == [
        ("main", None),
        ("sidecar", ["sleep", "infinity"]),
    ]
