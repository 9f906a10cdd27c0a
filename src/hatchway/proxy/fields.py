"""Parses header fields strictly, and writes them without hop-by-hop fields. Pure: no sockets, no clocks.

Fields are parsed by llhttp (`httptools`) in its strict mode: it rejects bare LF and CR, obs-fold, NUL and other control
characters, white space before a colon, repeated or malformed Content-Length, and Content-Length together with
Transfer-Encoding.
"""

from __future__ import annotations

from typing import Final

import httptools

from hatchway.proxy.routing import Headers

# The fields of RFC 9110 section 7.6.1, and those that Go's httputil.ReverseProxy also removes. `Trailer` is end-to-end.
HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
_FRAMED: Final = HOP_BY_HOP | {b"content-length"}
# The largest Content-Length, and the maximum number of members of a list.
_LONGEST: Final = (1 << 63) - 1
_MEMBERS: Final = 1024
# Fields that are kept even when `Connection` lists them, because later hops rely on them.
_NEVER_STRIPPED: Final = frozenset({b"host", b"content-length", b"content-type", b"trailer", b"date", b"expect"})
_NO_TRAILERS: Final = _FRAMED | {
    b"host",
    b"trailer",
    b"authorization",
    b"content-encoding",
    b"content-type",
    b"set-cookie",
}


class BadMessage(Exception):
    """An HTTP message is malformed or not acceptable. status: the status code for the response to the client."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class _Fields:
    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.found.append((name, value.rstrip(b" \t")))


def parse_fields(block: bytes, limit: int) -> Headers:
    """Return the fields of `block`. Raises BadMessage.

    block: the field lines, each with its CRLF, and the final empty line.
    limit: the largest number of fields.
    """
    if block.count(b"\n") > limit + 1:
        raise BadMessage("too many header fields", 431)
    fields = _Fields()
    try:
        httptools.HttpRequestParser(fields).feed_data(b"POST / HTTP/1.1\r\n" + block)
    except httptools.HttpParserUpgrade:
        pass  # when there is an Upgrade field, llhttp raises this after it has parsed all fields
    except httptools.HttpParserError as error:
        raise BadMessage(f"malformed header: {error}") from None
    return fields.found


def tokens(value: bytes) -> list[bytes]:
    """Return the members of a comma-separated list, in lower case.

    Raises BadMessage when there are more than 1024.
    """
    if len(value) > _MEMBERS and value.count(b",") > _MEMBERS:
        raise BadMessage("too many members in a header field", 431)
    return [token.strip(b" \t") for token in value.lower().split(b",")]


def length(value: bytes) -> int:
    """Return the value of a Content-Length, at most 2^63 - 1 as in Go's net/http. Raises BadMessage."""
    # The number of digits is checked first, because `int` raises ValueError for a very long number.
    if not value.isdigit() or len(value) > 19 or (found := int(value)) > _LONGEST:
        raise BadMessage("malformed Content-Length")
    return found


def strip_listed(headers: Headers, connection: list[bytes]) -> Headers:
    """Return `headers` without the fields that `Connection` lists (RFC 9110 section 7.6.1).

    connection: the members of `Connection`, in lower case.
    """
    listed = {token for token in connection if token and token not in HOP_BY_HOP} - _NEVER_STRIPPED
    listed -= {b"close", b"keep-alive"}
    if not listed:
        return headers
    return [field for field in headers if field[0].lower() not in listed]


class _Prefixes(dict[bytes, bytes]):
    """A bounded cache: maps a field's name to `Name: `, or to b"" for a field that is not forwarded."""

    _NAMES: Final = 1024
    _LENGTH: Final = 64

    def __missing__(self, name: bytes) -> bytes:
        prefix = b"" if name.lower() in _FRAMED else name + b": "
        if len(self) < self._NAMES and len(name) <= self._LENGTH:
            self[name] = prefix
        return prefix


_PREFIXES: Final = _Prefixes()


def end_to_end(headers: Headers) -> bytes:
    """Return the field lines of `headers`, without hop-by-hop fields and Content-Length.

    Raises BadMessage when a name or a value has a line break.
    """
    prefixes = _PREFIXES
    lines = [prefix + value + b"\r\n" for name, value in headers if (prefix := prefixes[name])]
    block = b"".join(lines)
    if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines):
        raise BadMessage("line break in a header field")
    return block


def field_line(name: bytes, value: bytes) -> bytes:
    """Return one field line. Raises BadMessage when the value has a line break."""
    if b"\n" in value or b"\r" in value:
        raise BadMessage("line break in a header field")
    return name + b": " + value + b"\r\n"


def trailer_lines(trailers: Headers) -> bytes:
    """Return the trailer section with its empty line. Fields that RFC 9110 section 6.5.1 forbids there are left out."""
    lines = [name + b": " + value + b"\r\n" for name, value in trailers if name.lower() not in _NO_TRAILERS]
    lines.append(b"\r\n")
    return b"".join(lines)
