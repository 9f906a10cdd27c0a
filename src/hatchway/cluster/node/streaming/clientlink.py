"""The link: the interface through which a protocol uses a client's upgraded connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, cast

Buffers = Sequence[bytes | memoryview]

# After its last bytes were sent, a connection waits at most this many seconds for the client to close it. If a socket
# is closed while it has unread bytes, the kernel resets the connection, and the client loses bytes that it has not read
# yet.
_LINGER = 2.0
# A client that takes none of the last bytes for this many seconds is disconnected.
_GIVE_UP = 30.0
# While reading is paused, the client's FIN is not noticed. So a probe is sent at this interval (seconds): the machine
# of a client that has disconnected answers with a reset.
_PROBE = 30.0
# The most unsent bytes of answers (for example pongs) to a client that sends but does not read. A client that causes
# more is disconnected.
_MOST_ANSWERS = 1024 * 1024


class LinkUser(Protocol):
    """The protocol on top of a link."""

    def attach(self, link: ClientLink) -> None:
        """Store the link, and begin. Called once, before any other method."""
        ...

    def receive(self, data: bytes) -> None:
        """Handle bytes from the client.

        It is also called after `ClientLink.finish`, until the client has ended the connection, too.
        """
        ...

    def pause_writing(self) -> None:
        """Write little until `resume_writing`, because the client reads too slowly."""
        ...

    def resume_writing(self) -> None:
        """Continue to write: `ClientLink.writable` is True again."""
        ...

    def lose_client(self) -> None:
        """Free everything, because the connection has ended. Called once, after all other methods."""
        ...

    def probe(self) -> None:
        """Send a small message without an effect (a ping)."""
        ...


class ClientLink(Protocol):
    """A client's connection."""

    @property
    def writable(self) -> bool:
        """Return True while the write buffer has room."""
        ...

    def write(self, buffers: Buffers) -> None:
        """Send buffers. Does nothing when the connection has ended."""
        ...

    def hold(self) -> None:
        """Pause reading until `release`. Idempotent."""
        ...

    def release(self) -> None:
        """Resume reading. Idempotent."""
        ...

    def finish(self, *, at_once: bool = False) -> None:
        """End the connection once everything was sent and the client has closed its end, or some seconds later.

        It may be called again.

        at_once: True to end it as soon as everything was sent.
        """
        ...

    def abort(self) -> None:
        """End the connection now."""
        ...


class SocketLink(asyncio.Protocol):
    """The link over a client's transport, for `AcceptUpgrade.make_protocol`."""

    def __init__(self, user: LinkUser) -> None:
        self._user: LinkUser | None = user
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._holding = False
        self._finishing = False
        # Bytes of answers to data that the client sent while it did not read.
        self._unread_answers = 0
        self.writable = True

    # Methods that the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the client's transport."""
        self._transport = cast(asyncio.Transport, transport)
        if self._user is not None:
            self._user.attach(self)

    def data_received(self, data: bytes) -> None:
        """Pass the bytes that have arrived to the user."""
        if self._user is None or self._transport is None:
            return
        transport = self._transport
        before = transport.get_write_buffer_size()
        self._user.receive(data)
        if not self.writable:
            self._unread_answers += max(0, transport.get_write_buffer_size() - before)
            if self._unread_answers > _MOST_ANSWERS:
                transport.abort()

    def eof_received(self) -> bool:
        """Close the connection: none of the protocols has half-closed connections."""
        return False

    def pause_writing(self) -> None:
        """Tell the user that the client reads too slowly."""
        self.writable = False
        if self._user is not None and not self._finishing:
            self._user.pause_writing()

    def resume_writing(self) -> None:
        """Tell the user that the client reads again."""
        self.writable = True
        self._unread_answers = 0
        if self._user is not None and not self._finishing:
            self._user.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the user that the connection has ended."""
        self._stop_timer()
        user, self._user = self._user, None
        self._transport = None
        if user is not None:
            user.lose_client()

    # Methods that the user calls

    def write(self, buffers: Buffers) -> None:
        """Send buffers."""
        if self._transport is not None and buffers and not self._transport.is_closing():
            self._transport.writelines(buffers)

    def hold(self) -> None:
        """Pause reading, but probe the client from time to time."""
        if not self._holding and not self._finishing and self._transport is not None:
            self._holding = True
            self._transport.pause_reading()
            self._timer = asyncio.get_running_loop().call_later(_PROBE, self._probe)

    def release(self) -> None:
        """Resume reading."""
        if self._holding:
            self._holding = False
            self._stop_timer()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def finish(self, *, at_once: bool = False) -> None:
        """End the connection in an orderly way."""
        self.release()
        if self._transport is None:
            return
        self._stop_timer()
        self._finishing = True
        loop = asyncio.get_running_loop()
        if at_once:
            self._transport.close()
            self._timer = loop.call_later(_GIVE_UP, self.abort)
        else:
            self._timer = loop.call_later(_LINGER, self._linger, self._transport.get_write_buffer_size(), _GIVE_UP)

    def abort(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def _linger(self, unsent: int, patience: float) -> None:
        """Wait until the client closes the connection; wait longer while the client still reads."""
        if self._transport is None:
            return
        left = self._transport.get_write_buffer_size()
        if not left:
            self.finish(at_once=True)
        elif left >= unsent and patience <= 0:
            self.abort()
        else:
            patience = _GIVE_UP if left < unsent else patience - _LINGER
            self._timer = asyncio.get_running_loop().call_later(_LINGER, self._linger, left, patience)

    def _probe(self) -> None:
        if self._user is not None:
            if self.writable:
                self._user.probe()
            self._timer = asyncio.get_running_loop().call_later(_PROBE, self._probe)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
