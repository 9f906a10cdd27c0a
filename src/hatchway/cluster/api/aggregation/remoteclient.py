"""A client of remote APIs for the API server itself: checks, discovery, and the controllers' requests for metrics."""

from __future__ import annotations

import asyncio

import msgspec

from hatchway import __version__
from hatchway.cluster.api.aggregation.backends import RemoteBackends, identity_fields
from hatchway.cluster.api.aggregation.remoteapis import RemoteApi
from hatchway.cluster.api.connect.answers import dial_message
from hatchway.cluster.api.connect.resourcelocation import UnreachableBackend
from hatchway.cluster.auth.user import UserInfo
from hatchway.errors import ApiError
from hatchway.kube.http import HttpClient
from hatchway.proxy.routing import ProxyError

__all__ = ["AGGREGATOR", "RemoteAnswer", "RemoteClient", "RemoteError"]

# The user of the aggregator's own requests, who may read all objects (as in kube-aggregator).
AGGREGATOR = UserInfo("system:kube-aggregator", ("system:masters",))
# The longest body that is read, in bytes.
_LIMIT = 8 * 1024 * 1024


class RemoteError(Exception):
    """A remote API gave no answer, or an unusable answer. The message says why."""


class RemoteAnswer(msgspec.Struct, frozen=True, gc=False):
    """An answer: its status, its Content-Type and its body."""

    status: int
    content_type: str
    body: bytes


class RemoteClient:
    """Sends GET requests to remote APIs. seconds: the timeout for a request and its whole answer."""

    def __init__(self, backends: RemoteBackends, seconds: float = 5.0) -> None:
        self._backends = backends
        self._http = HttpClient()
        self._seconds = seconds

    async def get(
        self,
        api: RemoteApi,
        path: str,
        user: UserInfo = AGGREGATOR,
        accept: str = "application/json",
        limit: int = _LIMIT,
    ) -> RemoteAnswer:
        """Send a GET request to one of the API's endpoints, and return the answer.

        path: the path with the query.
        limit: the maximum number of bytes of the answer's body.

        Raises RemoteError.
        """
        try:
            endpoint = self._backends.endpoints(api)[0]
        except (ApiError, UnreachableBackend) as error:
            raise RemoteError(error.message if isinstance(error, ApiError) else str(error)) from error
        fields = [
            (b"Host", endpoint.host),
            (b"User-Agent", b"hatchway/" + __version__.encode()),
            (b"Accept", accept.encode()),
            *identity_fields(user),
        ]
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        head = b"GET %b HTTP/1.1\r\n%b\r\n" % (path.encode(), lines)
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._http.ask(endpoint.upstream, "GET", head, b"", self._seconds)
                try:
                    body = bytearray()
                    async for piece in answer.pieces(self._seconds):
                        body += piece
                        if len(body) > limit:
                            raise RemoteError(f"the answer is longer than {limit} bytes")
                    kind = (answer.field(b"content-type") or b"").decode("latin-1")
                    return RemoteAnswer(answer.status, kind, bytes(body))
                finally:
                    answer.leave()
        except TimeoutError as error:
            raise RemoteError("context deadline exceeded") from error
        except ProxyError as error:
            raise RemoteError(dial_message(error, endpoint)) from error

    def url(self, api: RemoteApi) -> str:
        """Return the URL of the API's version, for messages."""
        try:
            host = self._backends.endpoints(api)[0].host.decode()
        except (ApiError, UnreachableBackend):
            host = f"{api.service}.{api.namespace}.svc:{api.port}"
        return f"https://{host}{api.root}"

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()
