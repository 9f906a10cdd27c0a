"""Message heads: bytes to values and back, with the strictness that keeps requests from being smuggled.

Start lines are matched here and not by llhttp, which knows a closed list of methods and refuses raw UTF-8 in targets;
framing is decided here too, because llhttp stops at any `Upgrade` field and takes a HEAD answer's Content-Length for
a body to come. Pure: no sockets, no clocks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from hatchway.proxy.fields import BadMessage, end_to_end, parse_fields, strip_listed, tokens
from hatchway.proxy.fields import length as parse_length
from hatchway.proxy.routing import Forward, Headers, Memo, ResponseHead

CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

# Upgrades to other versions of HTTP may be ignored (RFC 9110 section 7.8) and h2c is deprecated (RFC 9113 section 3.1):
# Java's client offers it with every request, which must stay an ordinary request.
_IGNORED_UPGRADES: Final = frozenset({b"h2c", b"h2", b"http/2.0", b"http/1.1"})

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) ([\x21-\x7e\x80-\xff]+) HTTP/([0-9])\.([0-9])\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#@]*)([/?].*)?")
_HOST = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=%:\[\]]*")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_METHODS: Final = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
}
# RFC 9110 section 9.2.2: only these may be sent again when it is unknown whether the first copy was acted upon.
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND", "REPORT", "SEARCH"})
_VERSIONS: Final = {(b"1", b"1"): "1.1", (b"1", b"0"): "1.0"}

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


@dataclass(slots=True)
class Request:
    """What a request's head says, its framing included; shared by requests with the same head, and never changed.

    body: the length of the body in bytes, or CHUNKED. stated: the client gave a Content-Length, which may be 0.
    keep_alive: the client allows another request afterwards. expects_continue: the client waits for `100 Continue`
    before it sends the body. trailers: it welcomes trailers. sent: what was sent last for it, and for which Forward.
    replayable: it may be sent again when it is unknown whether the first copy was acted upon. plain: nothing about it is
    special either: HTTP/1.1, no expectation, no upgrade, and the connection is kept.
    The rest is as in `RequestHead`.
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
    memo: Memo = field(default_factory=Memo)
    sent: tuple[Forward, bytes] | None = None
    replayable: bool = False
    plain: bool = False

    def sent_head(self, forward: Forward) -> bytes:
        """The head that goes to the upstream, its empty line included. Raises BadMessage."""
        sent = self.sent
        if sent is not None and sent[0] is forward:
            return sent[1]
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
        lines += b"\r\n"
        self.sent = (forward, lines)
        return lines


@dataclass(slots=True)
class Response:
    """A response's head with its framing.

    block: its bytes, the empty line included. start: its status line, to be written as it is. body: length in bytes,
    CHUNKED or UNTIL_CLOSE, as the fields say; HEAD, 1xx, 204 and 304 are the caller's matter. final: it has a body of
    known length, to whatever method but HEAD; whole: the length of head and body then, otherwise 0. upgrade: the `Upgrade` field of a 101. relayed: what was made of it last.
    Not to be changed: the connection remembers it; `copy_head` gives a head that may be.
    """

    head: ResponseHead
    block: bytes
    start: bytes
    body: int
    keep_alive: bool
    upgrade: bytes | None
    final: bool
    whole: int
    relayed: Relayed | None = None
    _rendered: bytes | None = None

    def fields(self) -> bytes:
        """The end-to-end field lines as they came, without Content-Length. Raises BadMessage."""
        if self._rendered is None:
            self._rendered = end_to_end(self.head.headers)
        return self._rendered

    def copy_head(self) -> ResponseHead:
        return ResponseHead(self.head.status, self.head.reason, self.head.headers[:])


@dataclass(slots=True)
class Relayed:
    """What is relayed of a response for a Forward whose `edit_response` wants to see nothing of the body.

    lines: status line and field lines, Content-Length included where it is known; without the field `added` and without
    the empty line. head: the same with the empty line.
    """

    forward: Forward
    added: bytes
    status: int
    lines: bytes
    head: bytes


def check_partial(data: bytes, scanned: int) -> None:
    """Refuse early what can never become a head: waiting for its end would be waiting for the time-out.

    scanned: up to where `data` was checked before. Raises BadMessage.
    """
    if _BARE_LF.search(data, scanned):
        raise BadMessage("malformed header: line feed without carriage return")
    if data.find(b"\x00", scanned) >= 0:
        raise BadMessage("malformed header: NUL")
    line = data.find(b"\r\n", scanned)
    if line >= 0 and not _REQUEST_LINE.match(data):
        raise BadMessage("malformed request line")
    if not scanned and line < 0 and data[:1] in (b"\x16", b"\x80"):
        raise BadMessage("client sent a TLS handshake to a plain HTTP port")


@dataclass(slots=True)
class _Facts:
    """What a request's fields say; `upgrade` only when `Connection` lists it."""

    headers: Headers
    body: int
    stated: bool
    keep_alive: bool
    expects: bool
    trailers: bool
    upgrade: bytes | None


class KnownHeads:
    """Heads that have come before, so that they need not be read again; the whole of it is bounded.

    Only those of one client are shared: what a routing function keeps of a head may depend on who sends it.
    """

    __slots__ = ("_clients", "_count")

    LIMIT: Final = 512
    SIZE: Final = 4096

    def __init__(self) -> None:
        self._clients: dict[object, dict[bytes, Request]] = {}
        self._count = 0

    def of(self, client: object) -> dict[bytes, Request]:
        """Those of a client, by their bytes. client: hashable, whatever tells clients apart."""
        return self._clients.setdefault(client, {})

    def add(self, known: dict[bytes, Request], head: bytes, request: Request) -> None:
        """Keep a head in a dictionary that `of` has given."""
        if len(head) > self.SIZE:
            return
        if self._count >= self.LIMIT:
            for each in self._clients.values():
                each.clear()
            self._clients.clear()
            known.clear()
            self._count = 0
        self._count += 1
        known[head] = request


class RequestParser:
    """Reads the requests of one connection.

    A connection's requests mostly carry the same fields, byte for byte: those of the request before are remembered.
    """

    __slots__ = ("_block", "_facts", "_limit", "_version")

    def __init__(self, fields_limit: int) -> None:
        self._limit = fields_limit
        self._version = ""
        self._block = b""
        self._facts: _Facts | None = None

    def parse(self, head: bytes) -> Request:
        """A request's head from its bytes, the empty line included. Raises BadMessage."""
        cut = head.find(b"\r\n") + 2
        method, target, path, query, version = _request_line(head[:cut])
        block = head[cut:]
        facts = self._facts
        if facts is None or block != self._block or version != self._version:
            self._facts = None
            facts = _request_facts(parse_fields(block, self._limit), version)
            self._facts = facts
            self._block = block
            self._version = version
        headers = facts.headers
        if target[:1] != b"/":
            target, headers = _reduce(method, target, headers)
            path, mark, rest = target.partition(b"?")
            query = rest if mark else None
        replayable = not facts.body and method in _IDEMPOTENT
        return Request(
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
            replayable=replayable,
            plain=(
                replayable and version == "1.1" and facts.keep_alive and not facts.expects and facts.upgrade is None
            ),
        )


def _request_line(line: bytes) -> tuple[str, bytes, bytes, bytes | None, str]:
    """Method, target, path, query and version of a request line."""
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
    return _METHODS.get(raw_method) or raw_method.decode("ascii"), target, path, query if mark else None, version


def _request_facts(headers: Headers, version: str) -> _Facts:
    """Check a request's fields and say what they mean for its framing and its connection.

    Fields that `Connection` lists are taken out here and not when the exchange is forwarded: a client could
    otherwise have fields removed that the routing function adds (X-Forwarded-For).
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
        headers = strip_listed(headers, connection)
    return _Facts(
        headers, CHUNKED if chunked else length or 0, length is not None, keep_alive, expects, trailers, upgrade
    )


def _reduce(method: str, target: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """Absolute form to origin form, the target's authority replacing Host (RFC 9112 section 3.2.2)."""
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
    """Reads the responses of one connection. last: the last one's head, which often comes again."""

    __slots__ = ("_limit", "last")

    def __init__(self, fields_limit: int) -> None:
        self._limit = fields_limit
        self.last: Response | None = None

    def parse(self, head: bytes) -> Response:
        """A response's head from its bytes, the empty line included. Raises BadMessage."""
        last = self.last
        if last is None or head != last.block:
            self.last = None
            last = self.last = parse_response(head, self._limit)
        return last


def parse_response(block: bytes, fields_limit: int) -> Response:
    """A response's head from its bytes, the empty line included. Raises BadMessage."""
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
    """The status line with the registered phrase."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def bodiless(method: str, status: int) -> bool:
    """Whether a response has no body whatever its fields say (RFC 9112 section 6.3)."""
    return method == "HEAD" or status in (204, 304) or status < 200
