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
        many = ruled.kubectl("create", "deployment", "web", "--image=none", "--replicas=9", *there, check=False)
        expected = (
            "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'few-replicas' with binding "
            "'few-replicas' denied request: at most 2 replicas, not 9"
        )
        assert expected in many
        ruled.kubectl("create", "deployment", "web", "--image=none", "--replicas=1", *there)
        scaled = ruled.kubectl("scale", "deployment/web", "--replicas=3", *there, check=False)
        assert "denied request: at most 2 replicas, not 3" in scaled
        assert "few-replicas" in ruled.kubectl("get", "validatingadmissionpolicies,validatingadmissionpolicybindings")
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            ruled.kubectl("delete", kind, "few-replicas")
