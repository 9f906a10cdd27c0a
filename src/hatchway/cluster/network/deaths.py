"""Decides whether a node agent that has ended is started again. Pure, except for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

# An agent that ends more than `MOST` times within `WITHIN` seconds is not started again: it cannot work on this
# machine.
MOST = 3
WITHIN = 60.0


class Deaths:
    """Counts the ends of one cluster's node agents."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: list[float] = []

    def record(self, code: int) -> bool:
        """Record that an agent has ended, and return True when a new agent should be started.

        code: its exit code; 0 when it was asked to end.
        """
        now = self._clock()
        self._known = [*(moment for moment in self._known if now - moment < WITHIN), now]
        return code != 0 and len(self._known) <= MOST
