"""Sends the GET request of a probe or hook, like the kubelet with Go's `net/http` (`pkg/probe/http`).

Redirects are followed if they stay on the same host. Certificates are not verified. Up to 10 KiB of the body are read
within the same timeout, so that a server that hangs after the head does not count as healthy.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urljoin, urlsplit

import httptools

from hatchway.cluster.release import KUBERNETES_MAJOR, KUBERNETES_MINOR
from hatchway.kube.tls import unverified

USER_AGENT = f"kube-probe/{KUBERNETES_MAJOR}.{KUBERNETES_MINOR}"
BODY_LIMIT = 10 << 10
_HEAD_LIMIT = 1 << 20
# The maximum number of bytes of a body on the wire, with chunk sizes, chunk extensions and trailers.
_FRAMED_LIMIT = 256 << 10
_REDIRECTS = 10
_PIECE = 16384
_CLOSE_SECONDS = 0.1

# Connects to (host, port) within the given number of seconds.
Dial = Callable[[str, int, float], Awaitable[socket.socket]]


class RequestError(Exception):
    """A request got no response. The message has the words of Go's `http.Client`."""


class PlainAnswerError(RequestError):
    """A server has answered an HTTPS request by plain HTTP."""


class DialError(RequestError):
    """The connection for a request could not be made."""


class BodyError(Exception):
    """The head of a response has arrived, but its body has not."""


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """The request of a check. url: an absolute URL. fields: the probe's own header fields."""

    url: str
    fields: Sequence[tuple[str, str]] = ()


@dataclass(slots=True)
class CheckResponse:
    """The last response, after all redirects. body: the beginning of its body."""

    status: int = 0
    location: str = ""
    body: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        """Return the body as text."""
        return self.body.decode("utf-8", "replace")


def url_of(scheme: str, host: str, port: int, path: str) -> str:
    """Return the URL of a probe (formatURL). path: it may contain a query."""
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}{path if path.startswith('/') else f'/{path}'}"


async def get(request: CheckRequest, connect: Dial, timeout: float) -> CheckResponse:
    """Send a request and follow redirects to its host, within `timeout` seconds. Raises RequestError, BodyError."""
    url, host_field, referer = request.url, "", ""
    for name, value in request.fields:
        if name.lower() == "host":
            host_field = value
    reading = _Reading()
    try:
        async with asyncio.timeout(timeout):
            for _ in range(_REDIRECTS):
                parts = urlsplit(url)
                head = _head(parts, host_field or parts.netloc, request.fields, referer)
                answer = await _exchange(parts, head, connect, timeout, reading)
                target = _redirect_url(parts, answer, urlsplit(request.url).hostname)
                if target is None:
                    return answer
                if urlsplit(answer.location).netloc:
                    # The redirect has its own host, so the probe's Host field is not used any more.
                    host_field = ""
                if parts.scheme == "http" or target.startswith("https:"):
                    referer = url
                url = target
    except TimeoutError:
        if reading.body:
            why = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
            raise BodyError(why) from None
        why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        raise RequestError(f'Get "{url}": {why}') from None
    except RequestError as error:
        raise type(error)(f'Get "{url}": {error}') from error
    raise RequestError(f'Get "{url}": stopped after {_REDIRECTS} redirects')


class _Reading:
    """The progress of a response. body: True once the head has arrived and the body is being read."""

    body = False


def _redirect_url(parts: SplitResult, answer: CheckResponse, first_host: str | None) -> str | None:
    """Return the URL to which a response redirects; None for any other response. Raises RequestError."""
    if answer.status not in (301, 302, 303, 307, 308) or not answer.location:
        return None
    try:
        target = urljoin(parts.geturl(), answer.location)
        found = urlsplit(target)
        # Reading `port` raises ValueError for an invalid port.
        host, _ = found.hostname, found.port
    except ValueError as error:
        raise RequestError(f"failed to parse Location header {answer.location!r}: {error}") from error
    if host != first_host:
        return None
    if found.scheme not in ("http", "https"):
        raise RequestError(f'unsupported protocol scheme "{found.scheme}"')
    return target


def _head(parts: SplitResult, host: str, fields: Sequence[tuple[str, str]], referer: str) -> bytes:
    given = {name.lower() for name, _ in fields}
    lines = [f"Host: {host}"]
    if "user-agent" not in given:
        lines.append(f"User-Agent: {USER_AGENT}")
    if "accept" not in given:
        lines.append("Accept: */*")
    if referer and "referer" not in given:
        lines.append(f"Referer: {referer}")
    lines.append("Connection: close")
    for name, value in fields:
        # The fields come from the pod's spec. A line break in them could begin a second request.
        bad = not name or any(character in name + value for character in "\r\n")
        own = name.lower() in ("host", "connection", "content-length", "transfer-encoding")
        empty = not value and name.lower() in ("user-agent", "accept")
        if not (bad or own or empty):
            lines.append(f"{name}: {value}")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    safe = "".join(c if "!" <= c <= "~" else "".join(f"%{byte:02X}" for byte in c.encode()) for c in target)
    lines = [line.replace("\r", "").replace("\n", "") for line in lines]
    return (f"GET {safe} HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode()


async def _exchange(parts: SplitResult, head: bytes, connect: Dial, timeout: float, reading: _Reading) -> CheckResponse:
    tls = parts.scheme == "https"
    reading.body = False
    sock = await connect(parts.hostname or "", parts.port or (443 if tls else 80), timeout)
    try:
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=unverified() if tls else None, server_hostname="" if tls else None
        )
    except ssl.SSLError as error:
        sock.close()
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            raise PlainAnswerError("http: server gave HTTP response to HTTPS client") from error
        raise RequestError(f"tls: {(error.reason or 'handshake failed').lower().replace('_', ' ')}") from error
    except OSError as error:
        sock.close()
        raise RequestError(_words(error)) from error
    except BaseException:
        sock.close()
        raise
    try:
        writer.write(head)
        return await _read(reader, reading)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await writer.wait_closed()


async def _read(reader: asyncio.StreamReader, reading: _Reading) -> CheckResponse:
    parser = _CheckResponseParser()
    size = before = 0
    while not parser.done:
        try:
            data = await reader.read(_PIECE)
        except OSError as error:
            if reading.body:
                raise BodyError(_words(error)) from error
            raise RequestError(_words(error)) from error
        if not data:
            break
        size += len(data)
        parser.feed(data)
        reading.body = parser.has_head
        if not parser.has_head:
            before = size
        elif size - before > _FRAMED_LIMIT and not parser.done:
            raise BodyError("http: chunked encoding contains too much non-data")
        if size > _HEAD_LIMIT and not parser.has_head:
            raise RequestError(f"net/http: server response headers exceeded {_HEAD_LIMIT} bytes; aborted")
    if not parser.has_head:
        raise RequestError("EOF" if not size else "unexpected EOF")
    if not parser.done and parser.framed:
        raise BodyError("unexpected EOF")
    return parser.answer


class _CheckResponseParser:
    """Parses the final response of a server; informational responses before it are skipped.

    has_head: True once its head has arrived.
    framed: True if the head says where the body ends.
    done: True once enough of the body has arrived.
    """

    def __init__(self) -> None:
        self.answer = CheckResponse()
        self.has_head = False
        self.framed = False
        self.done = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Parse bytes of a response. Raises RequestError or BodyError when they are not HTTP/1."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # A server that switches to another protocol counts as a server that has answered.
            self.has_head = self.done = True
        except httptools.HttpParserError as error:
            if self.done:
                # Ignore bytes after a response that ends the connection.
                return
            if self.has_head:
                raise BodyError(f"malformed body: {error}") from error
            shown = data[:32].decode("latin-1")
            raise RequestError(
                f"net/http: HTTP/1.x transport connection broken: malformed HTTP response {shown!r}"
            ) from error

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"location" and not self.answer.location:
            self.answer.location = value.decode("utf-8", "replace")
        self.framed = self.framed or lower in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            # An interim response: its fields do not belong to the final one.
            self.answer, self.framed = CheckResponse(), False
            return
        self.answer.status = status
        self.has_head = True

    def on_body(self, body: bytes) -> None:
        self.answer.body += body[: BODY_LIMIT - len(self.answer.body)]
        if len(self.answer.body) >= BODY_LIMIT:
            self.done = True

    def on_message_complete(self) -> None:
        if self.has_head:
            self.done = True


def _words(error: OSError) -> str:
    return (error.strerror or str(error) or "connection lost").lower()
