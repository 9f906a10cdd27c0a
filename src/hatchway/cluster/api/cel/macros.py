"""Expands the macros of CEL (cel-go `parser/macro.go`, `ext/comprehensions.go`, `cel/library.go`)."""

from __future__ import annotations

from collections.abc import Callable

from hatchway.cluster.api.cel.syntax import (
    ACCUMULATOR,
    CallNode,
    Comprehension,
    Ident,
    ListExpr,
    Literal,
    MapExpr,
    Select,
    SyntaxNode,
)

__all__ = ["MacroError", "expand_macro"]

# The name of a comprehension's variable in macros that have no variable, such as `cel.bind`.
_UNUSED = "#unused"


class MacroError(ValueError):
    """Raised for a macro with wrong arguments. offset: the position of the error in the text, in characters."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


def expand_macro(call: CallNode, *, has_bindings: bool = False) -> SyntaxNode | None:
    """Return the expansion of a macro; None for a call of a function. Raises MacroError.

    has_bindings: True if `cel.bind` is a macro.
    """
    is_of_cel = isinstance(call.target, Ident) and call.target.name == "cel"
    if has_bindings and is_of_cel and call.name == "bind" and len(call.args) == 3:
        return _bind(call)
    if call.target is None:
        return _has(call) if call.name == "has" and len(call.args) == 1 else None
    expand = _MACROS.get((call.name, len(call.args)))
    return expand(call, call.target) if expand is not None else None


def _bind(call: CallNode) -> SyntaxNode:
    """Return the expansion of `cel.bind(name, value, expression)` (cel-go `ext/bindings.go`)."""
    at, (name, value, body) = call.offset, call.args
    if not isinstance(name, Ident):
        raise MacroError(name.offset, "cel.bind() variable names must be simple identifiers")
    return Comprehension(
        at, "bind", ListExpr(at, []), _UNUSED, "", value, Literal(at, False), Ident(at, name.name), body, body,
        accumulator=name.name,
    )  # fmt: skip


def _has(call: CallNode) -> SyntaxNode:
    operand = call.args[0]
    if isinstance(operand, Select) and not operand.test:
        return Select(operand.offset, operand.operand, operand.field, test=True)
    raise MacroError(call.offset, "invalid argument to has() macro")


def _variable(node: SyntaxNode, index: str = "") -> str:
    if not isinstance(node, Ident) or node.name.startswith("."):
        text = "argument must be a simple name" if index else "argument is not an identifier"
        raise MacroError(node.offset, text)
    if node.name in (ACCUMULATOR, "__result__"):
        raise MacroError(node.offset, "iteration variable overwrites accumulator variable")
    return node.name


def _variables(call: CallNode, count: int) -> tuple[str, str]:
    if count == 1:
        return _variable(call.args[0]), ""
    first, second = _variable(call.args[0], "first"), _variable(call.args[1], "second")
    if first == second:
        raise MacroError(call.args[1].offset, f"duplicate variable name: {first}")
    return first, second


def _quantifier(kind: str, count: int) -> Callable[[CallNode, SyntaxNode], SyntaxNode]:
    """Return the expansion of all, exists or existsOne. count: the number of variables."""

    def expand(call: CallNode, target: SyntaxNode) -> SyntaxNode:
        at, body = call.offset, call.args[-1]
        first, second = _variables(call, count)
        so_far: SyntaxNode = Ident(at, ACCUMULATOR)
        initial: SyntaxNode
        condition: SyntaxNode
        result: SyntaxNode = Ident(at, ACCUMULATOR)
        if kind == "all":
            initial, condition = Literal(at, True), CallNode(at, "@not_strictly_false", None, [so_far])
            step: SyntaxNode = CallNode(at, "_&&_", None, [Ident(at, ACCUMULATOR), body])
        elif kind == "exists":
            negated = CallNode(at, "!_", None, [so_far])
            initial, condition = Literal(at, False), CallNode(at, "@not_strictly_false", None, [negated])
            step = CallNode(at, "_||_", None, [Ident(at, ACCUMULATOR), body])
        else:
            initial, condition = Literal(at, 0), Literal(at, True)
            more = CallNode(at, "_+_", None, [Ident(at, ACCUMULATOR), Literal(at, 1)])
            step = CallNode(at, "_?_:_", None, [body, more, Ident(at, ACCUMULATOR)])
            result = CallNode(at, "_==_", None, [result, Literal(at, 1)])
        return Comprehension(at, kind, target, first, second, initial, condition, step, result, body)

    return expand


def _collector(kind: str, count: int, *, filtered: bool) -> Callable[[CallNode, SyntaxNode], SyntaxNode]:
    """Return the expansion of map, filter or transformList. These macros create a list."""

    def expand(call: CallNode, target: SyntaxNode) -> SyntaxNode:
        at = call.offset
        first, second = _variables(call, count)
        condition = call.args[count] if filtered or kind == "filter" else None
        body: SyntaxNode = call.args[-1] if kind != "filter" else Ident(call.args[0].offset, first)
        step: SyntaxNode = CallNode(at, "_+_", None, [Ident(at, ACCUMULATOR), ListExpr(at, [body])])
        if condition is not None:
            step = CallNode(at, "_?_:_", None, [condition, step, Ident(at, ACCUMULATOR)])
        always, result = Literal(at, True), Ident(at, ACCUMULATOR)
        return Comprehension(
            at, "map", target, first, second, ListExpr(at, []), always, step, result, body, filter=condition
        )

    return expand


def _transform(kind: str, *, filtered: bool) -> Callable[[CallNode, SyntaxNode], SyntaxNode]:
    """Return the expansion of transformMap or transformMapEntry."""

    def expand(call: CallNode, target: SyntaxNode) -> SyntaxNode:
        at = call.offset
        first, second = _variables(call, 2)
        condition, body = call.args[2] if filtered else None, call.args[-1]
        args = [Ident(at, ACCUMULATOR), body]
        if kind == "transformMap":
            args.insert(1, Ident(at, first))
        step: SyntaxNode = CallNode(at, "cel.@mapInsert", None, args)
        if condition is not None:
            step = CallNode(at, "_?_:_", None, [condition, step, Ident(at, ACCUMULATOR)])
        always, result = Literal(at, True), Ident(at, ACCUMULATOR)
        return Comprehension(
            at, kind, target, first, second, MapExpr(at, []), always, step, result, body, filter=condition
        )

    return expand


def _optional(flat: bool) -> Callable[[CallNode, SyntaxNode], SyntaxNode]:
    """Return the expansion of optMap or optFlatMap."""

    def expand(call: CallNode, target: SyntaxNode) -> SyntaxNode:
        at, body = call.offset, call.args[1]
        name = call.args[0]
        if not isinstance(name, Ident):
            raise MacroError(name.offset, f"{call.name}() variable name must be a simple identifier")
        value = CallNode(at, "value", target, [])
        bound = Comprehension(
            at, "bind", ListExpr(at, []), _UNUSED, "", value, Literal(at, False), Ident(at, name.name), body, body,
            accumulator=name.name,
        )  # fmt: skip
        some: SyntaxNode = bound if flat else CallNode(at, "optional.of", None, [bound])
        none = CallNode(at, "optional.none", None, [])
        return CallNode(at, "_?_:_", None, [CallNode(at, "hasValue", target, []), some, none])

    return expand


def _sort_by(call: CallNode, target: SyntaxNode) -> SyntaxNode:
    """Return the expansion of sortBy: the list is sorted by a key that is computed for each element."""
    at, name = call.offset, "@__sortBy_input__"
    keys = _collector("map", 1, filtered=False)(call, Ident(at, name))
    body = CallNode(at, "@sortByAssociatedKeys", Ident(at, name), [keys])
    return Comprehension(
        at, "bind", ListExpr(at, []), _UNUSED, "", target, Literal(at, False), Ident(at, name), body, body,
        accumulator=name,
    )  # fmt: skip


_MACROS: dict[tuple[str, int], Callable[[CallNode, SyntaxNode], SyntaxNode]] = {
    ("all", 2): _quantifier("all", 1),
    ("exists", 2): _quantifier("exists", 1),
    ("exists_one", 2): _quantifier("existsOne", 1),
    ("existsOne", 2): _quantifier("existsOne", 1),
    ("all", 3): _quantifier("all", 2),
    ("exists", 3): _quantifier("exists", 2),
    ("existsOne", 3): _quantifier("existsOne", 2),
    ("map", 2): _collector("map", 1, filtered=False),
    ("map", 3): _collector("map", 1, filtered=True),
    ("filter", 2): _collector("filter", 1, filtered=False),
    ("transformList", 3): _collector("map", 2, filtered=False),
    ("transformList", 4): _collector("map", 2, filtered=True),
    ("transformMap", 3): _transform("transformMap", filtered=False),
    ("transformMap", 4): _transform("transformMap", filtered=True),
    ("transformMapEntry", 3): _transform("transformMapEntry", filtered=False),
    ("transformMapEntry", 4): _transform("transformMapEntry", filtered=True),
    ("sortBy", 2): _sort_by,
    ("optMap", 2): _optional(flat=False),
    ("optFlatMap", 2): _optional(flat=True),
}
