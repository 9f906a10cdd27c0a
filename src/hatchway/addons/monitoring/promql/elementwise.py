"""PromQL's functions of single values: mathematics, rounding, parts of a date (`promql/functions.go`)."""

from __future__ import annotations

import math
from collections.abc import Callable

from hatchway.addons.monitoring.promql.mathematics import (
    guarded,
    hyperbolic_sine,
    inverse_tangent,
    logarithm,
    rounded,
)

_DAY = 86_400


def _sign(value: float) -> float:
    return -1.0 if value < 0 else 1.0 if value > 0 else value


def _seconds(value: float) -> int:
    """Return a time as whole seconds; for a value outside 64 bits, the number that Go's time uses."""
    return int(value) if abs(value) < 2.0**63 else 1 << 63


def _civil(value: float) -> tuple[int, int, int]:
    """Return year, month and day of a time, in UTC. The datetime module ends with the year 9999."""
    # Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": civil_from_days.
    days = _seconds(value) // _DAY + 719_468
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days_in_month(value: float) -> float:
    year, month, _ = _civil(value)
    if month == 2 and _is_leap(year):
        return 29.0
    return (31.0, 28.0, 31.0, 30.0, 31.0, 30.0, 31.0, 31.0, 30.0, 31.0, 30.0, 31.0)[month - 1]


def _day_of_year(value: float) -> float:
    year, month, day = _civil(value)
    before = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)[month - 1]
    return float(before + day + (month > 2 and _is_leap(year)))


DATE_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "day_of_month": lambda value: float(_civil(value)[2]),
    "day_of_week": lambda value: float((_seconds(value) // _DAY + 4) % 7),
    "day_of_year": _day_of_year,
    "days_in_month": _days_in_month,
    "hour": lambda value: float(_seconds(value) // 3600 % 24),
    "minute": lambda value: float(_seconds(value) // 60 % 60),
    "month": lambda value: float(_civil(value)[1]),
    "year": lambda value: float(_civil(value)[0]),
}

MATH_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "abs": abs,
    "acos": guarded(math.acos),
    "acosh": guarded(math.acosh),
    "asin": guarded(math.asin),
    "asinh": guarded(math.asinh),
    "atan": guarded(math.atan),
    "atanh": inverse_tangent,
    "ceil": rounded(math.ceil),
    "cos": guarded(math.cos),
    "cosh": guarded(math.cosh),
    "deg": lambda value: value * 180 / math.pi,
    "exp": guarded(math.exp),
    "floor": rounded(math.floor),
    "ln": logarithm(math.log),
    "log10": logarithm(math.log10),
    "log2": logarithm(math.log2),
    "rad": lambda value: value * math.pi / 180,
    "sgn": _sign,
    "sin": guarded(math.sin),
    "sinh": hyperbolic_sine,
    "sqrt": lambda value: math.sqrt(value) if value >= 0 else math.nan,
    "tan": guarded(math.tan),
    "tanh": guarded(math.tanh),
}


def round_to(value: float, inverse: float) -> float:
    """Return the value rounded to the nearest multiple of `1 / inverse`; halves are rounded up."""
    scaled = value * inverse + 0.5
    whole = float(math.floor(scaled)) if math.isfinite(scaled) else scaled
    return whole / inverse if inverse else math.nan if whole == 0 or whole != whole else math.copysign(math.inf, whole)
