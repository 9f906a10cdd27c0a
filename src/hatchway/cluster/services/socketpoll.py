"""Calls functions when sockets are ready, for the many short connections of the service proxy.

With libuv, the event loop's `add_reader` needs seven system calls for each socket; this module needs one. On Linux, all
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
# The event that the peer has sent FIN (EPOLLRDHUP). It is reported only on Linux, together with READ.
ENDED: Final = 0x2000
# The maximum number of sockets that are served in one iteration of the event loop.
_AT_ONCE: Final = 64

# The event masks of epoll(7) for READ, WRITE and both.
_MASKS: Final = {READ: READ | ENDED, WRITE: WRITE, READ | WRITE: READ | WRITE | ENDED}

# A callback for events: READ, WRITE or both. After an error of the socket, it gets both.
Ready = Callable[[int], None]


class SocketPoll(Protocol):
    """Watches sockets. Each is registered at most once."""

    def add(self, number: int, events: int, ready: Ready) -> None:
        """Begin to watch a socket. number: its descriptor. events: READ, WRITE or both; not 0."""
        ...

    def change(self, number: int, before: int, events: int) -> None:
        """Watch a socket for other events.

        before: the events watched so far.
        events: the new events; with 0 nothing is reported, not even an error, but the socket stays registered.
        """
        ...

    def remove(self, number: int, events: int) -> None:
        """Stop watching a socket. The caller must close it right after this. events: the events watched so far."""
        ...

    def close(self) -> None:
        """Stop watching all sockets."""
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
        # With an empty event mask epoll would still report a hang-up, repeatedly.
        if not events:
            self._epoll.unregister(number)
        elif before:
            self._epoll.modify(number, _MASKS[events])
        else:
            self._epoll.register(number, _MASKS[events])

    def remove(self, number: int, events: int) -> None:
        # The kernel removes the socket from the epoll instance when the caller closes it.
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
