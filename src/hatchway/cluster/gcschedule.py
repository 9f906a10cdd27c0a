"""Collects the control plane's cyclic garbage in small portions, and when no large request is under way.

Python itself searches all objects of the process whenever their number has grown by a quarter. With the objects of a
cluster in memory, this blocks the event loop for tens of milliseconds, in the middle of a request. The API's objects
are trees, which Python frees without a search.

So Python's automatic collection is limited to the young generations. Objects that survive it are searched up to ten
times a second, when no large request is under way. Then they are frozen (`gc.freeze`), so that the next search visits
only new objects. From time to time, when the process has been nearly idle for some seconds, all objects are searched,
because frozen objects (mostly connections) may be garbage by now. With thousands of objects in the cluster, this takes
a tenth of a second.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

__all__ = ["GcSchedule"]

# The young generation is collected after `_YOUNG` new objects, and the middle generation after `_MIDDLE` collections of
# the young generation. The old generation is never collected automatically.
_YOUNG, _MIDDLE, _NEVER = 700, 10, 1_000_000
# After `_DUE` collections of the middle generation (7,000 objects each, most of them freed), the old generation is
# searched when no large request is under way. After `_MUST` collections, it is searched in any case.
_DUE, _MUST = 4, 100
# Seconds between two checks. Under full load, searching the objects that are made in this time takes milliseconds.
_INTERVAL = 0.1
# Seconds over which the use of the processor is measured, and the number of low measurements in a row after which the
# process counts as idle.
_MEASURED, _QUIET = 1.0, 5
# Seconds between two searches of all objects, and the share of a core below which a measurement is low.
_EVERYTHING_AFTER = 1800.0
_LITTLE = 0.1
# All objects are also searched when the number of frozen objects has grown by this share since the last such search:
# by `_MORE` if the process is idle, by `_MOST` otherwise.
_MORE, _MOST = 1.0, 4.0


class GcSchedule:
    """Collects the process's cyclic garbage while it runs.

    is_busy: returns True while a large request is under way.
    """

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        # The number of frozen objects after the last search of all objects, and the current number.
        self._left = self._aside = 0
        self._threshold = gc.get_threshold()
        self._everything_at = 0.0

    async def run(self) -> None:
        """Collect until cancelled; then restore the collector's former settings."""
        gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)
        try:
            self._collect_everything()
            used, quiet = time.process_time(), 0
            measured_at = time.monotonic() + _MEASURED
            while True:
                await asyncio.sleep(_INTERVAL)
                if time.monotonic() >= measured_at:
                    used, before = time.process_time(), used
                    quiet = quiet + 1 if used - before < _LITTLE * _MEASURED else 0
                    measured_at = time.monotonic() + _MEASURED
                self._collect_if_due(quiet >= _QUIET)
        finally:
            gc.set_threshold(*self._threshold)
            gc.unfreeze()

    def _collect_if_due(self, idle: bool) -> None:
        more = self._aside - self._left
        if idle:
            due = time.monotonic() >= self._everything_at or more > _MORE * self._left
        else:
            due = more > _MOST * self._left and not self._is_busy()
        if due:
            self._collect_everything()
            return
        grown = gc.get_count()[2]
        if grown >= _MUST or (grown >= _DUE and not self._is_busy()):
            gc.collect()
            gc.freeze()
            self._aside = gc.get_freeze_count()

    def _collect_everything(self) -> None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._left = self._aside = gc.get_freeze_count()
        self._everything_at = time.monotonic() + _EVERYTHING_AFTER
