"""The policies that are evaluated for a write: with which binding, as which resource, with which parameters.

From apiserver's `pkg/admission/plugin/policy/generic/policy_dispatcher.go`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.admission.policies.matcher import ConfigurationError, PolicyMatcher
from hatchway.cluster.api.admission.policies.source import PolicyBinding, StoredPolicy
from hatchway.cluster.api.registry.resource import Resource
from hatchway.kube.api import Object

__all__ = ["PolicyInvocation", "PolicyProblem", "find_invocations"]


@dataclass(frozen=True, slots=True)
class PolicyInvocation:
    """One evaluation of a policy. row: the resource as which the policy wants the write."""

    policy: StoredPolicy
    binding: PolicyBinding
    row: Resource
    params: Object | None
    namespace: Object | None


@dataclass(frozen=True, slots=True)
class PolicyProblem:
    """Why a policy cannot be evaluated for a write. binding: its name, "" when the policy itself is the cause."""

    policy: StoredPolicy
    binding: str
    message: str


def find_invocations(
    policies: Iterable[StoredPolicy], matcher: PolicyMatcher, attributes: AdmissionAttributes
) -> tuple[list[PolicyInvocation], list[PolicyProblem]]:
    """Return the evaluations that a write needs, in the order of policies and bindings, and errors of configuration.

    Raises ApiError 404 when the namespace of the write does not exist.
    """
    found: list[PolicyInvocation] = []
    problems: list[PolicyProblem] = []
    for policy in policies:
        try:
            row = matcher.matched(policy.matching, attributes, all_if_empty=False)
        except ConfigurationError as error:
            problems.append(PolicyProblem(policy, "", f"failed to configure policy: {error}"))
            continue
        if row is None:
            continue
        for binding in policy.bindings:
            limits = binding.matching
            try:
                if limits is not None and matcher.matched(limits, attributes, all_if_empty=True) is None:
                    continue
                params = matcher.params(policy.spec.get("paramKind"), binding.param_ref, attributes)
            except ConfigurationError as error:
                problems.append(PolicyProblem(policy, binding.name, f"failed to configure binding: {error}"))
                continue
            namespace = matcher.namespace(attributes)
            found += [PolicyInvocation(policy, binding, row, one, namespace) for one in params]
    return found, problems
