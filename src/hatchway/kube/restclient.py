"""`kube.api.Client` over HTTP: makes paths, reads lists in pages, resumes watches. A subclass sends the requests."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast
from urllib.parse import urlencode

import msgspec

from hatchway.errors import ApiError
from hatchway.kube.api import Object, WatchEvent
from hatchway.kube.objects import Key, key_of
from hatchway.kube.paths import ResourceName, parse_resource
from hatchway.kube.relist import replace_known

# Inside the class below, the name `list` is a method, so the type needs another name.
_Objects = list[Object]

# The maximum number of objects in one page of a list.
_PAGE = 500
# The `timeoutSeconds` of watches. A dead connection is noticed after this time at the latest.
WATCH_SECONDS = 290
# The shortest and the longest pause before another attempt, in seconds.
_FIRST_RETRY, _LAST_RETRY = 0.1, 5.0


class RestClient(ABC):
    """The calls of `kube.api.Client`. When the server cannot be reached, they raise `ApiError` 503."""

    @abstractmethod
    async def exchange(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        """Send a request, and return the answer's (status, body).

        path: the path with its query.

        Raises ApiError 503 when the server gives no answer.
        """

    @abstractmethod
    def lines(self, path: str) -> AsyncGenerator[bytes, None]:
        """Send a GET request, and yield the lines of its answer as they arrive, without their newlines.

        Raises ApiError: the server's error when the status is not 200; 503 when the answer was cut off or the server
        cannot be reached.
        """

    async def get(self, resource: str, name: str, namespace: str | None = None, *, subresource: str = "") -> Object:
        """Return one object, or the object of a subresource (`scale`)."""
        return await self._call("GET", parse_resource(resource).path(namespace, name, subresource))

    async def list(
        self, resource: str, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> list[Object]:
        """Return all matching objects, read page by page, each with its apiVersion and kind."""
        found = parse_resource(resource)
        items, _ = await self._list(found, namespace, _selectors(label_selector, field_selector))
        return items

    async def create(
        self, resource: str, obj: Object, namespace: str | None = None, *, subresource: str = "", name: str = ""
    ) -> Object:
        """Create an object, or POST it to a subresource of the object `name`."""
        path = parse_resource(resource).path(namespace or _namespace(obj), name, subresource)
        return await self._call("POST", path, body=obj)

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        """Replace the object that `obj.metadata` names."""
        path = parse_resource(resource).path(_namespace(obj), obj["metadata"]["name"], subresource)
        return await self._call("PUT", path, body=obj)

    async def patch(
        self, resource: str, name: str, patch: Object, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        """Apply a JSON merge patch, and return the changed object."""
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
        """Delete one object (`kube.api.Client.delete`)."""
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
        """List all matching objects, then watch them without end (`kube.api.Client.watch`)."""
        found, selectors = parse_resource(resource), _selectors(label_selector, field_selector)
        known: dict[Key, Object] = {}
        version, synced, wait = "", False, _FIRST_RETRY
        while True:
            try:
                if not version:
                    items, version = await self._list(found, namespace, selectors)
                    for event in replace_known(known, items):
                        yield event
                    if not synced:
                        synced = True
                        yield WatchEvent("SYNCED", {})
                silent = True
                async with contextlib.aclosing(self._follow(found, namespace, selectors, version)) as events:
                    async for kind, obj in events:
                        wait, silent = _FIRST_RETRY, False
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
                if silent:
                    # Pause before the next watch: some servers or proxies end every watch at once.
                    wait = await _back_off(wait)
            except ApiError as error:
                if error.code in (401, 403, 404, 405):
                    raise
                # After a 503 the watch can be resumed from the same version if the server still has its history.
                if error.code != 503:
                    version = ""
                wait = await _back_off(wait)
            except msgspec.DecodeError:
                # List again: from this version the server would send the same malformed line once more.
                version = ""
                wait = await _back_off(wait)
            except OSError:
                wait = await _back_off(wait)

    async def _list(
        self, resource: ResourceName, namespace: str | None, selectors: dict[str, str]
    ) -> tuple[_Objects, str]:
        items: _Objects = []
        version = ""
        async for page, of_page in self._pages(resource, namespace, selectors):
            items += page
            version = of_page
        return items, version

    async def pages(self, resource: str, namespace: str | None = None) -> AsyncIterator[_Objects]:
        """Yield all objects of a resource, page by page, each with its apiVersion and kind.

        Raises ApiError; 410 when the server no longer has the version of the first page.
        """
        async for page, _ in self._pages(parse_resource(resource), namespace, {}):
            yield page

    async def _pages(
        self, resource: ResourceName, namespace: str | None, selectors: dict[str, str]
    ) -> AsyncIterator[tuple[_Objects, str]]:
        """Yield (objects, the list's resourceVersion) for each page."""
        query = {**selectors, "limit": str(_PAGE)}
        while True:
            page = await self._call("GET", resource.path(namespace), query=query)
            kind = page.get("kind", "").removesuffix("List")
            items: _Objects = []
            for item in page.get("items") or ():
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", kind)
                items.append(item)
            metadata = page.get("metadata") or {}
            yield items, metadata.get("resourceVersion", "")
            if not metadata.get("continue"):
                return
            query["continue"] = metadata["continue"]

    async def _follow(
        self, resource: ResourceName, namespace: str | None, selectors: dict[str, str], version: str
    ) -> AsyncGenerator[tuple[str, Object], None]:
        query = {
            **selectors,
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async with contextlib.aclosing(self.lines(_with_query(resource.path(namespace), query))) as lines:
            async for line in lines:
                if line:
                    event = msgspec.json.decode(line)
                    yield event["type"], event["object"]

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        content = None if body is None else msgspec.json.encode(body)
        status, answer = await self.exchange(method, _with_query(path, query), content, content_type)
        if status >= 300:
            raise answer_error(status, answer, path)
        try:
            found = msgspec.json.decode(answer)
        except msgspec.DecodeError:
            found = None
        if not isinstance(found, dict):
            raise ApiError(502, "", f"{path}: the answer is no JSON object; is this a Kubernetes API server?")
        return found


def _with_query(path: str, query: dict[str, str] | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    pairs = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in pairs.items() if value}


def _namespace(obj: Object) -> str | None:
    return cast("str | None", obj["metadata"].get("namespace"))


def answer_error(status: int, body: bytes, path: str) -> ApiError:
    """Return the error of an answer: the server's Status, or the message of a reverse proxy in front of the server."""
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict) or found.get("kind") != "Status":
        text = body.decode(errors="replace").strip()[:200] or f"status {status} without a message"
        return ApiError(status, "", f"{path}: {text}")
    return _error(status, found)


def _error(code: int, status: Object) -> ApiError:
    return ApiError(code, status.get("reason", ""), status.get("message", ""), status.get("details"))


async def _back_off(wait: float) -> float:
    await asyncio.sleep(wait)
    return min(wait * 2, _LAST_RETRY)
