"""Measure how long the event loop is held, in CPU time of the whole process.

Time that other processes use does not count. Time in which another thread holds the interpreter's lock does.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

# Seconds that `unit` takes on a core of the year 2020 that has nothing else to do.
_USUAL_UNIT = 0.0045
_SAMPLE = json.dumps([{"name": f"n{index}", "values": [index, "x"]} for index in range(2000)])


def unit() -> float:
    """Seconds of CPU time of a fixed piece of work, now and here."""
    best = 1.0
    for _ in range(5):
        began = time.process_time()
        for one in json.loads(_SAMPLE):
            one["values"].append(one["name"].partition("n"))
        json.dumps(json.loads(_SAMPLE))
        best = min(best, time.process_time() - began)
    return best


def slowness() -> float:
    """How many times slower this machine is just now than the one that limits are meant for; at least 1."""
    return max(1.0, unit() / _USUAL_UNIT)


class Gap:
    """The longest time between two signs of life of the loop. Seconds of CPU time."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._last = time.process_time()

    def beat(self) -> None:
        now = time.process_time()
        self.worst = max(self.worst, now - self._last)
        self._last = now

    def reset(self) -> None:
        self.worst, self._last = 0.0, time.process_time()

    async def least(self, act: Callable[[], Awaitable[None]], limit: float, tries: int = 5) -> float:
        """Repeat an action until it blocks the loop for less than a time.

        A fault holds the loop each time; a collection of garbage or a page of memory that the machine is slow to give
        holds it once.

        Args:
            act: What to do.
            limit: Seconds of CPU time.
            tries: How often it is done at most.

        Returns:
            The shortest of the times for which the loop was held, in seconds of CPU time.
        """
        least = float("inf")
        for _ in range(tries):
            self.reset()
            await act()
            least = min(least, self.worst)
            if least < limit:
                break
        return least


@contextmanager
def others_set_aside() -> Iterator[None]:
    """Keep the objects of other tests out of collections of garbage, whose time would count as the block's."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@asynccontextmanager
async def watched() -> AsyncIterator[Gap]:
    """Watch the running loop while the block runs."""
    gap = Gap()

    async def beat() -> None:
        while True:
            await asyncio.sleep(0.001)
            gap.beat()

    task = asyncio.create_task(beat())
    await asyncio.sleep(0)
    try:
        yield gap
    finally:
        task.cancel()
