"""Adaptive busy polling: before the event loop sleeps, it polls for some microseconds for the next small message.

Sleeping and waking up takes longer than relaying a small message. While single messages follow each other quickly, a
process that does not sleep between them relays each one sooner. Linux does the same for sockets (busy_poll) and for
idle virtual processors (halt_poll_ns), and Go's scheduler does it before it parks a thread.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final

# Seconds of polling after a message. Peers on this machine answer within this time. For slower peers polling never
# begins.
_WINDOW: Final = 50e-6
# Seconds for which polling stops after an iteration of the loop in which several messages arrived.
_REST: Final = 2e-3


class BusyPoll:
    """Keeps the event loop from sleeping until no message has arrived for 50 µs.

    Polling begins when two messages have arrived within 50 µs. When several messages arrive in one iteration of the
    loop, polling stops for 2 ms: under such load the loop would not sleep anyway.

    awake: True during polling, and during the pause of 2 ms after it.
    new: the number of messages since the last iteration of the loop.

    The caller adds 1 to `new` for each message, and calls `begin` only while `awake` is False.
    """

    __slots__ = ("_last", "_loop", "awake", "new")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._last = 0.0
        self.awake = False
        self.new = 0

    def begin(self) -> None:
        """Record a message that has arrived while `awake` was False."""
        now = perf_counter()
        if now - self._last < _WINDOW:
            self.awake = True
            self.new = 1
            self._loop.call_soon(self._look)
        self._last = now

    def _look(self) -> None:
        now = perf_counter()
        new, self.new = self.new, 0
        if new:
            self._last = now
        if new > 1:
            self._loop.call_later(_REST, self._rested)
        elif now - self._last < _WINDOW:
            self._loop.call_soon(self._look)
        else:
            self.awake = False

    def _rested(self) -> None:
        self.awake = False
