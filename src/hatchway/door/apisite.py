"""The raw API on the door's own origin: what `kubectl proxy` gives, unchanged.

Who speaks to the API server here does so with the user's credentials. The client's own `Authorization` wins, as with
kubectl. Expired credentials are renewed once and the request is sent again.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from urllib.parse import urlsplit

from hatchway import __version__
from hatchway.door.clean import cleaned, redirect_body
from hatchway.door.diagnosis import Diagnosis
from hatchway.errors import HatchwayError
from hatchway.kube.connection import Connection
from hatchway.proxy.routing import (
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
    """Forwards to the API server. prefix: where it is found, with a slash at its end."""

    def __init__(self, connection: Connection, diagnosis: Diagnosis, *, prefix: str, append_server_path: bool) -> None:
        self._connection = connection
        self._diagnosis = diagnosis
        self.prefix = (prefix if prefix.endswith("/") else prefix + "/").encode()
        # kubectl's handler does not strip what begins like the API's own paths.
        self._strip = 0 if self.prefix.startswith(b"/api") else len(self.prefix) - 1
        self._append = append_server_path

    def path_of(self, head: RequestHead) -> bytes | Respond:
        """The path that is asked of the API server (without that of its URL), or a redirect or a 404.

        The request's path has been cleaned (`clean_path`).
        """
        path = head.path
        if path == self.prefix[:-1] and path:
            return redirect(head, self.prefix)
        if not path.startswith(self.prefix):
            return NOT_FOUND
        return path[self._strip :]

    def route(self, head: RequestHead, path: bytes) -> Decision | Awaitable[Decision]:
        """path: as `path_of` gives it."""
        if self._connection.fresh:
            return self._forward(head, path)
        return self._ready(head, path)

    async def _ready(self, head: RequestHead, path: bytes) -> Decision:
        try:
            await self._connection.ready()
        except HatchwayError as error:
            return self._diagnosis.no_credentials(error, head, html=False)
        return self._forward(head, path)

    def _forward(self, head: RequestHead, path: bytes, again: bool = True) -> Forward:
        connection = self._connection
        target = (connection.base_path if self._append else b"") + path
        if head.query is not None:
            target += b"?" + head.query
        headers, own = request_headers(head, connection.host, connection.fields())

        def reconsider(answer: ResponseHead) -> Reconsider | None:
            return renewed if answer.status == 401 and own and again else None

        async def renewed(body: bytes) -> Forward | None:
            if not await connection.renew():
                return None
            return self._forward(head, path, again=False)

        def failed(error: ProxyError) -> Respond:
            return self._diagnosis.away(error, head, html=False)

        def heard(answer: ResponseHead) -> None:
            if connection.trouble is not None:
                connection.note(None)

        generation = connection.generation

        def holds() -> bool:
            return connection.generation == generation and connection.trouble is None and connection.fresh

        return Forward(
            connection.upstream,
            target,
            headers,
            failed,
            heard,
            reconsider=reconsider,
            holds=holds if again else None,
        )


def request_headers(head: RequestHead, host: bytes, credentials: Headers) -> tuple[Headers, bool]:
    """The fields for the API server, and whether the credentials are the door's own."""
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
    """What net/http answers to a path that is none, or not a clean one; None for all others."""
    if _BAD_ESCAPE.search(head.path):
        return Respond(400, _PLAIN[:1], b"400 Bad Request")
    clean = cleaned(head.path)
    return redirect(head, clean) if clean != head.path else None


def redirect(head: RequestHead, path: bytes) -> Respond:
    """307 to another path, with the query, as net/http's mux answers it."""
    location = path + (b"?" + head.query if head.query is not None else b"")
    if urlsplit(location).netloc:  # cannot be, since paths are cleaned; it would lead to another host
        return NOT_FOUND
    if head.method not in ("GET", "HEAD"):
        return Respond(307, [(b"Location", location)])
    headers = [(b"Content-Type", b"text/html; charset=utf-8"), (b"Location", location)]
    return Respond(307, headers, redirect_body("Temporary Redirect", location))
