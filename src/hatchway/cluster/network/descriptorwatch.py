"""Waits for descriptors to become readable, and calls their handlers: a loop without asyncio, on poll(2)."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable


class DescriptorWatch:
    """The watched descriptors and their handlers. poll: the poll object in which all of them are registered."""

    def __init__(self) -> None:
        self.poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}

    def watch(self, source: socket.socket | int, handler: Callable[[], None]) -> None:
        """Call `handler` whenever a descriptor is readable, or its other end is closed."""
        descriptor = source if isinstance(source, int) else source.fileno()
        self._handlers[descriptor] = handler
        self.poll.register(descriptor, select.POLLIN)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching a descriptor. Call this before the descriptor is closed. Idempotent."""
        if self._handlers.pop(descriptor, None) is not None:
            self.poll.unregister(descriptor)

    def handle(self, descriptor: int) -> None:
        """Call the handler of a descriptor, if it is still watched."""
        handler = self._handlers.get(descriptor)
        if handler is not None:
            handler()
