"""Times as Kubernetes writes them."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """Return a moment as metav1.Time: whole seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(moment: datetime) -> str:
    """Return a moment as metav1.MicroTime, as leases have it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def rfc3339_nano(nanoseconds: int) -> str:
    """Return a log line's time from POSIX nanoseconds, always with nine digits so that lines align."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def parse(text: str) -> datetime:
    """Return an RFC 3339 time; digits beyond microseconds are cut. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment


def rfc3339_utc(moment: datetime) -> str:
    """Return a time in UTC with its fraction, for comparing it with the times of log lines."""
    return rfc3339_micro(moment)


def rfc3339_epoch(seconds: float) -> str:
    """Return POSIX seconds as metav1.Time."""
    return rfc3339(datetime.fromtimestamp(seconds, UTC))
