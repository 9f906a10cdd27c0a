"""Resource quantities (apimachinery `pkg/api/resource/quantity.go`), as exact numbers."""

from __future__ import annotations

import re
from fractions import Fraction

_FORM = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([eE][+-]?[0-9]{1,3})|([numkMGTPE]|[KMGTPE]i)?)\Z")
_SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    **{letter: Fraction(1000**power) for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", 1)},
}


def parse_quantity(text: str | int | float) -> Fraction:
    """Return a quantity as a number: `500m` is 1/2, `1Ki` is 1024. Raises ValueError."""
    match = _FORM.match(str(text))
    if match is None:
        raise ValueError(f"{text!r} is not a quantity")
    number, exponent, suffix = match.groups()
    value = Fraction(number)
    if exponent:
        value *= Fraction(10) ** int(exponent[1:])
    return value * _SUFFIXES.get(suffix or "", Fraction(1))


def ceil_divide(value: Fraction, divisor: Fraction) -> int:
    """Return the value divided by the divisor, rounded up as in the downward API."""
    return -(-value // divisor)


def format_quantity(value: Fraction, like: str) -> str:
    """Return the canonical text of a number, rounded up to a whole number (`CanonicalizeBytes`).

    like: a quantity that chooses the suffix of the result: a power of 1024 if `like` has such a suffix (`Mi`),
        otherwise a power of 1000.
    """
    number = ceil_divide(value, Fraction(1))
    binary = like.endswith("i") and abs(number) >= 1024
    base, suffixes = (1024, ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")) if binary else (1000, tuple("kMGTPE"))
    suffix = ""
    for larger in suffixes:
        if not number or number % base:
            break
        number, suffix = number // base, larger
    return f"{number}{suffix}"
