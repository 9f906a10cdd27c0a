"""Frees TLS handshakes whose clients have disconnected, by cancelling their timers.

aiofastnet 1.2 cancels the timer of a handshake when the handshake ends, but not when the transport is closed before
that: the timer then keeps the transport, with about 50 KB of TLS state, until it fires. Many clients that disconnect
during their handshakes would take hundreds of megabytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class HandshakeTimers:
    """A stand-in for the event loop that a transport gets; cancels the timers that the transport sets.

    The methods that a transport calls often are the loop's own, so they are not slower.
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
        """Do what the loop's `call_later` does, and remember the timer during the handshake."""
        timer = self._loop.call_later(delay, callback, *args)
        if self._timers is not None:
            self._timers.append(timer)
        return timer

    def end(self) -> None:
        """Cancel the timers: the handshake has ended or was given up. Later timers are not remembered."""
        timers, self._timers = self._timers, None
        for timer in timers or ():
            timer.cancel()
