"""Writes the responses to a client: heads, bodies and their framing.

While one batch of received bytes is handled, output is collected, and then sent in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Final

from hatchway.proxy import fields, heads
from hatchway.proxy.context import Context
from hatchway.proxy.routing import Headers

# Pieces of this many bytes or more are not joined with others: the copy would cost more than another system call.
LARGE: Final = 16 * 1024


class Framing(Enum):
    """How the client recognizes the end of the current response's body."""

    NONE = "no head was written yet"
    KNOWN = "by Content-Length, by the end of the connection, or there is no body"
    CHUNKED = "by chunks"


_NONE, _KNOWN, _CHUNKED = Framing.NONE, Framing.KNOWN, Framing.CHUNKED


class ResponseWriter:
    """Writes the responses of one client's connection (`contracts.Writer`).

    Attributes:
        transport: the client's transport.
        framing: the framing of the current response.
        keep: True if the connection is kept after the current response.
        status: the status that was sent; 0 before its head.
        sent: the number of body bytes that were sent.
        closed: True when nothing more may be written.
        on_write: called before each write; None for no call.
        fresh: True if the state equals the state after `start("1.1", True)`, so that this call can be left out.
    """

    __slots__ = (
        "_context",
        "_out",
        "_version",
        "closed",
        "framing",
        "fresh",
        "keep",
        "on_write",
        "sent",
        "status",
        "transport",
    )

    def __init__(self, context: Context, transport: asyncio.Transport) -> None:
        """Make the writer of a connection. transport: the transport of the client's connection."""
        self._context = context
        self.transport = transport
        self._out: list[bytes] = []
        self._version = "1.1"
        self.closed = False
        self.framing = _NONE
        self.keep = True
        self.on_write: Callable[[], None] | None = None
        self.sent = 0
        self.status = 0
        self.fresh = True

    @property
    def begun(self) -> bool:
        """Return True if the head of the current response was written."""
        return self.framing is not _NONE

    @property
    def is_self_delimiting(self) -> bool:
        """Return True if the client can distinguish the end of the body from an early end of the connection."""
        return self._version != "1.0" or self.framing is _CHUNKED

    def start(self, version: str, keep: bool) -> None:
        """Prepare for a response.

        version: the HTTP version of the request, "1.0" or "1.1".
        keep: True if the connection may be kept after the response.
        """
        self._version = version
        self.framing = _NONE
        self.keep = keep
        self.status = self.sent = 0
        self.fresh = keep and version == "1.1"

    def set_keep(self, keep: bool) -> None:
        """Set whether the connection is kept after the current response. Call it before `begin`."""
        self.keep = keep
        self.fresh = self.fresh and keep

    def send_interim(self, status: int, fields: bytes) -> None:
        """Send an interim response (1xx) at once, but not to an HTTP/1.0 client."""
        if self._version == "1.1" and not self.closed:
            self._context.flush()
            self.transport.write(heads.status_line(status) + fields + b"\r\n")

    def begin(self, status: int, start: bytes, fields: bytes, framed: bool) -> None:
        """Write a response's head, as `contracts.Writer` says."""
        self.fresh = False
        self.framing = _KNOWN
        self.status = status
        if self._context.closing:
            self.keep = False
        end = b"\r\n"
        old = self._version == "1.0"
        if not framed:
            if old:
                self.keep = False
            else:
                self.framing = _CHUNKED
                end = b"Transfer-Encoding: chunked\r\n\r\n"
        if not self.keep:
            end = b"Connection: close\r\n" + end
        elif old:
            end = b"Connection: keep-alive\r\n\r\n"
        self._out.append(start + fields + end)

    def send(self, data: bytes) -> None:
        """Add a piece of the response's body to the bytes that `push` writes."""
        size = len(data)
        self.sent += size
        out = self._out
        if self.framing is _CHUNKED:
            out += (b"%x\r\n" % size, data, b"\r\n")
        else:
            out.append(data)

    def send_now(self, data: memoryview) -> None:
        """Write a piece of a body of known length at once, after the bytes that were collected before."""
        self.sent += len(data)
        if self._out:
            self.push()
        if not self.closed:
            if self.on_write is not None:
                self.on_write()
            self._context.flush()
            if not self.transport.is_closing():  # `connection_lost` may not have been called yet
                self.transport.write(data)

    def push(self) -> None:
        """Write the bytes that `begin` and `send` have collected."""
        out = self._out
        if out and not self.closed:
            if self.on_write is not None:
                self.on_write()
            if len(out) == 1 and len(out[0]) < LARGE:
                self._context.write(self.transport, out[0])
            elif len(out[-1]) >= LARGE or (len(out) > 1 and len(out[-2]) >= LARGE):
                self._context.flush()
                self.transport.writelines(out)
            else:
                self._context.write(self.transport, b"".join(out))
        out.clear()

    def end(self, trailers: Headers | None) -> None:
        """Write the rest of the response, and the end of its body."""
        if self.framing is _CHUNKED:
            self._out.append(b"0\r\n" + (fields.trailer_lines(trailers) if trailers else b"\r\n"))
        self.push()

    def write_whole(self, status: int, head: bytes, body: bytes) -> None:
        """Write a complete response to an HTTP/1.1 client whose connection is kept. head: with the empty line."""
        self.fresh = False
        self.framing = _KNOWN
        self.status = status
        self.sent = len(body)
        self._context.write(self.transport, head + body)

    def switch(self, fields: bytes, rest: bytes) -> None:
        """Write a 101.

        fields: its field lines, including `Connection` and `Upgrade`.
        rest: the bytes that follow its head.
        """
        self.fresh = False
        self.framing = _KNOWN
        self.status = 101
        self._context.flush()
        self.transport.write(heads.STATUS_LINES[101] + fields + b"\r\n" + rest)

    def drop(self) -> None:
        """Discard the collected bytes that were not written."""
        self._out.clear()
