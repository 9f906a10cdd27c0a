"""Cron schedules as Kubernetes reads them: `ParseStandard` of robfig/cron v3, with its errors. Pure.

Other cron libraries accept other syntax (`L`, `W`, `#`), and combine day of month and day of week differently. In
Kubernetes, both must match if one of the two is a `*` without a step; otherwise, one match is enough. As in
robfig/cron, an hour that a time zone skips has no runs, and an hour that it repeats has its runs twice.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache

from hatchway.numerals import parse_int

__all__ = ["CronError", "Every", "Schedule", "WallClock", "latest_before", "parse_schedule", "zone_of"]

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_SEARCHED_YEARS = 5
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_SECOND, _MINUTE, _HOUR, _DAY = (timedelta(seconds=number) for number in (1, 60, 3600, 86400))
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_duration = re.compile(r"[-+]?(?:([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(ns|us|µs|μs|ms|s|m|h))+").fullmatch
_duration_part = re.compile(r"([0-9.]+)(ns|us|µs|μs|ms|s|m|h)")
_zone_part = re.compile(r"[A-Za-z._0-9+][A-Za-z._0-9+-]{0,13}").fullmatch
# The longest delay of `@every`, in seconds.
_MAX_DELAY = 10**9
# The maximum number of characters of a schedule. Kubernetes has no limit. Schedules are parsed often, so parsing must
# be quick.
_MAX_LENGTH = 4096


class CronError(ValueError):
    """A schedule is not valid; the text says why, in robfig/cron's words."""


@dataclass(frozen=True, slots=True)
class Every:
    """A schedule with a fixed delay after the last run: `@every 1h30m`."""

    delay: timedelta

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the next run after `moment`, in UTC and whole seconds."""
        return moment.astimezone(UTC).replace(microsecond=0) + self.delay


@dataclass(frozen=True, slots=True)
class WallClock:
    """A schedule by the clock of a time zone.

    any_day: True if day of month or day of week must match; False if both must.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    zone: tzinfo = UTC

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the next run after `moment`, in UTC and whole seconds; None if there is no run within five years."""
        if not (self.minutes and self.hours and self.months):
            # A field may have no values: `,`.
            return None
        start = moment.astimezone(UTC).replace(microsecond=0) + _SECOND
        day = start.astimezone(self.zone).date()
        limit = day.year + _SEARCHED_YEARS
        begin: datetime | None = start
        while day.year <= limit:
            if day.month not in self.months:
                day = _next_month(day)
            elif not self._has_day(day):
                day += _DAY
            else:
                found = self._within(day, begin or datetime(day.year, day.month, day.day, tzinfo=self.zone))
                if found is not None:
                    return found
                day += _DAY
            begin = None
        return None

    def _has_day(self, day: date) -> bool:
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return in_month or in_week if self.any_day else in_month and in_week

    def _within(self, day: date, begin: datetime) -> datetime | None:
        """Return the first run that is on `day` in the time zone and not before `begin`; None for no run."""
        moment = begin.astimezone(UTC)
        while (local := moment.astimezone(self.zone)).date() <= day:
            if local.date() < day:
                # The time zone skips the midnight of this day.
                moment += _HOUR
            elif local.hour not in self.hours:
                moment += _HOUR - local.minute * _MINUTE - local.second * _SECOND
            elif local.minute not in self.minutes or local.second:
                moment += _MINUTE - local.second * _SECOND
            else:
                return moment
        return None


Schedule = WallClock | Every


def _next_month(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def latest_before(schedule: Schedule, first: datetime, now: datetime) -> datetime:
    """Return the last run up to `now`. first: a run that is not after `now`."""
    if isinstance(schedule, Every):
        return first + (now - first) // schedule.delay * schedule.delay
    low, high = first, now + _SECOND
    # A binary search. The next run after `low` is always at or before `now`; the next run after `high` is later.
    found = first
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
        run = schedule.next_after(middle)
        if run is not None and run <= now:
            low = found = run
        else:
            high = middle
    return found


def parse_schedule(text: str, zone: tzinfo = UTC) -> Schedule:
    """Parse five fields or a descriptor (`@daily`, `@every 1h`). Raises CronError."""
    if not text:
        raise CronError("empty spec string")
    if len(text) > _MAX_LENGTH:
        raise CronError(f"spec string is longer than {_MAX_LENGTH} characters")
    if text.startswith(("TZ=", "CRON_TZ=")):
        name, _, text = text.partition("=")[2].partition(" ")
        found = zone_of(name)
        if found is None:
            raise CronError(f"provided bad location {name}: unknown time zone {name}")
        zone, text = found, text.strip()
    if text.startswith("@"):
        if text.startswith("@every "):
            return Every(_parse_delay(text))
        if text not in _DESCRIPTORS:
            raise CronError(f"unrecognized descriptor: {text}")
        text = _DESCRIPTORS[text]
    fields = text.split()
    if len(fields) != 5:
        raise CronError(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    minutes, _ = _parse_field(fields[0], 0, 59, {})
    hours, _ = _parse_field(fields[1], 0, 23, {})
    days, any_month_day = _parse_field(fields[2], 1, 31, {})
    months, _ = _parse_field(fields[3], 1, 12, _MONTHS)
    weekdays, any_weekday = _parse_field(fields[4], 0, 6, _WEEKDAYS)
    return WallClock(minutes, hours, days, months, weekdays, not (any_month_day or any_weekday), zone)


def _parse_field(text: str, least: int, most: int, names: dict[str, int]) -> tuple[frozenset[int], bool]:
    """Return the values of a field, and whether it has a `*` without a step."""
    values: set[int] = set()
    star = False
    for part in filter(None, text.split(",")):
        low, high, step, is_star = _parse_range(part, least, most, names)
        values.update(range(low, high + 1, step))
        star = star or is_star
    return frozenset(values), star


def _parse_range(text: str, least: int, most: int, names: dict[str, int]) -> tuple[int, int, int, bool]:
    spread, *steps = text.split("/")
    low_text, *high_texts = spread.split("-")
    star = low_text in ("*", "?")
    if star:
        low, high = least, most
    else:
        low = _parse_number(low_text, names)
        if len(high_texts) > 1:
            raise CronError(f"too many hyphens: {text}")
        high = _parse_number(high_texts[0], names) if high_texts else low
    if len(steps) > 1:
        raise CronError(f"too many slashes: {text}")
    step = _parse_number(steps[0], {}) if steps else 1
    if steps and not high_texts:
        high = most
    if low < least:
        raise CronError(f"beginning of range ({low}) below minimum ({least}): {text}")
    if high > most:
        raise CronError(f"end of range ({high}) above maximum ({most}): {text}")
    if low > high:
        raise CronError(f"beginning of range ({low}) beyond end of range ({high}): {text}")
    if step == 0:
        raise CronError(f"step of range should be a positive number: {text}")
    return low, high, step, star and step == 1


def _parse_number(text: str, names: dict[str, int]) -> int:
    named = names.get(text.lower())
    if named is not None:
        return named
    number = parse_int(text)
    if number is None:
        raise CronError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    if number < 0:
        raise CronError(f"negative number ({number}) not allowed: {text}")
    return number


def _parse_delay(text: str) -> timedelta:
    """Return the delay of `@every DURATION`: whole seconds, at least one."""
    given = text.removeprefix("@every ")
    if given != "0" and _duration(given) is None:
        raise CronError(f'failed to parse duration {text}: time: invalid duration "{given}"')
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _duration_part.findall(given))
    if given.startswith("-"):
        seconds = -seconds
    return timedelta(seconds=max(1, int(min(seconds, _MAX_DELAY))))


@lru_cache(maxsize=256)
def zone_of(name: str) -> tzinfo | None:
    """Return a time zone of this machine's database, or of the package `tzdata`; None for an unknown name.

    The form of names is that of Kubernetes' `validateTimeZone`.
    """
    if name in ("UTC", ""):
        return UTC
    if not all(_zone_part(part) and part not in (".", "..") for part in name.split("/")):
        return None
    # Imported here, because only CronJobs with a time zone need this module.
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        return None
