"""Staying awake for a moment: adaptive busy polling of the event loop.

To sleep and be woken costs more than to relay a small message. While single messages follow each other quickly, a
process that is still awake when the next one comes passes it on sooner. Linux does the same for sockets (busy_poll) and
for idle virtual processors (halt_poll_ns), and Go's scheduler before it parks a thread.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final

# Seconds from the last message. An answer of this machine comes within it; one from elsewhere does not, and costs nothing.
_WINDOW: Final = 50e-6
# How long it does not try again after a turn that brought several messages.
_REST: Final = 2e-3


class BusyPoll:
    """Told of every message, it keeps the loop turning until none has come for 50 µs.

    It begins only when two messages have come within that time. It ends as soon as a turn brings several, and rests
    for 2 ms: then there is no sleep to be saved, and others may need the processor.

    awake: the loop is being kept turning, or it rests. new: messages since it last turned. Who counts `new` up need not
    call `begin` while it is awake.
    """

    __slots__ = ("_last", "_loop", "awake", "new")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._last = 0.0
        self.awake = False
        self.new = 0

    def begin(self) -> None:
        """A message has come while it was not awake."""
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
