"""Frees TLS handshakes whose clients have disconnected, by cancelling their timers.

aiofastnet 1.2 cancels a handshake's timer when the handshake ends, but not when the transport is closed before that.
Then the timer keeps the transport alive, with about 50 KB of TLS state, until the timer fires. Many clients that
disconnect during their handshakes would use hundreds of megabytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class HandshakeTimers:
    """A wrapper of the event loop for a transport, which can cancel the timers that the transport has set.

    Methods that a transport calls often are the loop's own bound methods, so the wrapper does not make them slower.
    """

    __slots__ = (
        "_loop",
        "_timers",
        "add_reader",
        "add_writer",
        "call_soon",
        "remove_reader",
        "remove_writer",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timers: list[asyncio.TimerHandle] | None = []
        self.add_reader = loop.add_reader
        self.add_writer = loop.add_writer
        self.call_soon = loop.call_soon
        self.remove_reader = loop.remove_reader
        self.remove_writer = loop.remove_writer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Call the loop's `call_later`, and remember the timer during the handshake."""
        timer = self._loop.call_later(delay, callback, *args)
        if self._timers is not None:
            self._timers.append(timer)
        return timer

    def end(self) -> None:
        """Cancel the timers, because the handshake has ended or was given up. Later timers are not remembered."""
        timers, self._timers = self._timers, None
        for timer in timers or ():
            timer.cancel()
