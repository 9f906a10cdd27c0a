"""The admission plugin ValidatingAdmissionPolicy (apiserver `pkg/admission/plugin/policy/validating/dispatcher.go`)."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.admission.policies.matcher import ConfigurationError, PolicyMatcher
from hatchway.cluster.api.admission.policies.request import request_variables
from hatchway.cluster.api.admission.policies.source import PolicyBinding, PolicySource, StoredPolicy
from hatchway.cluster.api.admission.webhooks.matching import is_exempt
from hatchway.cluster.api.admission.webhooks.review import VersionedObjects, versioned_objects
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.work import run_apart
from hatchway.errors import ApiError, forbidden
from hatchway.kube.api import Object

if TYPE_CHECKING:
    from hatchway.cluster.api.admission.policies.evaluation import PolicyResult

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


@dataclass(frozen=True, slots=True)
class _Task:
    """One evaluation of a policy: for a binding, with one object as its parameters.

    param_row: the type of the parameters; if it has conversions, `params` is not converted yet.
    """

    policy: StoredPolicy
    binding: PolicyBinding
    row: Resource
    params: Object | None
    namespace: Object | None
    param_row: Resource | None = None


@dataclass(slots=True)
class _Findings:
    """The results of all policies for one write."""

    refusals: list[_PolicyRefusal] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, dict[str, None]] = field(default_factory=dict)


class ValidatingPolicies(AdmissionPlugin):
    """Applies ValidatingAdmissionPolicies. source: the policies. matcher: finds those that concern a write."""

    name = "ValidatingAdmissionPolicy"

    def __init__(self, source: PolicySource, matcher: PolicyMatcher) -> None:
        self._source = source
        self._matcher = matcher

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for everything but configurations of webhooks and policies."""
        return not is_exempt(resource)

    def may_wait(self, operation: AdmissionOperation, row: Resource, subresource: str) -> bool:
        """Return True when there is a policy with a binding."""
        return bool(self._source.policies())

    def validate(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Evaluate the policies that want the write. Raises ApiError when one refuses it."""
        policies = self._source.policies()
        if not policies:
            return None
        findings = _Findings()
        tasks = [task for policy in policies for task in self._tasks(policy, attributes, findings)]
        if not tasks:
            _conclude(attributes, findings)
            return None
        return self._evaluate(tasks, attributes, findings)

    def _tasks(self, policy: StoredPolicy, attributes: AdmissionAttributes, findings: _Findings) -> list[_Task]:
        """Return the evaluations of a policy for a write. Errors of its configuration are added to the findings."""
        found: list[_Task] = []
        try:
            row = self._matcher.matched(policy.matching, attributes, all_if_empty=False)
        except ConfigurationError as error:
            _add_error(policy, "", f"failed to configure policy: {error}", findings)
            return found
        if row is None:
            return found
        for binding in policy.bindings:
            try:
                if binding.matching is not None and not self._binds(binding, attributes):
                    continue
                params = self._matcher.params(policy.spec.get("paramKind"), binding.param_ref, attributes)
            except ConfigurationError as error:
                _add_error(policy, binding.name, f"failed to configure binding: {error}", findings)
                continue
            namespace = self._matcher.namespace(attributes)
            param_row = self._matcher.param_row(policy.spec.get("paramKind"))
            found += [_Task(policy, binding, row, one, namespace, param_row) for one in params]
        return found

    async def _with_params(self, task: _Task, findings: _Findings) -> _Task | None:
        """Return a task with its parameters in the version that the policy names; None when that is not possible."""
        conversion = task.param_row.conversion if task.param_row is not None else None
        if conversion is None or task.params is None:
            return task
        try:
            return replace(task, params=(await conversion.read((task.params,)))[0])
        except ApiError as error:
            text = f"failed to configure binding: {error.message}"
            _add_error(task.policy, task.binding.name, text, findings)
            return None

    def _binds(self, binding: PolicyBinding, attributes: AdmissionAttributes) -> bool:
        assert binding.matching is not None
        return self._matcher.matched(binding.matching, attributes, all_if_empty=True) is not None

    async def _evaluate(self, tasks: list[_Task], attributes: AdmissionAttributes, findings: _Findings) -> None:
        # The versions in which the policies want the objects: the request's own, and rarely another one.
        rows = {task.row.gvk: task.row for task in tasks}
        objects = {gvk: await versioned_objects(row, attributes) for gvk, row in rows.items()}
        ready = [one for one in [await self._with_params(task, findings) for task in tasks] if one is not None]
        await run_apart(_evaluate_all, ready, attributes, objects, findings)
        _conclude(attributes, findings)


def _add_error(policy: StoredPolicy, binding: str, message: str, findings: _Findings) -> None:
    if not policy.fails_open:
        findings.refusals.append(_PolicyRefusal(policy.name, binding, message))


def _evaluate_all(
    tasks: list[_Task],
    attributes: AdmissionAttributes,
    objects: dict[tuple[str, str, str], VersionedObjects],
    findings: _Findings,
) -> None:
    """Evaluate policies; on a thread, since an expression may take long whatever the size of the object."""
    # Imported here: only clusters with policies or rules need the code that evaluates expressions.
    from hatchway.cluster.api.admission.policies.evaluation import evaluate_policy

    left = _SECONDS
    for task in tasks:
        policy = task.policy
        began = time.thread_time()
        variables = request_variables(attributes, task.row, objects[task.row.gvk], task.namespace)
        if policy.spec.get("paramKind") is not None:
            variables["params"] = task.params
        result = evaluate_policy(
            policy.compiled(), policy.spec, variables, fails_open=policy.fails_open, seconds=max(left, 0.0)
        )
        left -= time.thread_time() - began
        _collect(task, result, findings)


def _collect(task: _Task, result: PolicyResult, findings: _Findings) -> None:
    policy, binding = task.policy.name, task.binding
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
        # Bindings may give different values; the same one counts once.
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
