"""Field lines: read strictly, written without what belongs to one hop only.

They are parsed by llhttp (`httptools`) in its strict mode: it refuses bare LF and CR, obs-fold, NUL and other control
characters, white space before a colon, repeated or malformed Content-Length, and Content-Length beside
Transfer-Encoding. Pure: no sockets, no clocks.
"""

from __future__ import annotations

from typing import Final

import httptools

from hatchway.proxy.routing import Headers

# RFC 9110 section 7.6.1, and what Go's httputil.ReverseProxy removes beside it. `Trailer` is end-to-end.
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
# A sender that lists these in `Connection` would strip what later hops rely on; the listing is ignored.
_LONGEST: Final = (1 << 63) - 1
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
    """A message that is not acceptable HTTP/1.1; `status` is what a client is answered."""

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
    """The fields of `block`: field lines, each with its CRLF, and the empty line that ends them. Raises BadMessage."""
    fields = _Fields()
    try:
        httptools.HttpRequestParser(fields).feed_data(b"POST / HTTP/1.1\r\n" + block)
    except httptools.HttpParserUpgrade:
        pass  # llhttp's way to say that all fields were read and that one of them is Upgrade
    except httptools.HttpParserError as error:
        raise BadMessage(f"malformed header: {error}") from None
    if len(fields.found) > limit:
        raise BadMessage("too many header fields", 431)
    return fields.found


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, in lower case."""
    return [token.strip(b" \t") for token in value.lower().split(b",")]


def length(value: bytes) -> int:
    """Return the value of a Content-Length, at most 2^63 - 1 as in Go's net/http. Raises BadMessage."""
    # The number of digits first: Python refuses to convert very long ones.
    if not value.isdigit() or len(value) > 19 or (found := int(value)) > _LONGEST:
        raise BadMessage("malformed Content-Length")
    return found


def strip_listed(headers: Headers, connection: list[bytes]) -> Headers:
    """`headers` without the fields that the `Connection` tokens list (RFC 9110 section 7.6.1)."""
    listed = {token for token in connection if token and token not in HOP_BY_HOP} - _NEVER_STRIPPED
    listed -= {b"close", b"keep-alive"}
    if not listed:
        return headers
    return [field for field in headers if field[0].lower() not in listed]


class _Prefixes(dict[bytes, bytes]):
    """`Name: ` for a field's name as it is written, b"" for one that is not passed on; remembered up to a bound."""

    def __missing__(self, name: bytes) -> bytes:
        prefix = b"" if name.lower() in _FRAMED else name + b": "
        if len(self) < 4096:
            self[name] = prefix
        return prefix


_PREFIXES: Final = _Prefixes()


def end_to_end(headers: Headers) -> bytes:
    """Field lines of `headers` without hop-by-hop fields and Content-Length.

    Raises BadMessage when a name or a value would break the line it is written on.
    """
    prefixes = _PREFIXES
    lines = [prefix + value + b"\r\n" for name, value in headers if (prefix := prefixes[name])]
    block = b"".join(lines)
    if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines):
        raise BadMessage("line break in a header field")
    return block


def field_line(name: bytes, value: bytes) -> bytes:
    """One field line. Raises BadMessage when the value would break it."""
    if b"\n" in value or b"\r" in value:
        raise BadMessage("line break in a header field")
    return name + b": " + value + b"\r\n"


def trailer_lines(trailers: Headers) -> bytes:
    """The trailer section, its empty line included; fields that must not stand there are left out (RFC 9110 6.5.1)."""
    lines = [name + b": " + value + b"\r\n" for name, value in trailers if name.lower() not in _NO_TRAILERS]
    lines.append(b"\r\n")
    return b"".join(lines)
