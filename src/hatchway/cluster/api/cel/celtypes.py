"""The types of CEL, and the rules by which a type accepts values of other types (cel-go `checker/types.go`)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
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
    "LARGEST_TYPE",
    "NULL",
    "STRING",
    "TIMESTAMP",
    "TYPE",
    "UINT",
    "Bindings",
    "CelType",
    "Overload",
    "TypesTooLarge",
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


# The maximum number of parts of one type, and the maximum number of parts that the checks of one expression may read.
LARGEST_TYPE = 500
_MOST_STEPS = 1_000_000


class TypesTooLarge(Exception):
    """Raised for an expression whose types have too many parts.

    A small expression can make a type of any size: with `cel.bind(b, {a: a}, ...)`, the type of `b` has more than twice
    as many parts as the type of `a`.
    """


@dataclass(frozen=True, slots=True)
class CelType:
    """A type.

    Attributes:
        kind: bool, bytes, double, duration, int, null, string, timestamp, uint, list, map, type, object, opaque,
            dyn, error or parameter.
        name: the name in messages and in results of `type()`.
        parameters: the types of its parts, such as the elements of a list or the keys and values of a map.
        size: the number of types in this type, including itself.
    """

    kind: str
    name: str
    parameters: tuple[CelType, ...] = ()
    size: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Set the size."""
        object.__setattr__(self, "size", 1 + sum(one.size for one in self.parameters))

    def __str__(self) -> str:
        """Return the type for error messages (cel-go `checker/format.go`)."""
        if not self.parameters:
            return self.name
        return f"{self.name}({', '.join(map(str, self.parameters))})"

    @property
    def is_dyn(self) -> bool:
        """Return True for a type that is unknown until the expression is evaluated."""
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
    """Return the type of an optional value."""
    return CelType("opaque", "optional_type", (value,))


def type_of(value: CelType) -> CelType:
    """Return the type of a type's name: the expression `int` has the type `type(int)`."""
    return CelType("type", "type", (value,))


def opaque(name: str) -> CelType:
    """Return a type without fields. Only functions can use its values."""
    return CelType("opaque", name)


def object_type(name: str) -> CelType:
    """Return a type with fields. The environment has the fields, by the type's name."""
    return CelType("object", name)


def parameter(name: str) -> CelType:
    """Return a type parameter. Its value follows from the types of a call's arguments."""
    return CelType("parameter", name)


@dataclass(frozen=True, slots=True, eq=False)
class Overload:
    """One signature of a function, with its implementation.

    Attributes:
        id: the name in cel-go's tables, which also selects the cost.
        function: the function's name.
        is_member: True for a method. The first of `arguments` is then the object.
        call: computes the result from the values of the arguments. Raises EvaluationError.
        cost: computes the cost of a call from the values of the arguments and the result; None if the cost is 1.
        counts_steps: True if `call` gets the Evaluation as an additional first argument, and counts the parts of
            values that it reads with `Evaluation.walk`. Then `cost` gets the Evaluation as the first value, too.
    """

    id: str
    function: str
    is_member: bool
    arguments: tuple[CelType, ...]
    result: CelType
    call: Callable[..., Any]
    cost: Callable[[tuple[Any, ...], Any], int] | None = None
    counts_steps: bool = False


class Bindings:
    """The values of type parameters that have been inferred. Signatures and empty lists have type parameters.

    The methods raise TypesTooLarge when they have read too many parts of types.
    """

    def __init__(self) -> None:
        self._bound: dict[str, CelType] = {}
        self._count = 0
        self._steps = 0

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise TypesTooLarge

    def fresh(self) -> CelType:
        """Return a new type parameter."""
        self._count += 1
        return parameter(f"_var{self._count}")

    def resolve(self, given: CelType, *, final: bool = False) -> CelType:
        """Return a type with its parameters replaced. final: True to replace unknown parameters by dyn."""
        self._step()
        if given.kind == "parameter":
            bound = self._bound.get(given.name)
            if bound is not None:
                return self.resolve(bound, final=final)
            return DYN if final else given
        if not given.parameters:
            return given
        parts = tuple(self.resolve(one, final=final) for one in given.parameters)
        if all(map(operator.is_, parts, given.parameters)):
            return given
        found = CelType(given.kind, given.name, parts)
        if found.size > LARGEST_TYPE:
            raise TypesTooLarge
        return found

    def accepts(self, wanted: CelType, found: CelType) -> bool:
        """Return True if type `wanted` accepts values of type `found`. In this case, bind type parameters."""
        return self.accepts_all((wanted,), (found,))

    def accepts_all(self, wanted: Iterable[CelType], found: Iterable[CelType]) -> bool:
        """Return True if each wanted type accepts the found type, like `accepts`. Otherwise, bind no type parameter."""
        before = self._bound
        self._bound = dict(before)
        if all(self._matches(one, other) for one, other in zip(wanted, found, strict=True)):
            return True
        self._bound = before
        return False

    def instantiate(self, overload: Overload) -> tuple[tuple[CelType, ...], CelType]:
        """Return the types of a signature's arguments and result, with new type parameters."""
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
        self._step()
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
        self._step()
        value = self._follow(value)
        return value == name or any(self._occurs(name, one) for one in value.parameters)


def _replace(given: CelType, names: Mapping[str, CelType]) -> CelType:
    if given.kind == "parameter":
        return names[given.name]
    if not given.parameters:
        return given
    return CelType(given.kind, given.name, tuple(_replace(one, names) for one in given.parameters))


def most_general(first: CelType, second: CelType) -> CelType:
    """Return the more general of two types of elements of a list. One of the two types must accept the other."""
    return first if first.is_dyn and first.kind != "parameter" else second if second.is_dyn else first


def describe_call(arguments: Iterable[CelType], *, is_member: bool) -> str:
    """Return the types of a call for error messages: `(int, string)`, or `string.(int)` for a method."""
    first, *others = (*arguments, None)
    found = [str(one) for one in ([first, *others] if not is_member else others) if one is not None]
    text = f"({', '.join(found)})"
    return f"{first}.{text}" if is_member else text
