"""Detects connections that the peer has reset (RST), with an epoll instance in addition to the event loop's.

This is needed in two cases:

- **A reset right after data, on uvloop.** libuv reports an error condition of a descriptor (EPOLLERR) once and then
  stops polling it; uvloop calls the reader once more and closes the descriptor's poll handle. aiofastnet 1.2 assumes
  level-triggered readiness: its reader takes the pending data, sees that the read was shorter than its buffer, and
  returns, because it expects another call for the reset. That call never comes, so `connection_lost` is not called,
  and the descriptor stays open. (asyncio's selectors are not affected, because they are level-triggered.
  uvloop's own transports are not affected, because they do not use poll handles.)
- **A reset while reading is paused**, on every loop: a transport that is paused, or whose peer has half-closed, is not
  registered for reading, so the reset is noticed only at the next write.

Each socket is registered once, edge-triggered and with an empty event mask; the kernel reports EPOLLERR even so.
Because of the empty mask, ordinary data causes no wake-ups. On systems without epoll (macOS), libuv reports errors
level-triggered through kqueue, so the first case does not occur; in the second case the next write notices the reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import weakref
from typing import Final

# Seconds between two checks of a paused transport whose peer has reset the connection.
_PAUSED: Final = 0.05
# The number of iterations of the loop in which a TLS handshake may still read bytes from before the reset (an alert).
_TURNS: Final = 3

# The references are weak. A loop refers to its watch (by add_reader), the watch to transports, and transports to the
# loop; a strong reference from here would keep all of them alive for ever.
_watches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[ResetWatch]] = weakref.WeakKeyDictionary()


class WatchedSocket:
    """A watched socket.

    fd: its descriptor.
    opening: the timeout of the task that makes the transport; None once the transport exists, because a reference to
        the timeout keeps the task alive.
    patient: see `ResetWatch.begin`.
    transport: the transport; None until it exists.
    followed: True once the reset was noticed; `_follow` handles it.
    """

    __slots__ = ("fd", "followed", "opening", "patient", "transport")

    def __init__(self, fd: int, opening: asyncio.Timeout, patient: bool) -> None:
        self.fd = fd
        self.opening: asyncio.Timeout | None = opening
        self.patient = patient
        self.followed = False
        self.transport: asyncio.Transport | None = None


class ResetWatch:
    """The watch of one event loop. `ResetWatch.of` returns it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._peers: dict[int, WatchedSocket] = {}
        self._by_transport: dict[asyncio.Transport, WatchedSocket] = {}
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll is not None:
            loop.add_reader(self._epoll.fileno(), self._ready)

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> ResetWatch:
        """Return the watch of a loop; the first call makes it."""
        known = _watches.get(loop)
        found = known() if known is not None else None
        if found is None:
            found = ResetWatch(loop)
            _watches[loop] = weakref.ref(found)
        return found

    def __len__(self) -> int:
        """Return the number of watched sockets."""
        return len(self._peers)

    def begin(self, fd: int, opening: asyncio.Timeout, *, patient: bool) -> WatchedSocket:
        """Watch a socket whose transport is being made.

        Args:
            fd: its descriptor.
            opening: a timeout. It is made to expire if the peer resets the connection before `set_transport` is called.
            patient: True if bytes that were sent before the reset must still be read when reading is paused. An example
                is an upstream's response whose client reads slowly. False closes a paused transport at once.
        """
        peer = WatchedSocket(fd, opening, patient)
        if self._epoll is not None:
            self._epoll.register(fd, select.EPOLLET)
            self._peers[fd] = peer
        return peer

    def set_transport(self, peer: WatchedSocket, transport: asyncio.Transport) -> None:
        """Set the transport of a watched socket. After a reset the transport is read to its end, and closed."""
        if self._peers.get(peer.fd) is peer:
            peer.transport = transport
            peer.opening = None
            self._by_transport[transport] = peer

    def end(self, peer: WatchedSocket) -> None:
        """Stop watching a socket for which no transport was made, or whose transport is closed."""
        if self._peers.get(peer.fd) is peer:
            self._drop(peer)

    def forget(self, transport: asyncio.Transport) -> None:
        """Stop watching a transport whose protocol's `connection_lost` was called."""
        peer = self._by_transport.pop(transport, None)
        if peer is not None:
            self.end(peer)

    def _drop(self, peer: WatchedSocket) -> None:
        del self._peers[peer.fd]
        assert self._epoll is not None
        with contextlib.suppress(OSError):  # if it is closed, epoll has removed it
            self._epoll.unregister(peer.fd)

    def _ready(self) -> None:
        assert self._epoll is not None
        loop = asyncio.get_running_loop()
        for fd, events in self._epoll.poll(0):
            peer = self._peers.get(fd)
            # EPOLLHUP alone means that both directions were closed normally. The transport notices that itself.
            # The kernel may report a reset twice. Two chains of `_follow` would undo each other's work for ever.
            if peer is not None and events & select.EPOLLERR and not peer.followed:
                peer.followed = True
                loop.call_soon(self._follow, peer, 1)

    def _follow(self, peer: WatchedSocket, turn: int) -> None:
        """Make a transport read the bytes and the error of a reset connection, in several iterations of the loop."""
        if self._peers.get(peer.fd) is not peer:
            return
        loop = asyncio.get_running_loop()
        transport = peer.transport
        if transport is None:
            if turn < _TURNS:
                loop.call_soon(self._follow, peer, turn + 1)
            elif peer.opening is not None:
                peer.opening.reschedule(loop.time())
        elif transport.is_closing() or not (peer.patient or transport.is_reading()):
            transport.abort()
        elif not transport.is_reading():
            loop.call_later(_PAUSED, self._follow, peer, turn)
        else:
            # `pause_reading` and `resume_reading` register the reader again, which makes uvloop report the descriptor's
            # state again. This happens only in every second iteration, because asyncio's loop may have queued a call of
            # the reader, which pausing would cancel.
            if turn % 2:
                transport.pause_reading()
                transport.resume_reading()
            loop.call_soon(self._follow, peer, turn + 1)
