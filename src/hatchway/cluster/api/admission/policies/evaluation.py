"""Evaluates a policy for one write (apiserver `pkg/admission/plugin/policy/validating/validator.go`).

The functions of this file use only their arguments, so they may run on a thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hatchway.cluster.api.cel.compiler import Outcome
from hatchway.cluster.api.cel.values import CostExceeded, EvaluationError, Value
from hatchway.cluster.api.registry.policyexpressions import CompiledPolicy, CompiledText

__all__ = [
    "OUT_OF_BUDGET",
    "POLICY_COST",
    "CostBudget",
    "LazyVariables",
    "PolicyDecision",
    "PolicyResult",
    "conditions_hold",
    "evaluate_policy",
    "failed_expression",
]

Json = Any

# Cost limits of one expression, of a policy, and of a policy's match conditions (apiserver `pkg/apis/cel/config.go`).
_CALL_COST, POLICY_COST, _CONDITIONS_COST = 1_000_000, 10_000_000, 2_500_000
_LONGEST_MESSAGE = 5 * 1024
OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """The result of one validation.

    index: the index of the validation. message: why the write is refused; "" if it is admitted. reason: the reason in
    the Status; "" for a refusal because of an error.
    """

    index: int
    message: str = ""
    reason: str = ""


@dataclass(slots=True)
class PolicyResult:
    """The result of a policy: refusals, audit annotations, and errors of annotations. Errors refuse the write, too."""

    decisions: list[PolicyDecision] = field(default_factory=list)
    annotations: list[tuple[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class CostBudget:
    """Evaluates expressions within a common cost limit.

    cost: the maximum for the sum of the expressions' costs.
    deadline: when evaluation stops, as processor time of this thread in seconds (`time.thread_time`).
    """

    def __init__(self, cost: int, deadline: float) -> None:
        self.left = cost
        self.deadline = deadline

    def evaluate(self, text: CompiledText, variables: Mapping[str, Value]) -> Outcome:
        """Evaluate an expression that has a program, and subtract its cost from the budget."""
        assert text.program is not None
        outcome = text.program.evaluate(variables, min(_CALL_COST, max(self.left, 0)), self.deadline)
        self.left -= outcome.cost
        return outcome


class LazyVariables(dict[str, Value]):
    """The variables of a policy. Each variable is evaluated at its first use."""

    def __init__(self, texts: Mapping[str, CompiledText], budget: CostBudget, variables: Mapping[str, Value]) -> None:
        super().__init__()
        self._texts = texts
        self._budget = budget
        self._variables = variables

    def __missing__(self, name: str) -> Value:
        text = self._texts[name]
        if text.program is None:
            raise EvaluationError(f'composited variable "{name}" fails to compile: {text.error}')
        outcome = self._budget.evaluate(text, self._variables)
        if isinstance(outcome.error, CostExceeded):
            raise outcome.error
        if outcome.error is not None:
            raise EvaluationError(f'composited variable "{name}" fails to evaluate: {outcome.error}')
        self[name] = outcome.value
        return outcome.value

    def __contains__(self, name: object) -> bool:
        return name in self._texts


def evaluate_policy(
    policy: CompiledPolicy,
    spec: Mapping[str, Json],
    variables: Mapping[str, Value],
    *,
    fails_open: bool,
    seconds: float,
) -> PolicyResult:
    """Evaluate a policy for a write, and return the result.

    Args:
        policy: the policy's compiled expressions.
        spec: the policy's spec.
        variables: the values that expressions use: object, request, params ...
        fails_open: True if errors do not refuse the write.
        seconds: the maximum processor time of the evaluation, in seconds.
    """
    deadline = time.thread_time() + seconds
    result = PolicyResult()
    try:
        if not conditions_hold(policy.conditions, variables, deadline):
            return result
    except EvaluationError as error:
        # With `failurePolicy: Ignore`, a policy whose conditions fail is not applied.
        if not fails_open:
            result.decisions.append(PolicyDecision(0, str(error)))
        return result
    budget = CostBudget(POLICY_COST, deadline)
    known = dict(variables)
    known["variables"] = LazyVariables(policy.variables, budget, known)
    for index in range(len(policy.validations)):
        decision = _decide(index, policy, spec["validations"][index], budget, known)
        if decision is not None and (decision.reason or not fails_open):
            result.decisions.append(decision)
        if budget.left < 0:
            break
    _annotate(policy, result, known, budget.deadline, fails_open)
    return result


def conditions_hold(conditions: Iterable[CompiledText], variables: Mapping[str, Value], deadline: float) -> bool:
    """Return True when all match conditions hold; False when at least one is false, even if others have errors.

    deadline: when evaluation stops, as processor time of this thread in seconds (`time.thread_time`).

    Raises EvaluationError when there are errors and no condition is false.
    """
    budget = CostBudget(_CONDITIONS_COST, deadline)
    errors: list[str] = []
    for text in conditions:
        if text.program is None:
            errors.append(text.error)
            continue
        outcome = budget.evaluate(text, variables)
        if outcome.error is not None:
            errors.append(failed_expression(text, outcome))
        elif outcome.value is False:
            return False
    if errors:
        raise EvaluationError(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
    return True


def failed_expression(text: CompiledText, outcome: Outcome) -> str:
    """Return the error of an expression in Kubernetes' words."""
    return f"expression '{text.text}' resulted in error: {outcome.error}"


def _decide(
    index: int, policy: CompiledPolicy, validation: Mapping[str, Json], budget: CostBudget, known: Mapping[str, Value]
) -> PolicyDecision | None:
    """Return the refusal of a validation; None when the validation holds."""
    text = policy.validations[index]
    if text.program is None:
        return PolicyDecision(index, text.error)
    if budget.left <= 0:
        return PolicyDecision(index, OUT_OF_BUDGET)
    outcome = budget.evaluate(text, known)
    if budget.left < 0:
        return PolicyDecision(index, OUT_OF_BUDGET)
    if outcome.error is not None:
        return PolicyDecision(index, failed_expression(text, outcome))
    if outcome.value is True:
        return None
    message = ""
    source = policy.messages[index]
    if source is not None and source.program is not None:
        said = budget.evaluate(source, known)
        found = said.value.strip() if said.error is None and isinstance(said.value, str) else ""
        if "\n" not in found and len(found.encode()) <= _LONGEST_MESSAGE:
            message = found
    plain = (validation.get("message") or "").strip()
    message = message or plain or f"failed expression: {text.text.strip()}"
    return PolicyDecision(index, message, validation.get("reason") or "Invalid")


def _annotate(
    policy: CompiledPolicy, result: PolicyResult, known: Mapping[str, Value], deadline: float, fails_open: bool
) -> None:
    budget = CostBudget(POLICY_COST, deadline)
    for key, text in policy.annotations:
        if text.program is None:
            error = text.error
        else:
            outcome = budget.evaluate(text, known)
            error = failed_expression(text, outcome) if outcome.error is not None else ""
            if not error and isinstance(outcome.value, str) and outcome.value.strip():
                result.annotations.append((key, outcome.value.strip()))
        if error and not fails_open:
            result.errors.append(error)
