"""ValidatingAdmissionPolicies: the writes that they check, and the texts of refusals.

Expected texts are those of a kube-apiserver 1.36 (recorded), or of apiserver's `pkg/admission/plugin/policy`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchway.cluster.api.admission.builtin import builtin_plugins, policy_plugins
from hatchway.cluster.api.admission.chain import AdmissionChain
from hatchway.cluster.auth.rbac import Authorizer
from hatchway.cluster.auth.user import UserInfo
from tests.integration.api import world as worlds
from tests.integration.api.world import Reply, World

GROUP = "/apis/admissionregistration.k8s.io/v1"
POLICIES, BINDINGS = f"{GROUP}/validatingadmissionpolicies", f"{GROUP}/validatingadmissionpolicybindings"
MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = {"Content-Type": "application/merge-patch+json"}
RULE: dict[str, Any] = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["CREATE", "UPDATE"],
    "resources": ["configmaps"],
}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with worlds.world() as found:
        rows, decide = lambda: found.registry.rows, Authorizer(found.store).decide
        found.api.admission = AdmissionChain(
            [*builtin_plugins(found.store), *policy_plugins(found.store, rows, decide)]
        )
        yield found


def policy(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"matchConstraints": {"resourceRules": [RULE]}, **spec}}


def validations(*expressions: str, **more: Any) -> list[dict[str, Any]]:
    return [{"expression": one, **more} for one in expressions]


async def bind(world: World, made: dict[str, Any], *actions: str, **spec: Any) -> None:
    reply = await world.send("POST", POLICIES, made)
    assert reply.status == 201, reply.json
    name = made["metadata"]["name"]
    binding = {"metadata": {"name": f"{name}-b"}, "spec": {"policyName": name, **spec}}
    binding["spec"]["validationActions"] = list(actions) or ["Deny"]
    reply = await world.send("POST", BINDINGS, binding)
    assert reply.status == 201, reply.json


async def create(world: World, name: str = "m", *, data: Any = None, **metadata: Any) -> Reply:
    return await world.send("POST", MAPS, {"metadata": {"name": name, **metadata}, "data": data or {"a": "1"}})


async def test_a_denied_write_is_worded_as_recorded(world: World) -> None:
    rules = validations("!object.metadata.name.startsWith('forbidden')", message="no such names")
    await bind(world, policy("vap", validations=rules))
    reply = await create(world, "forbidden-1")
    message = "ValidatingAdmissionPolicy 'vap' with binding 'vap-b' denied request: no such names"
    assert (reply.status, reply.json["reason"]) == (422, "Invalid")
    assert reply.json["message"] == f'configmaps "forbidden-1" is forbidden: {message}'
    assert reply.json["details"] == {"name": "forbidden-1", "kind": "configmaps", "causes": [{"message": message}]}
    assert (await create(world, "allowed")).status == 201


async def test_a_stored_policy_has_the_recorded_defaults(world: World) -> None:
    reply = await world.send("POST", POLICIES, policy(validations=validations("true")))
    assert reply.json["spec"] == {
        "matchConstraints": {
            "namespaceSelector": {},
            "objectSelector": {},
            "resourceRules": [{**RULE, "scope": "*"}],
            "matchPolicy": "Equivalent",
        },
        "validations": [{"expression": "true"}],
        "failurePolicy": "Fail",
    }
    assert reply.json["metadata"]["generation"] == 1


async def test_a_policy_without_a_binding_does_nothing(world: World) -> None:
    await world.send("POST", POLICIES, policy(validations=validations("false")))
    assert (await create(world)).status == 201


async def test_messages_reasons_and_variables(world: World) -> None:
    made = policy(
        variables=[
            {"name": "keys", "expression": "object.data.map(k, k)"},
            {"name": "count", "expression": "size(variables.keys)"},
        ],
        validations=[
            {
                "expression": "variables.count < 2",
                "message": "plain",
                "messageExpression": "'has ' + string(variables.count) + ' keys in ' + request.namespace",
                "reason": "Forbidden",
            }
        ],
    )
    await bind(world, made)
    assert (await create(world)).status == 201
    reply = await create(world, "n", data={"a": "1", "b": "2"})
    assert (reply.status, reply.json["reason"]) == (403, "Forbidden")
    assert reply.json["message"].endswith("denied request: has 2 keys in default")


async def test_old_objects_users_and_namespaces_are_seen(world: World) -> None:
    checks = (
        "oldObject == null || object.data.a == oldObject.data.a",
        "request.userInfo.username == 'admin' && 'system:masters' in request.userInfo.groups",
        "namespaceObject.metadata.name == 'default' && request.operation in ['CREATE', 'UPDATE']",
        "request.kind.kind == 'ConfigMap' && request.resource.resource == 'configmaps' && object.kind == 'ConfigMap'",
        "!has(object.metadata.labels) && !request.dryRun",
    )
    await bind(world, policy(validations=validations(*checks)))
    reply = await create(world)
    assert reply.status == 201, reply.json
    changed = await world.send("PATCH", f"{MAPS}/m", {"data": {"a": "2"}}, headers=MERGE)
    assert changed.json["message"].endswith(f"denied request: failed expression: {checks[0]}")
    assert (await world.send("PATCH", f"{MAPS}/m", {"data": {"b": "2"}}, headers=MERGE)).status == 200


async def test_expressions_ask_the_authorizer(world: World) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "approve"]}]
    await world.client.create("clusterroles.rbac.authorization.k8s.io", {"metadata": {"name": "maps"}, "rules": rules})
    binding = {
        "metadata": {"name": "maps", "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "maps"},
        "subjects": [
            {"kind": "User", "name": "bob"},
            {"kind": "ServiceAccount", "name": "robot", "namespace": "kube-system"},
        ],
    }
    await world.client.create("rolebindings.rbac.authorization.k8s.io", binding)
    check = "authorizer.group('').resource('configmaps').namespace('{}').check('create')"
    robot = "authorizer.serviceAccount('kube-system', 'robot')"
    reason = 'RBAC: allowed by RoleBinding "maps/default" of ClusterRole "maps" to ServiceAccount "robot/kube-system"'
    allowed = [
        "authorizer.requestResource.check('approve').allowed()",
        check.format("default") + ".allowed()",
        f"!{check.format('kube-system')}.allowed() && {check.format('kube-system')}.reason() == ''",
        f"{robot}.group('').resource('configmaps').namespace('default').check('create').reason() == '{reason}'",
        "!authorizer.path('/healthz').check('get').errored() && authorizer.path('/x').check('get').error() == ''",
    ]
    await bind(world, policy(validations=validations(*allowed)))
    bob, eve = (UserInfo(name, ("system:authenticated",)) for name in ("bob", "eve"))
    made = {"metadata": {"name": "m"}}
    assert (await world.send("POST", MAPS, made, user=bob)).status == 201
    reply = await world.send("POST", MAPS, {"metadata": {"name": "n"}}, user=eve)
    assert reply.json["message"].endswith(f"denied request: failed expression: {allowed[0]}")


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("authorizer.group('').resource(' ').check('get').allowed()", "resource must not be empty"),
        ("authorizer.path('').check('get').allowed()", "path must not be empty"),
        ("authorizer.serviceAccount('a', 'B').path('/x').check('get').allowed()", "Invalid service account name"),
        (
            "authorizer.serviceAccount('a.b', 'b').path('/x').check('get').allowed()",
            "Invalid service account namespace",
        ),
        (" && ".join(["authorizer.requestResource.check('get').allowed()"] * 3), "actual cost limit exceeded"),
    ],
)
async def test_invalid_calls_of_the_authorizer_are_errors(world: World, expression: str, why: str) -> None:
    await bind(world, policy(validations=validations(expression)))
    reply = await create(world)
    assert reply.status == 422
    assert reply.json["message"].endswith(f"resulted in error: {why}" if "cost" not in why else why)


async def test_messages_cannot_ask_the_authorizer(world: World) -> None:
    message = "authorizer.requestResource.check('get').reason()"
    reply = await world.send("POST", POLICIES, policy(validations=validations("true", messageExpression=message)))
    assert "undeclared reference to 'authorizer'" in reply.json["message"]
    reply = await world.send("POST", POLICIES, policy(validations=validations("authorizer.allowed()")))
    assert (
        "found no matching overload for 'allowed' applied to 'kubernetes.authorization.Authorizer.()'"
        in reply.json["message"]
    )


async def test_match_conditions_skip_a_policy(world: World) -> None:
    condition = {"name": "only-x", "expression": "object.metadata.name.startsWith('x')"}
    await bind(world, policy(matchConditions=[condition], validations=validations("false")))
    assert (await create(world, "a")).status == 201
    assert (await create(world, "xa")).status == 422


async def test_params_of_a_binding(world: World) -> None:
    await world.send("POST", MAPS, {"metadata": {"name": "limits"}, "data": {"most": "2"}})
    made = policy(
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        validations=validations("size(object.data) <= int(params.data.most)"),
    )
    reference = {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"}
    await bind(world, made, paramRef=reference)
    assert (await create(world, data={"a": "", "b": ""})).status == 201
    assert (await create(world, "n", data={"a": "", "b": "", "c": ""})).status == 422
    await world.send("DELETE", f"{MAPS}/limits")
    reply = await create(world, "o")
    assert reply.json["message"].endswith(
        "denied request: failed to configure binding: no params found for policy binding with `Deny` "
        "parameterNotFoundAction"
    )


async def test_warnings_do_not_refuse(world: World) -> None:
    await bind(world, policy(validations=validations("false", message="avoid this")), "Warn", "Audit")
    reply = await create(world)
    assert reply.status == 201
    assert "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p-b': avoid this" in (
        reply.header("warning") or ""
    )


@pytest.mark.parametrize(("failure", "status"), [("Fail", 422), ("Ignore", 201)])
async def test_errors_follow_the_failure_policy(world: World, failure: str, status: int) -> None:
    await bind(world, policy(failurePolicy=failure, validations=validations("object.data.nope == 'x'")))
    reply = await create(world)
    assert reply.status == status
    if status == 422:
        assert reply.json["message"].endswith(
            "denied request: expression 'object.data.nope == 'x'' resulted in error: no such key: nope"
        )


async def test_selectors_and_exclusions_limit_a_binding(world: World) -> None:
    resources = {
        "objectSelector": {"matchLabels": {"checked": "yes"}},
        "excludeResourceRules": [{**RULE, "resourceNames": ["free"]}],
    }
    await bind(world, policy(validations=validations("false")), matchResources=resources)
    assert (await create(world, "a")).status == 201
    assert (await create(world, "b", labels={"checked": "yes"})).status == 422
    assert (await create(world, "free", labels={"checked": "yes"})).status == 201


async def test_a_changed_policy_applies_at_once(world: World) -> None:
    await bind(world, policy(validations=validations("false")))
    assert (await create(world)).status == 422
    await world.send("PATCH", f"{POLICIES}/p", {"spec": {"validations": validations("true")}}, headers=MERGE)
    assert (await create(world)).status == 201
    await world.send("DELETE", f"{BINDINGS}/p-b")
    assert (await create(world, "n")).status == 201


async def test_an_expression_that_costs_too_much_refuses(world: World) -> None:
    endless = "lists.range(1000).all(x, lists.range(1000).all(y, lists.range(1000).all(z, z >= 0)))"
    await bind(world, policy(validations=validations(endless)))
    reply = await create(world)
    assert reply.status == 422
    assert reply.json["message"].endswith("resulted in error: operation cancelled: actual cost limit exceeded")


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"validations": []}, "spec.validations", "Required value: validations or auditAnnotations must contain at"),
        (
            {"validations": validations("object.x +")},
            "spec.validations[0].expression",
            "compilation failed: ERROR: <input>:1:11: Syntax error: mismatched input '<EOF>'",
        ),
        ({"validations": validations("1")}, "spec.validations[0].expression", "must evaluate to bool but got int"),
        (
            {"validations": validations("params.x == 1")},
            "spec.validations[0].expression",
            "undeclared reference to 'params' (in container '')",
        ),
        (
            {"validations": validations("true"), "variables": [{"name": "in", "expression": "1"}]},
            "spec.variables[0].name",
            "must be a valid CEL identifier",
        ),
        (
            {"validations": validations("variables.b == 1"), "variables": [{"name": "a", "expression": "1"}]},
            "spec.validations[0].expression",
            "undefined field 'b'",
        ),
        (
            {"validations": validations("true", reason="Other")},
            "spec.validations[0].reason",
            'Unsupported value: "Other"',
        ),
        (
            {"validations": validations("true", messageExpression="1")},
            "spec.validations[0].messageExpression",
            "must evaluate to string but got int",
        ),
        ({"validations": validations("true"), "matchConstraints": None}, "spec.matchConstraints", "Required value"),
    ],
)
async def test_wrong_policies_are_refused(world: World, spec: Any, field: str, message: str) -> None:
    reply = await world.send("POST", POLICIES, policy(**spec))
    assert reply.status == 422, reply.json
    found = {one["field"]: one["message"] for one in reply.json["details"]["causes"]}
    assert message in found[field]


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"validationActions": []}, "spec.validationActions", "at least one validation action is required"),
        ({"validationActions": ["Deny", "Warn"]}, "spec.validationActions", "must not contain both Deny and Warn"),
        ({"policyName": ""}, "spec.policyName", "Required value"),
        ({"paramRef": {}}, "spec.paramRef", "one of name or selector must be specified"),
    ],
)
async def test_wrong_bindings_are_refused(world: World, spec: Any, field: str, message: str) -> None:
    made = {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"], **spec}}
    reply = await world.send("POST", BINDINGS, made)
    assert reply.status == 422, reply.json
    found = {one["field"]: one["message"] for one in reply.json["details"]["causes"]}
    assert message in found[field]


async def test_policies_are_listed_with_their_columns(world: World) -> None:
    await bind(world, policy(validations=validations("true")))
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    assert (await world.send("GET", POLICIES, headers=table)).json["rows"][0]["cells"][:3] == ["p", 1, "<unset>"]
    assert (await world.send("GET", BINDINGS, headers=table)).json["rows"][0]["cells"][:3] == ["p-b", "p", "<unset>"]
