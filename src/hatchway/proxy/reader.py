"""The request reader: turns the bytes of a client's connection into events. It uses no sockets and no clocks.

`receive` takes pieces of any size. `next_event` returns a `Request`, a piece of its body as `bytes`, or a `BodyEnd`.
Pipelined requests wait in the buffer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hatchway.proxy import bodies, heads
from hatchway.proxy.budget import Share
from hatchway.proxy.cache import CachedHead
from hatchway.proxy.fields import BadMessage
from hatchway.proxy.heads import Request
from hatchway.proxy.limits import Limits
from hatchway.proxy.routing import Headers

_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+")


@dataclass(frozen=True, slots=True)
class BodyEnd:
    """The end of a request's body. trailers: the fields of its trailer section."""

    trailers: Headers


ReaderEvent = Request | bytes | BodyEnd
_END: Final = BodyEnd([])


class RequestReader:
    """Reads the requests of one connection.

    Attributes:
        buffer: received bytes that were not parsed yet, including an incomplete head. Callers must not change it.
        known: parsed heads, by their bytes.
        share: the memory that the connection has reserved for large heads.
        in_body: True if the current request has a body whose BodyEnd was not returned yet.
    """

    __slots__ = ("_body", "_limits", "_line_seen", "_parser", "_scanned", "buffer", "in_body", "known", "share")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = heads.RequestParser(limits.fields)
        # An incomplete head is in a bytearray, because it may grow in many small pieces.
        self.buffer: bytes | bytearray = b""
        self._scanned = 0
        self._line_seen = False
        self._body: bodies.Body | None = None
        self.in_body = False
        self.known: Mapping[bytes, CachedHead] = {}
        self.share = Share()

    @property
    def in_head(self) -> bool:
        """Return True if the buffer contains an incomplete head without an error so far."""
        return isinstance(self.buffer, bytearray)

    def receive(self, data: bytes) -> None:
        """Add bytes that have arrived."""
        if self.buffer:
            self.buffer += data
        else:
            self.buffer = data

    def next_event(self) -> ReaderEvent | None:
        """Return the next event, or None when more bytes are needed.

        Raises:
            BadMessage: the bytes are not an acceptable request. After that only `discard` may be called.
        """
        if self.in_body:
            return self._next_of_body()
        data = self.buffer
        return self._next_request(data) if data else None

    def _next_request(self, data: bytes | bytearray) -> Request | None:
        if data[:2] == b"\r\n":
            # Empty lines before a request are ignored (RFC 9112 section 2.2).
            lines = _EMPTY_LINES.match(data)
            assert lines is not None
            data = self.buffer = bytes(data[lines.end() :])
            if not data:
                return None
        end = data.find(b"\r\n\r\n", self._scanned) + 4
        if end < 4:
            self._check_partial(data)
            return None
        self._scanned = 0
        self._line_seen = False
        data = bytes(data)
        if end > self._limits.head:
            raise _too_large()
        head = data[:end]
        known = self.known.get(head) if end <= heads.KEPT else None
        if known is not None:
            request = known.request
        else:
            last = self._parser.last
            if last is not None and last.head == head:
                request = last
            else:
                if not self.share.hold_complete(head):
                    raise _too_many()
                request = self._parser.parse(head)
        self.buffer = data[end:]
        self.start_body(request)
        return request

    def _check_partial(self, data: bytes | bytearray) -> None:
        if len(data) > self._limits.head:
            raise _too_large()
        if not self.share.hold(len(data)):
            raise _too_many()
        self._line_seen = heads.check_partial(data, self._scanned, self._line_seen)
        self._scanned = max(0, len(data) - 3)
        if not isinstance(data, bytearray):
            self.buffer = bytearray(data)

    def start_body(self, request: Request) -> None:
        """Read the body of a request next, if it has one. `next_event` calls this for the requests that it returns."""
        if request.body:
            self._body = bodies.reader(request.body, self._limits.trailers, self._limits.fields)
            self.in_body = True

    def _next_of_body(self) -> bytes | BodyEnd | None:
        body = self._body
        assert body is not None
        data = self.buffer
        if data and not body.done:
            self.buffer = b""
            chunk = body.feed(bytes(data))
            if body.done:
                self.buffer = body.rest
            if chunk:
                return chunk
        if not body.done:
            return None
        self._body = None
        self.in_body = False
        return BodyEnd(body.trailers) if body.trailers else _END

    @property
    def bulk_left(self) -> int:
        """Return how many bytes of a body of known length are missing; 0 for other bodies, or if bytes are buffered."""
        body = self._body
        return body.left if isinstance(body, bodies.Length) and not self.buffer else 0

    def skip_bulk(self, size: int) -> bool:
        """Count bytes of the body that did not come through `receive`. size: at most `bulk_left`.

        Returns:
            True if the body is complete, so that the next event is its end.
        """
        body = self._body
        assert isinstance(body, bodies.Length)
        body.left -= size
        body.done = not body.left
        return body.done

    def discard(self) -> None:
        """Treat all bytes from now on as a body without an end."""
        self.buffer = b""
        self._body = bodies.UntilClose()
        self.in_body = True

    def take_rest(self) -> bytes:
        """Empty the buffer and return its bytes. A body that is being read is forgotten."""
        rest, self.buffer = bytes(self.buffer), b""
        self._body = None
        self.in_body = False
        self._parser.forget()
        return rest


def _too_large() -> BadMessage:
    return BadMessage("request header fields too large", 431)


def _too_many() -> BadMessage:
    return BadMessage("too many requests with large heads at once, please try again later", 503)
