"""An API server's client over HTTP with what a cluster's own parts have: a CA, a certificate or a token.

What a kubeconfig says is `kube/connection.py`'s part. Plain JSON dictionaries in and out; the transport is httpx2's. `ApiError` carries the server's own Status.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

from hatchway.errors import ApiError, service_unavailable
from hatchway.kube.paths import SERVICE_ACCOUNT
from hatchway.kube.rest import RestClient, answer_error

# How long a watch may be silent before its connection counts as dead (a laptop has slept, a router has forgotten it):
# servers send a bookmark about once a minute.
_SILENT_SECONDS = 150.0


class HttpClient(RestClient):
    """`kube.api.Client` over HTTPS.

    server: base URL. ca_file: PEM of the server's CA. cert: (certificate file, key file) of a client certificate.
    token: a bearer token, or a function that returns the current one (service-account tokens are renewed in place).
    """

    def __init__(
        self,
        server: str,
        ca_file: str | Path | None,
        *,
        cert: tuple[str, str] | None = None,
        token: str | Callable[[], str] | None = None,
    ) -> None:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        if cert:
            context.load_cert_chain(*cert)
        self._token = token
        self._http = httpx2.AsyncClient(
            base_url=server,
            verify=context,
            timeout=httpx2.Timeout(30.0, connect=10.0),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=8),
            headers={"accept": "application/json", "user-agent": "hatchway"},
            # Cluster addresses are never reached through the proxy of the user's environment.
            trust_env=False,
        )

    @classmethod
    def in_cluster(cls, *, host: str, port: str, account: Path = SERVICE_ACCOUNT) -> HttpClient:
        """The client of a pod: its service account's token, read anew for each request since it is rotated."""
        address = f"[{host}]" if ":" in host else host
        return cls(
            f"https://{address}:{port}",
            account / "ca.crt",
            token=lambda: (account / "token").read_text().strip(),
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def exchange(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        request = self._request(method, path, content=body, content_type=content_type)
        try:
            with _broken_connections():
                response = await self._http.send(request)
        except httpx2.TransportError as error:
            raise self._away(error) from error
        return response.status_code, response.content

    async def lines(self, path: str) -> AsyncGenerator[bytes, None]:
        request = self._request("GET", path, timeout=httpx2.Timeout(_SILENT_SECONDS, connect=10.0))
        try:
            with _broken_connections():
                response = await self._http.send(request, stream=True)
                try:
                    if response.status_code != 200:
                        raise answer_error(response.status_code, await response.aread(), request.url.path)
                    splitter = LineSplitter()
                    async for data in response.aiter_bytes():
                        for line in splitter.feed(data):
                            yield line
                finally:
                    await response.aclose()
        except (httpx2.TransportError, OSError) as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> ApiError:
        return service_unavailable(f"cannot reach {self._http.base_url}: {error or type(error).__name__}")

    def _request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        content_type: str = "application/json",
        timeout: httpx2.Timeout | None = None,
    ) -> httpx2.Request:
        headers = {"content-type": content_type} if content is not None else {}
        token = self._token() if callable(self._token) else self._token
        if token:
            headers["authorization"] = f"Bearer {token}"
        extra: dict[str, Any] = {"timeout": timeout} if timeout else {}
        return self._http.build_request(method, path, content=content, headers=headers, **extra)


@contextlib.contextmanager
def _broken_connections() -> Iterator[None]:
    """Let every way in which a connection can break off be a TransportError.

    One that is reset in a moment that the layers below httpx do not expect, between its handshake and its first request
    for example, fails there with an error of theirs: the transport has no socket any more (anyio's
    `extra_attributes`), or its handler is closed (uvloop).
    """
    try:
        yield
    except (AttributeError, RuntimeError) as error:
        raise httpx2.NetworkError(f"the connection broke off: {error}") from error


class LineSplitter:
    """Cuts a stream into its lines. Only a newline ends one: httpx's own `aiter_lines` also splits at U+0085, U+2028
    and others, which strings of JSON may contain as they are."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends; empty ones are left out."""
        *lines, rest = data.split(b"\n")
        if lines and self._rest:
            lines[0] = b"".join([*self._rest, lines[0]])
            self._rest.clear()
        if rest:
            self._rest.append(rest)
        return [line for line in lines if line]
