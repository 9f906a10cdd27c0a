"""Adds and compares amounts of resources, and formats them as in Kubernetes.

An amount has the style of the text from which it was parsed (apimachinery's `pkg/api/resource/quantity.go`). So sums
have the same text as in Kubernetes: `512Mi` and `512Mi` are `1Gi`, `500m` and `500m` are `1`. `quantity.py` has exact
numbers without a style.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ONE",
    "ZERO",
    "Amount",
    "Amounts",
    "add",
    "amounts_of",
    "greatest",
    "mask",
    "shown",
    "subtract",
    "texts_of",
    "without_zeros",
]

_FORM = re.compile(
    r"([+-]?)([0-9]{0,64})(?:\.([0-9]{0,64}))?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,3})?", re.ASCII
).fullmatch
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_NANO = 10**9
_MAX_EXPONENT = 40


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of one resource.

    nano: the amount in billionths, the smallest unit of Kubernetes. style: the form of its text: `decimal` (`500m`,
    `2k`), `binary` (`1Gi`) or `exponent` (`1e3`).
    """

    nano: int
    style: str = "decimal"

    @classmethod
    def parse(cls, text: str | int | float) -> Amount:
        """Parse a quantity. Return the amount, rounded up to a billionth. Raises ValueError."""
        found = _FORM(str(text))
        if found is None or not (found[2] or found[3]):
            raise ValueError(f"{text!r} is not a quantity")
        sign, whole, fraction, suffix = found[1], found[2], found[3] or "", found[4] or ""
        number, style = int((whole + fraction) or "0"), "decimal"
        power = 9 - len(fraction)
        if suffix in _BINARY and suffix:
            number, style = number * 1024 ** _BINARY.index(suffix), "binary"
        elif suffix in _DECIMAL:
            power += _DECIMAL[suffix]
        else:
            power, style = power + max(-_MAX_EXPONENT, min(_MAX_EXPONENT, int(suffix[1:]))), "exponent"
        nano = number * 10**power if power >= 0 else -(-number // 10**-power)
        return cls(-nano if sign == "-" else nano, style)

    @classmethod
    def count(cls, number: int) -> Amount:
        """Return an amount of a resource that has whole numbers only, such as pods."""
        return cls(number * _NANO)

    def __add__(self, other: Amount) -> Amount:
        """Return the sum. If this amount is zero, the sum has the style of `other` (`Quantity.Add`)."""
        return Amount(self.nano + other.nano, self.style if self.nano else other.style)

    def __sub__(self, other: Amount) -> Amount:
        """Return the difference. If this amount is zero, the difference has the style of `other` (`Quantity.Sub`)."""
        return Amount(self.nano - other.nano, self.style if self.nano else other.style)

    def rounded_up(self) -> Amount:
        """Return the amount rounded up to a whole number."""
        return Amount(-(-self.nano // _NANO) * _NANO, self.style)

    def __str__(self) -> str:
        """Return the canonical text (`Quantity.CanonicalizeBytes`)."""
        nano = self.nano
        if not nano:
            return "0"
        if self.style == "binary" and abs(nano) >= 1024 * _NANO and nano % _NANO == 0:
            whole, power = nano // _NANO, 0
            while whole % 1024 == 0 and power < len(_BINARY) - 1:
                whole //= 1024
                power += 1
            return f"{whole}{_BINARY[power]}"
        exponent = -9
        while nano % 1000 == 0 and exponent < 18:
            nano //= 1000
            exponent += 3
        if self.style == "exponent":
            return f"{nano}e{exponent}" if exponent else str(nano)
        return f"{nano}{_SUFFIX[exponent]}"


# Amounts by the names of their resources.
Amounts = dict[str, Amount]

ZERO = Amount(0)
ONE = Amount.count(1)


def amounts_of(texts: Mapping[str, Any] | None) -> Amounts:
    """Return a resource list of an object (`{"cpu": "500m"}`), parsed. Raises ValueError."""
    return {name: Amount.parse(text) for name, text in (texts or {}).items()}


def texts_of(amounts: Amounts) -> dict[str, str]:
    """Return amounts as an object's resource list."""
    return {name: str(amount) for name, amount in amounts.items()}


def add(left: Amounts, right: Amounts) -> Amounts:
    """Return the sum of both amounts of each resource (`quota.Add`)."""
    total = dict(left)
    for name, amount in right.items():
        total[name] = total[name] + amount if name in total else amount
    return total


def subtract(left: Amounts, right: Amounts) -> Amounts:
    """Return `left` minus `right` for each resource, at least zero (`quota.SubtractWithNonNegativeResult`)."""
    found = {}
    for name, amount in left.items():
        rest = amount - right[name] if name in right else amount
        found[name] = rest if rest.nano >= 0 else ZERO
    return found | {name: ZERO for name in right if name not in left}


def greatest(left: Amounts, right: Amounts) -> Amounts:
    """Return the larger of both amounts of each resource."""
    found = dict(left)
    for name, amount in right.items():
        if name not in found or amount.nano > found[name].nano:
            found[name] = amount
    return found


def mask(amounts: Amounts, names: Iterable[str]) -> Amounts:
    """Return the amounts of the named resources only (`quota.Mask`)."""
    wanted = names if isinstance(names, (dict, set, frozenset)) else set(names)
    return {name: amount for name, amount in amounts.items() if name in wanted}


def without_zeros(amounts: Amounts) -> Amounts:
    """Return the amounts that are not zero."""
    return {name: amount for name, amount in amounts.items() if amount.nano}


def shown(amounts: Amounts) -> str:
    """Return amounts for a message: `cpu=1,memory=1Gi`, sorted by name."""
    return ",".join(f"{name}={amounts[name]}" for name in sorted(amounts))
