"""Resource quantities as numbers (apimachinery's `api/resource/quantity.go`). Pure."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

_FORM = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]{1,3}))?\Z")
_SUFFIXES: dict[str, Decimal] = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** (power + 1) for power, suffix in enumerate("kMGTPE")},
    **{suffix + "i": Decimal(1024) ** (power + 1) for power, suffix in enumerate("KMGTPE")},
}


@lru_cache(maxsize=4096)
def parse_quantity(text: str | int | float) -> Decimal:
    """The value of `500m`, `1.5Gi`, `2e3`. Raises ValueError when it is no quantity."""
    match = _FORM.match(str(text))
    if match is None:
        raise ValueError(f"not a quantity: {text!r}")
    number, suffix, exponent = match.groups()
    if suffix:
        return Decimal(number) * _SUFFIXES[suffix]
    return Decimal(number).scaleb(int(exponent)) if exponent else Decimal(number)


def scaled(resource: str, text: str | int | float) -> int:
    """A resource's amount as the scheduler counts it: milli-units of cpu, whole units of others, rounded up."""
    value = parse_quantity(text)
    return int((value * 1000 if resource == "cpu" else value).to_integral_value(ROUND_CEILING))
