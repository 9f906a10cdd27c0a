"""Converts values of JSON fields by the types of fields; parses dates in all of Elasticsearch's forms."""

from __future__ import annotations

import re
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

from hatchway.addons.logging.query import QueryError

INTEGERS = frozenset(("long", "integer", "short", "byte", "unsigned_long"))
FLOATS = frozenset(("double", "float", "half_float", "scaled_float"))
NUMBERS = INTEGERS | FLOATS
# Types whose values are not split into words: each value is one term.
KEYWORDS = frozenset(("keyword", "ip", "constant_keyword", "wildcard", "version"))
TYPES = NUMBERS | KEYWORDS | {"text", "boolean", "date", "object"}
# Longer strings have no keyword term (`ignore_above` of dynamic mappings).
KEYWORD_LIMIT = 256

_DATE = re.compile(
    r"(\d{4})[-/](\d{2})[-/](\d{2})"
    r"(?:[T ](\d{2})(?::(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?\s?(Z|[+-]\d{2}:?\d{2})?)?\Z"
)
_PARTIAL_DATE = re.compile(r"(\d{4})(?:-(\d{2}))?\Z")
_MATH = re.compile(r"([+-])(\d+)([yMwdhHms])|/([yMwdhHms])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"w": "weeks", "d": "days", "h": "hours", "H": "hours", "m": "minutes", "s": "seconds"}
_INT64 = 2**63


def dynamic_type(value: Any) -> str:
    """Return the type that a field gets from its first value."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "long"
    if isinstance(value, float):
        return "float"
    if isinstance(value, dict):
        return "object"
    return "date" if parse_date(value) is not None else "text"


def parse_date(text: str) -> int | None:
    """Return the nanoseconds since 1970 of an ISO date, with or without a time, or None.

    Slashes instead of dashes, and a blank instead of the `T`, are accepted.
    """
    match = _DATE.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    fraction = int((match[7] or "0").ljust(9, "0"))
    try:
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
        if match[8] and match[8] != "Z":
            sign = 1 if match[8][0] == "-" else -1
            moment += sign * timedelta(hours=int(match[8][1:3]), minutes=int(match[8][-2:]))
    except (ValueError, OverflowError):
        return None
    return _nanoseconds(moment) + fraction


def _nanoseconds(moment: datetime) -> int:
    passed = moment - _EPOCH
    return (passed.days * 86400 + passed.seconds) * 10**9 + passed.microseconds * 1000


def number(value: Any) -> float | None:
    """Return the value of a JSON number, or of a string with a number; None for any other value."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if found == found and abs(found) != float("inf") else None


def text_of(value: Any) -> str:
    """Return a JSON value as a text: strings unchanged, booleans and numbers as in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def boolean(value: Any) -> bool | None:
    """Return the value of a JSON boolean, or of "true", "false" or "" (False); None for any other value."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False, "": False}.get(value) if isinstance(value, str) else None


def date(value: Any) -> int | None:
    """Return the nanoseconds since 1970 of a date in a document (text, or milliseconds since 1970), or None."""
    if isinstance(value, str):
        found = parse_date(value)
        if found is not None or not re.fullmatch(r"-?\d{5,18}", value):
            return found
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    milliseconds = number(value)
    return None if milliseconds is None or abs(milliseconds) > 9e12 else int(milliseconds * 1000) * 1000


def date_bound(value: Any, now: datetime, *, up: bool) -> int:
    """Return a bound of a range over dates, in nanoseconds since 1970.

    Args:
        value: a date, milliseconds since 1970, or date mathematics (`now-1h/d`, `2026-01-01||+1M`).
        now: the value of `now`.
        up: True to round up: `/d` to the end of the day, and a date without a time to the end of its day.

    Raises:
        QueryError: the value is not a date.
    """
    text = str(value)
    if text.startswith("now"):
        return _nanoseconds(_calculated(now, text[3:], text, up))
    anchor, bars, math = text.partition("||")
    found = date(value) if not bars else date(anchor)
    if found is None and (match := _PARTIAL_DATE.match(anchor)):
        found = parse_date(f"{match[1]}-{match[2] or '01'}-01")
    if found is None:
        raise QueryError(f"failed to parse date field [{text[:64]}]", "parse_exception")
    if bars:
        return _nanoseconds(_calculated(_EPOCH + timedelta(microseconds=found // 1000), math, text, up))
    if up and re.fullmatch(r"\d{4}[-/]\d{2}[-/]\d{2}", text):
        return found + 86400 * 10**9 - 1
    return found


def _calculated(moment: datetime, math: str, text: str, up: bool) -> datetime:
    at = 0
    try:
        while at < len(math):
            match = _MATH.match(math, at)
            if match is None:
                raise QueryError(f"failed to parse date field [{text[:64]}]", "parse_exception")
            at = match.end()
            if match[4]:
                moment = _floor(moment, match[4])
                if up:
                    moment = _add(moment, 1, match[4]) - timedelta(microseconds=1)
            else:
                moment = _add(moment, int(match[1] + match[2]), match[3])
    except (OverflowError, ValueError):
        raise QueryError(f"date [{text[:64]}] is out of range", "parse_exception") from None
    return moment


def _add(moment: datetime, count: int, unit: str) -> datetime:
    if unit not in "yM":
        return moment + timedelta(**{_UNITS[unit]: count})
    months = moment.year * 12 + moment.month - 1 + count * (12 if unit == "y" else 1)
    year, month = divmod(months, 12)
    for day in range(moment.day, 27, -1):
        try:
            return moment.replace(year=year, month=month + 1, day=day)
        except ValueError:
            continue
    return moment.replace(year=year, month=month + 1)


def _floor(moment: datetime, unit: str) -> datetime:
    moment = moment.replace(microsecond=0)
    if unit == "s":
        return moment
    moment = moment.replace(second=0)
    if unit == "m":
        return moment
    moment = moment.replace(minute=0)
    if unit in "hH":
        return moment
    moment = moment.replace(hour=0)
    if unit == "w":
        return moment - timedelta(days=moment.weekday())
    if unit in "yM":
        moment = moment.replace(day=1)
    return moment.replace(month=1) if unit == "y" else moment


def sortable_number(value: float) -> str:
    """Return 16 hex digits that sort as the numbers do (from the bits of IEEE 754)."""
    (bits,) = struct.unpack(">q", struct.pack(">d", value + 0.0))
    return f"{(bits if bits >= 0 else ~bits - _INT64) + _INT64:016x}"


def sortable_integer(value: int) -> str:
    """Return 16 hex digits that sort as the integers do. Values beyond 64 bits become the nearest 64-bit integer."""
    return f"{max(-_INT64, min(_INT64 - 1, value)) + _INT64:016x}"
