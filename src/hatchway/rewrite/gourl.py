"""Parses and formats URLs like Go's `net/url` and `path`, as far as a kube-apiserver's proxy verb uses them. Pure.

Go decodes a path when it parses it and encodes it again when it formats it, with its own rules: `!` becomes `%21`,
`%2F` becomes `/`, `%7e` becomes `~`. Where Hatchway behaves like a kube-apiserver, it must apply the same rules. The
sources of the behaviour are Go's `net/url/url.go` (`Parse`, `EscapedPath`, `String`), `path.Clean` and `path.Join`, and
apimachinery's `pkg/util/net/http.go` (`JoinPreservingTrailingSlash`); tests/unit/rewrite/gourl.json contains Go's own
results.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

_ALPHANUMERIC: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_MARKS: Final = b"-_.~"


def _escapes(safe: bytes) -> list[bytes]:
    """Return the text for each byte in a part of a URL. safe: bytes without escapes, beside letters, digits, `-_.~`."""
    plain = _ALPHANUMERIC + _MARKS + safe
    return [bytes((byte,)) if byte in plain else b"%%%02X" % byte for byte in range(256)]


_PATH: Final = _escapes(b"$&+,/:;=@")
_USER: Final = _escapes(b"$&+,;=")
_HOST: Final = _escapes(b"!$&'()+*,;=:[]<>\"")
_FRAGMENT: Final = _escapes(b"$&+,/:;=?@!()*")
_UNSAFE_IN_PATH = re.compile(rb"[^A-Za-z0-9_.~$&+,/:;=@-]")
# Go keeps the original escapes of a path or fragment if all other characters are among these (`validEncoded`).
_KEEPS_PATH = re.compile(rb"[A-Za-z0-9_.~$&+,/:;=@!'()*\[\]%-]*\Z")
_KEEPS_FRAGMENT = re.compile(rb"[A-Za-z0-9_.~$&+,/:;=@!'()*\[\]%?-]*\Z")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(rb"[\x00-\x20\x7f]")
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)?:")
_PORT = re.compile(rb"(?::[0-9]*)?\Z")
_USERINFO = re.compile(rb"[A-Za-z0-9._:~!$&'()*+,;=%@-]*\Z")
_NOT_IN_HOST = re.compile(rb"[^A-Za-z0-9_.~!$&'()*+,;=:\[\]<>\"\x80-\xff%-]")
# Go writes these by name when it quotes a string.
_NAMED: Final = {7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v", 34: '\\"', 92: "\\\\"}


class GoURLError(ValueError):
    """A text that Go cannot parse as a URL; the message is Go's."""


def unescape(text: bytes) -> bytes:
    """Return a path without its escapes. Raises GoURLError."""
    if b"%" not in text:
        return text
    if bad := _BAD_ESCAPE.search(text):
        raise GoURLError(f"invalid URL escape {quoted(text[bad.start() : bad.start() + 3])}")
    return _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), text)


def escape_path(path: bytes) -> bytes:
    """Return a decoded path with the escapes that Go writes when it has no original spelling of the path."""
    if path == b"*" or not _UNSAFE_IN_PATH.search(path):
        return path
    return b"".join([_PATH[byte] for byte in path])


def quoted(text: bytes) -> str:
    """Return a text as Go's `%q` shows it."""
    out = []
    for character in text.decode("utf-8", "surrogateescape"):
        number = ord(character)
        if number in _NAMED:
            out.append(_NAMED[number])
        elif 0xDC80 <= number <= 0xDCFF:
            out.append(f"\\x{number - 0xDC00:02x}")
        elif number < 0x20 or number == 0x7F:
            out.append(f"\\x{number:02x}")
        elif character.isprintable():
            out.append(character)
        else:
            out.append(f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}")
    return '"' + "".join(out) + '"'


def clean(path: bytes) -> bytes:
    """Return a path as `path.Clean` does: no empty or dot segments, no slash at the end, b"." if nothing is left."""
    rooted = path.startswith(b"/")
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment in (b"", b"."):
            continue
        if segment != b"..":
            kept.append(segment)
        elif kept and kept[-1] != b"..":
            kept.pop()
        elif not rooted:
            kept.append(segment)
    return (b"/" if rooted else b"") + b"/".join(kept) or b"."


def join(*parts: bytes) -> bytes:
    """Join the parts that are not empty with slashes, and clean the result, as `path.Join` does; b"" for none."""
    found = [part for part in parts if part]
    return clean(b"/".join(found)) if found else b""


def join_location(base: bytes, path: bytes) -> bytes:
    """Join as `join` does, but keep a slash at the end (`JoinPreservingTrailingSlash`)."""
    found = join(base, path)
    return found + b"/" if (path or base).endswith(b"/") and not found.endswith(b"/") else found


class User(NamedTuple):
    """The user information of a URL. name, password: decoded; password is None when the URL has none."""

    name: bytes
    password: bytes | None


@dataclass(slots=True)
class URL:
    """Go's `url.URL`.

    path, fragment: the decoded path and fragment.
    raw_path, raw_fragment: their original spelling; b"" when Go would write the same.
    opaque: the part after the scheme if it does not begin with a slash (`mailto:a@b`).
    force_query: True for an empty query after a `?`.
    omit_host: True for a scheme without an authority.
    """

    scheme: bytes = b""
    opaque: bytes = b""
    user: User | None = None
    host: bytes = b""
    path: bytes = b""
    raw_path: bytes = b""
    omit_host: bool = False
    force_query: bool = False
    raw_query: bytes = b""
    fragment: bytes = b""
    raw_fragment: bytes = b""

    def escaped_path(self) -> bytes:
        """Return the path as it is sent."""
        if self.raw_path and _KEEPS_PATH.match(self.raw_path) and unescape(self.raw_path) == self.path:
            return self.raw_path
        return escape_path(self.path)

    def __bytes__(self) -> bytes:
        """Return the URL as Go's `URL.String` writes it."""
        out = self.scheme + b":" if self.scheme else b""
        if self.opaque:
            out += self.opaque
        else:
            out += self._authority()
            path = self.escaped_path()
            if path and path[:1] != b"/" and self.host:
                out += b"/"
            if not out and b":" in path.partition(b"/")[0]:
                out = b"./"  # otherwise the path's first segment would look like a scheme
            out += path
        if self.force_query or self.raw_query:
            out += b"?" + self.raw_query
        if self.fragment:
            out += b"#" + self._escaped_fragment()
        return out

    def _authority(self) -> bytes:
        if not (self.scheme or self.host or self.user) or (self.omit_host and not self.host and self.user is None):
            return b""
        out = b"//" if self.host or self.path or self.user is not None else b""
        if self.user is not None:
            out += _escape(self.user.name, _USER)
            if self.user.password is not None:
                out += b":" + _escape(self.user.password, _USER)
            out += b"@"
        return out + _escape(self.host, _HOST)

    def _escaped_fragment(self) -> bytes:
        raw = self.raw_fragment
        if raw and _KEEPS_FRAGMENT.match(raw) and unescape(raw) == self.fragment:
            return raw
        return _escape(self.fragment, _FRAGMENT)


def _escape(text: bytes, table: list[bytes]) -> bytes:
    return b"".join([table[byte] for byte in text])


def parse(text: bytes) -> URL:
    """Parse a URL as Go's `url.Parse` does. Raises GoURLError."""
    before, _, fragment = text.partition(b"#")
    try:
        url = _parse(before)
    except GoURLError as error:
        raise GoURLError(f"parse {quoted(before)}: {error}") from None
    try:
        url.fragment = unescape(fragment)
    except GoURLError as error:
        raise GoURLError(f"parse {quoted(text)}: {error}") from None
    url.raw_fragment = b"" if _escape(url.fragment, _FRAGMENT) == fragment else fragment
    return url


def parse_request_uri(text: bytes) -> URL:
    """Parse a URL as Go's `url.ParseRequestURI` does. Raises GoURLError.

    It must have a scheme or begin with a slash, and `#` does not begin a fragment.
    """
    try:
        if not text:
            raise GoURLError("empty url")
        return _parse(text, is_request=True)
    except GoURLError as error:
        raise GoURLError(f"parse {quoted(text)}: {error}") from None


def _parse(text: bytes, is_request: bool = False) -> URL:
    if any(byte < 0x20 or byte == 0x7F for byte in text):
        raise GoURLError("net/url: invalid control character in URL")
    if text == b"*":
        return URL(path=text)
    url = URL()
    rest = text
    if found := _SCHEME.match(text):
        if found[1] is None:
            raise GoURLError("missing protocol scheme")
        url.scheme, rest = found[1].lower(), text[found.end() :]
    if rest.endswith(b"?") and rest.count(b"?") == 1:
        url.force_query = True
        rest = rest[:-1]
    else:
        rest, _, url.raw_query = rest.partition(b"?")
    if not rest.startswith(b"/"):
        if url.scheme:
            url.opaque = rest
            return url
        if is_request:
            raise GoURLError("invalid URI for request")
        if b":" in rest.partition(b"/")[0]:
            raise GoURLError("first path segment in URL cannot contain colon")
    if rest.startswith(b"//") and (url.scheme or not (is_request or rest.startswith(b"///"))):
        authority, slash, rest = rest[2:].partition(b"/")
        rest = slash + rest
        url.user, url.host = _parse_authority(authority)
    elif url.scheme and rest.startswith(b"/"):
        url.omit_host = True
    url.path = unescape(rest)
    url.raw_path = b"" if escape_path(url.path) == rest else rest
    return url


def _parse_authority(authority: bytes) -> tuple[User | None, bytes]:
    told, at, host = authority.rpartition(b"@")
    host = _parse_host(host)
    if not at:
        return None, host
    if not _USERINFO.match(told):
        raise GoURLError("net/url: invalid userinfo")
    name, colon, password = told.partition(b":")
    return User(unescape(name), unescape(password) if colon else None), host


def _parse_host(host: bytes) -> bytes:
    if host.startswith(b"["):
        end = host.rfind(b"]")
        if end < 0:
            raise GoURLError("missing ']' in host")
        port = host[end + 1 :]
        if not _PORT.match(port):
            raise GoURLError(f"invalid port {quoted(port)} after host")
        zone = host.find(b"%25", 0, end)
        if zone >= 0:
            return _unescape_host(host[:zone]) + _unescape_zone(host[zone:end]) + _unescape_host(host[end:])
    else:
        last = host.rfind(b":")
        if last >= 0 and not _PORT.match(host, last):
            raise GoURLError(f"invalid port {quoted(host[last:])} after host")
    return _unescape_host(host)


def _unescape_host(host: bytes) -> bytes:
    """Return a host without its escapes: only bytes beyond ASCII may be escaped, and the percent sign before a zone."""
    position = 0
    while position < len(host):
        if host[position : position + 1] == b"%":
            escape = host[position : position + 3]
            if not _ESCAPE.fullmatch(escape) or (int(escape[1:2], 16) < 8 and escape != b"%25"):
                raise GoURLError(f"invalid URL escape {quoted(escape)}")
            position += 3
        elif _NOT_IN_HOST.match(host, position):
            raise GoURLError(f"invalid character {quoted(host[position : position + 1])} in host name")
        else:
            position += 1
    return unescape(host)


def _unescape_zone(zone: bytes) -> bytes:
    position = 0
    while position < len(zone):
        if zone[position : position + 1] == b"%":
            escape = zone[position : position + 3]
            if not _ESCAPE.fullmatch(escape):
                raise GoURLError(f"invalid URL escape {quoted(escape)}")
            value = int(escape[1:], 16)
            if escape != b"%25" and value != 0x20 and _HOST[value] != bytes((value,)):
                raise GoURLError(f"invalid URL escape {quoted(escape)}")
            position += 3
        elif _NOT_IN_HOST.match(zone, position):
            raise GoURLError(f"invalid character {quoted(zone[position : position + 1])} in host name")
        else:
            position += 1
    return unescape(zone)
