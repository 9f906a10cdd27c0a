"""Declares functions by their signatures. Has the cost functions that several declarations use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from hatchway.cluster.api.cel import celtypes as t
from hatchway.cluster.api.cel.celtypes import CelType, Overload
from hatchway.cluster.api.cel.state import MAX_MADE
from hatchway.cluster.api.cel.values import CostExceeded, Value, size_of

__all__ = ["declare", "limit_made", "no_cost", "parse_type", "regex_cost", "traversal", "twice_traversal"]

Cost = Callable[[tuple[Value, ...], Value], int]

_SIMPLE: dict[str, CelType] = {
    "bool": t.BOOL, "bytes": t.BYTES, "double": t.DOUBLE, "duration": t.DURATION, "dyn": t.DYN, "int": t.INT,
    "null": t.NULL, "string": t.STRING, "timestamp": t.TIMESTAMP, "uint": t.UINT, "A": t.parameter("A"),
    "B": t.parameter("B"), "IP": t.opaque("net.IP"), "CIDR": t.opaque("net.CIDR"), "URL": t.opaque("kubernetes.URL"),
    "Quantity": t.opaque("kubernetes.Quantity"), "Semver": t.opaque("kubernetes.Semver"),
    "Format": t.opaque("kubernetes.NamedFormat"),
    **{
        name: t.object_type(f"kubernetes.authorization.{name}")
        for name in ("Authorizer", "PathCheck", "GroupCheck", "ResourceCheck", "Decision")
    },
}  # fmt: skip
_SIGNATURE = re.compile(
    r"(?:(?P<target>[A-Za-z]+(?:\([A-Za-z(), ]*\))?)\.)?(?P<name>\S+?)\((?P<args>.*)\) (?P<result>.+)"
)


def parse_type(text: str) -> CelType:
    """Return the type that a signature names: `list(string)`, `map(A, B)`, `optional(A)`, `Quantity`."""
    text = text.strip()
    name, opened, rest = text.partition("(")
    if not opened:
        return _SIMPLE[text]
    inner = [parse_type(one) for one in _split(rest.removesuffix(")"))]
    match name:
        case "list":
            return t.list_of(inner[0])
        case "map":
            return t.map_of(inner[0], inner[1])
        case "optional":
            return t.optional_of(inner[0])
        case _:
            return t.type_of(inner[0])


def _split(text: str) -> Iterator[str]:
    depth, start = 0, 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and not depth:
            yield text[start:at]
            start = at + 1
    if text[start:].strip():
        yield text[start:]


def declare(
    id: str, signature: str, call: Callable[..., Any], cost: Cost | None = None, *, counts_steps: bool = False
) -> Overload:
    """Return an overload. call, cost, counts_steps: as in `Overload`.

    id: the overload's name in cel-go.
    signature: `string.startsWith(string) bool` for a method; `size(list(A)) int` for a function;
        `.ip.isCanonical(string) bool` for a function whose name has a dot.
    """
    dotted = signature.startswith(".")
    match = _SIGNATURE.fullmatch(signature.removeprefix("."))
    assert match is not None, signature
    target, name = match["target"], match["name"]
    if dotted:
        target, name = None, f"{target}.{name}"
    arguments = [parse_type(one) for one in _split(match["args"])]
    if target:
        arguments.insert(0, parse_type(target))
    return Overload(id, name, bool(target), tuple(arguments), parse_type(match["result"]), call, cost, counts_steps)


def no_cost(args: tuple[Value, ...], result: Value) -> int:
    """Return 0."""
    return 0


def traversal(args: tuple[Value, ...], result: Value) -> int:
    """Return the cost of reading the first argument once."""
    return -(-size_of(args[0]) // 10)


def twice_traversal(args: tuple[Value, ...], result: Value) -> int:
    """Return the cost of reading the first argument and writing a result of the same size."""
    return -(-size_of(args[0]) // 5)


def regex_cost(args: tuple[Value, ...], result: Value) -> int:
    """Return the cost of matching the first argument with the second, a regular expression."""
    return -(-(1 + size_of(args[0])) // 10) * -(-size_of(args[1]) // 4)


def limit_made(size: int) -> None:
    """Raise CostExceeded if `size` is above the limit for a text or a list that an expression creates."""
    if size > MAX_MADE:
        raise CostExceeded
