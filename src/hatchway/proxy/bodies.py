"""Readers that find the end of a message body: one class for each framing of RFC 9112 section 6. They do no I/O.

A reader's `feed` takes received bytes and returns the bytes of the body. Once `done` is True, `rest` has the bytes
after the body.
"""

from __future__ import annotations

import re
from typing import Final

from hatchway.proxy.fields import BadMessage, parse_fields
from hatchway.proxy.heads import CHUNKED, UNTIL_CLOSE
from hatchway.proxy.routing import Headers

# Chunk extensions are accepted and ignored. Their length is limited, because a sender could waste a receiver's time
# with long ones (CVE-2023-39326).
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_LINE_LIMIT: Final = 4096


class Length:
    """A body of known length."""

    __slots__ = ("done", "left", "rest", "trailers")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0
        self.rest = b""
        self.trailers: Headers = []

    def feed(self, data: bytes) -> bytes:
        """Return the bytes of `data` that belong to the body. Bytes after the body are in `rest`."""
        left = self.left
        size = len(data)
        if size < left:
            self.left = left - size
            return data
        self.left = 0
        self.done = True
        if size == left:
            return data
        self.rest = data[left:]
        return data[:left]


class UntilClose:
    """A body of a response that ends with the connection."""

    __slots__ = ("done", "rest", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.trailers: Headers = []

    def feed(self, data: bytes) -> bytes:
        """Return the bytes of `data` that belong to the body. Bytes after the body are in `rest`."""
        return data


class Chunked:
    """A chunked body (RFC 9112 section 7.1). Raises BadMessage for bare LF, bad sizes and overlong lines."""

    __slots__ = ("_buffer", "_fields_limit", "_head_limit", "_left", "_state", "done", "rest", "trailers")

    _SIZE, _DATA, _DATA_END, _TRAILERS = range(4)

    def __init__(self, head_limit: int, fields_limit: int) -> None:
        self._head_limit = head_limit
        self._fields_limit = fields_limit
        self._state = self._SIZE
        self._left = 0
        self._buffer = b""
        self.done = False
        self.rest = b""
        self.trailers: Headers = []

    def feed(self, data: bytes) -> bytes:
        """Return the bytes of `data` that belong to the body. Bytes after the body are in `rest`."""
        if self._state == self._DATA and len(data) <= self._left:
            self._left -= len(data)
            if not self._left:
                self._state = self._DATA_END
            return data
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        out: list[bytes] = []
        at = 0
        size = len(data)
        while at < size:
            state = self._state
            if state == self._DATA:
                end = min(size, at + self._left)
                out.append(data[at:end])
                self._left -= end - at
                at = end
                if self._left:
                    break
                self._state = self._DATA_END
            elif state == self._DATA_END:
                if data[at : at + 2] != b"\r\n":
                    if data[at:] == b"\r":
                        break
                    raise BadMessage("malformed chunk: no line end after its data")
                at += 2
                self._state = self._SIZE
            elif state == self._SIZE:
                end = data.find(b"\n", at)
                if end < 0:
                    if size - at > _LINE_LIMIT:
                        raise BadMessage("malformed chunk: its size line is too long")
                    if not _SIZE_LINE.match(data, at):
                        raise BadMessage("malformed chunk size")
                    break
                line = data[at : end - 1]
                match = _SIZE_LINE.fullmatch(line)
                if data[end - 1 : end] != b"\r" or match is None or len(line) > _LINE_LIMIT:
                    raise BadMessage("malformed chunk size")
                self._left = int(match[1], 16)
                at = end + 1
                self._state = self._DATA if self._left else self._TRAILERS
            else:
                end = self._end_of_trailers(data, at)
                if end < 0:
                    break
                self.rest = data[end:]
                self.done = True
                at = size
        if at < size:
            self._buffer = data[at:]
        return out[0] if len(out) == 1 else b"".join(out)

    def _end_of_trailers(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            return at + 2
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            if len(data) - at > self._head_limit:
                raise BadMessage("trailers too large", 431)
            if _BARE_LF.search(data, at):
                raise BadMessage("malformed trailer: line feed without carriage return")
            return -1
        if end - at > self._head_limit:
            raise BadMessage("trailers too large", 431)
        self.trailers = parse_fields(data[at : end + 4], self._fields_limit)
        return end + 4


Body = Length | UntilClose | Chunked


def reader(framing: int, head_limit: int, fields_limit: int) -> Body:
    """Return the reader for a framing: a length, CHUNKED or UNTIL_CLOSE."""
    if framing == CHUNKED:
        return Chunked(head_limit, fields_limit)
    if framing == UNTIL_CLOSE:
        return UntilClose()
    return Length(framing)
