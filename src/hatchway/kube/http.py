"""An API server's client over HTTP: what nodes, add-ons and the command line use.

Plain JSON dictionaries in and out; the transport is httpx2's. `ApiError` carries the server's own Status.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx2
import msgspec

from hatchway.errors import ApiError, service_unavailable
from hatchway.kube.api import Object, WatchEvent
from hatchway.kube.paths import ResourceName, parse_resource
from hatchway.kube.relist import Key, differences, key_of

# Inside the class below `list` is a method.
_Objects = list[Object]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PAGE = 500
# How long a watch is asked to last, and how long it may be silent before its connection counts as dead (a laptop has
# slept, a router has forgotten it): servers send a bookmark about once a minute.
_WATCH_SECONDS = 290
_SILENT_SECONDS = 150.0
_FIRST_RETRY, _LAST_RETRY = 0.1, 5.0


class HttpClient:
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

    async def get(self, resource: str, name: str, namespace: str | None = None) -> Object:
        return await self._call("GET", parse_resource(resource).path(namespace, name))

    async def list(
        self, resource: str, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> list[Object]:
        found = parse_resource(resource)
        items, _ = await self._list(found, namespace, _selectors(label_selector, field_selector))
        return items

    async def create(
        self, resource: str, obj: Object, namespace: str | None = None, *, subresource: str = "", name: str = ""
    ) -> Object:
        path = parse_resource(resource).path(namespace or _namespace(obj), name, subresource)
        return await self._call("POST", path, body=obj)

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        path = parse_resource(resource).path(_namespace(obj), obj["metadata"]["name"], subresource)
        return await self._call("PUT", path, body=obj)

    async def patch(
        self, resource: str, name: str, patch: Object, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        path = parse_resource(resource).path(namespace, name, subresource)
        return await self._call("PATCH", path, body=patch, content_type="application/merge-patch+json")

    async def delete(
        self,
        resource: str,
        name: str,
        namespace: str | None = None,
        *,
        grace_period: int | None = None,
        uid: str = "",
        propagation: str = "",
    ) -> None:
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_period is not None:
            options["gracePeriodSeconds"] = grace_period
        if uid:
            options["preconditions"] = {"uid": uid}
        if propagation:
            options["propagationPolicy"] = propagation
        await self._call("DELETE", parse_resource(resource).path(namespace, name), body=options)

    async def watch(
        self, resource: str, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> AsyncIterator[WatchEvent]:
        found, selectors = parse_resource(resource), _selectors(label_selector, field_selector)
        known: dict[Key, Object] = {}
        version, synced, wait = "", False, _FIRST_RETRY
        while True:
            try:
                if not version:
                    items, version = await self._list(found, namespace, selectors)
                    for event in differences(known, items):
                        yield event
                    if not synced:
                        synced = True
                        yield WatchEvent("SYNCED", {})
                async with contextlib.aclosing(self._follow(found, namespace, selectors, version)) as events:
                    async for kind, obj in events:
                        wait = _FIRST_RETRY
                        if kind == "ERROR":
                            raise _error(obj.get("code", 500), obj)
                        version = obj["metadata"]["resourceVersion"]
                        if kind == "BOOKMARK":
                            continue
                        if kind == "DELETED":
                            known.pop(key_of(obj), None)
                        else:
                            known[key_of(obj)] = obj
                        yield WatchEvent(kind, obj)  # type: ignore[arg-type]
            except ApiError as error:
                if error.code in (401, 403, 404, 405):
                    raise
                if error.code != 503:
                    version = ""
                wait = await _back_off(wait)
            except msgspec.DecodeError:
                # Asked for the same events, the server would send the same line again.
                version = ""
                wait = await _back_off(wait)
            except (httpx2.TransportError, OSError):
                # The server is away; its history may still cover the gap, so the version is kept.
                wait = await _back_off(wait)

    async def _list(
        self, resource: ResourceName, namespace: str | None, selectors: dict[str, str]
    ) -> tuple[_Objects, str]:
        items: _Objects = []
        query = {**selectors, "limit": str(_PAGE)}
        while True:
            page = await self._call("GET", resource.path(namespace), query=query)
            kind = page.get("kind", "").removesuffix("List")
            for item in page.get("items") or ():
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", kind)
                items.append(item)
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return items, metadata.get("resourceVersion", "")
            query["continue"] = metadata["continue"]

    async def _follow(
        self, resource: ResourceName, namespace: str | None, selectors: dict[str, str], version: str
    ) -> AsyncGenerator[tuple[str, Object], None]:
        query = {
            **selectors,
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        timeout = httpx2.Timeout(_SILENT_SECONDS, connect=10.0)
        request = self._request("GET", resource.path(namespace), query=query, timeout=timeout)
        with _broken_connections():
            response = await self._http.send(request, stream=True)
            try:
                if response.status_code != 200:
                    await response.aread()
                    raise _response_error(response)
                splitter = LineSplitter()
                async for data in response.aiter_bytes():
                    for line in splitter.feed(data):
                        event = msgspec.json.decode(line)
                        yield event["type"], event["object"]
            finally:
                await response.aclose()

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        timeout: httpx2.Timeout | None = None,
    ) -> httpx2.Request:
        headers = {}
        content = None
        if body is not None:
            content = msgspec.json.encode(body)
            headers["content-type"] = content_type
        token = self._token() if callable(self._token) else self._token
        if token:
            headers["authorization"] = f"Bearer {token}"
        extra: dict[str, Any] = {"timeout": timeout} if timeout else {}
        return self._http.build_request(method, path, params=query, content=content, headers=headers, **extra)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        request = self._request(method, path, query=query, body=body, content_type=content_type)
        try:
            with _broken_connections():
                response = await self._http.send(request)
        except httpx2.TransportError as error:
            raise service_unavailable(f"cannot reach {self._http.base_url}: {error or type(error).__name__}") from error
        if response.status_code >= 300:
            raise _response_error(response)
        return cast(Object, msgspec.json.decode(response.content))


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


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    pairs = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in pairs.items() if value}


def _namespace(obj: Object) -> str | None:
    return cast("str | None", obj["metadata"].get("namespace"))


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


def _response_error(response: httpx2.Response) -> ApiError:
    try:
        status = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        text = response.text.strip()[:200] or response.reason_phrase
        return ApiError(response.status_code, "", f"{response.request.url.path}: {text}")
    return _error(response.status_code, status)


def _error(code: int, status: Object) -> ApiError:
    return ApiError(code, status.get("reason", ""), status.get("message", ""), status.get("details"))


async def _back_off(wait: float) -> float:
    await asyncio.sleep(wait)
    return min(wait * 2, _LAST_RETRY)
