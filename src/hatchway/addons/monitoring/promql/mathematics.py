"""Floating-point operations with Go's results: NaN and infinities instead of exceptions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

INF, NAN = math.inf, math.nan


def divide(a: float, b: float) -> float:
    """Return a / b."""
    try:
        return a / b
    except ZeroDivisionError:
        if a == 0 or a != a:
            return NAN
        return math.copysign(INF, a) * math.copysign(1.0, b)


def modulo(a: float, b: float) -> float:
    """Return the remainder of a / b with the sign of a."""
    try:
        return math.fmod(a, b)
    except ValueError:
        return NAN


def power(a: float, b: float) -> float:
    """Return a to the power of b."""
    try:
        return math.pow(a, b)
    except OverflowError:
        return -INF if a < 0 and modulo(b, 2) in (1, -1) else INF
    except ValueError:
        if a == 0:
            return math.copysign(INF, a) if modulo(b, 2) in (1, -1) else INF
        return NAN


def guarded(function: Callable[[float], float]) -> Callable[[float], float]:
    """Wrap a function of Python's `math` so that it returns NaN outside its domain, and +Inf when it overflows."""

    def call(value: float) -> float:
        try:
            return function(value)
        except ValueError:
            return NAN
        except OverflowError:
            return INF

    return call


def logarithm(function: Callable[[float], float]) -> Callable[[float], float]:
    """Wrap a logarithm so that it returns -Inf for 0, and NaN for negative numbers."""
    return lambda value: function(value) if value > 0 else -INF if value == 0 else NAN


def rounded(function: Callable[[float], int]) -> Callable[[float], float]:
    """Wrap floor or ceil so that it takes all numbers, and keeps the sign of a zero."""
    return lambda value: math.copysign(float(function(value)), value) if math.isfinite(value) else value


def go_max(a: float, b: float) -> float:
    """Return the larger number; NaN when one is NaN and the other is not +Inf."""
    if INF in (a, b):
        return INF
    return NAN if a != a or b != b else max(a, b)


def go_min(a: float, b: float) -> float:
    """Return the smaller number; NaN when one is NaN and the other is not -Inf."""
    if -INF in (a, b):
        return -INF
    return NAN if a != a or b != b else min(a, b)


def hyperbolic_sine(value: float) -> float:
    """Return sinh; an infinity with the value's sign when it overflows."""
    try:
        return math.sinh(value)
    except OverflowError:
        return math.copysign(INF, value)


def inverse_tangent(value: float) -> float:
    """Return atanh; an infinity for 1 and -1."""
    return math.copysign(INF, value) if abs(value) == 1 else guarded(math.atanh)(value)


def total(values: Sequence[float]) -> float:
    """Return the sum, rounded only once."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        found = 0.0
        for value in values:
            found += value
        return found


def mean(values: Sequence[float]) -> float:
    """Return the mean. If there are infinities of one sign among the numbers, the mean is this infinity."""
    try:
        found = math.fsum(values)
        if math.isfinite(found):
            return found / len(values)
    except (OverflowError, ValueError):
        found = NAN
    average = 0.0
    for count, value in enumerate(values, 1):
        if math.isinf(average) and (value == average or math.isfinite(value)):
            continue
        average += value / count - average / count
    return average


def variance(values: Sequence[float]) -> float:
    """Return the variance of the population (Welford's algorithm)."""
    average = squares = 0.0
    for count, value in enumerate(values, 1):
        delta = value - average
        average += delta / count
        squares += delta * (value - average)
    return squares / len(values)


def smallest(values: Sequence[float]) -> float:
    """Return the minimum of the values that are not NaN; NaN when all are."""
    found = min(values)
    if found == found and values[0] == values[0]:
        # Comparisons with NaN are false, so `min` ignores NaN, unless the first value is NaN.
        return found
    return min((value for value in values if value == value), default=NAN)


def largest(values: Sequence[float]) -> float:
    """Return the maximum of the values that are not NaN; NaN when all are."""
    found = max(values)
    if found == found and values[0] == values[0]:
        return found
    return max((value for value in values if value == value), default=NAN)


def nan_first(value: float) -> tuple[bool, float]:
    """Return a key that sorts NaN before all numbers."""
    return (value == value, 0.0 if value != value else value)


def quantile(q: float, values: Sequence[float]) -> float:
    """Return a quantile by linear interpolation; NaN sorts first."""
    if not values or q != q:
        return NAN
    if q < 0:
        return -INF
    if q > 1:
        return INF
    ordered = sorted(values, key=nan_first)
    rank = q * (len(ordered) - 1)
    lower = max(0, math.floor(rank))
    upper = min(len(ordered) - 1, lower + 1)
    weight = rank - math.floor(rank)
    return ordered[lower] * (1 - weight) + ordered[upper] * weight
