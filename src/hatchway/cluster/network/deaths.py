"""Whether a node agent that has ended is started again. Pure, but for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

# One that ends more often than so many times within so many seconds is not started again: it cannot work here.
MOST = 3
WITHIN = 60.0


class Deaths:
    """The deaths of one cluster's node agents."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: list[float] = []

    def again(self, code: int) -> bool:
        """An agent has ended with an exit code (negative: a signal): whether another one is to begin.

        One that ends without an error was asked to.
        """
        now = self._clock()
        self._known = [*(moment for moment in self._known if now - moment < WITHIN), now]
        return code != 0 and len(self._known) <= MOST
