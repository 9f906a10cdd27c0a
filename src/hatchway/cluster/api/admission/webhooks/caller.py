"""Calls webhooks: one POST of an AdmissionReview over TLS, to a ready endpoint of a Service or to a URL.

From apiserver's `pkg/util/webhook/client.go`; errors are worded as client-go words them. Answers are bounded in time
and in size, so a hostile server costs no more than one request that waits.
"""

from __future__ import annotations

import asyncio
import random
import socket
from functools import partial
from urllib.parse import quote, urlsplit

import msgspec

from hatchway.cluster.api.admission.webhooks.configurations import Webhook
from hatchway.cluster.api.admission.webhooks.review import CallFailed
from hatchway.cluster.api.connect.answers import dial_message
from hatchway.cluster.api.connect.resourcelocation import BackendEndpoint, Locator, UnreachableBackend
from hatchway.cluster.api.connect.tlscontexts import TlsContexts
from hatchway.cluster.api.work import run_sized
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.dial import connect
from hatchway.kube.http import HttpClient
from hatchway.proxy.routing import ProxyError, Upstream

__all__ = ["WebhookCaller"]

# The longest answer that is read, in bytes: a patch that replaces the largest object, in base64, and some text.
_LIMIT = 4_500_000
# How many characters of an answer that is no AdmissionReview are shown.
_SHOWN = 1024
# Characters of a path that are sent as they are.
_SAFE = "/%:@!$&'()*+,;=~"
_encode = msgspec.json.Encoder().encode
# client-go `rest/request.go` with apimachinery's `NewGenericServerResponse`.
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


class WebhookCaller:
    """Sends AdmissionReviews.

    locator: finds the endpoints of Services. The API server sets it when it is made; until then only URLs are called.
    """

    def __init__(self, locator: Locator | None = None) -> None:
        self.locator = locator
        self._contexts = TlsContexts()
        self._http = HttpClient()

    async def call(self, hook: Webhook, review: Object, size: int) -> bytes:
        """Send a review to a webhook, and return the body of its answer.

        size: bytes of JSON of the objects in the review, 0 when they are small. Raises CallFailed.
        """
        body = await run_sized(size, _encode, review)
        where = hook.url
        if hook.service is not None:
            namespace, name, port = hook.service
            where = f"https://{name}.{namespace}.svc:{port}{hook.path or '/'}"
        url = f"{where}?timeout={hook.seconds}s"
        try:
            async with asyncio.timeout(hook.seconds):
                return await self._post(hook, url, body)
        except TimeoutError:
            why = "context deadline exceeded"
        except WebhookUnreachable as error:
            why = str(error)
        raise CallFailed(f'failed to call webhook: Post "{url}": {why}')

    async def _post(self, hook: Webhook, url: str, body: bytes) -> bytes:
        try:
            number, context = await self._contexts.get_soon(hook.bundle, False)
        except ValueError as error:
            raise CallFailed(f"could not get REST client: {error}") from None
        parts = urlsplit(url)
        endpoint = self._endpoint(hook, parts.hostname or "", parts.port or 443)
        upstream = Upstream(
            ("webhook", parts.netloc, endpoint.dialed, number), endpoint.upstream.connect, context, parts.hostname
        )
        head = (
            f"POST {quote(parts.path or '/', _SAFE)}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "User-Agent: kube-apiserver-admission\r\nAccept: application/json, */*\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        patience = float(hook.seconds)
        try:
            answer = await self._http.ask(upstream, "POST", head.encode("ascii", "replace"), body, patience)
            try:
                content = bytearray()
                async for piece in answer.pieces(patience):
                    content += piece
                    if len(content) > _LIMIT:
                        raise CallFailed(f"failed to call webhook: the answer is longer than {_LIMIT} bytes")
                status = answer.status
            finally:
                answer.leave()
        except ProxyError as error:
            raise WebhookUnreachable(dial_message(error, endpoint)) from error
        if not 200 <= status <= 206:
            raise CallFailed(f"failed to call webhook: {_explain(status, bytes(content[:_SHOWN]))}")
        return bytes(content)

    def _endpoint(self, hook: Webhook, host: str, port: int) -> BackendEndpoint:
        """Return where to connect. Raises WebhookUnreachable."""
        if hook.service is None:
            dialed = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            connecting = partial(_dial, host, port)
            return BackendEndpoint(host, dialed.encode("ascii", "replace"), dialed, Upstream(dialed, connecting))
        if self.locator is None:
            raise WebhookUnreachable("this server reaches no Services")
        namespace, name, number = hook.service
        target = f"https:{name}:{number}"
        try:
            return random.choice(self.locator.locate("services", namespace, target))
        except ApiError as error:
            # The locator words its errors for the proxy verb; Kubernetes' ResolveEndpoint names the Service alone.
            message = f'service "{name}" not found' if error.code == 404 else error.message.replace(target, name)
            raise WebhookUnreachable(message) from None
        except UnreachableBackend as error:
            raise WebhookUnreachable(str(error)) from None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()


async def _dial(host: str, port: int) -> socket.socket:
    try:
        return await connect(host, port)
    except (UnicodeError, socket.gaierror):
        # For a name that is no domain name, Python raises a UnicodeError.
        raise OSError(f"lookup {host}: no such host") from None


class WebhookUnreachable(Exception):
    """The server cannot be reached; the message is worded as Go's net package words it."""


def _explain(status: int, body: bytes) -> str:
    """Return the message of client-go for an answer that is not successful."""
    if status == 500:
        return f'an error on the server ("{body.decode("utf-8", "replace").strip()}") has prevented the request ' + (
            "from succeeding"
        )
    if status == 403:
        return body.decode("utf-8", "replace").strip() or "forbidden"
    known = _STATUS_TEXTS.get(status)
    return known or f"the server responded with the status code {status} but did not return more information"
