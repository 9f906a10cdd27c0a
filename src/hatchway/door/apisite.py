"""Serves the raw API on the door's own origin, as `kubectl proxy` does.

Requests are sent with the user's credentials, unless the client itself sends an `Authorization` field (`kubectl proxy`
does the same). When the credentials have expired, they are renewed once, and the request is sent again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from hatchway import __version__
from hatchway.door.clean import cleaned, redirect_body
from hatchway.door.diagnosis import NOT_REACHED, Diagnosis
from hatchway.errors import NoCredentials
from hatchway.kube.connection import Connection
from hatchway.proxy.routing import (
    CachedDecision,
    Decision,
    Forward,
    Headers,
    ProxyError,
    Reconsider,
    RequestHead,
    Respond,
    ResponseHead,
)

_PLAIN: Headers = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"X-Content-Type-Options", b"nosniff")]
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
FORBIDDEN = Respond(403, _PLAIN, b"Forbidden\n")
NOT_FOUND = Respond(404, _PLAIN, b"404 page not found\n")
_USER_AGENT = f"hatchway/{__version__}".encode()


class ApiSite:
    """Forwards requests to the API server.

    prefix: the path below which the API is served, with a slash at both ends.
    """

    def __init__(self, connection: Connection, diagnosis: Diagnosis, *, prefix: str, append_server_path: bool) -> None:
        """Store the arguments.

        Args:
            connection: the API server with the user's credentials.
            diagnosis: makes the door's own answers.
            prefix: the path below which the API is served.
            append_server_path: True to put the path of the server's URL before the path of every request.
        """
        self._connection = connection
        self._diagnosis = diagnosis
        self.prefix = (prefix if prefix.endswith("/") else prefix + "/").encode()
        # kubectl's handler does not remove a prefix that begins like the API's own paths.
        self._strip = 0 if self.prefix.startswith(b"/api") else len(self.prefix) - 1
        self._append = append_server_path

    def path_of(self, head: RequestHead) -> bytes | Respond:
        """Return the path to request from the API server, or a decision: a redirect or a 404.

        The path does not contain the path of the server's URL.

        head: a request whose path is clean (`clean_path`).
        """
        path = head.path
        if path == self.prefix[:-1] and path:
            return redirect(head, self.prefix)
        if not path.startswith(self.prefix):
            return NOT_FOUND
        return path[self._strip :]

    def route(self, head: RequestHead, path: bytes, *, shown: bool) -> Decision | Awaitable[Decision]:
        """Return the decision for a request.

        Args:
            head: the request.
            path: as `path_of` returns it.
            shown: True when a browser may display the answer as a page. Scripts in it are then forbidden.
        """
        if self._connection.fresh:
            return self._forward(head, path, shown)
        return self._ready(head, path, shown)

    async def _ready(self, head: RequestHead, path: bytes, shown: bool) -> Decision:
        try:
            await self._connection.ready()
        except NoCredentials as error:
            return self._diagnosis.no_credentials(error, head, html=False)
        return self._forward(head, path, shown)

    def _forward(self, head: RequestHead, path: bytes, shown: bool, *, may_renew: bool = True) -> Forward:
        connection = self._connection
        target = (connection.base_path if self._append else b"") + path
        if head.query is not None:
            target += b"?" + head.query
        headers, own = request_headers(head, connection.host, connection.fields())

        def reconsider(answer: ResponseHead) -> Reconsider | None:
            return renewed if answer.status == 401 and own and may_renew else None

        async def renewed(body: bytes) -> Forward | None:
            if not await connection.renew():
                return None
            return self._forward(head, path, shown, may_renew=False)

        def error_response(error: ProxyError) -> Respond:
            return self._diagnosis.away(error, head, html=False)

        def explain_error(error: ProxyError) -> Awaitable[Respond] | None:
            if error.stage in NOT_REACHED:
                return None
            return self._diagnosis.broken(error, None, head, html=False)

        def edit_response(answer: ResponseHead) -> None:
            if connection.trouble is not None:
                connection.note(None)
            if shown:
                # A script from a program behind the API server must not run with the rights of the API's origin.
                answer.headers.append((b"Content-Security-Policy", b"sandbox"))
                answer.headers.append((b"X-Content-Type-Options", b"nosniff"))

        found = Forward(
            connection.upstream,
            target,
            headers,
            error_response,
            edit_response,
            reconsider=reconsider,
            explain_error=explain_error,
        )
        if may_renew:
            head.cached = _ApiDecision(connection, found)
        return found


class _ApiDecision(CachedDecision):
    """The cached decision for a request to the API server; valid until the connection's settings change."""

    __slots__ = ("_connection", "_forward", "_generation")

    def __init__(self, connection: Connection, forward: Forward) -> None:
        self._connection = connection
        self._generation = connection.generation
        self._forward = forward

    def begin(self, make_head: Callable[[], RequestHead]) -> Decision | None:
        connection = self._connection
        if (
            connection.generation == self._generation
            and connection.trouble is None
            and time.time() < connection.fresh_until
        ):
            return self._forward
        return None


def request_headers(head: RequestHead, host: bytes, credentials: Headers) -> tuple[Headers, bool]:
    """Return the header fields for the API server, and True when they contain `credentials`.

    Args:
        head: the request.
        host: the API server's host.
        credentials: the fields of the user's credentials.
    """
    headers: Headers = [(b"Host", host)]
    forwarded: list[bytes] = []
    own = True
    agent = False
    for name, value in head.headers:
        lower = name.lower()
        if lower == b"host":
            continue
        if lower == b"x-forwarded-for":
            forwarded.append(value)
            continue
        if lower == b"authorization":
            if not value:
                continue
            own = False
        elif lower == b"user-agent":
            if not value:
                continue
            agent = True
        headers.append((name, value))
    if not agent:
        headers.append((b"User-Agent", _USER_AGENT))
    if head.peer.address is not None:
        forwarded.append(head.peer.address[0].encode())
    if forwarded:
        headers.append((b"X-Forwarded-For", b", ".join(forwarded)))
    headers += credentials if own else [field for field in credentials if field[0].lower() != b"authorization"]
    return headers, own


def clean_path(head: RequestHead) -> Respond | None:
    """Return the answer of Go's net/http to a path that is malformed or not clean; None for a clean path."""
    if _BAD_ESCAPE.search(head.path):
        return Respond(400, _PLAIN[:1], b"400 Bad Request")
    clean = cleaned(head.path)
    return redirect(head, clean) if clean != head.path else None


def redirect(head: RequestHead, path: bytes) -> Respond:
    """Return a redirect 307 to another path with the same query, as Go's net/http sends it."""
    location = path + (b"?" + head.query if head.query is not None else b"")
    if urlsplit(location).netloc:  # a URL like `//host/path` would lead to another host; a clean path never begins so
        return NOT_FOUND
    if head.method not in ("GET", "HEAD"):
        return Respond(307, [(b"Location", location)])
    headers = [(b"Content-Type", b"text/html; charset=utf-8"), (b"Location", location)]
    return Respond(307, headers, redirect_body("Temporary Redirect", location))
