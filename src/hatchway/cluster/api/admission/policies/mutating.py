"""The admission plugin MutatingAdmissionPolicy (apiserver `pkg/admission/plugin/policy/mutating/dispatcher.go`).

Policies are evaluated one after the other. Each policy gets the object that the previous policy returned. When a policy
has changed the object, all mutating plugins run once more. Policies with `reinvocationPolicy: IfNeeded` are evaluated a
second time if the object has changed since their evaluation.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from hatchway.cluster.api.admission.reinvocation import Reinvocation
from hatchway.cluster.api.admission.webhooks.matching import is_exempt
from hatchway.cluster.api.admission.webhooks.patching import take_changed
from hatchway.cluster.api.admission.webhooks.review import VersionedObjects, versioned_objects
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.schema.table import UnknownKind
from hatchway.cluster.api.registry.validation import quote
from hatchway.cluster.api.work import run_apart, run_sized
from hatchway.errors import ApiError, forbidden, service_unavailable
from hatchway.kube.api import Object

if TYPE_CHECKING:
    from hatchway.cluster.api.admission.policies.access import Decide
    from hatchway.cluster.api.admission.policies.mutation import MutationTarget
    from hatchway.cluster.api.registry.custom.celauthorization import AskAccess

__all__ = ["MutatingPolicies"]

_encode = msgspec.json.Encoder().encode
# Processor time, in seconds, that all policies may take for one write.
_SECONDS = 5.0
# The maximum number of failures in a Status, and the maximum number of characters of each failure.
_MOST_FAILURES, _LONGEST_FAILURE = 50, 8 * 1024


class MutatingPolicies(AdmissionPlugin):
    """Applies MutatingAdmissionPolicies.

    source: the policies.
    matcher: finds the policies that match a write.
    decide: the cluster's authorizer.
    """

    name = "MutatingAdmissionPolicy"

    def __init__(self, source: PolicySource, matcher: PolicyMatcher, decide: Decide) -> None:
        self._source = source
        self._matcher = matcher
        self._decide = decide

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True unless the write is a deletion, or a write of webhook configurations or policies."""
        return operation != "DELETE" and not is_exempt(resource)

    def may_wait(self, operation: AdmissionOperation, row: Resource, subresource: str) -> bool:
        """Return True when there is a policy with a binding."""
        return bool(self._source.policies())

    def admit(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Let the matching policies change the object. Raises ApiError when a policy fails."""
        policies = self._source.policies()
        if not policies:
            return None
        invocations, problems = find_invocations(policies, self._matcher, attributes)
        failures = [_PolicyFailure(one, "Forbidden") for one in problems]
        if not invocations:
            _refuse(attributes, failures)
            return None
        return self._dispatch(invocations, attributes, failures)

    async def _dispatch(
        self, invocations: list[PolicyInvocation], attributes: AdmissionAttributes, failures: list[_PolicyFailure]
    ) -> None:
        # Imported here, because only clusters with policies need this code.
        from hatchway.cluster.api.admission.policies.access import LoopAccess

        attributes.state = attributes.state or {}
        known: Reinvocation = attributes.state.setdefault(self.name, Reinvocation())
        ready, problems = await with_params(invocations)
        failures += [_PolicyFailure(one, "Forbidden") for one in problems]
        run = _PolicyRun(attributes, LoopAccess(self._decide), known, failures)
        await run.mutate(ready)
        _refuse(attributes, failures)


@dataclass(frozen=True, slots=True)
class _PolicyFailure:
    """A problem, and the reason in the Status that reports it."""

    problem: PolicyProblem
    reason: str


def _target(row: Resource, attributes: AdmissionAttributes) -> MutationTarget | None:
    """Return the type of the object in the version of `row`; None for a kind that has no schema."""
    from hatchway.cluster.api.admission.policies.mutation import MutationTarget
    from hatchway.cluster.api.fields.atoms import builtin_atom, row_atom

    own = attributes.kind == attributes.row.gvk
    gvk = row.gvk if own else attributes.kind
    try:
        return MutationTarget(row, gvk, own, row_atom(row) if own else builtin_atom(gvk))
    except UnknownKind:
        return None


def _unknown_kind(gvk: tuple[str, str, str]) -> ApiError:
    group, version, kind = gvk
    return service_unavailable(
        f"Resource kind {group}/{version}, Kind={kind} not found. There can be a delay between when "
        "CustomResourceDefinitions are created and when they are available."
    )


@dataclass(frozen=True, slots=True)
class _PolicyOutcome:
    """The result of evaluating a policy.

    changed: the mutated object in the version that the policy matches, and its bytes of JSON; None if no mutation has
    succeeded.
    """

    changed: tuple[Object, int] | None


class _PolicyRun:
    """The evaluation of all policies for one write. failures: problems are appended to this list."""

    def __init__(
        self, attributes: AdmissionAttributes, ask: AskAccess, known: Reinvocation, failures: list[_PolicyFailure]
    ) -> None:
        self._attributes = attributes
        self._ask = ask
        self._known = known
        self._failures = failures
        # The processor time that is left, in seconds.
        self._left = _SECONDS

    async def mutate(self, invocations: Iterable[PolicyInvocation]) -> None:
        """Apply the policies. Raises ApiError."""
        attributes, known = self._attributes, self._known
        if attributes.is_reinvocation and await self._output() != known.output:
            known.require()
        applied = False
        for invocation in invocations:
            row = invocation.row
            target = _target(row, attributes)
            objects = await versioned_objects(row, attributes)
            # This runs on a thread, because an expression may take long.
            outcome = await run_apart(self._invoke, invocation, target, objects)
            if outcome is None:
                continue
            if outcome.changed is not None:
                applied = True
                if await take_changed(row, attributes, *outcome.changed):
                    known.require()
                    attributes.reinvoke = True
            if invocation.policy.spec.get("reinvocationPolicy") == "IfNeeded":
                known.invoked.add(_key_of(invocation))
        if applied:
            # As in Kubernetes, a successful mutation counts as a change, even if it has not changed the object.
            known.require()
            attributes.reinvoke = True
        known.output = await self._output()

    async def _output(self) -> bytes:
        return await run_sized(self._attributes.size, _encode, self._attributes.object)

    def _invoke(
        self, invocation: PolicyInvocation, target: MutationTarget | None, objects: VersionedObjects
    ) -> _PolicyOutcome | None:
        """Evaluate one policy. Return None when it does not apply to this write. Raises ApiError 503."""
        began = time.thread_time()
        try:
            return self._evaluate(invocation, target, objects, began + self._left)
        finally:
            self._left = max(self._left - (time.thread_time() - began), 0.0)

    def _evaluate(
        self, invocation: PolicyInvocation, target: MutationTarget | None, objects: VersionedObjects, deadline: float
    ) -> _PolicyOutcome | None:
        from hatchway.cluster.api.admission.policies.mutation import MutationFailed, evaluate_mutation

        attributes, compiled = self._attributes, invocation.policy.compiled()
        if not self._conditions_hold(invocation, objects, deadline):
            return None
        if attributes.is_reinvocation and _key_of(invocation) not in self._known.due:
            return None
        changed: tuple[Object, int] | None = None
        for text in compiled.mutations:
            if objects.object is None:
                break
            try:
                if attributes.operation == "CONNECT":
                    raise MutationFailed("the options of a CONNECT cannot be changed")
                if target is None:
                    raise _unknown_kind(attributes.kind)
                variables = self._variables(invocation, objects)
                changed = evaluate_mutation(text, compiled, variables, target, deadline)
            except MutationFailed as error:
                self._fail(invocation, str(error))
                continue
            objects = objects._replace(object=changed[0])
        return _PolicyOutcome(changed)

    def _conditions_hold(self, invocation: PolicyInvocation, objects: VersionedObjects, deadline: float) -> bool:
        from hatchway.cluster.api.admission.policies.evaluation import conditions_hold
        from hatchway.cluster.api.cel.values import EvaluationError

        conditions = invocation.policy.compiled().conditions
        try:
            return not conditions or conditions_hold(conditions, self._variables(invocation, objects), deadline)
        except EvaluationError as error:
            self._fail(invocation, str(error))
            return False

    def _variables(self, invocation: PolicyInvocation, objects: VersionedObjects) -> dict[str, object]:
        found = request_variables(self._attributes, invocation.row, objects, invocation.namespace, self._ask)
        if invocation.policy.spec.get("paramKind") is not None:
            found["params"] = invocation.params
        return found

    def _fail(self, invocation: PolicyInvocation, message: str) -> None:
        self._failures.append(
            _PolicyFailure(PolicyProblem(invocation.policy, invocation.binding.name, message), "Invalid")
        )


def _key_of(invocation: PolicyInvocation) -> tuple[str, ...]:
    """Return the key of an invocation within one write: policy, binding and parameters."""
    params = (invocation.params or {}).get("metadata") or {}
    names = params.get("namespace") or "", params.get("name") or ""
    return invocation.policy.name, invocation.binding.name, *names


def _refuse(attributes: AdmissionAttributes, failures: list[_PolicyFailure]) -> None:
    """Raise ApiError 403 for the failures of policies whose failurePolicy is not Ignore."""
    counted = [one for one in failures if not one.problem.policy.fails_open]
    if not counted:
        return
    messages = [_worded(one.problem)[:_LONGEST_FAILURE] for one in counted[:_MOST_FAILURES]]
    row = attributes.row
    error = forbidden(row.plural, attributes.object_name, "", row.group)
    details = {**(error.details or {}), "causes": [{"message": one} for one in messages]}
    raise ApiError(403, counted[0].reason, messages[0], details)


def _worded(problem: PolicyProblem) -> str:
    name = problem.policy.name
    if problem.binding:
        return f"policy '{name}' with binding '{problem.binding}' denied request: {problem.message}"
    return f"policy {quote(name)} denied request: {problem.message}"
