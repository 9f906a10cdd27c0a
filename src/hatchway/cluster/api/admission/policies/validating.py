"""The admission plugin ValidatingAdmissionPolicy (apiserver `pkg/admission/plugin/policy/validating/dispatcher.go`)."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.admission.policies.invocations import (
    PolicyInvocation,
    PolicyProblem,
    find_invocations,
    with_params,
)
from hatchway.cluster.api.admission.policies.matcher import PolicyMatcher
from hatchway.cluster.api.admission.policies.request import request_variables
from hatchway.cluster.api.admission.policies.source import PolicySource
from hatchway.cluster.api.admission.webhooks.matching import is_exempt
from hatchway.cluster.api.admission.webhooks.review import VersionedObjects, versioned_objects
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.work import run_apart
from hatchway.errors import ApiError, forbidden

if TYPE_CHECKING:
    from hatchway.cluster.api.admission.policies.access import Decide
    from hatchway.cluster.api.admission.policies.evaluation import PolicyResult
    from hatchway.cluster.api.registry.custom.celauthorization import AskAccess

__all__ = ["ValidatingPolicies"]

# Processor time, in seconds, that all policies may take for one write.
_SECONDS = 5.0
_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413}
_FAILURES = "validation.policy.admission.k8s.io/validation_failure"
_MOST_FAILURES, _LONGEST_ANNOTATION = 50, 10 * 1024


@dataclass(frozen=True, slots=True)
class _PolicyRefusal:
    policy: str
    binding: str
    message: str
    reason: str = "Invalid"


@dataclass(slots=True)
class _Findings:
    """The results of all policies for one write."""

    refusals: list[_PolicyRefusal] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, dict[str, None]] = field(default_factory=dict)


class ValidatingPolicies(AdmissionPlugin):
    """Applies ValidatingAdmissionPolicies.

    source: the policies.
    matcher: finds the policies that match a write.
    decide: the cluster's authorizer.
    """

    name = "ValidatingAdmissionPolicy"

    def __init__(self, source: PolicySource, matcher: PolicyMatcher, decide: Decide) -> None:
        self._source = source
        self._matcher = matcher
        self._decide = decide

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for all writes except writes of webhook configurations and policies."""
        return not is_exempt(resource)

    def may_wait(self, operation: AdmissionOperation, row: Resource, subresource: str) -> bool:
        """Return True when there is a policy with a binding."""
        return bool(self._source.policies())

    def validate(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Evaluate the matching policies. Raises ApiError when a policy refuses the write."""
        policies = self._source.policies()
        if not policies:
            return None
        findings = _Findings()
        invocations, problems = find_invocations(policies, self._matcher, attributes)
        findings.refusals += _refusals(problems)
        if not invocations:
            _conclude(attributes, findings)
            return None
        return self._evaluate(invocations, attributes, findings)

    async def _evaluate(
        self, invocations: list[PolicyInvocation], attributes: AdmissionAttributes, findings: _Findings
    ) -> None:
        # Imported here, because only clusters with policies need this code.
        from hatchway.cluster.api.admission.policies.access import LoopAccess

        # The objects in each version that policies match. Nearly always, this is only the version of the request.
        rows = {one.row.gvk: one.row for one in invocations}
        objects = {gvk: await versioned_objects(row, attributes) for gvk, row in rows.items()}
        ready, problems = await with_params(invocations)
        findings.refusals += _refusals(problems)
        await run_apart(_evaluate_all, ready, attributes, objects, LoopAccess(self._decide), findings)
        _conclude(attributes, findings)


def _refusals(problems: list[PolicyProblem]) -> list[_PolicyRefusal]:
    return [_PolicyRefusal(one.policy.name, one.binding, one.message) for one in problems if not one.policy.fails_open]


def _evaluate_all(
    invocations: list[PolicyInvocation],
    attributes: AdmissionAttributes,
    objects: dict[tuple[str, str, str], VersionedObjects],
    ask: AskAccess,
    findings: _Findings,
) -> None:
    """Evaluate policies. Called on a thread, because an expression may take long even if the object is small."""
    # Imported here, because only clusters with policies or rules need the code that evaluates expressions.
    from hatchway.cluster.api.admission.policies.evaluation import evaluate_policy

    left = _SECONDS
    for invocation in invocations:
        policy = invocation.policy
        began = time.thread_time()
        row = invocation.row
        variables = request_variables(attributes, row, objects[row.gvk], invocation.namespace, ask)
        if policy.spec.get("paramKind") is not None:
            variables["params"] = invocation.params
        result = evaluate_policy(
            policy.compiled(), policy.spec, variables, fails_open=policy.fails_open, seconds=max(left, 0.0)
        )
        left -= time.thread_time() - began
        _collect(invocation, result, findings)


def _collect(invocation: PolicyInvocation, result: PolicyResult, findings: _Findings) -> None:
    policy, binding = invocation.policy.name, invocation.binding
    for decision in result.decisions:
        for action in binding.actions:
            if action == "Deny":
                reason = decision.reason or "Invalid"
                findings.refusals.append(_PolicyRefusal(policy, binding.name, decision.message, reason))
            elif action == "Warn":
                findings.warnings.append(
                    f"Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding.name}': "
                    f"{decision.message}"
                )
            elif action == "Audit":
                findings.failures.append(
                    {
                        "message": decision.message,
                        "policy": policy,
                        "binding": binding.name,
                        "expressionIndex": decision.index,
                        "validationActions": list(binding.actions),
                    }
                )
    for error in result.errors:
        findings.refusals.append(_PolicyRefusal(policy, binding.name, error))
    for key, value in result.annotations:
        # Several bindings may produce different values of one annotation. Equal values are kept only once.
        findings.annotations.setdefault(f"{policy}/{key}", {})[value[:_LONGEST_ANNOTATION]] = None


def _conclude(attributes: AdmissionAttributes, findings: _Findings) -> None:
    """Publish warnings and audit annotations, then refuse the write if a policy does. Raises ApiError."""
    attributes.warnings += findings.warnings
    for key, values in findings.annotations.items():
        attributes.audit_annotations[key] = ", ".join(values)
    if findings.failures:
        shown = findings.failures[:_MOST_FAILURES]
        attributes.audit_annotations[_FAILURES] = msgspec.json.encode(shown).decode()
    if findings.refusals:
        raise _refusal(attributes, findings.refusals[0])


def _refusal(attributes: AdmissionAttributes, found: _PolicyRefusal) -> ApiError:
    with_binding = f" with binding '{found.binding}'" if found.binding else ""
    message = f"ValidatingAdmissionPolicy '{found.policy}'{with_binding} denied request: {found.message}"
    row = attributes.row
    error = forbidden(row.plural, attributes.object_name, message, row.group)
    details = {**(error.details or {}), "causes": [{"message": message}]}
    return ApiError(_CODES.get(found.reason, 422), found.reason, error.message, details)
