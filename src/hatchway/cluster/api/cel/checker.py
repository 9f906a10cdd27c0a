"""Finds the types of an expression's parts, and the functions that it calls (cel-go `checker/checker.go`)."""

from __future__ import annotations

from collections.abc import Sequence

from hatchway.cluster.api.cel.celtypes import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    ERROR,
    INT,
    LARGEST_TYPE,
    NULL,
    STRING,
    UINT,
    Bindings,
    CelType,
    Overload,
    TypesTooLarge,
    describe_call,
    list_of,
    map_of,
    most_general,
    object_type,
    optional_of,
    type_of,
)
from hatchway.cluster.api.cel.environment import TYPE_NAMES, CelEnvironment
from hatchway.cluster.api.cel.syntax import (
    CallNode,
    Comprehension,
    Ident,
    Issues,
    ListExpr,
    Literal,
    MapExpr,
    Select,
    Struct,
    SyntaxNode,
    TreeWalk,
)
from hatchway.cluster.api.cel.values import UInt

__all__ = ["check"]

_LITERALS: dict[type, CelType] = {
    bool: BOOL, int: INT, UInt: UINT, float: DOUBLE, str: STRING, bytes: BYTES, type(None): NULL,
}  # fmt: skip


def check(root: SyntaxNode, environment: CelEnvironment, issues: Issues) -> CelType:
    """Find the type of each part of an expression, and return the type of the whole. Errors are added to `issues`."""
    checker = _ExpressionChecker(environment, issues)
    try:
        checker.visit(root)
        for node in checker.checked:
            node.type = checker.bindings.resolve(node.type, final=True)
    except TypesTooLarge:
        issues.add(0, "the types of the expression are too large")
        return ERROR
    except RecursionError:
        issues.add(0, "expression recursion limit exceeded: 100")
        return ERROR
    return root.type


class _ExpressionChecker(TreeWalk[CelType]):
    def __init__(self, environment: CelEnvironment, issues: Issues) -> None:
        super().__init__()
        self.bindings = Bindings()
        self.checked: list[SyntaxNode] = []
        self._environment = environment
        self._issues = issues
        self._scopes: list[dict[str, CelType]] = []
        # The number of calls of `format` that contain the part being checked.
        self._formatted = 0

    def finish(self, node: SyntaxNode, found: CelType) -> CelType:
        if found.size > LARGEST_TYPE:
            raise TypesTooLarge
        node.type = found
        self.checked.append(node)
        return found

    # Names

    def _find(self, name: str) -> CelType | None:
        """Return the type of a name, which is a variable or the name of a type; None for an unknown name."""
        if not name.startswith("."):
            for scope in reversed(self._scopes):
                if name in scope:
                    return scope[name]
        name = name.removeprefix(".")
        found = self._environment.variables.get(name)
        if found is None and name in TYPE_NAMES:
            found = TYPE_NAMES[name][0]
        if found is None and self._environment.is_patch_type(name):
            found = type_of(object_type(name))
        return found

    def _undeclared(self, node: SyntaxNode, name: str) -> CelType:
        self._issues.add(node.offset, f"undeclared reference to '{name}' (in container '')")
        return ERROR

    def visit_literal(self, node: Literal) -> CelType:
        return _LITERALS[type(node.value)]

    def visit_ident(self, node: Ident) -> CelType:
        found = self._find(node.name)
        return self._undeclared(node, node.name) if found is None else found

    def _qualified(self, node: SyntaxNode) -> str:
        """Return the qualified name of a selection such as `a.b.c`; "" for other nodes."""
        names: list[str] = []
        while isinstance(node, Select) and not node.test:
            names.append(node.field)
            node = node.operand
        if not isinstance(node, Ident):
            return ""
        return ".".join([node.name, *reversed(names)])

    def visit_select(self, node: Select) -> CelType:
        if not node.test:
            name = self._qualified(node)
            if name and name.partition(".")[0] not in {key for scope in self._scopes for key in scope}:
                found = self._find(name)
                if found is not None:
                    node.qualified = name
                    return found
        found = self._field(node, node.operand, node.field, optional=node.optional)
        return BOOL if node.test else found

    def _field(self, node: SyntaxNode, operand: SyntaxNode, name: str, *, optional: bool) -> CelType:
        target = self.bindings.resolve(self.visit(operand))
        was_optional = target.is_optional
        if was_optional:
            target = target.parameters[0]
        found: CelType
        if target.kind == "map":
            found = target.parameters[1]
        elif target.kind == "object":
            field = self._environment.field_type(target.name, name)
            if not self._environment.has_fields(target.name):
                self._issues.add(node.offset, f"unexpected failed resolution of '{target.name}'")
            elif field is None:
                self._issues.add(node.offset, f"undefined field '{name}'")
            found = ERROR if field is None else field
        else:
            if target.kind == "parameter":
                self.bindings.accepts(DYN, target)
            elif not target.is_dyn:
                self._issues.add(node.offset, f"type '{target}' does not support field selection")
            found = DYN
        found = self.bindings.resolve(found)
        return optional_of(found) if was_optional or optional else found

    # Calls

    def visit_call(self, node: CallNode) -> CelType:
        if node.name == "_?._":
            field = node.args[1]
            assert isinstance(field, Literal)
            found = self._field(node, node.args[0], field.value, optional=True)
            self.visit(field)
            return found
        # The arguments of `format` may have different types (`ValidateHomogeneousAggregateLiterals`).
        self._formatted += node.name == "format"
        try:
            return self._checked_call(node)
        finally:
            self._formatted -= node.name == "format"

    def _checked_call(self, node: CallNode) -> CelType:
        types = [self.visit(one) for one in node.args]
        functions = self._environment.functions
        if node.target is None:
            node.name = node.name.removeprefix(".")
            overloads = functions.get(node.name)
            return self._undeclared(node, node.name) if overloads is None else self._resolve(node, overloads, types)
        prefix = self._qualified(node.target)
        if prefix and f"{prefix}.{node.name}" in functions:
            node.name, node.target = f"{prefix}.{node.name}", None
            return self._resolve(node, functions[node.name], types)
        types.insert(0, self.visit(node.target))
        overloads = functions.get(node.name)
        return self._undeclared(node, node.name) if overloads is None else self._resolve(node, overloads, types)

    def _resolve(self, node: CallNode, overloads: Sequence[Overload], types: list[CelType]) -> CelType:
        if node.name in ("_&&_", "_||_"):
            node.overloads = [overloads[0]]
            return self._logical(node, types)
        found: list[Overload] = []
        result: CelType | None = None
        for one in overloads:
            if one.is_member != (node.target is not None) or len(one.arguments) != len(types):
                continue
            wanted, returns = self.bindings.instantiate(one)
            if not self.bindings.accepts_all(wanted, types):
                continue
            found.append(one)
            returns = self.bindings.resolve(returns)
            if result is None:
                result = returns
            elif result.kind != "dyn" and returns != result:
                result = DYN
        if result is None:
            resolved = [self.bindings.resolve(one, final=True) for one in types]
            call = describe_call(resolved, is_member=node.target is not None)
            self._issues.add(node.offset, f"found no matching overload for '{node.name}' applied to '{call}'")
            return ERROR
        node.overloads = found
        return result

    def _logical(self, node: CallNode, types: list[CelType]) -> CelType:
        failed = False
        for argument, found in zip(node.args, types, strict=True):
            if not self.bindings.accepts(BOOL, found):
                self._mismatch(argument, BOOL, found)
                failed = True
        return ERROR if failed else BOOL

    def _mismatch(self, node: SyntaxNode, wanted: CelType, found: CelType) -> None:
        wanted, found = self.bindings.resolve(wanted), self.bindings.resolve(found)
        self._issues.add(node.offset, f"expected type '{wanted}' but found '{found}'")

    # Literals with parts

    def _unwrapped(self, node: SyntaxNode, found: CelType, *, optional: bool) -> CelType:
        if not optional:
            return found
        if found.is_optional:
            return found.parameters[0]
        if not found.is_dyn:
            self._mismatch(node, optional_of(found), found)
        return found

    def _joined(self, node: SyntaxNode, before: CelType | None, found: CelType) -> CelType:
        if before is None:
            return found
        if self.bindings.accepts(before, found):
            return most_general(before, found)
        if self._formatted:
            return DYN
        self._mismatch(node, before, found)
        return ERROR

    def visit_list(self, node: ListExpr) -> CelType:
        element: CelType | None = None
        for index, item in enumerate(node.items):
            found = self._unwrapped(item, self.visit(item), optional=index in node.optional)
            element = self._joined(item, element, found)
        return list_of(element or self.bindings.fresh())

    def visit_map(self, node: MapExpr) -> CelType:
        keys: CelType | None = None
        values: CelType | None = None
        for index, (key, value) in enumerate(node.entries):
            keys = self._joined(key, keys, self.visit(key))
            found = self._unwrapped(value, self.visit(value), optional=index in node.optional)
            values = self._joined(value, values, found)
        return map_of(keys or self.bindings.fresh(), values or self.bindings.fresh())

    def visit_struct(self, node: Struct) -> CelType:
        name = node.name.removeprefix(".")
        if self._environment.is_patch_type(name):
            node.name = name
        else:
            found = self._find(node.name)
            if found is None:
                return self._undeclared(node, node.name)
            shown = found.parameters[0] if found.kind == "type" and found.parameters else found
            text = "is not a message type" if found.kind == "type" else "is not a type"
            self._issues.add(node.offset, f"'{shown}' {text}")
            return ERROR
        for index, (name, value, offset) in enumerate(node.fields):
            found = self._unwrapped(value, self.visit(value), optional=index in node.optional)
            wanted = self._environment.field_type(node.name, name)
            if wanted is None:
                self._issues.add(offset, f"undefined field '{name}'")
            elif not self.bindings.accepts(wanted, found):
                text = f"expected type of field '{name}' is '{wanted}' but provided type is"
                self._issues.add(offset, f"{text} '{self.bindings.resolve(found)}'")
        return object_type(node.name)

    # Comprehensions

    def visit_comprehension(self, node: Comprehension) -> CelType:
        source = self.bindings.resolve(self.visit(node.source))
        collected = self.visit(node.initial)
        first, second = self._elements(node, source)
        self._scopes.append({node.accumulator: collected})
        self._scopes.append({node.variable: first, **({node.second: second} if node.second else {})})
        found = self.visit(node.condition)
        if not self.bindings.accepts(BOOL, found):
            self._mismatch(node.condition, BOOL, found)
        if node.kind != "bind":
            found = self.visit(node.step)
            if not self.bindings.accepts(collected, found):
                self._mismatch(node.step, collected, found)
        self._scopes.pop()
        result = self.visit(node.result)
        self._scopes.pop()
        return self.bindings.resolve(result)

    def _elements(self, node: Comprehension, source: CelType) -> tuple[CelType, CelType]:
        """Return the types of the variables that each iteration sets."""
        if source.kind == "list":
            element = source.parameters[0]
            return (INT, element) if node.second else (element, element)
        if source.kind == "map":
            return source.parameters[0], source.parameters[1]
        if source.is_dyn:
            if source.kind == "parameter":
                self.bindings.accepts(DYN, source)
            return DYN, DYN
        text = f"expression of type '{source}' cannot be range of a comprehension (must be list, map, or dynamic)"
        self._issues.add(node.source.offset, text)
        return ERROR, ERROR
