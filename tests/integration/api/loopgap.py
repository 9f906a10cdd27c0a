"""Measure how long the event loop is held, in CPU time of the whole process.

The time of other processes does not count; the time in which other threads of this process hold the GIL does.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

# Seconds that `unit` returns on an idle core of the year 2020.
_USUAL_UNIT = 0.0045
_SAMPLE = json.dumps([{"name": f"n{index}", "values": [index, "x"]} for index in range(2000)])


def unit() -> float:
    """Measure the CPU time of a fixed piece of work, in seconds."""
    best = 1.0
    for _ in range(5):
        began = time.process_time()
        for one in json.loads(_SAMPLE):
            one["values"].append(one["name"].partition("n"))
        json.dumps(json.loads(_SAMPLE))
        best = min(best, time.process_time() - began)
    return best


def slowness() -> float:
    """Return how many times slower this machine is at present than the one of `_USUAL_UNIT`; at least 1."""
    return max(1.0, unit() / _USUAL_UNIT)


class Gap:
    """The longest time between two calls of `beat` by the event loop (`worst`, in seconds of CPU time)."""

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
        """Repeat an action until it blocks the loop for less than `limit`.

        A fault of the code blocks the loop at each try. A garbage collection, or a slow allocation of memory by the
        system, blocks it only at some tries.

        Args:
            act: The action.
            limit: Seconds of CPU time.
            tries: The largest number of tries.

        Returns:
            The longest block during the best try, in seconds of CPU time.
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
    """Exclude the objects of other tests from garbage collections in this block, which would take longer with them."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@asynccontextmanager
async def watched() -> AsyncIterator[Gap]:
    """Measure the running loop while the block runs."""
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
