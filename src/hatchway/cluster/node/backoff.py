"""Computes when an ended container may start again, and when an image may be pulled again.

Behaviour: `k8s.io/client-go/util/flowcontrol/backoff.go` as the kubelet uses it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST, LAST = 10.0, 300.0
# After a run of more than this many seconds, the delays begin again with the first one.
RESET_AFTER = 2 * LAST


class BackOff:
    """The delays before restarts: none, 10 s, 20 s, ... 5 min. Pure: the caller measures the time, in seconds."""

    def __init__(self, first: float = FIRST, last: float = LAST) -> None:
        self._first, self._last = first, last
        self._next = 0.0

    def record_end(self, ran_for: float) -> float:
        """Count an end of the container after `ran_for` seconds; return the seconds to wait, counted from its end."""
        if ran_for > RESET_AFTER:
            self._next = 0.0
        delay = self._next
        self._next = min(delay * 2 or self._first, self._last)
        return delay


@dataclass(slots=True)
class PullDelay:
    """The reason and the end of a delay before an image is pulled again: 10 s after a failure, then 20 s, ... 5 min.

    until: the end of the delay, on the clock of `record_failure`.
    failure: the last failure's message.
    reported: the names of the containers whose wait was reported by an event.
    """

    until: float = 0.0
    failure: str = ""
    reported: set[str] = field(default_factory=set)
    _next: float = FIRST

    def mark_reported(self, container: str) -> bool:
        """Record that an event reports a container's wait. Return False when an event has already reported it."""
        is_new = container not in self.reported
        self.reported.add(container)
        return is_new

    def record_failure(self, now: float, failure: str) -> None:
        """Record that a pull has failed."""
        self.until = now + self._next
        self._next = min(self._next * 2, LAST)
        self.failure = failure
        self.reported.clear()
