"""Limits how quickly a HorizontalPodAutoscaler changes the number of replicas.

The rules use a history of recommendations and changes, as in `pkg/controller/podautoscaler/horizontal.go`. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Rules = dict[str, Any]

# Recommendations and changes are kept for an hour, the longest window that an autoscaler may have.
_KEPT_SECONDS, _MOST_KEPT = 3600.0, 4096


@dataclass(frozen=True, slots=True)
class Limited:
    """A number of replicas after all limits, and the conditions that explain it.

    stabilized: (reason, message) of the condition AbleToScale.
    limit: (reason, message) of the condition ScalingLimited.
    is_limited: the status of the condition ScalingLimited.
    """

    replicas: int
    stabilized: tuple[str, str]
    limit: tuple[str, str]
    is_limited: bool


_WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
_READY = ("ReadyForNewScale", "recommended size matches current size")
_DOWN_STABILIZED = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)
_UP_STABILIZED = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_UP_LIMIT = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
_DOWN_LIMIT = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")


@dataclass(slots=True)
class ScalingHistory:
    """The recommendations and the changes of one autoscaler, each as (time in seconds, number)."""

    recommendations: list[tuple[float, int]] = field(default_factory=list)
    ups: list[tuple[float, int]] = field(default_factory=list)
    downs: list[tuple[float, int]] = field(default_factory=list)
    _has_begun: bool = False

    def begin(self, now: float, current: int) -> None:
        """Record the present number as the first recommendation (recordInitialRecommendation).

        So a new autoscaler scales down only after the stabilization window. now: seconds since the epoch.
        """
        if not self._has_begun:
            self._has_begun = True
            self._recommend(now, current)

    def record_change(self, now: float, before: int, after: int) -> None:
        """Record a change of the number of replicas. now: seconds since the epoch."""
        events = self.ups if after > before else self.downs
        events.append((now, abs(after - before)))
        _prune(events, now)

    def _recommend(self, now: float, replicas: int) -> None:
        self.recommendations.append((now, replicas))
        _prune(self.recommendations, now)

    def limit_by_default(self, now: float, current: int, desired: int, least: int, most: int, window: float) -> Limited:
        """Record and limit a recommendation of an autoscaler without `behavior`.

        The result is the highest recommendation of the last `window` seconds. It is limited to twice `current` (or 4,
        if that is more), and to the range from `least` to `most`. now: seconds since the epoch.
        """
        highest = max((number for when, number in self.recommendations if when > now - window), default=desired)
        stabilized = max(desired, highest)
        self._recommend(now, desired)
        ready = _READY if stabilized == desired else _DOWN_STABILIZED
        fastest = max(2 * current, 4)
        if stabilized < least:
            return Limited(least, ready, _TOO_FEW, True)
        if stabilized > min(fastest, most):
            return Limited(min(fastest, most), ready, _UP_LIMIT if most > fastest else _TOO_MANY, True)
        return Limited(stabilized, ready, _WITHIN, False)

    def limit_by_rules(
        self, now: float, current: int, desired: int, least: int, most: int, up: Rules, down: Rules, window: float
    ) -> Limited:
        """Record and limit a recommendation of an autoscaler with `behavior`.

        up, down: its rules for scaling up and down.
        window: the stabilization window, in seconds, for scaling down when `down` has none.
        The other arguments are those of `limit_by_default`.
        """
        stabilized = self._stabilize(now, current, desired, up, down, window)
        ready = _READY
        if stabilized != desired:
            ready = _UP_STABILIZED if desired >= current else _DOWN_STABILIZED
        if stabilized > current:
            limit = max(current, self._limit(now, current, up, going_up=True))
            highest, why = (limit, _UP_LIMIT) if most > limit else (most, _TOO_MANY)
            if stabilized > highest:
                return Limited(highest, ready, why, True)
        elif stabilized < current:
            limit = min(current, self._limit(now, current, down, going_up=False))
            lowest, why = (limit, _DOWN_LIMIT) if least < limit else (least, _TOO_FEW)
            if stabilized < lowest:
                return Limited(lowest, ready, why, True)
        return Limited(stabilized, ready, _WITHIN, False)

    def _stabilize(self, now: float, current: int, desired: int, up: Rules, down: Rules, window: float) -> int:
        """Record a recommendation. Return the number closest to `current` that was recommended within the windows.

        It works like `stabilizeRecommendationWithBehaviors`.
        """
        up_window = up.get("stabilizationWindowSeconds") or 0
        given = down.get("stabilizationWindowSeconds")
        down_window = window if given is None else given
        lowest = min((number for when, number in self.recommendations if when > now - up_window), default=desired)
        highest = max((number for when, number in self.recommendations if when > now - down_window), default=desired)
        self._recommend(now, desired)
        return min(max(current, min(desired, lowest)), max(desired, highest))

    def _limit(self, now: float, current: int, rules: Rules, *, going_up: bool) -> int:
        """Return the most replicas after scaling up, or the fewest after scaling down, that the policies allow."""
        select = rules.get("selectPolicy") or "Max"
        if select == "Disabled":
            return current
        limits = []
        for policy in rules.get("policies") or ():
            period = policy.get("periodSeconds") or 0
            added, removed = _changed(self.ups, now, period), _changed(self.downs, now, period)
            before = current - added + removed
            value = policy.get("value") or 0
            if policy.get("type") == "Pods":
                limits.append(before + value if going_up else before - value)
            else:
                share = value / 100
                limits.append(math.ceil(before * (1 + share)) if going_up else int(before * (1 - share)))
        if not limits:
            return current
        # `Max` selects the policy that allows the largest change.
        return max(limits) if going_up is (select == "Max") else min(limits)


def _changed(events: Iterable[tuple[float, int]], now: float, period: float) -> int:
    return sum(number for when, number in events if when > now - period)


def _prune(entries: list[tuple[float, int]], now: float) -> None:
    while entries and (entries[0][0] <= now - _KEPT_SECONDS or len(entries) > _MOST_KEPT):
        del entries[0]
