"""Parts of timestamps and durations: `getFullYear()`, `getHours()` (cel-go `common/types/timestamp.go`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from hatchway.cluster.api.cel.celtypes import Overload
from hatchway.cluster.api.cel.library.declaring import declare
from hatchway.cluster.api.cel.values import Duration, EvaluationError, Timestamp

__all__ = ["time_functions"]

_OFFSET = re.compile(r"([+-]?)([0-9]{1,2}):([0-9]{2})", re.ASCII)
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,2}", re.ASCII)
_NANO = 1_000_000_000
# The name in cel-go's overloads, the function, and the part of a timestamp that it returns.
_PARTS: tuple[tuple[str, str, Callable[[datetime], int]], ...] = (
    ("year", "getFullYear", lambda moment: moment.year),
    ("month", "getMonth", lambda moment: moment.month - 1),
    ("day_of_year", "getDayOfYear", lambda moment: moment.timetuple().tm_yday - 1),
    ("day_of_month", "getDayOfMonth", lambda moment: moment.day - 1),
    ("day_of_month_1_based", "getDate", lambda moment: moment.day),
    ("day_of_week", "getDayOfWeek", lambda moment: (moment.weekday() + 1) % 7),
    ("hours", "getHours", lambda moment: moment.hour),
    ("minutes", "getMinutes", lambda moment: moment.minute),
    ("seconds", "getSeconds", lambda moment: moment.second),
    ("milliseconds", "getMilliseconds", lambda moment: moment.microsecond // 1000),
)


def _in_zone(value: Timestamp, zone: str) -> datetime:
    moment = value.moment()
    match = _OFFSET.fullmatch(zone)
    try:
        if match is not None:
            shift = timedelta(hours=int(match[2]), minutes=int(match[3]))
            return moment - shift if match[1] == "-" else moment + shift
        if zone in ("", "UTC"):
            return moment
        if not _ZONE.fullmatch(zone):
            raise ValueError(zone)
        return moment.astimezone(ZoneInfo(zone))
    except OverflowError:
        raise EvaluationError("timestamp overflow") from None
    except (ValueError, OSError, LookupError):
        raise EvaluationError(f"unknown time zone {zone[:64]}") from None


def _utc(read: Callable[[datetime], int]) -> Callable[[Timestamp], int]:
    return lambda value: read(value.moment())


def _local(read: Callable[[datetime], int]) -> Callable[[Timestamp, str], int]:
    return lambda value, zone: read(_in_zone(value, zone))


def _whole(unit: int) -> Callable[[Duration], int]:
    def count(value: Duration) -> int:
        found = abs(value.nanoseconds) // unit
        return -found if value.nanoseconds < 0 else found

    return count


def time_functions() -> Iterator[Overload]:
    """Yield the functions that read parts of timestamps and durations."""
    for name, function, read in _PARTS:
        zoned = "timestamp_to_seconds_tz" if name == "seconds" else f"timestamp_to_{name}_with_tz"
        yield declare(f"timestamp_to_{name}", f"timestamp.{function}() int", _utc(read))
        yield declare(zoned, f"timestamp.{function}(string) int", _local(read))
    yield declare("duration_to_hours", "duration.getHours() int", _whole(3600 * _NANO))
    yield declare("duration_to_minutes", "duration.getMinutes() int", _whole(60 * _NANO))
    yield declare("duration_to_seconds", "duration.getSeconds() int", _whole(_NANO))
    yield declare("duration_to_milliseconds", "duration.getMilliseconds() int", _whole(1_000_000))
