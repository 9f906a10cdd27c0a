"""A queue of keys without duplicates (client-go's `util/workqueue`)."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

# The first and the longest back-off after a failure, in seconds.
_FIRST_RETRY, _LAST_RETRY = 0.005, 30.0
# A key that is reconciled more than `_WINDOW_RUNS` times in `_WINDOW_SECONDS` is assumed to be in an endless loop. From
# then on, it must wait before each run.
_WINDOW_SECONDS, _WINDOW_RUNS = 10.0, 1000
_SLOWED_SECONDS = 0.5
# After a reconcile, a key must rest (`done`). A rest shorter than this (seconds) is skipped.
_SHORTEST_REST = 0.02


class _ReadyKeys(Generic[K]):
    """Keys that a worker can take: the lowest rank first; among equal ranks, the key that has waited longest."""

    def __init__(self, rank: Callable[[K], int]) -> None:
        self._rank = rank
        self._heap: list[tuple[int, int, K]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, key: K) -> None:
        heapq.heappush(self._heap, (self._rank(key), next(self._numbers), key))

    def take(self) -> K:
        return heapq.heappop(self._heap)[2]


def _equal(_key: Hashable) -> int:
    return 0


class WorkQueue(Generic[K]):
    """Keys that wait for a worker, without duplicates. Two workers never have the same key at the same time.

    A key that is queued again and again is slowed down. So two controllers that undo each other's work, or objects that
    refer to each other, cost little time and do not delay other keys.

    name: the controller's name, for logs.
    rank: returns the rank of a key that becomes ready; the lowest rank comes first.
    """

    def __init__(self, name: str = "", rank: Callable[[K], int] = _equal) -> None:
        self._name = name
        self._runs: dict[K, int] = {}
        self._window = 0.0
        self._ready: _ReadyKeys[K] = _ReadyKeys(rank)
        self._waiting: set[K] = set()
        self._busy: set[K] = set()
        self._wake = asyncio.Event()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        # Keys that no worker gets before their timer ends, even when they are queued.
        self._resting: dict[K, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Return True when no key is ready and no worker has a key. Keys that are due later do not count."""
        return not self._waiting and not self._busy

    def add(self, key: K) -> None:
        """Queue a key now. If a worker has the key, it is queued again when that worker is done."""
        if self._runs.get(key, 0) > _WINDOW_RUNS and self._slow_down(key):
            return
        self._drop_timer(key)
        if key in self._waiting:
            return
        self._waiting.add(key)
        self._offer(key)

    def _offer(self, key: K) -> None:
        if key not in self._busy and key not in self._resting:
            self._ready.put(key)
            self._wake.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Queue a key after `seconds`, unless it is already due earlier."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + seconds:
            return
        self._drop_timer(key)
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def retry(self, key: K) -> float:
        """Queue a key again after its back-off, which gets longer each time. Return the back-off in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        seconds = min(_FIRST_RETRY * 2.0 ** min(failures, 30), _LAST_RETRY)
        self.add_after(key, seconds)
        return seconds

    def forget(self, key: K) -> None:
        """Forget the failures of a key that was reconciled, so that its back-off starts again at the first value."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """Wait for the next key, take it from the queue and return it. The key is busy until `done`."""
        while not self._ready:
            self._wake.clear()
            await self._wake.wait()
        key = self._ready.take()
        self._waiting.discard(key)
        self._busy.add(key)
        self._count(key)
        return key

    def _count(self, key: K) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._window > _WINDOW_SECONDS:
            self._window = now
            self._runs.clear()
        self._runs[key] = self._runs.get(key, 0) + 1

    def _slow_down(self, key: K) -> bool:
        """Delay a key that was reconciled too often. Return False if it need not wait."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._window > _WINDOW_SECONDS:
            return False
        if self._runs[key] == _WINDOW_RUNS + 1:
            self._runs[key] += 1
            log.warning(
                "%s: %s was reconciled %d times in %.0f s; it is slowed down",
                self._name,
                key,
                _WINDOW_RUNS,
                loop.time() - self._window,
            )
        if key not in self._timers and key not in self._waiting:
            self._timers[key] = loop.call_later(_SLOWED_SECONDS, self._due, key, True)
        return True

    def _due(self, key: K, slowed: bool = False) -> None:
        """Queue a key that is due now. slowed: True if `_slow_down` has already delayed the key."""
        self._timers.pop(key, None)
        if not slowed:
            self.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._offer(key)

    def done(self, key: K, rest: float = 0.0) -> None:
        """Mark a key from `get` as done; queue it again if it was added meanwhile.

        rest: seconds that must pass before a worker gets the key again; a short rest is skipped.
        """
        self._busy.discard(key)
        if rest > _SHORTEST_REST:
            self._resting[key] = asyncio.get_running_loop().call_later(rest, self._rested, key)
        elif key in self._waiting:
            self._offer(key)

    def _rested(self, key: K) -> None:
        del self._resting[key]
        if key in self._waiting:
            self._offer(key)

    def close(self) -> None:
        """Forget all keys that are due later."""
        for timers in (self._timers, self._resting):
            for timer in timers.values():
                timer.cancel()
            timers.clear()

    def _drop_timer(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
