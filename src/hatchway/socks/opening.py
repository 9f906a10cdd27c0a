"""Parses a client's first request: SOCKS, CONNECT, HTTP to a proxy, or HTTP for a page of this proxy. Pure.

A web page can make a browser send requests to this port. But a browser speaks SOCKS, or sends CONNECT or an absolute
request target, only to a proxy that its user has configured. So the first request of a connection shows whether the
client uses this port as a proxy. Requests that a web page can send are refused (`docs/socks.md`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hatchway.wire.socks import VERSIONS, Reply, SocksError, SocksNegotiation

# The longest head of a CONNECT, and the longest first line of another request (bytes).
LONGEST_HEAD: Final = 16 * 1024

_CONNECT_LINE: Final = re.compile(
    rb"CONNECT ([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5}) HTTP/1\.[01]\r\n"
)
_REQUEST_LINE: Final = re.compile(rb"([A-Z][A-Z-]{0,31}) ([\x21-\x7e\x80-\xff]+) HTTP/1\.[01]\r\n")
_HOST: Final = re.compile(rb"(?im)^host:[ \t]*([^\r\n]*?)[ \t]*\r$")
_SITE: Final = re.compile(rb"(?im)^sec-fetch-site:[ \t]*([^\r\n]*?)[ \t]*\r$")

_PHRASES: Final = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    502: "Bad Gateway",
    503: "Service Unavailable",
}
_STATUS_OF: Final = {
    Reply.NOT_ALLOWED: 403,
    Reply.NETWORK_UNREACHABLE: 503,
    Reply.HOST_UNREACHABLE: 502,
    Reply.CONNECTION_REFUSED: 502,
    Reply.FAILURE: 502,
}


@dataclass(frozen=True, slots=True)
class TunnelRequest:
    """A request for a connection to `host`, by SOCKS or CONNECT. rest: the bytes after the request, for the host."""

    host: str
    port: int
    rest: bytes


@dataclass(frozen=True, slots=True)
class ProxiedRequest:
    """An HTTP request to a proxy. head: the bytes of the request that have arrived."""

    head: bytes


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request for a page of this proxy. path: the page's path. host: the `Host` field, "" when there is none."""

    path: str
    host: str


class OpeningError(Exception):
    """The client is refused. Send the client the bytes of `data_to_send`, and close the connection."""


class Opening:
    """The first bytes of one client."""

    def __init__(self) -> None:
        self._socks: SocksNegotiation | None = None
        self._data = bytearray()
        self._out = b""

    def receive_data(self, data: bytes) -> TunnelRequest | ProxiedRequest | PageRequest | None:
        """Take the next bytes. Return the request when it is complete, else None.

        Raises:
            OpeningError: the client is refused.
        """
        if self._socks is None and not self._data and data and data[0] in VERSIONS:
            self._socks = SocksNegotiation()
        if self._socks is None:
            self._data += data
            return self._parse_http()
        try:
            found = self._socks.receive_data(data)
        except SocksError as error:
            raise OpeningError(str(error)) from error
        return None if found is None else TunnelRequest(found.host, found.port, self._socks.rest)

    def data_to_send(self) -> bytes:
        """Remove the bytes that must be sent to the client, and return them."""
        if self._socks is not None:
            return self._socks.data_to_send()
        found, self._out = self._out, b""
        return found

    def accept(self) -> bytes:
        """Return the answer for a tunnel that was opened."""
        if self._socks is not None:
            return self._socks.answer(Reply.SUCCEEDED)
        return b"HTTP/1.1 200 Connection established\r\n\r\n"

    def refuse(self, reply: Reply, why: str) -> bytes:
        """Return the answer for a tunnel that could not be opened. why: for the client's user."""
        if self._socks is not None:
            return self._socks.answer(reply)
        return page(_STATUS_OF.get(reply, 502), why)

    def _parse_http(self) -> TunnelRequest | ProxiedRequest | PageRequest | None:
        data = bytes(self._data)
        if b"\r\n" not in data:
            if len(data) > LONGEST_HEAD or b"\n" in data or (data and not 0x41 <= data[0] <= 0x5A):
                raise self._bad()
            return None
        line = _REQUEST_LINE.match(data)
        if line is None:
            raise self._bad()
        method, target = line.groups()
        if target[:7].lower() == b"http://" and method != b"CONNECT":
            return ProxiedRequest(data)
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(data) > LONGEST_HEAD:
                raise self._bad()
            return None
        if method == b"CONNECT":
            connect = _CONNECT_LINE.match(data)
            if connect is None or not 0 < int(connect[2]) < 65536:
                raise self._bad()
            return TunnelRequest(connect[1].decode().strip("[]"), int(connect[2]), data[end:])
        hosts, site = _HOST.findall(data, 0, end), _SITE.search(data, 0, end)
        of_page = site is not None and site[1] not in (b"none", b"same-origin")
        if method not in (b"GET", b"HEAD") or target[:1] != b"/" or len(hosts) != 1 or of_page:
            raise self._bad()
        return PageRequest(target.decode("latin-1"), hosts[0].decode("latin-1"))

    def _bad(self) -> OpeningError:
        # The answer is the same for all errors: a web page that tries ports learns only that a program listens here.
        self._out = page(400, "")
        return OpeningError("this is neither SOCKS nor a request for a proxy")


def page(status: int, text: str, kind: str = "text/plain; charset=utf-8") -> bytes:
    """Return a complete HTTP answer, after which the connection is closed. Pages of other origins may not use it."""
    body = f"{text}\n".encode() if text else b""
    phrase = _PHRASES.get(status, "OK")
    return (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\nCache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + body
