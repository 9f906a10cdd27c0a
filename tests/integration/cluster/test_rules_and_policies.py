"""Rules of custom types and admission policies, with stock kubectl in a real cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Cluster

NAMESPACE = "ruled"
PARTS: dict[str, Any] = {"size": {"type": "integer"}, "color": {"type": "string", "maxLength": 10}}


def _definition(rule: str) -> dict[str, Any]:
    rules = [
        {"rule": rule, "message": "large ones are blue"},
        {"rule": "self.size >= oldSelf.size", "messageExpression": "'not below %d'.format([oldSelf.size])"},
    ]
    spec = {"type": "object", "required": ["size"], "properties": PARTS, "x-kubernetes-validations": rules}
    schema = {"type": "object", "properties": {"spec": spec}}
    names = {"plural": "ruleds", "kind": "Ruled", "singular": "ruled"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "ruleds.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }


POLICY: dict[str, Any] = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": "few-replicas"},
    "spec": {
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
            "resourceRules": [
                {
                    "apiGroups": ["apps"],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["deployments", "deployments/scale"],
                }
            ],
        },
        "validations": [
            {
                "expression": "object.spec.replicas <= 2",
                "messageExpression": "'at most 2 replicas, not ' + string(object.spec.replicas)",
            }
        ],
    },
}
BINDING: dict[str, Any] = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicyBinding",
    "metadata": {"name": "few-replicas"},
    "spec": {"policyName": "few-replicas", "validationActions": ["Deny"]},
}


@pytest.fixture(scope="module")
def ruled(cluster: Cluster) -> Iterator[Cluster]:
    cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        yield cluster
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_rules_of_a_custom_type(ruled: Cluster) -> None:
    def apply(made: dict[str, Any]) -> str:
        return ruled.kubectl("apply", "-f", "-", stdin=json.dumps(made), check=False)

    wrong = apply(_definition("self.sizes < 4"))
    assert "undefined field 'sizes'" in wrong and " | self.sizes < 4\n | ....^" in wrong
    assert apply(_definition("self.size < 4 || self.color == 'blue'")).endswith("created\n")
    try:
        ruled.kubectl("wait", "--for=condition=Established", "crd/ruleds.example.com", "--timeout=60s")
        base = {"apiVersion": "example.com/v1", "kind": "Ruled", "metadata": {"name": "a", "namespace": NAMESPACE}}
        refused = apply({**base, "spec": {"size": 5, "color": "red"}})
        assert 'The Ruled "a" is invalid: spec: Invalid value: large ones are blue' in refused
        assert apply({**base, "spec": {"size": 5, "color": "blue"}}).endswith("created\n")
        shrunk = apply({**base, "spec": {"size": 4, "color": "blue"}})
        assert 'The Ruled "a" is invalid: spec: Invalid value: not below 5' in shrunk
    finally:
        ruled.kubectl("delete", "crd", "ruleds.example.com", "--wait=false")


def test_a_policy_limits_replicas(ruled: Cluster) -> None:
    there = ("-n", NAMESPACE)
    for made in (POLICY, BINDING):
        ruled.kubectl("apply", "-f", "-", stdin=json.dumps(made))
    try:
        many = ruled.kubectl(
            "create", "deployment", "web", "--image=hatchway/host", "--replicas=9", *there, check=False
        )
        expected = (
            "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'few-replicas' with binding "
            "'few-replicas' denied request: at most 2 replicas, not 9"
        )
        assert expected in many
        ruled.kubectl("create", "deployment", "web", "--image=hatchway/host", "--replicas=1", *there)
        scaled = ruled.kubectl("scale", "deployment/web", "--replicas=3", *there, check=False)
        assert "denied request: at most 2 replicas, not 3" in scaled
        assert "few-replicas" in ruled.kubectl("get", "validatingadmissionpolicies,validatingadmissionpolicybindings")
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            ruled.kubectl("delete", kind, "few-replicas")


def _mutating(kind: str, spec: dict[str, Any]) -> str:
    made = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "team"}, "spec": spec}
    return json.dumps(made)


MUTATIONS: list[dict[str, Any]] = [
    {
        "patchType": "ApplyConfiguration",
        "applyConfiguration": {
            "expression": "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{"
            "containers: object.spec.template.spec.containers.map(c, Object.spec.template.spec.containers{"
            "name: c.name, env: [Object.spec.template.spec.containers.env{name: 'TEAM', value: 'shop'}]})}}}}"
        },
    },
    {
        "patchType": "JSONPatch",
        "jsonPatch": {
            "expression": "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/free'), "
            "value: authorizer.requestResource.check('exceed').allowed() ? 'yes' : 'no'}]"
        },
    },
]


def test_a_policy_changes_deployments(ruled: Cluster) -> None:
    there = ("-n", NAMESPACE)
    matching = POLICY["spec"]["matchConstraints"]
    spec = {"matchConstraints": matching, "mutations": MUTATIONS, "reinvocationPolicy": "Never"}
    wrong = _mutating("MutatingAdmissionPolicy", {**spec, "reinvocationPolicy": "Often"})
    refused = ruled.kubectl("apply", "-f", "-", stdin=wrong, check=False)
    assert 'spec.reinvocationPolicy: Unsupported value: "Often": supported values: "IfNeeded", "Never"' in refused
    ruled.kubectl("apply", "-f", "-", stdin=_mutating("MutatingAdmissionPolicy", spec))
    ruled.kubectl("apply", "-f", "-", stdin=_mutating("MutatingAdmissionPolicyBinding", {"policyName": "team"}))
    try:
        ruled.kubectl("create", "deployment", "shop", "--image=hatchway/host", "--replicas=0", *there)
        found = json.loads(ruled.kubectl("get", "deployment", "shop", "-o", "json", *there))
        (container,) = found["spec"]["template"]["spec"]["containers"]
        assert (container["image"], container["env"]) == ("hatchway/host", [{"name": "TEAM", "value": "shop"}])
        assert found["metadata"]["labels"] == {"app": "shop", "example.com/free": "yes"}
        shown = ruled.kubectl("get", "mutatingadmissionpolicies,mutatingadmissionpolicybindings")
        assert shown.count("team") == 3
    finally:
        for kind in ("mutatingadmissionpolicybinding", "mutatingadmissionpolicy"):
            ruled.kubectl("delete", kind, "team")


def test_expressions_are_compared_with_types(ruled: Cluster) -> None:
    rule = {"expression": "object.spec.replicas > '1' && object.spec.nope == 1"}
    made = {**POLICY, "metadata": {"name": "typed"}, "spec": {**POLICY["spec"], "validations": [rule]}}
    ruled.kubectl("apply", "-f", "-", stdin=json.dumps(made))
    try:
        checked = "--for=jsonpath={.status.observedGeneration}=1"
        ruled.kubectl("wait", checked, "validatingadmissionpolicy/typed", "--timeout=60s")
        found = json.loads(ruled.kubectl("get", "validatingadmissionpolicy", "typed", "-o", "json"))
        (warning,) = found["status"]["typeChecking"]["expressionWarnings"]
        assert warning["fieldRef"] == "spec.validations[0].expression"
        assert (
            "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_'"
            in (warning["warning"])
        )
        assert "undefined field 'nope'" in warning["warning"]
    finally:
        ruled.kubectl("delete", "validatingadmissionpolicy", "typed")
