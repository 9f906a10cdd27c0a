"""The highest cost of a call (cel-go `checker/cost.go`, apiserver `pkg/cel/library/cost.go`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hatchway.cluster.api.cel.celtypes import Overload
from hatchway.cluster.api.cel.syntax import CallNode, Literal, SyntaxNode

__all__ = ["UNBOUNDED", "CallEstimate", "SizeRange", "estimate_call", "scaled"]

UNBOUNDED = (1 << 64) - 1
_TRAVERSAL, _REGEX = 0.1, 0.25
# The length of the longest regular expression of a named format (apiserver `pkg/cel/format.go`).
_LONGEST_FORMAT = 128
_TRAVERSED = ("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf")
_NOMINAL = frozenset(
    ("masked", "prefixLength", "family", "isUnspecified", "isLoopback", "isLinkLocalMulticast", "isLinkLocalUnicast",
     "isGlobalUnicast", "format.named", "sign", "asInteger", "isInteger", "asApproximateFloat", "isGreaterThan",
     "isLessThan", "compareTo", "add", "sub", "major", "minor", "patch", "getScheme", "getHostname", "getHost",
     "getPort", "getEscapedPath", "getQuery", "serviceAccount", "path", "group", "resource", "subresource",
     "namespace", "name", "allowed", "reason", "error", "errored")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SizeRange:
    """The smallest and the largest size of a value."""

    least: int
    most: int

    def plus(self, other: SizeRange) -> SizeRange:
        """Return the sum of the sizes of two values."""
        return SizeRange(min(self.least + other.least, UNBOUNDED), min(self.most + other.most, UNBOUNDED))

    def times(self, other: SizeRange) -> SizeRange:
        """Return the total size of several values of this size. other: the number of values."""
        return SizeRange(min(self.least * other.least, UNBOUNDED), min(self.most * other.most, UNBOUNDED))


@dataclass(frozen=True, slots=True)
class CallEstimate:
    """The highest cost of a call. size: the size of the call's result; None if the size is unknown."""

    cost: int
    size: SizeRange | None = None


def scaled(size: int, factor: float) -> int:
    """Return a size times a factor, rounded up, at most UNBOUNDED."""
    found = math.ceil(size * factor)
    return min(found, UNBOUNDED) if size < UNBOUNDED else UNBOUNDED if factor >= 1 else found


def estimate_call(
    node: CallNode, overload: Overload, target: SizeRange | None, sizes: list[SizeRange], element: SizeRange | None
) -> CallEstimate:
    """Return the highest cost of a call, without the cost of computing its arguments.

    target: the size of the object of a method; None for a function.
    sizes: the sizes of the arguments.
    element: the size of an element, if the object of the method is a list.
    """
    name = overload.function
    if name in _NOMINAL or overload.id == "cidr_ip":
        return CallEstimate(1)
    if name in ("check",):
        return CallEstimate(350_000)
    if target is not None:
        found = _method(node, name, target, sizes, element)
        if found is not None:
            return found
    first = sizes[0] if sizes else SizeRange(0, UNBOUNDED)
    match name:
        case "fieldSelector" | "labelSelector":
            # The result is a list. Each requirement takes at least two characters, and becomes an object and a list.
            return CallEstimate(10 + scaled(first.most, _TRAVERSAL) + scaled(scaled(first.most, 0.5), 50))
        case "sets.contains" | "sets.intersects" | "sets.equivalent":
            factor = 2 if name == "sets.equivalent" else 1
            return CallEstimate(min(1 + sizes[0].most * sizes[1].most * factor, UNBOUNDED))
        case "lists.range":
            return _made(_constant_size(node.args[0], UNBOUNDED))
        case "url":
            return CallEstimate(scaled(first.most, _TRAVERSAL), first)
        case "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver":
            return CallEstimate(scaled(first.most, _TRAVERSAL))
        case "ip.isCanonical":
            return CallEstimate(scaled(first.most, 2 * _TRAVERSAL))
        case "_==_" if node.args[0].type == node.args[1].type and node.args[0].type.kind == "opaque":
            if node.args[0].type.name not in ("optional_type", "kubernetes.NamedFormat", "kubernetes.URL"):
                return CallEstimate(1)
    return _standard(overload, target, sizes)


def _method(
    node: CallNode, name: str, target: SizeRange, sizes: list[SizeRange], element: SizeRange | None
) -> CallEstimate | None:
    if name in _TRAVERSED:
        if element is None:
            return CallEstimate(scaled(target.most, _TRAVERSAL))
        assert node.target is not None
        each = 1
        if node.target.type.parameters[0].kind in ("string", "bytes"):
            each += scaled(element.most, _TRAVERSAL)
        return CallEstimate(min(target.most * each, UNBOUNDED))
    match name:
        case "lowerAscii" | "upperAscii" | "substring" | "trim":
            return CallEstimate(scaled(target.most, _TRAVERSAL), target)
        case "replace":
            return CallEstimate(scaled(target.most, 2 * _TRAVERSAL), _replaced(target, sizes[0], sizes[1]))
        case "split":
            most = target.most
            limit = node.args[1] if len(node.args) > 1 else None
            if isinstance(limit, Literal) and isinstance(limit.value, int):
                most = limit.value % (1 << 64)
            return CallEstimate(scaled(target.most, 2 * _TRAVERSAL), SizeRange(0, most))
        case "join":
            size = target.times(element) if element is not None else SizeRange(0, 0)
            if sizes:
                separators = SizeRange(max(target.least - 1, 0), max(target.most - 1, 0))
                size = size.plus(sizes[0].times(separators))
            return CallEstimate(scaled(size.most, _TRAVERSAL), size)
        case "find" | "findAll":
            cost = scaled(min(target.most + 1, UNBOUNDED), _TRAVERSAL) * scaled(sizes[0].most, _REGEX)
            return CallEstimate(min(cost, UNBOUNDED), SizeRange(0, target.most))
        case "containsIP" | "containsCIDR":
            # The 16 bytes of both addresses are compared. For a network, they are masked first, which costs more.
            cost = 4 if name == "containsIP" else 7
            is_text = node.args[0].type.kind == "string"
            return CallEstimate(cost + (scaled(sizes[0].most, _TRAVERSAL) if is_text else 0))
        case "slice":
            start, end = _constant_size(node.args[0], 0), _constant_size(node.args[1], target.most)
            return _made((end - start) % (UNBOUNDED + 1))
        case "reverse":
            return _made(target.most)
        case "flatten":
            depth = _constant_size(node.args[0], UNBOUNDED) if node.args else 1
            return CallEstimate(min(11 + target.most * depth, UNBOUNDED), target)
        case "distinct" | "sort" | "@sortByAssociatedKeys":
            compared = target if name != "@sortByAssociatedKeys" else sizes[0]
            return CallEstimate(min(11 + scaled(compared.times(compared).most, 2.1), UNBOUNDED), target)
        case "validate":
            return CallEstimate(scaled(scaled(sizes[0].most, _TRAVERSAL), _LONGEST_FORMAT * _REGEX))
    return None


def _made(size: int) -> CallEstimate:
    """Return the cost of a call that makes a list. size: the number of its elements."""
    return CallEstimate(min(11 + size, UNBOUNDED), SizeRange(size, size))


def _constant_size(node: SyntaxNode, otherwise: int) -> int:
    """Return the value of a node if it is a constant integer, else `otherwise`."""
    found = getattr(node, "value", None)
    return found % (UNBOUNDED + 1) if isinstance(node, Literal) and isinstance(found, int) else otherwise


def _replaced(target: SizeRange, old: SizeRange, new: SizeRange) -> SizeRange:
    """Return the size of a text after `replace`. target: the text's size. old, new: the sizes of both arguments."""
    most_count, most_kept, least_count, least_kept = 0, 0, 0, 0
    if old.least == 0:
        most_count, most_kept = min(target.most + 1, UNBOUNDED), target.most
    elif new.most <= old.least:
        most_kept = target.most
    else:
        most_count = math.ceil(target.most / old.least)
    if old.most == 0:
        least_count, least_kept = min(target.least + 1, UNBOUNDED), target.least
    elif old.most <= new.least:
        least_kept = target.least
    else:
        least_count = math.ceil(target.least / old.most)
    return SizeRange(least_count, most_count).times(new).plus(SizeRange(least_kept, most_kept))


def _standard(overload: Overload, target: SizeRange | None, sizes: list[SizeRange]) -> CallEstimate:
    match overload.id:
        case "string_format" if target is not None:
            return CallEstimate(scaled(target.most, _TRAVERSAL))
        case "string_to_bytes":
            return CallEstimate(
                scaled(sizes[0].most, _TRAVERSAL), SizeRange(sizes[0].least, min(sizes[0].most * 4, UNBOUNDED))
            )
        case "bytes_to_string":
            return CallEstimate(scaled(sizes[0].most, _TRAVERSAL), SizeRange(sizes[0].least // 4, sizes[0].most))
        case "strings_quote":
            most = min(sizes[0].most * 2 + 2, UNBOUNDED)
            return CallEstimate(scaled(sizes[0].most, _TRAVERSAL), SizeRange(sizes[0].least + 2, most))
        case "starts_with_string" | "ends_with_string":
            return CallEstimate(scaled(sizes[0].most, _TRAVERSAL))
        case "in_list":
            return CallEstimate(sizes[1].most)
        case "matches_string" if target is not None:
            cost = scaled(min(target.most + 1, UNBOUNDED), _TRAVERSAL) * scaled(sizes[0].most, _REGEX)
            return CallEstimate(min(cost, UNBOUNDED))
        case "contains_string" if target is not None:
            cost = scaled(target.most, _TRAVERSAL) * scaled(sizes[0].most, _TRAVERSAL)
            return CallEstimate(min(cost, UNBOUNDED))
        case "equals" | "not_equals":
            return CallEstimate(scaled(min(sizes[0].most, sizes[1].most), _TRAVERSAL))
    if overload.function in ("_<_", "_<=_", "_>_", "_>=_") and overload.id.endswith(("_string", "_bytes")):
        return CallEstimate(scaled(min(sizes[0].most, sizes[1].most), _TRAVERSAL))
    return CallEstimate(1)
