"""The API server's proxy verb as a route: works wherever the API server can reach pods, and needs nothing else.

A kube-apiserver changes or removes parts of requests and responses (apimachinery `pkg/util/proxy`, apiserver
`endpoints/filters/authentication.go`); an embedded API server passes them on unchanged. The version that a server
reports shows whether it is an embedded API server.
"""

from __future__ import annotations

from typing import Final

from hatchway.kube.connection import Connection
from hatchway.proxy.routing import Headers
from hatchway.route.contract import Refusal, RouteCapabilities, TargetRoute
from hatchway.target import Target, format_proxy_path

# Fields that the embedded API server understands beside Kubernetes' own (`cluster/api/connect/proxyverb.py`).
REWRITE: Final = b"X-Hatchway-Rewrite"
AUTHORIZATION: Final = b"X-Hatchway-Authorization"
PATH: Final = b"X-Hatchway-Path"

_KUBERNETES: Final = RouteCapabilities(authorization=False, methods=False, codings=False, unchanged=False)
_EMBEDDED: Final = RouteCapabilities(authorization=True, methods=True, codings=True, unchanged=True)


class ApiProxyRoute:
    """The route by `/api/v1/.../proxy/` of one API server, with one user's credentials.

    name: the route's name, as `--via` spells it.
    """

    name = "api"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._asked_identity: object = None
        self._embedded = False

    @property
    def generation(self) -> int:
        """Return a number that changes with the connection's credentials and server."""
        return self._connection.generation

    @property
    def ready(self) -> bool:
        """Return True when the API server's version is known and the credentials are fresh."""
        return self._asked_identity == self._connection.identity and self._connection.fresh

    async def prepare(self, target: Target) -> RouteCapabilities | Refusal:
        """Get credentials, ask for the API server's version, and return what the route carries.

        Rights are not checked here: when a right is missing, the API server's answer to the first request names it.

        Raises:
            NoCredentials: there are no credentials; ApiError 503 when the API server cannot be reached.
        """
        await self._ask_version()
        return _EMBEDDED if self._embedded else _KUBERNETES

    async def _ask_version(self) -> None:
        """Get credentials, and ask for the API server's version unless it is known.

        Raises:
            NoCredentials: there are no credentials; ApiError 503 when the API server cannot be reached.
        """
        await self._connection.ready()
        identity = self._connection.identity
        if self._asked_identity != identity:
            self._embedded = await self._ask_whether_embedded()
            self._asked_identity = identity

    async def _ask_whether_embedded(self) -> bool:
        status, body = await self._connection.client.exchange("GET", "/version")
        # A user who may not read the version may still be allowed to proxy.
        return status == 200 and b"+hatchway." in body

    def route_to(self, target: Target) -> TargetRoute:
        """Return the proxy path of a target and the credentials for it."""
        connection = self._connection
        fields: Headers = connection.fields()
        if self._embedded:
            # Paths are forwarded byte for byte, as the browser has sent them.
            fields = [*fields, (REWRITE, b"off"), (PATH, b"exact")]
        return TargetRoute(
            self.name,
            connection.upstream,
            connection.base_path + format_proxy_path(target, "").encode(),
            fields,
            _EMBEDDED if self._embedded else _KUBERNETES,
            AUTHORIZATION,
            # A server under a base path is behind a proxy that routes by Host, so it must get its own Host.
            connection.host if connection.base_path else None,
        )

    async def renew(self) -> bool:
        """Renew the connection's credentials. Return True when there are new ones."""
        return await self._connection.renew()
