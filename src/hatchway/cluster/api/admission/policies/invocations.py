"""Finds the evaluations of policies for a write. Each evaluation has a policy, a binding, a resource and parameters.

Source: apiserver's `pkg/admission/plugin/policy/generic/policy_dispatcher.go`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.admission.policies.matcher import ConfigurationError, PolicyMatcher
from hatchway.cluster.api.admission.policies.source import PolicyBinding, StoredPolicy
from hatchway.cluster.api.registry.resource import Resource
from hatchway.errors import ApiError
from hatchway.kube.api import Object

__all__ = ["PolicyInvocation", "PolicyProblem", "find_invocations", "with_params"]


@dataclass(frozen=True, slots=True)
class PolicyInvocation:
    """One evaluation of a policy.

    row: the resource that the policy matches: the resource of the request, or an equivalent resource.
    params: the parameters. `with_params` converts them from the stored version to the version that the policy names.
    param_row: the type of the parameters.
    """

    policy: StoredPolicy
    binding: PolicyBinding
    row: Resource
    params: Object | None
    namespace: Object | None
    param_row: Resource | None = None


@dataclass(frozen=True, slots=True)
class PolicyProblem:
    """The reason why a policy cannot be evaluated for a write.

    binding: the name of the binding with the problem; "" for a problem of the policy itself.
    """

    policy: StoredPolicy
    binding: str
    message: str


def find_invocations(
    policies: Iterable[StoredPolicy], matcher: PolicyMatcher, attributes: AdmissionAttributes
) -> tuple[list[PolicyInvocation], list[PolicyProblem]]:
    """Return the evaluations for a write, in the order of policies and bindings, and the configuration errors.

    Raises ApiError 404 when the namespace of the write does not exist.
    """
    found: list[PolicyInvocation] = []
    problems: list[PolicyProblem] = []
    for policy in policies:
        try:
            row = matcher.match(policy.matching, attributes, all_if_empty=False)
        except ConfigurationError as error:
            problems.append(PolicyProblem(policy, "", f"failed to configure policy: {error}"))
            continue
        if row is None:
            continue
        for binding in policy.bindings:
            limits = binding.matching
            try:
                if limits is not None and matcher.match(limits, attributes, all_if_empty=True) is None:
                    continue
                params = matcher.params(policy.spec.get("paramKind"), binding.param_ref, attributes)
            except ConfigurationError as error:
                problems.append(PolicyProblem(policy, binding.name, f"failed to configure binding: {error}"))
                continue
            namespace = matcher.namespace(attributes)
            param_row = matcher.param_row(policy.spec.get("paramKind"))
            found += [PolicyInvocation(policy, binding, row, one, namespace, param_row) for one in params]
    return found, problems


async def with_params(invocations: Iterable[PolicyInvocation]) -> tuple[list[PolicyInvocation], list[PolicyProblem]]:
    """Convert the parameters to the versions that policies name. Return the converted invocations, and the failures."""
    found: list[PolicyInvocation] = []
    problems: list[PolicyProblem] = []
    for one in invocations:
        conversion = one.param_row.conversion if one.param_row is not None else None
        if conversion is None or one.params is None:
            found.append(one)
            continue
        try:
            found.append(replace(one, params=(await conversion.read((one.params,)))[0]))
        except ApiError as error:
            text = f"failed to configure binding: {error.message}"
            problems.append(PolicyProblem(one.policy, one.binding.name, text))
    return found, problems
