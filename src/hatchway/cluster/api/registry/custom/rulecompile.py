"""Compiles the rules of a schema (x-kubernetes-validations).

From apiextensions-apiserver's `pkg/apiserver/schema/cel/compilation.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hatchway.cluster.api.cel.celtypes import CelType, optional_of
from hatchway.cluster.api.cel.compiler import Program
from hatchway.cluster.api.cel.environment import CelEnvironment
from hatchway.cluster.api.cel.estimate import estimate_cost
from hatchway.cluster.api.cel.expression import CompiledExpression, compile_expression
from hatchway.cluster.api.cel.schematypes import DeclaredType, assign_names, size_at
from hatchway.cluster.api.cel.syntax import ExpressionIssues
from hatchway.cluster.api.registry.custom.celfunctions import kubernetes_functions
from hatchway.cluster.api.registry.custom.rulesource import Rule

__all__ = ["CompiledRule", "RuleCompiler"]


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A compiled rule, or the errors in it.

    Attributes:
        rule: the rule in the schema.
        program: the compiled rule; None when it cannot be compiled.
        error, message_error: why the rule, or its messageExpression, cannot be compiled; "" when it can.
        message: the compiled messageExpression; None without one.
        uses_old: the rule uses oldSelf.
        cost, message_cost: the highest estimated cost of the rule and of its messageExpression.
    """

    rule: Rule
    program: Program | None
    error: str = ""
    message: Program | None = None
    message_error: str = ""
    uses_old: bool = False
    cost: int = 0
    message_cost: int = 0


class RuleCompiler:
    """Compiles the rules of one place in a schema. declared: the CEL type of the values at this place."""

    def __init__(self, declared: DeclaredType) -> None:
        self._declared = declared
        types: dict[str, Mapping[str, CelType]] = {}
        own = assign_names(declared, "selfType", types)
        functions = kubernetes_functions()
        self._plain = CelEnvironment(functions, {"self": own, "oldSelf": own}, types)
        self._optional = CelEnvironment(functions, {"self": own, "oldSelf": optional_of(own)}, types)

    def compile(self, rule: Rule) -> CompiledRule:
        """Compile a rule. Errors are in the result."""
        environment = self._optional if rule.get("optionalOldSelf") else self._plain
        try:
            expression = compile_expression(rule.get("rule") or "", environment)
        except ExpressionIssues as issues:
            return CompiledRule(rule, None, f"compilation failed: {issues}")
        if expression.type.kind != "bool":
            return CompiledRule(rule, None, "cel expression must evaluate to a bool")
        uses_old = "oldSelf" in expression.program.names
        cost = self._cost(expression)
        text = rule.get("messageExpression") or ""
        if not text:
            return CompiledRule(rule, expression.program, uses_old=uses_old, cost=cost)
        message, error = None, ""
        try:
            message = compile_expression(text, environment)
        except ExpressionIssues as issues:
            error = f"messageExpression compilation failed: {issues}"
        if message is not None and message.type.kind != "string":
            message, error = None, "messageExpression must evaluate to a string"
        return CompiledRule(
            rule,
            expression.program,
            message=message.program if message is not None else None,
            message_error=error,
            uses_old=uses_old,
            cost=cost,
            message_cost=self._cost(message) if message is not None else 0,
        )

    def _cost(self, expression: CompiledExpression) -> int:
        return estimate_cost(expression.root, lambda path: size_at(self._declared, path[1:]))
