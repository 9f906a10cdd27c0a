"""Formats times for the columns of `kubectl get`."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["NONE", "age", "human_duration", "seconds"]

NONE = "<none>"


def human_duration(elapsed: float) -> str:
    """Return seconds in two or three significant figures: `7m2s`, `3d4h` (apimachinery's `HumanDuration`)."""
    whole = int(elapsed)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    hours = whole // 3600
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 24 * 8:
        return _two(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first}{unit}{second}{smaller}" if second else f"{first}{unit}"


def seconds(timestamp: str | None) -> float | None:
    """Return a Kubernetes timestamp as seconds since the epoch; None when it is missing or not valid."""
    if not timestamp:
        return None
    try:
        found = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def age(timestamp: str | None, now: float) -> str:
    """Return how long ago a timestamp was, as a text; `<unknown>` without a timestamp."""
    when = seconds(timestamp)
    return "<unknown>" if when is None else human_duration(now - when)
