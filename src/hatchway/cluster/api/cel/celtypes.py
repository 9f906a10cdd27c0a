"""The types of CEL, and which type may stand where another one is expected (cel-go `checker/types.go`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ANY",
    "BOOL",
    "BYTES",
    "DOUBLE",
    "DURATION",
    "DYN",
    "ERROR",
    "INT",
    "NULL",
    "STRING",
    "TIMESTAMP",
    "TYPE",
    "UINT",
    "Bindings",
    "CelType",
    "Overload",
    "describe_call",
    "list_of",
    "map_of",
    "most_general",
    "object_type",
    "opaque",
    "optional_of",
    "parameter",
    "type_of",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class CelType:
    """A type.

    Attributes:
        kind: bool, bytes, double, duration, int, null, string, timestamp, uint, list, map, type, object, opaque,
            dyn, error or parameter.
        name: as messages and `type()` name it.
        parameters: the types of elements, of keys and values, and the like.
    """

    kind: str
    name: str
    parameters: tuple[CelType, ...] = ()

    def __str__(self) -> str:
        """Return the type as errors name it (cel-go `checker/format.go`)."""
        if not self.parameters:
            return self.name
        return f"{self.name}({', '.join(map(str, self.parameters))})"

    @property
    def is_dyn(self) -> bool:
        """Return True for types that are known only when the expression is evaluated."""
        return self.kind in ("dyn", "error", "parameter")

    @property
    def is_optional(self) -> bool:
        """Return True for `optional_type(...)`."""
        return self.kind == "opaque" and self.name == "optional_type"


BOOL, BYTES, DOUBLE = (CelType(kind, kind) for kind in ("bool", "bytes", "double"))
INT, STRING, UINT = (CelType(kind, kind) for kind in ("int", "string", "uint"))
DURATION, TIMESTAMP = CelType("duration", "duration"), CelType("timestamp", "timestamp")
NULL, TYPE = CelType("null", "null"), CelType("type", "type")
DYN, ANY, ERROR = CelType("dyn", "dyn"), CelType("dyn", "any"), CelType("error", "!error!")


def list_of(element: CelType) -> CelType:
    """Return the type of a list."""
    return CelType("list", "list", (element,))


def map_of(key: CelType, value: CelType) -> CelType:
    """Return the type of a map."""
    return CelType("map", "map", (key, value))


def optional_of(value: CelType) -> CelType:
    """Return the type of a value that may be missing."""
    return CelType("opaque", "optional_type", (value,))


def type_of(value: CelType) -> CelType:
    """Return the type of a type's name in an expression."""
    return CelType("type", "type", (value,))


def opaque(name: str) -> CelType:
    """Return a type whose values only functions can handle."""
    return CelType("opaque", name)


def object_type(name: str) -> CelType:
    """Return a type with fields, which the environment knows by its name."""
    return CelType("object", name)


def parameter(name: str) -> CelType:
    """Return a type that follows from the others of a signature."""
    return CelType("parameter", name)


@dataclass(frozen=True, slots=True, eq=False)
class Overload:
    """One signature of a function, and what it does.

    Attributes:
        id: its name in cel-go's tables, by which costs are found.
        function: the function's name.
        is_member: it is called as a method; then the first of `arguments` is the object.
        call: takes the arguments' values and returns the result. Raises EvaluationError.
        cost: takes the arguments' values and the result, and returns the cost; None for 1.
    """

    id: str
    function: str
    is_member: bool
    arguments: tuple[CelType, ...]
    result: CelType
    call: Callable[..., Any]
    cost: Callable[[tuple[Any, ...], Any], int] | None = None


class Bindings:
    """The types that stand for the parameters of signatures and of empty lists, found so far."""

    def __init__(self) -> None:
        self._bound: dict[str, CelType] = {}
        self._count = 0

    def fresh(self) -> CelType:
        """Return a new parameter."""
        self._count += 1
        return parameter(f"_var{self._count}")

    def resolve(self, given: CelType, *, final: bool = False) -> CelType:
        """Return a type with its parameters replaced. final: those that nothing is known of become dyn."""
        if given.kind == "parameter":
            bound = self._bound.get(given.name)
            if bound is not None:
                return self.resolve(bound, final=final)
            return DYN if final else given
        if not given.parameters:
            return given
        parts = tuple(self.resolve(one, final=final) for one in given.parameters)
        return given if parts == given.parameters else CelType(given.kind, given.name, parts)

    def accepts(self, wanted: CelType, found: CelType) -> bool:
        """Return True when a value of the type `found` may stand where `wanted` is expected; bind parameters then."""
        return self.accepts_all((wanted,), (found,))

    def accepts_all(self, wanted: Iterable[CelType], found: Iterable[CelType]) -> bool:
        """Like `accepts`, for all of them or none."""
        before = self._bound
        self._bound = dict(before)
        if all(self._matches(one, other) for one, other in zip(wanted, found, strict=True)):
            return True
        self._bound = before
        return False

    def instantiate(self, overload: Overload) -> tuple[tuple[CelType, ...], CelType]:
        """Return the arguments and the result of a signature, with new parameters in place of its own."""
        names: dict[str, CelType] = {}
        for one in (*overload.arguments, overload.result):
            self._collect(one, names)
        if not names:
            return overload.arguments, overload.result
        return tuple(_replace(one, names) for one in overload.arguments), _replace(overload.result, names)

    def _collect(self, given: CelType, names: dict[str, CelType]) -> None:
        if given.kind == "parameter" and given.name not in names:
            names[given.name] = self.fresh()
        for one in given.parameters:
            self._collect(one, names)

    def _matches(self, wanted: CelType, found: CelType) -> bool:
        wanted, found = self._follow(wanted), self._follow(found)
        if wanted == found:
            return True
        if found.kind == "parameter":
            return self._bind(found, wanted)
        if wanted.kind == "parameter":
            return self._bind(wanted, found)
        if wanted.is_dyn or found.is_dyn:
            return True
        if "null" in (wanted.kind, found.kind):
            other = found if wanted.kind == "null" else wanted
            return other.kind in ("object", "opaque", "duration", "timestamp")
        if wanted.kind == "type" and found.kind == "type":
            return True
        if (wanted.kind, wanted.name, len(wanted.parameters)) != (found.kind, found.name, len(found.parameters)):
            return False
        return all(map(self._matches, wanted.parameters, found.parameters))

    def _follow(self, given: CelType) -> CelType:
        while given.kind == "parameter" and given.name in self._bound:
            given = self._bound[given.name]
        return given

    def _bind(self, name: CelType, value: CelType) -> bool:
        if self._occurs(name, value):
            return False
        self._bound[name.name] = value
        return True

    def _occurs(self, name: CelType, value: CelType) -> bool:
        value = self._follow(value)
        return value == name or any(self._occurs(name, one) for one in value.parameters)


def _replace(given: CelType, names: Mapping[str, CelType]) -> CelType:
    if given.kind == "parameter":
        return names[given.name]
    if not given.parameters:
        return given
    return CelType(given.kind, given.name, tuple(_replace(one, names) for one in given.parameters))


def most_general(first: CelType, second: CelType) -> CelType:
    """Return the type of a list with elements of two types that may stand for each other."""
    return first if first.is_dyn and first.kind != "parameter" else second if second.is_dyn else first


def describe_call(arguments: Iterable[CelType], *, is_member: bool) -> str:
    """Return the types of a call as errors name them: `(int, string)` or `string.(int)`."""
    first, *others = (*arguments, None)
    found = [str(one) for one in ([first, *others] if not is_member else others) if one is not None]
    text = f"({', '.join(found)})"
    return f"{first}.{text}" if is_member else text
