"""Posts reviews to webhooks over TLS: to a ready endpoint of a Service, or to a URL.

Used for admission webhooks and conversion webhooks. Source: apiserver's `pkg/util/webhook/client.go`; errors have the
texts of client-go. Answers are limited in time and in size, so a hostile server can only make one request wait.
"""

from __future__ import annotations

import asyncio
import base64
import random
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from hatchway.cluster.api.connect.answers import dial_message
from hatchway.cluster.api.connect.resourcelocation import BackendEndpoint, Locator, UnreachableBackend
from hatchway.cluster.api.connect.tlscontexts import TlsContexts
from hatchway.errors import ApiError
from hatchway.kube.dial import connect
from hatchway.kube.http import HttpClient
from hatchway.proxy.routing import ProxyError, Upstream

__all__ = ["WebhookBundleError", "WebhookClient", "WebhookPostFailed", "WebhookTarget"]

# The maximum number of bytes of an answer: enough for a patch in base64 that replaces the largest object.
_LIMIT = 4_500_000
# If an answer is no review, the error shows at most this many characters of it.
_SHOWN = 1024
# The characters of a path that need no percent-encoding.
_SAFE = "/%:@!$&'()*+,;=~"
# The messages for statuses: client-go `rest/request.go` with apimachinery's `NewGenericServerResponse`.
_STATUS_TEXTS = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    406: "the server was unable to respond with a content type that the client supports",
    415: "the server was unable to respond with a content type that the client supports",
    409: "the server reported a conflict",
    410: "the server reported that the resource is no longer available",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """The address of a webhook, and the longest time of a call.

    Attributes:
        url: the URL; "" for a webhook behind a Service.
        service: (namespace, name, port); None for a webhook with a URL.
        path: the path for a Service.
        bundle: the certificates with which the server's certificate is verified, in PEM; b"" for the system's CAs.
        seconds: how long a call may take, including the whole answer.
    """

    url: str
    service: tuple[str, str, int] | None
    path: str
    bundle: bytes
    seconds: int

    @classmethod
    def of(cls, config: dict[str, Any], seconds: int) -> WebhookTarget:
        """Return the target of a valid `clientConfig`."""
        service = config.get("service")
        return cls(
            config.get("url") or "",
            (service["namespace"], service["name"], service.get("port") or 443) if service else None,
            (service or {}).get("path") or "",
            base64.b64decode(config.get("caBundle") or "").strip(),
            seconds,
        )

    @property
    def where(self) -> str:
        """Return the URL for errors, with the timeout, which client-go adds."""
        where = self.url
        if self.service is not None:
            namespace, name, port = self.service
            where = f"https://{name}.{namespace}.svc:{port}{self.path or '/'}"
        return f"{where}?timeout={self.seconds}s"


class WebhookPostFailed(Exception):
    """A call did not get a successful answer. The message is that of client-go."""


class WebhookBundleError(WebhookPostFailed):
    """The webhook's `caBundle` has no certificates."""


class _WebhookUnreachable(Exception):
    """The server cannot be reached. The message is that of Go's net package."""


class WebhookClient:
    """Sends reviews to webhooks.

    locator: finds the endpoints of Services. The API server sets it later; until then, only URLs can be called.
    """

    def __init__(self, locator: Locator | None = None) -> None:
        self.locator = locator
        self._contexts = TlsContexts()
        self._http = HttpClient()

    async def post(self, target: WebhookTarget, body: bytes) -> bytes:
        """Send a review to a webhook, and return the body of its answer.

        body: the review as JSON. Raises WebhookPostFailed.
        """
        url = target.where
        try:
            async with asyncio.timeout(target.seconds):
                return await self._post(target, url, body)
        except TimeoutError:
            why = "context deadline exceeded"
        except _WebhookUnreachable as error:
            why = str(error)
        raise WebhookPostFailed(f'Post "{url}": {why}')

    async def _post(self, target: WebhookTarget, url: str, body: bytes) -> bytes:
        try:
            number, context = await self._contexts.get_soon(target.bundle, False)
        except ValueError as error:
            raise WebhookBundleError(f"could not get REST client: {error}") from None
        parts = urlsplit(url)
        endpoint = self._endpoint(target, parts.hostname or "", parts.port or 443)
        upstream = Upstream(
            ("webhook", parts.netloc, endpoint.dialed, number), endpoint.upstream.connect, context, parts.hostname
        )
        head = (
            f"POST {quote(parts.path or '/', _SAFE)}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "User-Agent: kube-apiserver-admission\r\nAccept: application/json, */*\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        patience = float(target.seconds)
        try:
            answer = await self._http.ask(upstream, "POST", head.encode("ascii", "replace"), body, patience)
            try:
                content = bytearray()
                async for piece in answer.pieces(patience):
                    content += piece
                    if len(content) > _LIMIT:
                        raise WebhookPostFailed(f"the answer is longer than {_LIMIT} bytes")
                status = answer.status
            finally:
                answer.leave()
        except ProxyError as error:
            raise _WebhookUnreachable(dial_message(error, endpoint)) from error
        if not 200 <= status <= 206:
            raise WebhookPostFailed(_explain(status, bytes(content[:_SHOWN])))
        return bytes(content)

    def _endpoint(self, target: WebhookTarget, host: str, port: int) -> BackendEndpoint:
        """Return the endpoint to which to connect. Raises _WebhookUnreachable."""
        if target.service is None:
            dialed = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            connecting = partial(_dial, host, port)
            return BackendEndpoint(host, dialed.encode("ascii", "replace"), dialed, Upstream(dialed, connecting))
        if self.locator is None:
            raise _WebhookUnreachable("this server reaches no Services")
        namespace, name, number = target.service
        spelled = f"https:{name}:{number}"
        try:
            return random.choice(self.locator.locate("services", namespace, spelled))
        except ApiError as error:
            # The locator's messages have the proxy verb's form of the name (`https:web:443`). Kubernetes'
            # ResolveEndpoint has only the Service's name.
            message = f'service "{name}" not found' if error.code == 404 else error.message.replace(spelled, name)
            raise _WebhookUnreachable(message) from None
        except UnreachableBackend as error:
            raise _WebhookUnreachable(str(error)) from None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()


async def _dial(host: str, port: int) -> socket.socket:
    try:
        return await connect(host, port)
    except (UnicodeError, socket.gaierror):
        # Python raises a UnicodeError for a name that is no domain name.
        raise OSError(f"lookup {host}: no such host") from None


def _explain(status: int, body: bytes) -> str:
    """Return client-go's message for an answer that is not successful."""
    if status == 500:
        return f'an error on the server ("{body.decode("utf-8", "replace").strip()}") has prevented the request ' + (
            "from succeeding"
        )
    if status == 403:
        return body.decode("utf-8", "replace").strip() or "forbidden"
    known = _STATUS_TEXTS.get(status)
    return known or f"the server responded with the status code {status} but did not return more information"
