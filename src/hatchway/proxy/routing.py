"""What the data path asks and what it is told: the contract between the engine and its routing functions.

The engine (`proxy/server.py`) parses a request's head once and calls the listener's routing function with it. The
answer is a decision: `Respond` (an immediate answer), `App` (an ASGI application) or `Forward` (an upstream). The API
server's proxy verb, the kubelet's API, the door and the gateway are routing functions over this one engine.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

# Names as they stood on the wire, in order, repeated fields repeated. Look-ups are case-insensitive.
Headers = list[tuple[bytes, bytes]]
Scope = MutableMapping[str, Any]
ASGIApp = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


def get_header(headers: Headers, name: bytes) -> bytes | None:
    """The first value of `name` (given in lower case), or None."""
    for key, value in headers:
        if key.lower() == name:
            return value
    return None


@dataclass(slots=True)
class Peer:
    """Who is at the other end of an accepted connection.

    address: (host, port), or None on a Unix socket. scheme: "http" or "https".
    certificate: the client certificate that TLS has verified against the listener's CA (DER), or None.
    """

    address: tuple[str, int] | None
    scheme: str
    certificate: bytes | None = None


@dataclass(slots=True)
class Memo:
    """What a routing function keeps of a request's head for the next time that it comes. value: None at first."""

    value: Any = None


@dataclass(slots=True)
class RequestHead:
    """A request's head. `target` is the request-target byte for byte (absolute form is reduced to origin form).

    path: `target` before the first "?". query: what follows it, without the "?"; None when there is no "?".
    upgrade: the `Upgrade` token when `Connection` lists "upgrade", else None.
    state: notes of the routing function (user, audit id ...); an `App` finds it as scope["state"].
    on_complete: called once when the exchange is over, with the status sent (0: none), and body bytes in and out.
    memo: shared by all requests of a client (one address, one certificate) with the same head, byte for byte.
    answer_field: set by the routing function: an end-to-end field for the head of what is forwarded as the answer (not
        of an upgrade), in place of those of its name.
    Only `state`, `on_complete`, `answer_field` and the memo's value may be changed.
    """

    method: str
    target: bytes
    path: bytes
    query: bytes | None
    headers: Headers
    http_version: str
    peer: Peer
    upgrade: bytes | None = None
    state: dict[str, Any] = field(default_factory=dict)
    on_complete: Callable[[int, int, int], None] | None = None
    memo: Memo = field(default_factory=Memo)
    answer_field: tuple[bytes, bytes] | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of the field `name` (lower case), or None."""
        return get_header(self.headers, name)


@dataclass(slots=True)
class ResponseHead:
    """An upstream's answer before it is relayed. `edit_response` may change it in place."""

    status: int
    reason: bytes
    headers: Headers

    def header(self, name: bytes) -> bytes | None:
        return get_header(self.headers, name)


class Transform(Protocol):
    """Changes a response body while it streams. A body with a transform is sent without Content-Length."""

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Upstream:
    """One place to send an exchange to.

    key: hashable; idle connections are pooled under it, so it must tell apart everything that makes connections
        differ (address, scheme, credentials). connect: opens a non-blocking connected socket, or raises OSError
        (TimeoutError included). tls: wrap the socket as a client with this context. server_hostname: SNI, or None
        for no SNI and no name check.
    """

    key: object
    connect: Callable[[], Awaitable[socket.socket]]
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None


class ProxyError(Exception):
    """An upstream could not be reached or broke the protocol before its response was relayed.

    stage: "dial" (no connection), "tls", "write"/"read" (connection lost, time-out), "protocol" (not HTTP),
    "upgrade" (an upgrade answered below 400 but not 101; `status` holds the code).
    silent: so many seconds a peer that had accepted the connection was waited for; 0 when it was something else.
    """

    def __init__(self, stage: str, message: str, status: int = 0, silent: float = 0.0) -> None:
        super().__init__(message)
        self.stage = stage
        self.message = message
        self.status = status
        self.silent = silent


@dataclass(slots=True)
class Respond:
    """Answer at once. `Content-Length`, `Date` and `Connection` are the engine's."""

    status: int
    headers: Headers
    body: bytes = b""


@dataclass(slots=True)
class App:
    """Hand the exchange to an ASGI 3 application (http scope; websockets arrive as http with `upgrade` set)."""

    app: ASGIApp


@dataclass(slots=True)
class Forward:
    """Relay the exchange to an upstream. May be given again for a request with the same head, and is never changed.

    target: the request-target to send. headers: all end-to-end fields to send, `Host` included; the engine removes
        hop-by-hop fields, frames the body and, for an upgrade, adds `Connection: Upgrade` and `Upgrade`.
    error_response: words the answer when nothing of a response was relayed yet.
    edit_response: sees the response's head before it is relayed (never a 101 or another 1xx); may change it, and may return a body
        transform. What it made of a head without one is used again for the same head.
    following: asked for another way when connecting failed, or a pooled connection died before any byte of an answer,
        and nothing of the body was consumed; told how many have failed. None ends the attempts.
    reconsider: sees the head of a response of 400 and above before it is relayed. When it returns a function, that one
        is given the body (of up to 64 KiB; longer ones are relayed) and decides anew: None relays the response, another
        Forward is followed where the request had no body.
    switched: called when an upgrade was accepted (101), before a byte of it is relayed; must not raise.
    holds: whether the same head of the same client would be decided on so again: as long as it is true, the routing
        function is not asked about that head. None: it is asked each time, as it must be when it sets `on_complete`
        or `answer_field`.
    """

    upstream: Upstream
    target: bytes
    headers: Headers
    error_response: Callable[[ProxyError], Respond]
    edit_response: Callable[[ResponseHead], Transform | None] | None = None
    following: Callable[[int], Forward | None] | None = None
    reconsider: Callable[[ResponseHead], Reconsider | None] | None = None
    switched: Callable[[], None] | None = None
    holds: Callable[[], bool] | None = None


Decision = Respond | App | Forward
Reconsider = Callable[[bytes], Awaitable[Respond | Forward | None]]
Route = Callable[[RequestHead], Decision | Awaitable[Decision]]
