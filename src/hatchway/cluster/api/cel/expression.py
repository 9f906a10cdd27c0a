"""Compiles the text of an expression into a program: parses it, checks its types, and makes its steps."""

from __future__ import annotations

from dataclasses import dataclass

from hatchway.cluster.api.cel.celtypes import CelType
from hatchway.cluster.api.cel.checker import check
from hatchway.cluster.api.cel.compiler import Program, compile_steps
from hatchway.cluster.api.cel.environment import Environment
from hatchway.cluster.api.cel.literalcheck import check_literals
from hatchway.cluster.api.cel.parser import parse
from hatchway.cluster.api.cel.syntax import ExpressionIssues, Issues, Node

__all__ = ["Expression", "compile_expression"]


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression. root: its tree, with types."""

    text: str
    root: Node
    program: Program

    @property
    def type(self) -> CelType:
        """Return the type of its result."""
        return self.program.type


def compile_expression(text: str, environment: Environment) -> Expression:
    """Return a compiled expression. Raises ExpressionIssues, with the errors as cel-go writes them."""
    issues = Issues(text)
    root = parse(text, issues)
    if root is not None:
        check(root, environment, issues)
        if not issues:
            check_literals(root, issues)
    if root is None or issues:
        raise ExpressionIssues(str(issues))
    return Expression(text, root, compile_steps(root))
