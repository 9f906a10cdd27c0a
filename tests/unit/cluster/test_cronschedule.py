"""Cron schedules: the texts that robfig/cron v3 accepts and refuses, and the times of runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.cluster.cronschedule import CronError, Every, WallClock, latest_before, parse_schedule, zone_of

MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


def runs(text: str, start: str, count: int, zone: str = "UTC") -> list[str]:
    """Return the next runs in the local time of the zone."""
    found = []
    tz = zone_of(zone)
    assert tz is not None
    schedule, moment = parse_schedule(text, tz), datetime.fromisoformat(start).replace(tzinfo=tz)
    for _ in range(count):
        following = schedule.next_after(moment)
        assert following is not None
        moment = following
        found.append(moment.astimezone(tz).strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("text", "start", "wanted"),
    [
        ("*/15 * * * *", "2026-07-09T14:45:00", ["2026-07-09 15:00", "2026-07-09 15:15"]),
        ("20-35/15 * * * *", "2026-07-09T14:45:00", ["2026-07-09 15:20", "2026-07-09 15:35"]),
        ("5/20 9-17 * * Mon-Fri", "2026-07-10T17:44:00", ["2026-07-10 17:45", "2026-07-13 09:05"]),
        ("0 0 29 Feb ?", "2026-07-09T00:00:00", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        # If neither day field is a star, either may match. A star with a step does not count as a star.
        ("0 0 1 * Mon", "2026-07-09T00:00:00", ["2026-07-13 00:00", "2026-07-20 00:00"]),
        ("0 0 */2 * Sun", "2026-07-09T00:00:00", ["2026-07-11 00:00", "2026-07-12 00:00"]),
        ("0 0 * * Sun", "2026-07-09T00:00:00", ["2026-07-12 00:00"]),
        ("@hourly", "2026-12-31T23:30:00", ["2027-01-01 00:00"]),
        ("@weekly", "2026-07-09T00:00:00", ["2026-07-12 00:00"]),
        ("@annually", "2026-07-09T00:00:00", ["2027-01-01 00:00"]),
        ("@every 1h30m", "2026-07-09T00:00:00", ["2026-07-09 01:30", "2026-07-09 03:00"]),
        ("TZ=Asia/Tokyo 0 9 * * *", "2026-07-09T00:00:00", ["2026-07-10 00:00"]),
    ],
)
def test_runs(text: str, start: str, wanted: list[str]) -> None:
    assert runs(text, start, len(wanted)) == wanted


def test_clocks_that_are_put_forward_and_back() -> None:
    """The cases of robfig/cron's spec_test.go: a skipped hour has no run, a repeated hour has two runs."""
    assert runs("0 2 * * *", "2012-03-10T12:00:00", 1, "America/New_York") == ["2012-03-12 02:00"]
    assert runs("0 * * * *", "2012-03-11T01:00:00", 1, "America/New_York") == ["2012-03-11 03:00"]
    assert runs("0 1 * * *", "2012-11-04T00:00:00", 3, "America/New_York") == [
        "2012-11-04 01:00",
        "2012-11-04 01:00",
        "2012-11-05 01:00",
    ]
    # In this zone, this day had no midnight.
    assert runs("0 * * * *", "2018-11-03T23:30:00", 1, "America/Sao_Paulo") == ["2018-11-04 01:00"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "empty spec string"),
        ("nope", "expected exactly 5 fields, found 1: [nope]"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("@never", "unrecognized descriptor: @never"),
        ("@every soon", 'failed to parse duration @every soon: time: invalid duration "soon"'),
        ("0," * 5000 + " * * * *", "spec string is longer than 4096 characters"),
        ("TZ=Nowhere/City * * * * *", "provided bad location Nowhere/City: unknown time zone Nowhere/City"),
    ],
)
def test_invalid_schedules(text: str, error: str) -> None:
    with pytest.raises(CronError) as caught:
        parse_schedule(text)
    assert str(caught.value) == error


FIELD = st.sampled_from(["*", "*/7", "1", "2-9", "3-20/4", "5,11", "8/3"])
SPECS = st.tuples(
    FIELD,
    FIELD,
    st.sampled_from(["*", "*/7", "1", "2-9", "30,31"]),
    st.sampled_from(["*", "2", "jan-MAR", "*/5"]),
    st.sampled_from(["*", "?", "0", "mon-fri", "sat"]),
).map(" ".join)


@settings(max_examples=60)
@given(SPECS, MOMENTS)
def test_the_next_run_is_the_first_matching_minute(spec: str, moment: datetime) -> None:
    schedule = parse_schedule(spec)
    assert isinstance(schedule, WallClock)
    found = schedule.next_after(moment)
    minute = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for _ in range(3 * 1440):
        in_month, in_week = minute.day in schedule.days, minute.isoweekday() % 7 in schedule.weekdays
        day = in_month or in_week if schedule.any_day else in_month and in_week
        on_clock = minute.hour in schedule.hours and minute.minute in schedule.minutes
        if day and minute.month in schedule.months and on_clock:
            assert found == minute
            return
        minute += timedelta(minutes=1)
    assert found is None or found >= minute


@settings(max_examples=60)
@given(st.one_of(SPECS, st.just("@every 7m")), MOMENTS, st.timedeltas(timedelta(0), timedelta(days=40)))
def test_no_run_lies_between_the_latest_run_and_now(spec: str, moment: datetime, later: timedelta) -> None:
    schedule, now = parse_schedule(spec), moment + later
    first = schedule.next_after(moment)
    if first is None or first > now:
        return
    latest = latest_before(schedule, first, now)
    following = schedule.next_after(latest)
    assert first <= latest <= now
    assert following is None or following > now
    if not isinstance(schedule, Every):
        assert schedule.next_after(latest - timedelta(seconds=1)) == latest


@given(st.text(alphabet="0123456789*/-,?@LW# evryTZ=a", max_size=30), MOMENTS)
def test_any_text_is_parsed_or_refused(text: str, moment: datetime) -> None:
    try:
        schedule = parse_schedule(text)
    except CronError:
        return
    following = schedule.next_after(moment)
    assert following is None or following > moment


def test_zones() -> None:
    assert zone_of("Europe/Berlin") is not None
    for name in ("Europe", "Europe/Nowhere", "../etc/passwd", "/etc/localtime", "a//b", "-x", "Local"):
        assert zone_of(name) is None
