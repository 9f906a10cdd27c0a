"""Forwards requests for remote APIs to the servers behind them (kube-aggregator `apiserver/handler_proxy.go`).

The API server has authenticated and authorized these requests already. The remote server gets the user's name and
groups in `X-Remote-*` fields, and trusts them because of the front proxy's client certificate. The client's credentials
are removed.
"""

from __future__ import annotations

import random

from hatchway.cluster.api.aggregation.backends import RemoteBackends, identity_fields
from hatchway.cluster.api.aggregation.remoteapis import RemoteApi
from hatchway.cluster.api.connect.answers import CORS_FIELDS, dial_message
from hatchway.cluster.api.connect.resourcelocation import BackendEndpoint, UnreachableBackend
from hatchway.cluster.api.connect.websocketfields import without_bearer
from hatchway.cluster.auth.user import UserInfo
from hatchway.errors import ApiError
from hatchway.proxy.routing import Forward, Headers, ProxyError, RequestHead, Respond, ResponseHead, get_header

__all__ = ["RemoteProxy", "plain_error"]

_UNAVAILABLE = "service unavailable"
_CREDENTIALS = frozenset((b"authorization", b"proxy-authorization"))
_IDENTITY_PREFIXES = (b"x-remote-", b"impersonate-")


def plain_error(status: int, text: str) -> Respond:
    """Return an error answer of the aggregator: plain text and no Status, as in kube-aggregator."""
    headers = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"X-Content-Type-Options", b"nosniff")]
    return Respond(status, headers, text.encode("utf-8", "replace") + b"\n")


class RemoteProxy:
    """Decides how requests for remote APIs are answered. backends: finds the servers."""

    def __init__(self, backends: RemoteBackends) -> None:
        self._backends = backends

    def prepare(self, head: RequestHead, api: RemoteApi, user: UserInfo) -> PreparedRemote | Respond:
        """Decide how to answer a request: forward it, or send an error. Raises nothing."""
        if not api.available:
            return plain_error(503, _UNAVAILABLE)
        try:
            identity = identity_fields(user)
            endpoints = self._backends.endpoints(api)
        except ApiError as error:
            return plain_error(500, error.message) if error.code == 500 else plain_error(503, _UNAVAILABLE)
        except UnreachableBackend:
            return plain_error(503, _UNAVAILABLE)
        except ValueError as error:
            return plain_error(500, str(error))
        return PreparedRemote(head.target, _fields(head) + identity, endpoints)


class PreparedRemote:
    """A request to a remote API, which can be forwarded several times (`RepeatableForward`)."""

    __slots__ = ("_endpoints", "_headers", "_target")

    def __init__(self, target: bytes, headers: Headers, endpoints: list[BackendEndpoint]) -> None:
        self._target = target
        self._headers = headers
        self._endpoints = endpoints

    def forward(self) -> Forward:
        """Choose an endpoint at random, and return the Forward to it."""
        return self._to(random.randrange(len(self._endpoints)))

    def _to(self, at: int) -> Forward:
        endpoint = self._endpoints[at]
        count = len(self._endpoints)

        def following(failures: int) -> Forward | None:
            return self._to((at + 1) % count) if failures < count else None

        def failed(error: ProxyError) -> Respond:
            if error.stage == "upgrade":
                return plain_error(503, f"invalid upgrade response: status code {error.status}")
            return plain_error(503, f"error trying to reach service: {dial_message(error, endpoint)}")

        headers = self._headers
        if get_header(headers, b"host") is None:
            headers = [(b"Host", endpoint.host), *headers]
        return Forward(endpoint.upstream, self._target, headers, failed, _remove_cors_fields, following)


def _remove_cors_fields(head: ResponseHead) -> None:
    head.headers = [field for field in head.headers if field[0].lower() not in CORS_FIELDS]


def _fields(head: RequestHead) -> Headers:
    """Return the request's fields without credentials and identities, and with X-Forwarded-For."""
    headers: Headers = []
    client: list[bytes] = []
    for name, value in head.headers:
        # `X_Remote_User` is removed, too: for CGI and WSGI it is the same name as `X-Remote-User`.
        lower = name.lower().replace(b"_", b"-")
        if lower in _CREDENTIALS or lower.startswith(_IDENTITY_PREFIXES):
            continue
        if lower == b"x-forwarded-for":
            client.append(value)
            continue
        if lower == b"sec-websocket-protocol":
            value = without_bearer(value)
            if not value:
                continue
        headers.append((name, value))
    if head.peer.address is not None:
        client.append(head.peer.address[0].encode())
    if client:
        headers.append((b"X-Forwarded-For", b", ".join(client)))
    return headers
