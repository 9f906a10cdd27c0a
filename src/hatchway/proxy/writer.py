"""The writing half of a client's connection: frames one response at a time.

What is written while one batch of bytes is handled leaves in one write.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from hatchway.proxy import bodies, fields, heads
from hatchway.proxy.context import Context
from hatchway.proxy.heads import Request
from hatchway.proxy.routing import Headers

# From this size on, a chunk is written by itself: copying it beside its head would cost more than a system call.
LARGE: Final = 16 * 1024


class ResponseWriter(asyncio.Protocol):
    """What exchanges write responses with; `ClientConnection` adds the reading half.

    status: of the response that was begun, 0 before. begun: a response's head was written for the current exchange.
    request: the current (or last) request. deadline: when `deadline_passed` is due, by the coarse clock.
    """

    __slots__ = (
        "_body",
        "_bytes_in",
        "_bytes_out",
        "_chunking",
        "_closed",
        "_context",
        "_eof",
        "_keep",
        "_limits",
        "_out",
        "begun",
        "deadline",
        "request",
        "status",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, context: Context) -> None:
        self._context = context
        self._limits = context.limits
        self._body: bodies.Body | None = None
        self._bytes_in = 0
        self._bytes_out = 0
        self._chunking = False
        self._closed = False
        self._eof = False
        self._keep = True
        self._out: list[bytes] = []
        self.begun = False
        self.deadline = math.inf
        self.request: Request | None = None
        self.status = 0

    def interim(self, status: int, fields: bytes) -> None:
        """Send an interim response (1xx) at once; HTTP/1.0 clients do not know them."""
        if self.request is not None and self.request.version == "1.1" and not self._closed:
            self._context.flush()
            self.transport.write(heads.status_line(status) + fields + b"\r\n")

    def begin(self, status: int, start: bytes, fields: bytes, framed: bool) -> None:
        """Write a response's head.

        start: its status line. fields: end-to-end field lines. framed: they tell the body's length, or it has none.
        """
        assert self.request is not None
        self.begun = True
        self.status = status
        request = self.request
        if self._context.closing or (request.expects_continue and self._body is not None and not self._bytes_in):
            # A client that was not told to continue may send its body or not: what follows could be either.
            self._keep = False
        end = b"\r\n"
        old = request.version == "1.0"
        if not framed:
            if old:
                self._keep = False
            else:
                self._chunking = True
                end = b"Transfer-Encoding: chunked\r\n\r\n"
        if not self._keep:
            end = b"Connection: close\r\n" + end
        elif old:
            end = b"Connection: keep-alive\r\n\r\n"
        self._out.append(start + fields + end)

    def send(self, data: bytes) -> None:
        """Add a piece of the response's body to what `push` writes."""
        size = len(data)
        self._bytes_out += size
        out = self._out
        if self._chunking:
            out.append(b"%x\r\n" % size)
            out.append(data)
            out.append(b"\r\n")
        else:
            out.append(data)

    def send_now(self, data: memoryview) -> None:
        """Write a piece of a body of known length, after whatever was gathered before."""
        self._bytes_out += len(data)
        if self._out:
            self.push()
        if not self._closed:
            if self._eof:
                self.deadline = self._context.now + self._limits.half_closed_timeout
            self._context.flush()
            if not self.transport.is_closing():  # as one is whose loss has not been reported yet
                self.transport.write(data)

    def push(self) -> None:
        """Write what `begin` and `send` have gathered."""
        out = self._out
        if out and not self._closed:
            if self._eof:
                self.deadline = self._context.now + self._limits.half_closed_timeout
            if len(out) == 1 and len(out[0]) < LARGE:
                self._context.write(self.transport, out[0])
            elif len(out[-1]) >= LARGE or (len(out) > 1 and len(out[-2]) >= LARGE):
                self._context.flush()
                self.transport.writelines(out)
            else:
                self._context.write(self.transport, b"".join(out))
        out.clear()

    def end(self, trailers: Headers | None) -> None:
        """Finish the response's framing and write what is left of it."""
        if self._chunking:
            self._out.append(b"0\r\n" + (fields.trailer_lines(trailers) if trailers else b"\r\n"))
        self.push()
