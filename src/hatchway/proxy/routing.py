"""The contract between the engine and its routing functions.

The engine (`proxy/server.py`) parses the head of a request once, and passes it to the listener's routing function. The
function returns a decision: `Respond` (a response), `App` (an ASGI application), `Forward` (an upstream) or
`AcceptUpgrade` (a protocol for the connection). The API server's proxy verb, the kubelet's API and the door are routing
functions of this engine.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

# (name, value) pairs in the order of arrival, with repeated fields. Names keep their case, which does not matter in
# comparisons.
Headers = list[tuple[bytes, bytes]]
Scope = MutableMapping[str, Any]
ASGIApp = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


def get_header(headers: Headers, name: bytes) -> bytes | None:
    """Return the first value of a field, or None. name: in lower case."""
    for key, value in headers:
        if key.lower() == name:
            return value
    return None


@dataclass(slots=True)
class Peer:
    """The other end of an accepted connection.

    address: (host, port), or None on a Unix socket.
    scheme: "http" or "https".
    certificate: the client certificate in DER, which TLS has verified against the listener's CA; or None.
    note: a hashable value about the connection, from the caller of `Engine.adopt`; otherwise None.
    """

    address: tuple[str, int] | None
    scheme: str
    certificate: bytes | None = None
    note: object = None


class CachedDecision(ABC):
    """A decision of a routing function about a request's head, to be used for the next requests with the same head.

    When the same client (address and certificate) sends the same head again, byte for byte, the engine calls `begin` in
    place of the routing function. A decision is removed when one of its requests gets a status of 400 or above, when
    the client's last connection is closed, or when the cache is full (`proxy/cache.py`).
    """

    __slots__ = ()

    @abstractmethod
    def begin(self, make_head: Callable[[], RequestHead]) -> Decision | None:
        """Return the decision for another request; None when the cached decision is no longer valid.

        After None, the engine calls the routing function. `begin` must be fast, because it is called for each request,
        and it must not raise.

        Args:
            make_head: returns the head of this request, for decisions that read it or set its `on_complete`,
                `answer_field` or `state`. Call it at most once.
        """


@dataclass(slots=True)
class RequestHead:
    """The head of a request.

    The routing function may set `state`, `on_complete`, `answer_field` and `cached`, and nothing else.

    target: the request-target, byte for byte; an absolute form is reduced to its origin form.
    path: the part of `target` before the first "?".
    query: the part after that "?"; None without a "?".
    headers: the fields, without those that `Connection` lists.
    http_version: "1.1" or "1.0".
    peer: the client.
    upgrade: the value of `Upgrade` if `Connection` lists "upgrade", else None.
    state: values for later use (user, audit ID ...). An `App` gets them as scope["state"].
    on_complete: called once at the end of the exchange, with the status that was sent (0 for none), the number of bytes
        of the request's body, and the number of bytes of the response's body.
    answer_field: an end-to-end field for the head of a forwarded response. It replaces the response's fields with the
        same name. It is not added to the 101 of an upgrade.
    cached: returns the decisions for later requests with this head; the routing function may set it.
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
    answer_field: tuple[bytes, bytes] | None = None
    cached: CachedDecision | None = None

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of the field `name` (lower case), or None."""
        return get_header(self.headers, name)


@dataclass(slots=True)
class ResponseHead:
    """The head of an upstream's response. `Forward.edit_response` may change it in place before it is relayed."""

    status: int
    reason: bytes
    headers: Headers

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of the field `name` (lower case), or None."""
        return get_header(self.headers, name)


class Transform(Protocol):
    """Changes a response's body while it is relayed.

    The response is sent without Content-Length. This includes the response to a HEAD, for which no method is called.
    """

    def feed(self, data: bytes) -> bytes:
        """Return the bytes to send in place of the next piece of the body."""

    def finish(self) -> bytes:
        """Return the last bytes to send, after the end of the body."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server to which exchanges can be forwarded.

    key: a hashable value by which the pool stores idle connections. Upstreams with different addresses, schemes or
        credentials need different keys, so that their connections are not mixed.
    connect: returns a connected non-blocking socket, or a transport of another kind, such as a stream inside another
        connection. The transport must not read yet; the engine sets its protocol and calls `resume_reading`. In all
        other respects it must behave like asyncio's transports, with flow control in both directions. Raises OSError
        (including TimeoutError).
    tls: the context for TLS as a client, on the socket or inside the transport; None for no TLS.
    server_hostname: the name for SNI and for verifying the certificate; None for neither.
    """

    key: object
    connect: Callable[[], Awaitable[socket.socket | asyncio.Transport]]
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None


class ProxyError(Exception):
    """An upstream cannot be reached, or violates the protocol, before its response was relayed.

    stage: "dial" (no connection), "tls", "write" or "read" (connection lost, timeout), "protocol" (not HTTP), or
        "upgrade" (the response to an upgrade has a status below 400 other than 101).
    message: a description of the error, for users.
    status: the status of the response for stage "upgrade", else 0.
    silent: after a timeout, the seconds for which the peer sent nothing on the open connection; 0 for other errors.
    """

    def __init__(self, stage: str, message: str, status: int = 0, silent: float = 0.0) -> None:
        super().__init__(message)
        self.stage = stage
        self.message = message
        self.status = status
        self.silent = silent


@dataclass(slots=True)
class Respond:
    """Answer with this response. The engine adds `Content-Length`, `Date` and `Connection`."""

    status: int
    headers: Headers
    body: bytes = b""


@dataclass(slots=True)
class App:
    """Let an ASGI 3 application answer. The scope is always `http`, also for WebSocket handshakes."""

    app: ASGIApp


@dataclass(slots=True)
class Forward:
    """Forward the exchange to an upstream. Never change it, because a `CachedDecision` may return it many times.

    upstream: the server.
    target: the request-target to send.
    headers: all end-to-end fields to send, including `Host`. The engine removes hop-by-hop fields, and adds the fields
        for the body's framing and, for an upgrade, `Connection: Upgrade` and `Upgrade`.
    error_response: returns the response for an error. Called only before any byte of a response was relayed.
    edit_response: called with the head of the response before it is relayed, but not with a 1xx. It may change the
        head, and may return a transform for the body. If it returns no transform, the edited head is used again when
        the upstream sends the same head again.
    next_upstream: called with the number of failed attempts to connect, but only if no byte of the request's body was
        consumed. Returns the Forward to try next; None for no other attempt. (When an idle connection from the pool is
        lost before any byte of a response, the engine first opens a new connection to the same upstream.)
    reconsider: called with the head of a response of 400 or above before it is relayed. Returns None to relay the
        response, or a function. The function gets the body (at most 64 KiB; a response with a longer body is relayed).
        It returns None to relay the response, another response to send instead, or another Forward, which is tried if
        the request has no body.
    reconsider_all: True to call `reconsider` also for responses below 400.
    switched: called when the upstream has accepted an upgrade (101), before a byte is relayed. Must not raise.
    explain_error: called before `error_response`. Returns None to use `error_response`, or an awaitable. The awaitable
        returns the response to send, or another Forward, which is tried if the request has no body.
    """

    upstream: Upstream
    target: bytes
    headers: Headers
    error_response: Callable[[ProxyError], Respond]
    edit_response: Callable[[ResponseHead], Transform | None] | None = None
    next_upstream: Callable[[int], Forward | None] | None = None
    reconsider: Callable[[ResponseHead], Reconsider | None] | None = None
    reconsider_all: bool = False
    switched: Callable[[], None] | None = None
    explain_error: Callable[[ProxyError], Awaitable[Respond | Forward] | None] | None = None


@dataclass(frozen=True, slots=True)
class AcceptUpgrade:
    """Accept the upgrade that a client requests: send a 101, and give the client's connection to a protocol.

    The request must have `upgrade` and no body.

    upgrade: the `Upgrade` field of the 101, which is one of the protocols that the request offers.
    headers: the other end-to-end fields of the 101 (Sec-WebSocket-Accept ...). The engine adds `Connection`.
    make_protocol: returns the protocol. It is called before the 101 is sent, but not when the client has disconnected.
        The protocol's methods are called as an event loop calls them; after `connection_made`, `data_received` gets
        bytes that the client sent right after its request. The protocol must not call its transport's `set_protocol`.
    """

    upgrade: bytes
    headers: Headers
    make_protocol: Callable[[], asyncio.Protocol]


Decision = Respond | App | Forward | AcceptUpgrade
Reconsider = Callable[[bytes], Awaitable[Respond | Forward | None]]
RoutingFunction = Callable[[RequestHead], Decision | Awaitable[Decision]]
