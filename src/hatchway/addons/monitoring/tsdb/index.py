"""The inverted index: finds series by label values (`tsdb/index/postings.go`, `tsdb/querier.go` of Prometheus)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Sequence

from hatchway.addons.monitoring.tsdb.labels import Labels
from hatchway.addons.monitoring.tsdb.matchers import Matcher

# The number of values between two calls of `tick`.
_SLICE = 1024


class LabelIndex:
    """Finds the numbers of series by matchers. Labels that many series have are stored once.

    One thread adds and removes series; any thread may search. No lock is held while values are matched.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._postings: dict[str, dict[str, set[int]]] = {}
        self._all: set[int] = set()
        self._pairs: dict[tuple[str, str], tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, number: int, labels: Labels) -> Labels:
        """Add a series, and return its labels as objects that series with the same labels share."""
        shared = []
        with self._lock:
            for pair in labels:
                known = self._pairs.get(pair)
                if known is None:
                    known = (sys.intern(pair[0]), pair[1])
                    self._pairs[known] = known
                shared.append(known)
                self._postings.setdefault(known[0], {}).setdefault(known[1], set()).add(number)
            self._all.add(number)
        return tuple(shared)

    def remove(self, number: int, labels: Labels) -> None:
        """Remove a series."""
        with self._lock:
            self._all.discard(number)
            for name, value in labels:
                by_value = self._postings[name]
                numbers = by_value[value]
                numbers.discard(number)
                if not numbers:
                    del by_value[value]
                    self._pairs.pop((name, value), None)
                    if not by_value:
                        del self._postings[name]

    def select(self, matchers: Iterable[Matcher], tick: Callable[[], None]) -> set[int]:
        """Return the numbers of the series that all matchers match. The caller must not change the set.

        Another thread may remove series meanwhile, so the result may contain removed series.

        tick: called at intervals while values are matched; it may raise an exception to stop.
        """
        found: set[int] | None = None
        excluding: list[set[int]] = []
        for matcher in matchers:
            tick()
            if matcher.matches_empty:
                # A matcher that matches "" also matches series without the label. So find the series that it does not
                # match.
                excluding.append(self._with_values(matcher, tick, matching=False))
                continue
            matched = self._with_values(matcher, tick, matching=True)
            found = matched if found is None else found & matched
            if not found:
                return set()
        if found is None:
            with self._lock:
                found = set(self._all)
        return found.difference(*excluding) if excluding else found

    def _with_values(self, matcher: Matcher, tick: Callable[[], None], *, matching: bool) -> set[int]:
        """Return the series with a label value that the matcher matches, or does not match if `matching` is False."""
        equal = "=" if matching else "!="
        if matcher.type == equal:
            values = [matcher.value]
        else:
            with self._lock:
                known = list(self._postings.get(matcher.name, ()))
            values = []
            for place, value in enumerate(known):
                if not place % _SLICE:
                    tick()
                if matcher.matches(value) is matching:
                    values.append(value)
        with self._lock:
            by_value = self._postings.get(matcher.name, {})
            return set().union(*[by_value[value] for value in values if value in by_value])

    def names(self) -> list[str]:
        """Return the names of all labels."""
        with self._lock:
            return list(self._postings)

    def values(self, name: str) -> list[str]:
        """Return all values of a label."""
        with self._lock:
            return list(self._postings.get(name, ()))

    def largest(self, name: str, count: int) -> Sequence[tuple[str, int]]:
        """Return (value, number of series) for the label's values that have the most series. count: the most pairs."""
        sizes = [(value, len(ids)) for value, ids in self._postings.get(name, {}).items()]
        return sorted(sizes, key=lambda size: (-size[1], size[0]))[:count]

    def pairs(self, count: int) -> Sequence[tuple[str, int]]:
        """Return (label, number of values) for the labels that have the most values. count: the most pairs."""
        sizes = [(name, len(values)) for name, values in self._postings.items()]
        return sorted(sizes, key=lambda size: (-size[1], size[0]))[:count]
