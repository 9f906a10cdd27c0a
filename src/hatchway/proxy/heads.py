"""Parses and writes heads of HTTP/1.1 messages strictly, to prevent request smuggling. Pure: no sockets.

Start lines are parsed here instead of by llhttp, which has a fixed list of methods and rejects UTF-8 in targets. The
framing of bodies is determined here, too: llhttp stops at any `Upgrade` field, and waits for a body when the response
to a HEAD has a Content-Length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from hatchway.proxy.fields import BadMessage, end_to_end, parse_fields, strip_listed, tokens
from hatchway.proxy.fields import length as parse_length
from hatchway.proxy.routing import Forward, Headers, ResponseHead

# Parsed heads of up to this many bytes are kept, in case the next message has the same head.
KEPT: Final = 4096
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

# Upgrades to other versions of HTTP are ignored, as RFC 9110 section 7.8 allows. h2c is deprecated (RFC 9113 section
# 3.1), and Java's client offers it with each ordinary request.
_IGNORED_UPGRADES: Final = frozenset({b"h2c", b"h2", b"http/2.0", b"http/1.1"})

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) ([\x21-\x7e\x80-\xff]+) HTTP/([0-9])\.([0-9])\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#@]*)([/?].*)?")
_HOST = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=%:\[\]]*")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_METHODS: Final = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
}
# Idempotent methods: a request may be sent again even if the upstream may have executed it already (RFC 9110 section
# 9.2.2).
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND", "REPORT", "SEARCH"})
# A path of more than _PLAIN_PATH bytes may have at most _PIECES slashes and escapes, because each costs time in
# routing.
_PLAIN_PATH: Final = 16 * 1024
_PIECES: Final = 8 * 1024
_VERSIONS: Final = {(b"1", b"1"): "1.1", (b"1", b"0"): "1.0"}

# Members of `Connection` that are not names of fields. A `Connection` with only such members needs no further checks.
_USUAL_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"upgrade"})
# Fields that identify the client and its origin. Without one of them, a request could have more rights.
_SECURITY_FIELDS: Final = frozenset({b"authorization", b"cookie", b"origin", b"host"})
_SECURITY_PREFIXES: Final = (b"impersonate-", b"x-remote-", b"sec-fetch-")

_HOST_FIELD, _LENGTH, _ENCODING, _CONNECTION, _UPGRADE, _EXPECT, _TE = range(7)
_REQUEST_FIELDS: Final = {
    b"host": _HOST_FIELD,
    b"content-length": _LENGTH,
    b"transfer-encoding": _ENCODING,
    b"connection": _CONNECTION,
    b"upgrade": _UPGRADE,
    b"expect": _EXPECT,
    b"te": _TE,
}
_RESPONSE_FIELDS: Final = {
    b"content-length": _LENGTH,
    b"transfer-encoding": _ENCODING,
    b"connection": _CONNECTION,
}

STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


@dataclass(frozen=True, slots=True)
class Request:
    """A parsed request head, with the framing of its body. The first six attributes are those of `RequestHead`.

    Attributes:
        upgrade: the value of `Upgrade`; None when the client requests no upgrade.
        body: the length of the body in bytes, or CHUNKED.
        stated: True if the request has a Content-Length, which may be 0.
        keep_alive: True if the client allows another request on the connection.
        expects_continue: True if the client waits for `100 Continue` before it sends the body.
        trailers: True if the client accepts trailers.
        replayable: True if the request may be sent again even if the upstream may have executed it already.
        plain: True for a replayable request with HTTP/1.1, no `Expect`, no upgrade, and a connection that is kept.
        head: the bytes of the head, with its empty line; b"" for a head larger than KEPT.
    """

    method: str
    target: bytes
    path: bytes
    query: bytes | None
    headers: Headers
    version: str
    upgrade: bytes | None = None
    body: int = 0
    stated: bool = False
    keep_alive: bool = False
    expects_continue: bool = False
    trailers: bool = False
    replayable: bool = False
    plain: bool = False
    head: bytes = b""

    def head_for(self, forward: Forward) -> bytes:
        """Return the head for the upstream, with its empty line.

        Raises:
            BadMessage: the routing function's target or one of its fields is malformed.
        """
        line = b"%b %b HTTP/1.1\r\n" % (self.method.encode("ascii"), forward.target)
        if not _REQUEST_LINE.fullmatch(line):
            raise BadMessage("malformed request target")
        lines = line + end_to_end(forward.headers)
        if self.body == CHUNKED:
            lines += b"Transfer-Encoding: chunked\r\n"
        elif self.stated:
            lines += b"Content-Length: %d\r\n" % self.body
        if self.trailers:
            lines += b"TE: trailers\r\n"
        if self.upgrade is not None:
            lines += b"Connection: Upgrade\r\nUpgrade: " + self.upgrade + b"\r\n"
        return lines + b"\r\n"


@dataclass(frozen=True, slots=True)
class Response:
    """A parsed response head, with the framing of its body. Never changed; `copy_head` returns a copy for changes.

    Attributes:
        head: status, reason and fields.
        block: the bytes of the head, with its empty line.
        start: the status line to write.
        body: the length of the body in bytes, CHUNKED or UNTIL_CLOSE, from the fields alone. The caller must handle
            HEAD requests and the statuses 1xx, 204 and 304.
        keep_alive: True if the server allows another request on the connection.
        upgrade: the value of `Upgrade` in a 101; otherwise None.
        final: True for a final response whose body has a known length (as the response to a HEAD it has no body).
        whole: the length of head and body in bytes if `final`, otherwise 0.
    """

    head: ResponseHead
    block: bytes
    start: bytes
    body: int
    keep_alive: bool
    upgrade: bytes | None
    final: bool
    whole: int

    def fields(self) -> bytes:
        """Return the end-to-end field lines as received, without Content-Length.

        Raises:
            BadMessage: a field has a line break.
        """
        return end_to_end(self.head.headers)

    def copy_head(self) -> ResponseHead:
        """Return a head that may be changed."""
        return ResponseHead(self.head.status, self.head.reason, self.head.headers[:])


def check_partial(data: bytes | bytearray, scanned: int, line_seen: bool) -> bool:
    """Check an incomplete head, so that malformed bytes are rejected at once instead of after a timeout.

    Args:
        data: all bytes of the head so far.
        scanned: the number of bytes that were checked before.
        line_seen: True if the request line was already complete at the last check.

    Returns:
        True if the request line is complete now.

    Raises:
        BadMessage: the bytes cannot be the beginning of a head.
    """
    if _BARE_LF.search(data, scanned):
        raise BadMessage("malformed header: line feed without carriage return")
    if data.find(b"\x00", scanned) >= 0:
        raise BadMessage("malformed header: NUL")
    if line_seen:
        return True
    line = data.find(b"\r\n", scanned)
    if line >= 0 and not _REQUEST_LINE.match(data):
        raise BadMessage("malformed request line")
    if not scanned and line < 0 and data[:1] in (b"\x16", b"\x80"):
        raise BadMessage("client sent a TLS handshake to a plain HTTP port")
    return line >= 0


@dataclass(slots=True)
class _Facts:
    """Facts from a request's fields; the attributes have the same names as in `Request`."""

    headers: Headers
    body: int
    stated: bool
    keep_alive: bool
    expects: bool
    trailers: bool
    upgrade: bytes | None


class RequestParser:
    """Parses the heads of one connection's requests.

    The last fields are remembered, because requests of one connection often have the same fields, byte for byte.

    Attributes:
        last: the last request, in case the same head comes again; None after a large head.
    """

    __slots__ = ("_block", "_facts", "_limit", "_version", "last")

    def __init__(self, fields_limit: int) -> None:
        self._limit = fields_limit
        self._version = ""
        self._block = b""
        self._facts: _Facts | None = None
        self.last: Request | None = None

    def forget(self) -> None:
        """Free the last request, because the next one may not come for a long time."""
        self.last = None
        self._block, self._facts = b"", None

    def parse(self, head: bytes) -> Request:
        """Parse a request's head. head: its bytes, with the empty line. Raises BadMessage."""
        self.last = None
        cut = head.find(b"\r\n") + 2
        method, target, path, query, version = _request_line(head[:cut])
        block = head[cut:]
        facts = self._facts
        if facts is None or block != self._block or version != self._version:
            self._facts = None
            facts = _request_facts(parse_fields(block, self._limit), version)
            if len(block) <= KEPT:
                self._facts = facts
                self._block = block
                self._version = version
        headers = facts.headers
        if target[:1] != b"/":
            target, headers = _reduce(method, target, headers)
            path, mark, rest = target.partition(b"?")
            query = rest if mark else None
        replayable = not facts.body and method in _IDEMPOTENT
        plain = replayable and version == "1.1" and facts.keep_alive and not facts.expects and facts.upgrade is None
        kept = len(head) <= KEPT
        request = Request(
            method,
            target,
            path,
            query,
            headers,
            version,
            facts.upgrade,
            facts.body,
            facts.stated,
            facts.keep_alive,
            facts.expects,
            facts.trailers,
            replayable,
            plain,
            head if kept else b"",
        )
        if kept:
            self.last = request
        return request


def _request_line(line: bytes) -> tuple[str, bytes, bytes, bytes | None, str]:
    """Return method, target, path, query and version of a request line. Raises BadMessage."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise BadMessage("malformed request line")
    raw_method, target, major, minor = match.groups()
    version = _VERSIONS.get((major, minor))
    if version is None:
        raise BadMessage("HTTP version not supported", 505)
    if b"#" in target:
        raise BadMessage("malformed request target")
    path, mark, query = target.partition(b"?")
    if len(path) > _PLAIN_PATH and path.count(b"/") + path.count(b"%") > _PIECES:
        raise BadMessage("too many segments or escapes in the request's path", 414)
    return _METHODS.get(raw_method) or raw_method.decode("ascii"), target, path, query if mark else None, version


def _request_facts(headers: Headers, version: str) -> _Facts:
    """Check a request's fields, and return the facts about its body and its connection.

    Fields that `Connection` lists are removed here, before routing. If they were removed later, a client could also
    remove fields that the routing function adds (X-Forwarded-For). A request is rejected when it lists a field on which
    routing depends: without `Impersonate-User`, for example, the request would have the rights of its token.
    """
    length: int | None = None
    chunked = expects = trailers = False
    host: bytes | None = None
    hosts = 0
    upgrades: bytes | None = None
    connection: list[bytes] = []
    kinds = _REQUEST_FIELDS
    for name, value in headers:
        kind = kinds.get(name.lower())
        if kind is None:
            continue
        if kind == _HOST_FIELD:
            hosts += 1
            host = value
        elif kind == _CONNECTION:
            connection += tokens(value)
        elif kind == _LENGTH:
            length = parse_length(value)
        elif kind == _ENCODING:
            if value.lower() != b"chunked":
                raise BadMessage("unsupported Transfer-Encoding", 501)
            chunked = True
        elif kind == _TE:
            trailers = b"trailers" in tokens(value)
        elif kind == _UPGRADE:
            upgrades = value if upgrades is None else upgrades + b", " + value
        else:
            if value.lower() != b"100-continue":
                raise BadMessage("unsupported Expect", 417)
            expects = version == "1.1"

    if chunked and (length is not None or version == "1.0"):
        raise BadMessage("Transfer-Encoding is not allowed here")
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise BadMessage("exactly one Host is required")
    if host is not None and not _HOST.fullmatch(host):
        raise BadMessage("malformed Host")

    upgrade: bytes | None = None
    keep_alive = version == "1.1"
    if connection:
        keep_alive = b"close" not in connection and (keep_alive or b"keep-alive" in connection)
        if upgrades is not None and version == "1.1" and b"upgrade" in connection:
            offered = [token for token in tokens(upgrades) if token not in _IGNORED_UPGRADES]
            if any(offered):
                upgrade = upgrades
        if not _USUAL_OPTIONS.issuperset(connection):
            for token in connection:
                if token in _SECURITY_FIELDS or token.startswith(_SECURITY_PREFIXES):
                    raise BadMessage("Connection lists a field that must not be removed")
            headers = strip_listed(headers, connection)
    return _Facts(
        headers, CHUNKED if chunked else length or 0, length is not None, keep_alive, expects, trailers, upgrade
    )


def _reduce(method: str, target: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """Change an absolute target (`http://host/path`) to origin form (`/path`), and set Host to its authority.

    Returns target and fields; see RFC 9112 section 3.2.2. Raises BadMessage for CONNECT and for malformed targets.
    """
    if target == b"*" and method == "OPTIONS":
        return target, headers
    if method == "CONNECT":
        raise BadMessage("CONNECT is not supported", 405)
    found = _ABSOLUTE.fullmatch(target)
    if found is None or not found[1] or not _HOST.fullmatch(found[1]):
        raise BadMessage("malformed request target")
    rest = found[2] or b"/"
    if rest[:1] == b"?":
        rest = b"/" + rest
    kept = [field for field in headers if field[0].lower() != b"host"]
    return rest, [(b"Host", found[1]), *kept]


class ResponseParser:
    """Parses the heads of one connection's responses.

    Attributes:
        last: the last response head, which often comes again; None after a large head.
    """

    __slots__ = ("_limit", "last")

    def __init__(self, fields_limit: int) -> None:
        self._limit = fields_limit
        self.last: Response | None = None

    def parse(self, head: bytes) -> Response:
        """Parse a response's head. head: its bytes, with the empty line. Raises BadMessage."""
        last = self.last
        if last is None or head != last.block:
            self.last = None
            last = parse_response(head, self._limit)
            if len(head) <= KEPT:
                self.last = last
        return last


def parse_response(block: bytes, fields_limit: int) -> Response:
    """Parse a response's head. block: its bytes, with the empty line. Raises BadMessage."""
    line = _STATUS_LINE.match(block)
    if line is None:
        raise BadMessage("malformed status line")
    minor, code, reason = line.groups()
    status = int(code)
    headers = parse_fields(block[line.end() :], fields_limit)

    length: int | None = None
    chunked = False
    connection: list[bytes] = []
    kinds = _RESPONSE_FIELDS
    for name, value in headers:
        kind = kinds.get(name.lower())
        if kind is None:
            continue
        if kind == _LENGTH:
            length = parse_length(value)
        elif kind == _CONNECTION:
            connection += tokens(value)
        elif value.lower() != b"chunked":
            raise BadMessage("unsupported Transfer-Encoding")
        else:
            chunked = True

    upgrade: bytes | None = None
    keep_alive = minor == b"1"
    if connection:
        keep_alive = b"close" not in connection and (keep_alive or b"keep-alive" in connection)
        if status == 101:
            upgrade = b", ".join(value for name, value in headers if name.lower() == b"upgrade")
        headers = strip_listed(headers, connection)
    body = CHUNKED if chunked else UNTIL_CLOSE if length is None else length
    start = b"HTTP/1.1 %b %b\r\n" % (code, reason or b"")
    final = status >= 200 and status not in (204, 304) and body >= 0
    whole = len(block) + body if final else 0
    return Response(ResponseHead(status, reason or b"", headers), block, start, body, keep_alive, upgrade, final, whole)


def status_line(status: int) -> bytes:
    """Return the status line with the registered reason phrase."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def bodiless(method: str, status: int) -> bool:
    """Return True if a response has no body even if its fields announce one (RFC 9112 section 6.3)."""
    return method == "HEAD" or status in (204, 304) or status < 200
