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
    """`500m` is 1/2, `1Ki` is 1024. Raises ValueError."""
    match = _FORM.match(str(text))
    if match is None:
        raise ValueError(f"{text!r} is not a quantity")
    number, exponent, suffix = match.groups()
    value = Fraction(number)
    if exponent:
        value *= Fraction(10) ** int(exponent[1:])
    return value * _SUFFIXES.get(suffix or "", Fraction(1))


def ceil_divide(value: Fraction, divisor: Fraction) -> int:
    """How many divisors the value needs, as the downward API rounds."""
    return -(-value // divisor)
