"""Compiles the text of an expression into a program: parses the text, checks the types, and creates the steps."""

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
    """A compiled expression. root: its syntax tree, with types."""

    text: str
    root: SyntaxNode
    program: Program

    @property
    def type(self) -> CelType:
        """Return the type of the expression's result."""
        return self.program.type


def compile_expression(text: str, environment: CelEnvironment) -> CompiledExpression:
    """Compile an expression. Raises ExpressionIssues, whose text has the errors in cel-go's format."""
    issues = Issues(text)
    root = parse(text, issues, has_bindings=environment.has_bindings)
    if root is not None:
        check(root, environment, issues)
        if not issues:
            check_literals(root, issues)
    if root is None or issues:
        raise ExpressionIssues(str(issues))
    return CompiledExpression(text, root, compile_steps(root))
