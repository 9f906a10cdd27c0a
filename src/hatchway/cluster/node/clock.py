"""Formats and parses times in Kubernetes' formats."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """Format a time as metav1.Time: whole seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(moment: datetime) -> str:
    """Format a time as metav1.MicroTime, which leases use."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def rfc3339_nano(nanoseconds: int) -> str:
    """Format POSIX nanoseconds for a log line, always with nine digits so that lines are aligned."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def parse(text: str) -> datetime:
    """Parse an RFC 3339 time. Digits beyond microseconds are dropped. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment


def rfc3339_utc(moment: datetime) -> str:
    """Format a time in UTC with its fraction, for comparison with the times of log lines."""
    return rfc3339_micro(moment)


def rfc3339_epoch(seconds: float) -> str:
    """Format POSIX seconds as metav1.Time."""
    return rfc3339(datetime.fromtimestamp(seconds, UTC))
