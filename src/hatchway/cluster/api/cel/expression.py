"""Compiles the text of an expression into a program: parses it, checks its types, and makes its steps."""

from __future__ import annotations

from dataclasses import dataclass

from hatchway.cluster.api.cel.celtypes import CelType
from hatchway.cluster.api.cel.checker import check
from hatchway.cluster.api.cel.compiler import Program, compile_steps
from hatchway.cluster.api.cel.environment import CelEnvironment
from hatchway.cluster.api.cel.literalcheck import check_literals
from hatchway.cluster.api.cel.parser import parse
from hatchway.cluster.api.cel.syntax import ExpressionIssues, Issues, SyntaxNode

__all__ = ["CompiledExpression", "compile_expression"]


@dataclass(frozen=True, slots=True)
class CompiledExpression:
    """A compiled expression. root: its tree, with types."""

    text: str
    root: SyntaxNode
    program: Program

    @property
    def type(self) -> CelType:
        """Return the type of its result."""
        return self.program.type


def compile_expression(text: str, environment: CelEnvironment) -> CompiledExpression:
    """Return a compiled expression. Raises ExpressionIssues, with the errors as cel-go writes them."""
    issues = Issues(text)
    root = parse(text, issues, has_bindings=environment.has_bindings)
    if root is not None:
        check(root, environment, issues)
        if not issues:
            check_literals(root, issues)
    if root is None or issues:
        raise ExpressionIssues(str(issues))
    return CompiledExpression(text, root, compile_steps(root))
