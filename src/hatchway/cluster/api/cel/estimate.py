"""Estimates the highest cost of an expression before it is evaluated (cel-go `checker/cost.go`).

The costs of calls of Kubernetes' libraries are those of apiserver's `pkg/cel/library/cost.go`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hatchway.cluster.api.cel.callcosts import UNBOUNDED, CallEstimate, SizeRange, estimate_call, scaled
from hatchway.cluster.api.cel.celtypes import CelType, Overload
from hatchway.cluster.api.cel.syntax import (
    ACCUMULATOR,
    CallNode,
    Comprehension,
    Ident,
    ListExpr,
    Literal,
    MapExpr,
    Select,
    Struct,
    SyntaxNode,
    TreeWalk,
)

__all__ = ["UNBOUNDED", "SizeOf", "estimate_cost"]

Path = tuple[str, ...]
# Returns the maximum number of elements of the value at a path (`("self", "names", "@items")`); None when this is
# unknown.
SizeOf = Callable[[Path], int | None]
_SCALARS = ("bool", "double", "duration", "int", "timestamp", "uint")


@dataclass(frozen=True, slots=True)
class _Entries:
    """The sizes of a container's keys and values. kind: list or map."""

    kind: str
    key: SizeRange
    value: SizeRange


@dataclass(frozen=True, slots=True)
class _Local:
    """A variable of a comprehension."""

    path: Path
    size: SizeRange | None
    entries: _Entries | None = None


def estimate_cost(root: SyntaxNode, size_of: SizeOf) -> int:
    """Return the highest possible cost of a checked expression, at most 2**64 - 1.

    size_of: returns the largest size of a part of a variable.
    """
    return min(_Estimate(size_of).visit(root), UNBOUNDED)


class _Estimate(TreeWalk[int]):
    def __init__(self, size_of: SizeOf) -> None:
        super().__init__()
        self._size_of = size_of
        self._paths: dict[int, Path] = {}
        self._sizes: dict[int, SizeRange] = {}
        self._entries: dict[int, _Entries] = {}
        self._locals: dict[str, list[_Local]] = {}

    def finish(self, node: SyntaxNode, found: int) -> int:
        return min(found, UNBOUNDED)

    # Sizes and paths

    def _local(self, name: str) -> _Local | None:
        found = self._locals.get(name)
        return found[-1] if found else None

    def path(self, node: SyntaxNode) -> Path:
        if isinstance(node, Ident) and (local := self._local(node.name)) is not None:
            return local.path
        return self._paths.get(id(node), ())

    def size(self, node: SyntaxNode) -> SizeRange | None:
        """Return the size of a value, from a constant, the value's path or its type; None if the size is unknown."""
        if (known := self._sizes.get(id(node))) is not None:
            return known
        if isinstance(node, Literal):
            count = len(node.value) if isinstance(node.value, str | bytes) else 1
            return SizeRange(count, count)
        if isinstance(node, ListExpr):
            return SizeRange(len(node.items), len(node.items))
        if isinstance(node, MapExpr):
            return SizeRange(len(node.entries), len(node.entries))
        if (size := self._declared(self.path(node))) is not None:
            self._sizes[id(node)] = size
            return size
        if _is_scalar(node.type):
            return SizeRange(1, 1)
        local = self._local(node.name) if isinstance(node, Ident) else None
        return local.size if local is not None else None

    def _declared(self, path: Path) -> SizeRange | None:
        if not path or path[0] == ACCUMULATOR:
            return None
        most = self._size_of(path)
        return SizeRange(0, most) if most is not None else None

    def _known_size(self, node: SyntaxNode) -> SizeRange:
        return self.size(node) or SizeRange(0, UNBOUNDED)

    def _entries_of(self, node: SyntaxNode) -> _Entries | None:
        if (known := self._entries.get(id(node))) is not None:
            return known
        local = self._local(node.name) if isinstance(node, Ident) else None
        return local.entries if local is not None else None

    # Parts

    def visit_literal(self, node: Literal) -> int:
        return 0

    def visit_ident(self, node: Ident) -> int:
        local = self._local(node.name)
        self._paths[id(node)] = local.path if local is not None else (node.name,)
        return 1

    def visit_struct(self, node: Struct) -> int:
        return 40 + sum(self.visit(value) for _, value, _ in node.fields)

    def visit_select(self, node: Select) -> int:
        if node.qualified:
            self._paths[id(node)] = (node.qualified,)
            return 1
        found = self.visit(node.operand)
        if node.test:
            return found
        self._paths[id(node)] = (*self.path(node.operand), node.field)
        return found + (node.operand.type.kind in ("map", "object", "parameter"))

    def visit_list(self, node: ListExpr) -> int:
        found = 10
        sizes: list[SizeRange] = []
        for item in node.items:
            found += self.visit(item)
            sizes.append(self._known_size(item))
        self._entries[id(node)] = _Entries("list", SizeRange(1, 1), _union(sizes))
        return found

    def visit_map(self, node: MapExpr) -> int:
        found = 30
        keys: list[SizeRange] = []
        values: list[SizeRange] = []
        for key, value in node.entries:
            found += self.visit(key) + self.visit(value)
            keys.append(self._known_size(key))
            values.append(self._known_size(value))
        self._entries[id(node)] = _Entries("map", _union(keys), _union(values))
        return found

    # Calls

    def visit_call(self, node: CallNode) -> int:
        if node.name == "dyn" and len(node.args) == 1:
            found = self.visit(node.args[0]) + 1
            self._copy_sizes(node, node.args[0])
            return found
        costs = [self.visit(one) for one in node.args]
        total = self.visit(node.target) if node.target is not None else 0
        if node.name == "_?._":
            self._paths[id(node)] = (*self.path(node.args[0]), str(getattr(node.args[1], "value", "")))
            return total + sum(costs) + 1
        most = 0
        result: SizeRange | None = None
        for overload in node.overloads:
            estimate = self._overload(node, overload, costs)
            most = max(most, estimate.cost)
            if estimate.size is not None:
                result = estimate.size if result is None else _union([result, estimate.size])
            if overload.id in ("index_list", "index_map"):
                entries = self._entries_of(node.args[0])
                result = entries.value if entries is not None else None
                part = "@items" if overload.id == "index_list" else "@values"
                self._paths[id(node)] = (*self.path(node.args[0]), part)
            if result is None:
                result = self.size(node)
        if result is not None:
            self._sizes[id(node)] = result
        return total + most

    def _overload(self, node: CallNode, overload: Overload, costs: list[int]) -> CallEstimate:
        args, sum_of_args = node.args, sum(costs)
        match overload.id:
            case "logical_and" | "logical_or":
                return CallEstimate(sum_of_args)
            case "conditional":
                first, second = self._entries_of(args[1]), self._entries_of(args[2])
                if first is not None and second is not None:
                    self._entries[id(node)] = _joined(first, second)
                size = _union([self._known_size(args[1]), self._known_size(args[2])])
                return CallEstimate(costs[0] + max(costs[1], costs[2]), size)
            case "add_list" | "add_string" | "add_bytes":
                first, second = self._entries_of(args[0]), self._entries_of(args[1])
                if first is not None and second is not None:
                    self._entries[id(node)] = _joined(first, second)
                size = self._known_size(args[0]).plus(self._known_size(args[1]))
                cost = 1 if overload.id == "add_list" else scaled(size.most, 0.1)
                return CallEstimate(cost + sum_of_args, size)
        target = node.target
        sizes = [self._known_size(one) for one in args]
        element = self._element_size(target) if target is not None else None
        found = estimate_call(node, overload, self._known_size(target) if target is not None else None, sizes, element)
        return CallEstimate(min(found.cost + sum_of_args, UNBOUNDED), found.size)

    def _element_size(self, node: SyntaxNode) -> SizeRange | None:
        """Return the size of a list's elements, by the list's path; None for other nodes."""
        if node.type.kind != "list":
            return None
        path = self.path(node)
        found = self._declared((*path, "@items")) if path else None
        return found or SizeRange(0, UNBOUNDED)

    def _copy_sizes(self, node: SyntaxNode, source: SyntaxNode) -> None:
        size, entries = self.size(source), self._entries_of(source)
        if size is not None:
            self._sizes[id(node)] = size
        if entries is not None:
            self._entries[id(node)] = entries

    # Comprehensions

    def _push(self, name: str, local: _Local) -> None:
        self._locals.setdefault(name, []).append(local)

    def _pop(self, *names: str) -> None:
        for name in names:
            self._locals[name].pop()

    def _bind(self, node: Comprehension) -> int:
        found = self.visit(node.source) + self.visit(node.initial)
        initial = node.initial
        self._push(node.accumulator, _Local(self.path(initial), self.size(initial), self._entries_of(initial)))
        found += self.visit(node.result)
        self._copy_sizes(node, node.result)
        self._pop(node.accumulator)
        return found

    def visit_comprehension(self, node: Comprehension) -> int:
        return self._bind(node) if node.kind == "bind" else self._rounds(node)

    def _rounds(self, node: Comprehension) -> int:
        found = self.visit(node.source) + self.visit(node.initial)
        initial = node.initial
        self._push(node.accumulator, _Local(self.path(initial), self.size(initial), self._entries_of(initial)))
        names = self._push_variables(node)
        each = self.visit(node.condition) + self.visit(node.step)
        entries = self._entries_of(node.step)
        self._pop(*names)
        found += self.visit(node.result)
        self._pop(node.accumulator)
        count = self._known_size(node.source)
        found += min(count.most * each, UNBOUNDED)
        if isinstance(initial, Literal):
            self._sizes[id(node)] = SizeRange(1, 1)
        else:
            self._sizes[id(node)] = count
            if entries is not None:
                self._entries[id(node)] = entries
        return found

    def _push_variables(self, node: Comprehension) -> list[str]:
        entries, path = self._entries_of(node.source), self.path(node.source)
        is_list = (entries.kind if entries is not None else node.source.type.kind) == "list"
        key, value = (entries.key, entries.value) if entries is not None else (None, None)
        if not node.second:
            part, size = ("@items", value) if is_list else ("@keys", key)
            self._push(node.variable, _Local((*path, part), size))
            return [node.variable]
        self._push(node.variable, _Local((*path, "@indices" if is_list else "@keys"), key))
        self._push(node.second, _Local((*path, "@items" if is_list else "@values"), value))
        return [node.variable, node.second]


def _is_scalar(found: CelType) -> bool:
    if found.is_optional:
        return _is_scalar(found.parameters[0])
    return found.kind in _SCALARS


def _union(sizes: list[SizeRange]) -> SizeRange:
    if not sizes:
        return SizeRange(0, 0)
    return SizeRange(min(one.least for one in sizes), max(one.most for one in sizes))


def _joined(first: _Entries, second: _Entries) -> _Entries:
    return _Entries(first.kind, _union([first.key, second.key]), _union([first.value, second.value]))
