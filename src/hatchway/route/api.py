"""The API server's proxy verb as a route: works wherever the API server can reach pods, and needs nothing else.

What a kube-apiserver loses on the way (apimachinery `pkg/util/proxy`, apiserver `endpoints/filters/authentication.go`)
an embedded one can carry; which of the two it is its version says.
"""

from __future__ import annotations

from typing import Final

from hatchway.kube.connection import Connection
from hatchway.proxy.routing import Headers
from hatchway.route.ways import Carries, Way
from hatchway.target import Target, format_proxy_path

# What the embedded API server understands beside Kubernetes' own (`cluster/api/proxyverb.py`).
REWRITE: Final = b"X-Hatchway-Rewrite"
AUTHORIZATION: Final = b"X-Hatchway-Authorization"

_KUBERNETES: Final = Carries(authorization=False, upgrade_query=False, methods=False, codings=False, unchanged=False)
_EMBEDDED: Final = Carries(authorization=True, upgrade_query=True, methods=True, codings=True, unchanged=True)


class ApiProxyRoute:
    """Exchanges by `/api/v1/.../proxy/` of one API server."""

    name = "api"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._asked: tuple[str, str, str] | None = None
        self._embedded = False

    @property
    def generation(self) -> int:
        return self._connection.generation

    @property
    def ready(self) -> bool:
        return self._asked == self._connection.identity and self._connection.fresh

    @property
    def embedded(self) -> bool:
        """Whether the API server is an embedded cluster's; known after `prepare`."""
        return self._embedded

    async def prepare(self) -> None:
        """Raises HatchwayError; ApiError 503 when the server is away."""
        await self._connection.ready()
        identity = self._connection.identity
        if self._asked != identity:
            self._embedded = await self._is_embedded()
            self._asked = identity

    async def _is_embedded(self) -> bool:
        status, body = await self._connection.client.exchange("GET", "/version")
        # Who may not even read that may still be allowed to proxy.
        return status == 200 and b"+hatchway." in body

    def way(self, target: Target) -> Way:
        connection = self._connection
        fields: Headers = connection.fields()
        if self._embedded:
            fields = [*fields, (REWRITE, b"off")]
        return Way(
            connection.upstream,
            connection.base_path + format_proxy_path(target, "").encode(),
            fields,
            _EMBEDDED if self._embedded else _KUBERNETES,
            # A server with a path of its own stands behind something that goes by the host's name.
            connection.host if connection.base_path else None,
        )

    async def renew(self) -> bool:
        return await self._connection.renew()
