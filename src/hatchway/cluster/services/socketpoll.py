"""Calls functions when sockets are ready, for the many short connections of the service proxy.

With libuv, the event loop's `add_reader` costs seven system calls for each socket; here it costs one. On Linux, all
sockets are in one epoll(7) instance, and the event loop watches only this instance's descriptor. On other platforms the
event loop watches the sockets.
"""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Callable
from typing import Final, Protocol

READ: Final = 1
WRITE: Final = 4
# The peer has sent everything (EPOLLRDHUP). It is reported only on Linux, together with READ; nobody asks for it.
ENDED: Final = 0x2000
# How many sockets are served in one turn of the event loop.
_AT_ONCE: Final = 64

# What epoll(7) watches for READ, WRITE or both.
_MASKS: Final = {READ: READ | ENDED, WRITE: WRITE, READ | WRITE: READ | WRITE | ENDED}

# Called with the events that have come: READ, WRITE or both. After an error of the socket: both.
Ready = Callable[[int], None]


class SocketPoll(Protocol):
    """Watches sockets. Each is registered at most once."""

    def add(self, number: int, events: int, ready: Ready) -> None:
        """Begin to watch a socket. number: its descriptor. events: READ, WRITE or both; not 0."""
        ...

    def change(self, number: int, before: int, events: int) -> None:
        """Watch a socket for other events. before: the events watched so far.

        With 0 nothing is reported, not even an error, but the socket stays registered.
        """
        ...

    def remove(self, number: int, events: int) -> None:
        """Forget a socket; the caller must close it right after this. events: the events watched so far."""
        ...

    def close(self) -> None:
        """Forget all sockets."""
        ...


def open_poll() -> SocketPoll:
    """Return the best implementation for this platform. Call it in a running event loop."""
    loop = asyncio.get_running_loop()
    return _EpollPoll(loop) if sys.platform == "linux" else _LoopPoll(loop)


class _EpollPoll:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        loop.add_reader(self._epoll.fileno(), self._dispatch)

    def add(self, number: int, events: int, ready: Ready) -> None:
        self._ready[number] = ready
        self._epoll.register(number, _MASKS[events])

    def change(self, number: int, before: int, events: int) -> None:
        # With no events at all epoll would still report a hang-up, again and again.
        if not events:
            self._epoll.unregister(number)
        elif before:
            self._epoll.modify(number, _MASKS[events])
        else:
            self._epoll.register(number, _MASKS[events])

    def remove(self, number: int, events: int) -> None:
        # Closing the socket takes it out of the epoll instance.
        del self._ready[number]

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._ready.clear()

    def _dispatch(self) -> None:
        find = self._ready.get
        for number, events in self._epoll.poll(0, _AT_ONCE):
            ready = find(number)
            # None: an earlier call in this loop has closed the socket.
            if ready is not None:
                ready(events if events & (READ | WRITE) else READ | WRITE)


class _LoopPoll:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: dict[int, Ready] = {}

    def add(self, number: int, events: int, ready: Ready) -> None:
        self._ready[number] = ready
        self.change(number, 0, events)

    def change(self, number: int, before: int, events: int) -> None:
        ready = self._ready[number]
        if events & READ and not before & READ:
            self._loop.add_reader(number, ready, READ)
        if events & WRITE and not before & WRITE:
            self._loop.add_writer(number, ready, WRITE)
        if before & READ and not events & READ:
            self._loop.remove_reader(number)
        if before & WRITE and not events & WRITE:
            self._loop.remove_writer(number)

    def remove(self, number: int, events: int) -> None:
        self.change(number, events, 0)
        del self._ready[number]

    def close(self) -> None:
        for number in list(self._ready):
            self.remove(number, READ | WRITE)
