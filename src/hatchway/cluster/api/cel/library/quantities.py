"""Quantities and semantic versions (apiserver `pkg/cel/library/quantity.go`, `semverlib.go`)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar

from hatchway.cluster.api.cel.celtypes import Overload
from hatchway.cluster.api.cel.library.declaring import declare, traversal
from hatchway.cluster.api.cel.values import MAX_INT, MIN_INT, EvaluationError
from hatchway.cluster.quantity import parse_quantity

__all__ = ["QuantityValue", "parse_version", "quantity_library"]

_QUANTITY = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3})?", re.ASCII)
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class QuantityValue:
    """An amount of a resource."""

    amount: Fraction
    type_name: ClassVar[str] = "kubernetes.Quantity"


@dataclass(frozen=True, slots=True)
class VersionValue:
    """A semantic version. label: the part after the hyphen. build: the part after the plus sign, without an order."""

    numbers: tuple[int, int, int]
    label: str = ""
    # Versions that differ only in this part are equal (`semver.Version.EQ`).
    build: str = field(default="", compare=False)
    type_name: ClassVar[str] = "kubernetes.Semver"

    def order(self) -> tuple[tuple[int, int, int], bool, list[tuple[bool, int, str]]]:
        """Return the sort key of the version."""
        parts = self.label.split(".") if self.label else []
        return self.numbers, not self.label, [
            (not one.isdigit(), int(one) if one.isdigit() else 0, "" if one.isdigit() else one) for one in parts
        ]  # fmt: skip


def _parsed(text: str) -> QuantityValue:
    if len(text) > _LONGEST or not _QUANTITY.fullmatch(text):
        raise EvaluationError(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        )
    return QuantityValue(parse_quantity(text.removeprefix("+")))


def _is_quantity(text: str) -> bool:
    return len(text) <= _LONGEST and _QUANTITY.fullmatch(text) is not None


def _as_integer(value: QuantityValue) -> int:
    if not _is_integer(value):
        raise EvaluationError("cannot convert value to integer")
    return int(value.amount)


def _is_integer(value: QuantityValue) -> bool:
    return value.amount.denominator == 1 and MIN_INT <= value.amount <= MAX_INT


def _approximate(value: QuantityValue) -> float:
    """Return the nearest double; infinity outside their range (apimachinery `Quantity.AsApproximateFloat64`)."""
    try:
        return float(value.amount)
    except OverflowError:
        return math.inf if value.amount > 0 else -math.inf


def _order(first: Fraction, second: Fraction) -> int:
    return (first > second) - (first < second)


def _quantities() -> Iterator[Overload]:
    yield declare("string_to_quantity", "quantity(string) Quantity", _parsed, traversal)
    yield declare("is_quantity_string", "isQuantity(string) bool", _is_quantity, traversal)
    yield declare("quantity_sign", "sign(Quantity) int", lambda one: _order(one.amount, Fraction(0)))
    yield declare("quantity_is_greater_than", "Quantity.isGreaterThan(Quantity) bool", lambda a, b: a.amount > b.amount)
    yield declare("quantity_is_less_than", "Quantity.isLessThan(Quantity) bool", lambda a, b: a.amount < b.amount)
    yield declare("quantity_compare_to", "Quantity.compareTo(Quantity) int", lambda a, b: _order(a.amount, b.amount))
    yield declare("quantity_get_float", "Quantity.asApproximateFloat() double", _approximate)
    yield declare("quantity_get_int", "Quantity.asInteger() int", _as_integer)
    yield declare("quantity_is_integer", "Quantity.isInteger() bool", _is_integer)
    yield declare("quantity_add", "Quantity.add(Quantity) Quantity", lambda a, b: QuantityValue(a.amount + b.amount))
    yield declare("quantity_add_int", "Quantity.add(int) Quantity", lambda a, b: QuantityValue(a.amount + b))
    yield declare("quantity_sub", "Quantity.sub(Quantity) Quantity", lambda a, b: QuantityValue(a.amount - b.amount))
    yield declare("quantity_sub_int", "Quantity.sub(int) Quantity", lambda a, b: QuantityValue(a.amount - b))


# Semantic versions


def parse_version(text: str, normalize: bool = False) -> VersionValue:
    """Return the version in a text. normalize: True to accept forms like `v1.2`. Raises EvaluationError."""
    if normalize:
        text = _normalized(text)
    match = _SEMVER.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        why = "No Major.Minor.Patch elements found" if text.count(".") < 2 else f"Invalid version {text[:64]!r}"
        raise EvaluationError(why)
    return VersionValue((int(match[1]), int(match[2]), int(match[3])), match[4] or "", match[5] or "")


def _normalized(text: str) -> str:
    """Return a version without a leading v and leading zeros, with three numbers."""
    text = text.removeprefix("v")
    parts = text.split(".", 2)
    parts = [(one.lstrip("0") or one[-1:]) if at < 2 or one[:1].isdigit() else one for at, one in enumerate(parts)]
    if len(parts) == 3:
        number = re.match(r"\d+", parts[2])
        rest = parts[2][number.end() :] if number else parts[2]
        parts[2] = f"{int(number[0][:20]) if number else ''}{rest}" if parts[2][:1].isdigit() else parts[2]
        if not number or not number[0]:
            parts[2] = rest
    elif not any(sign in parts[-1] for sign in "+-"):
        parts += ["0"] * (3 - len(parts))
    return ".".join(parts)


def _is_version(text: str, normalize: bool = False) -> bool:
    try:
        parse_version(text, normalize)
    except EvaluationError:
        return False
    return True


def _compared(first: VersionValue, second: VersionValue) -> int:
    return (first.order() > second.order()) - (first.order() < second.order())


def _versions() -> Iterator[Overload]:
    yield declare("string_to_semver", "semver(string) Semver", parse_version, traversal)
    yield declare("string_bool_to_semver", "semver(string, bool) Semver", parse_version, traversal)
    yield declare("is_semver_string", "isSemver(string) bool", _is_version, traversal)
    yield declare("is_semver_string_bool", "isSemver(string, bool) bool", _is_version, traversal)
    yield declare("semver_is_greater_than", "Semver.isGreaterThan(Semver) bool", lambda a, b: _compared(a, b) > 0)
    yield declare("semver_is_less_than", "Semver.isLessThan(Semver) bool", lambda a, b: _compared(a, b) < 0)
    yield declare("semver_compare_to", "Semver.compareTo(Semver) int", _compared)
    for index, name in enumerate(("major", "minor", "patch")):
        yield declare(f"semver_{name}", f"Semver.{name}() int", _number(index))


def _number(index: int) -> Callable[[VersionValue], int]:
    return lambda value: value.numbers[index]


def quantity_library() -> Iterator[Overload]:
    """Yield the functions of quantities and semantic versions."""
    yield from _quantities()
    yield from _versions()
