"""Finds out which protocol the client of an open tunnel speaks: HTTP/1, whose requests are checked, or another one.

A browser opens a tunnel (CONNECT) when a page opens a WebSocket; a browser that uses SOCKS opens tunnels for all its
requests. So the first bytes of a client are examined before they are sent into the cluster. Meanwhile the server's
bytes are passed on at once, because in many protocols the server speaks first and the client waits for it.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final

from hatchway.proxy.join import EarlyReceiver, reset

# The maximum number of bytes and seconds in which a client's first line must end. A longer line that begins like a
# request counts as a request. A line that takes longer counts as another protocol: browsers send a request's line
# without a pause.
_LONGEST_LINE: Final = 16 * 1024
_LINE_SECONDS: Final = 2.0
# Bytes that the server may send before its client has read them.
_BUFFER: Final = 256 * 1024

_TOKEN: Final = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]"
_REQUEST: Final = re.compile(_TOKEN + rb"{1,64} [\x21-\x7e\x80-\xff]+ HTTP/1\.")
# The beginning of a line that may become a request when more bytes arrive.
_BEGINNING: Final = re.compile(
    _TOKEN + rb"{1,64}(?: (?:[\x21-\x7e\x80-\xff]+(?: (?:H(?:T(?:T(?:P(?:/(?:1\.?)?)?)?)?)?)?)?)?)?\Z"
)


def speaks_http(data: bytes) -> bool | None:
    """Return True if a client's first bytes are an HTTP/1 request (RFC 9112 section 3); None if more bytes are needed.

    A CONNECT request counts as another protocol: no page can send one, and the bytes after it are not HTTP.
    """
    if data.startswith(b"CONNECT "):
        return False
    if _REQUEST.match(data):
        return True
    if data and not _BEGINNING.match(data):
        return False
    return True if len(data) > _LONGEST_LINE else None


@dataclass(frozen=True, slots=True)
class SniffedTunnel:
    """A tunnel whose client's protocol is known. Reading is paused on both sides.

    near, far: the client's side and the server's side, with the bytes that have arrived and were not passed on.
    http: True when the client has begun a request of HTTP/1.
    answered: True when the server has sent bytes, which were passed on to the client, or has ended its direction.
    """

    near: EarlyReceiver
    far: EarlyReceiver
    http: bool
    answered: bool


async def sniff(near: EarlyReceiver, far: asyncio.Transport) -> SniffedTunnel:
    """Wait until the client's bytes show its protocol, and pass the server's bytes on to the client meanwhile.

    When one side closes its connection, the other side is closed, too, and the call raises CancelledError.

    Args:
        near: the client's side, with its first bytes; reading is paused.
        far: the server's side, from which nothing was read yet.
    """
    pair = _Pair(near.transport, far)
    near.transport.set_protocol(pair.client)
    far.set_protocol(pair.server)
    far.set_write_buffer_limits(high=_BUFFER)
    near.transport.set_write_buffer_limits(high=_BUFFER)
    far.resume_reading()
    # Set `eof` before calling `data_received`, because that call may set the result, which contains `eof`.
    pair.client.eof = near.eof
    if near.early:
        pair.client.data_received(near.early)
    if near.eof:
        pair.client.eof_received()
    if not pair.known.done():
        near.transport.resume_reading()
    return await pair.known


class _Pair:
    """Both sides of a tunnel. known: the future result of `sniff`."""

    def __init__(self, near: asyncio.Transport, far: asyncio.Transport) -> None:
        self.near = near
        self.far = far
        self.client = _ClientSide(self)
        self.server = _ServerSide(self)
        self.known: asyncio.Future[SniffedTunnel] = asyncio.get_running_loop().create_future()

    def decide(self, http: bool) -> None:
        """Pause reading on both sides, and set the result."""
        if self.known.done():
            return
        near = _released(self.near, bytes(self.client.data), self.client.eof)
        far = _released(self.far, b"", self.server.eof)
        self.known.set_result(SniffedTunnel(near, far, http, self.server.answered))

    def lost(self, other: asyncio.Transport, error: Exception | None) -> None:
        """Close the other side: at once if this side ended with an error, else when the buffered bytes were sent."""
        if error is not None:
            reset(other)
        else:
            other.close()


class _ClientSide(asyncio.Protocol):
    """Keeps the client's bytes until its protocol is known. data, eof: what has arrived."""

    def __init__(self, pair: _Pair) -> None:
        self.data = bytearray()
        self.eof = False
        self._pair = pair
        self._timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self.data += data
        http = speaks_http(bytes(self.data))
        if http is not None:
            self._decide(http)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LINE_SECONDS, self._decide, False)

    def eof_received(self) -> bool:
        self.eof = True
        self._decide(False)
        return True

    def pause_writing(self) -> None:
        if not self._pair.far.is_closing():
            self._pair.far.pause_reading()

    def resume_writing(self) -> None:
        if not self._pair.far.is_closing():
            self._pair.far.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._pair.lost(self._pair.far, exc)
        self._pair.known.cancel()

    def _decide(self, http: bool) -> None:
        self._stop_timer()
        self._pair.decide(http)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _ServerSide(asyncio.Protocol):
    """Passes the server's bytes on to the client.

    eof: True when the server has ended its direction. answered: as in `SniffedTunnel`.
    """

    def __init__(self, pair: _Pair) -> None:
        self.eof = False
        self.answered = False
        self._pair = pair

    def data_received(self, data: bytes) -> None:
        self.answered = True
        self._pair.near.write(data)

    def eof_received(self) -> bool:
        self.eof = self.answered = True
        if self._pair.near.can_write_eof() and not self._pair.near.is_closing():
            self._pair.near.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._pair.lost(self._pair.near, exc)


def _released(transport: asyncio.Transport, early: bytes, eof: bool) -> EarlyReceiver:
    side = EarlyReceiver()
    side.transport, side.early, side.eof = transport, early, eof
    if not transport.is_closing():
        transport.pause_reading()
    transport.set_protocol(side)
    return side
