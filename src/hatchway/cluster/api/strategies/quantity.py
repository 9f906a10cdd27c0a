"""Quantities (`500m`, `1Gi`): apimachinery's `pkg/api/resource/quantity.go`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from hatchway.errors import bad_request

_FORM = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))((?:[KMGTPE]i)|[numkMGTPE]|[eE][+-]?\d{1,3}|)")
_SUFFIXES = {
    "": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": Decimal("1e3"), "M": Decimal("1e6"), "G": Decimal("1e9"),
    "T": Decimal("1e12"), "P": Decimal("1e15"), "E": Decimal("1e18"),
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}  # fmt: skip


def parse_quantity(value: Any) -> Decimal:
    """The number that a quantity means. Raises ApiError 400, as decoding does, when it is none."""
    match = _FORM.fullmatch(str(value)) if isinstance(value, str | int | float) and len(str(value)) < 64 else None
    if match is None:
        raise bad_request("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    number, suffix = match.groups()
    scale = _SUFFIXES[suffix] if suffix in _SUFFIXES else Decimal(f"1{suffix}")
    return Decimal(number) * scale


def compare_quantities(one: Any, other: Any) -> int:
    """Below, at or above zero as `one` is less than, equal to or more than `other`."""
    left, right = parse_quantity(one), parse_quantity(other)
    return (left > right) - (left < right)
