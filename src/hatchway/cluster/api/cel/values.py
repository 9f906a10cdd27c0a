"""The values of CEL during an evaluation, their types and their texts.

The values of int, double, bool, string, bytes and null are Python's int, float, bool, str, bytes and None. Lists are
lists; maps and objects are dictionaries, whose keys `mapkeys.py` describes. The other types have classes here and in
the libraries.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

__all__ = [
    "MAX_INT",
    "MAX_UINT",
    "MIN_INT",
    "CostExceeded",
    "Duration",
    "EvaluationError",
    "Optional",
    "Timestamp",
    "TypeValue",
    "UInt",
    "Value",
    "kind_name",
    "parse_duration",
    "parse_timestamp",
    "show_double",
    "size_of",
    "type_name",
]  # fmt: skip

Value = Any
MIN_INT, MAX_INT = -(1 << 63), (1 << 63) - 1
MAX_UINT = (1 << 64) - 1
_NANO = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The limits of timestamps: the years 1 to 9999.
_FIRST, _LAST = -62135596800, 253402300799
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 1_000_000, "s": _NANO, "m": 60 * _NANO, "h": 3600 * _NANO}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)


class EvaluationError(Exception):
    """Raised when an evaluation fails. The text is cel-go's text."""


class CostExceeded(Exception):
    """Raised when an expression exceeds a limit (cel-go's "operation cancelled: actual cost limit exceeded")."""

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")


class UInt(int):
    """An unsigned integer."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A point in time, in nanoseconds since 1970."""

    nanoseconds: int

    def __str__(self) -> str:
        """Return the timestamp in RFC 3339, in UTC."""
        seconds, rest = divmod(self.nanoseconds, _NANO)
        text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
        return f"{text}.{f'{rest:09}'.rstrip('0')}Z" if rest else f"{text}Z"

    def moment(self) -> datetime:
        """Return the timestamp as a datetime. Digits below microseconds are cut off."""
        seconds, rest = divmod(self.nanoseconds, _NANO)
        return _EPOCH + timedelta(seconds=seconds, microseconds=rest // 1000)


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time in nanoseconds."""

    nanoseconds: int

    def __str__(self) -> str:
        """Return the duration in seconds: `90s`, `0.5s`."""
        sign, rest = ("-", -self.nanoseconds) if self.nanoseconds < 0 else ("", self.nanoseconds)
        seconds, part = divmod(rest, _NANO)
        return f"{sign}{seconds}.{f'{part:09}'.rstrip('0')}s" if part else f"{sign}{seconds}s"


@dataclass(frozen=True, slots=True)
class Optional:
    """A value that may be missing."""

    has_value: bool = False
    value: Value = None


@dataclass(frozen=True, slots=True)
class TypeValue:
    """A type as a value: `type(1)`."""

    name: str


def checked_timestamp(nanoseconds: int) -> Timestamp:
    """Return a timestamp. Raises EvaluationError outside the years 1 to 9999."""
    if not _FIRST <= nanoseconds // _NANO <= _LAST:
        raise EvaluationError("timestamp overflow")
    return Timestamp(nanoseconds)


def checked_duration(nanoseconds: int) -> Duration:
    """Return a duration. Raises EvaluationError when it does not fit 64 bits."""
    if not MIN_INT <= nanoseconds <= MAX_INT:
        raise EvaluationError("duration overflow")
    return Duration(nanoseconds)


def parse_timestamp(text: str) -> Timestamp:
    """Return the timestamp in a text (RFC 3339). Raises ValueError."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError(text)
    year, month, day, hour, minute, second = (int(one) for one in match.groups()[:6])
    moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    whole = (moment - _EPOCH) // timedelta(seconds=1)
    if match.group(8):
        offset = int(match.group(9)) * 3600 + int(match.group(10)) * 60
        whole += offset if match.group(8) == "-" else -offset
    if not _FIRST <= whole <= _LAST:
        raise ValueError(text)
    return Timestamp(whole * _NANO + int((match.group(7) or "0").ljust(9, "0")))


def parse_duration(text: str) -> Duration:
    """Return the duration in a text, in the format of Go's time.ParseDuration. Raises ValueError."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return Duration(0)
    total, at = 0, 0
    while at < len(rest):
        match = _DURATION.match(rest, at)
        if match is None or len(match.group(1)) > 40:
            raise ValueError(text)
        whole, _, part = match.group(1).partition(".")
        unit = _UNITS[match.group(2)]
        total += int(whole or "0") * unit + (int(part) * unit // 10 ** len(part) if part else 0)
        at = match.end()
    if not at or not MIN_INT <= sign * total <= MAX_INT:
        raise ValueError(text)
    return Duration(sign * total)


_NAMES: dict[type, str] = {
    bool: "bool", int: "int", UInt: "uint", float: "double", str: "string", bytes: "bytes", type(None): "null_type",
    list: "list", dict: "map", Timestamp: "google.protobuf.Timestamp", Duration: "google.protobuf.Duration",
    Optional: "optional_type", TypeValue: "type",
}  # fmt: skip
_KINDS: dict[type, str] = {
    **{kind: name for kind, name in _NAMES.items() if kind in (bool, int, UInt, float, str, bytes, list, dict)},
    type(None): "null", Timestamp: "timestamp", Duration: "duration", TypeValue: "type", Optional: "opaque",
}  # fmt: skip


def kind_name(value: Value) -> str:
    """Return the kind of a value's type: a value of `CelType.kind`."""
    found = _KINDS.get(type(value))
    if found is not None:
        return found
    return "list" if isinstance(value, list) else "map" if isinstance(value, dict) else "opaque"


def type_name(value: Value) -> str:
    """Return the name of a value's type, which `type()` shows."""
    found = _NAMES.get(type(value))
    if found is not None:
        return found
    if isinstance(value, list):
        return "list"
    return "map" if isinstance(value, dict) else str(value.type_name)


def size_of(value: Value) -> int:
    """Return the size of a value for the computation of costs: the number of its parts; 1 for values without parts."""
    if isinstance(value, str | bytes | list | dict):
        return len(value)
    if isinstance(value, Optional) and value.has_value:
        return size_of(value.value)
    return 1


def show_double(value: float) -> str:
    """Return a double as Go's `fmt` writes it for `%g`: the shortest text, from 1e+06 with an exponent."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return repr(value).removesuffix(".0")
    sign, numerals, power = Decimal(repr(value)).as_tuple()
    digits = "".join(map(str, numerals))
    exponent = len(digits) - 1 + int(power)
    digits = digits.rstrip("0")
    mantissa = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
    return f"{'-' if sign else ''}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"
