"""Reads single objects and lists of objects of the cluster on demand, and caches single objects for some seconds.

The door and the command line use it to read a target's object, the target's endpoints and, when the object does not
exist, similar names.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.connection import Connection
from hatchway.printable import printable
from hatchway.target import Kind

# Seconds for which an object stays in the cache.
_KEPT_SECONDS = 10.0
# The maximum number of bytes of JSON of all cached objects together.
_KEPT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LookupResult:
    """The result of reading one object.

    object: the object; None when it does not exist or may not be read.
    readable: False when the user may not read the object; it may then exist although `object` is None.
    """

    object: Object | None
    readable: bool = True


class ObjectLookup:
    """Reads objects with the user's rights, and caches single objects for some seconds."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._kept: dict[tuple[object, str, str, str], tuple[float, LookupResult]] = {}
        self._size = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> LookupResult:
        """Return one object, from the cache if it was read within the last ten seconds.

        Raises:
            ApiError: the API server answered with an error other than 403 and 404, or could not be reached (503).
        """
        key = self._connection.identity, kind, namespace, name
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() < kept[0]:
            return kept[1]
        cache = self._kept
        try:
            found = LookupResult(await self._connection.client.get(kind, name, namespace or None))
        except ApiError as error:
            if error.code == 404:
                found = LookupResult(None)
            elif error.code == 403:
                found = LookupResult(None, readable=False)
            else:
                raise
        # A missing or forbidden object is not cached: it may be created, or access may be granted, at any time. An
        # object that was requested before `forget` is not cached, either: it may be outdated.
        if found.object is not None and cache is self._kept:
            size = len(msgspec.json.encode(found.object))
            if self._size + size > _KEPT_BYTES:
                self.forget()
            if size <= _KEPT_BYTES:
                self._size += size
                self._kept[key] = (time.monotonic() + _KEPT_SECONDS, found)
        return found

    async def similar_namespaces(self, name: str) -> list[str] | None:
        """Return the namespaces with names similar to `name`, if no namespace `name` exists.

        Returns:
            None when the namespace exists or the user may not read it; [] when the user may not list namespaces.
        """
        try:
            await self._connection.client.get("namespaces", name)
        except ApiError as error:
            if error.code != 404:
                return None
        else:
            return None
        return similar_names(name, [found["metadata"]["name"] for found in await self.list_readable("namespaces", "")])

    def forget(self) -> None:
        """Empty the cache. Call it when an answer has shown that a cached object is outdated.

        Objects that are being read are not cached: they may have been requested before that answer.
        """
        self._kept = {}
        self._size = 0

    async def list_if_allowed(self, resource: str, namespace: str, label_selector: str = "") -> list[Object] | None:
        """Return the objects of a resource; None when the user may not list them or the API server cannot be reached.

        namespace: "" for all namespaces.
        """
        try:
            return await self._connection.client.list(resource, namespace or None, label_selector=label_selector)
        except ApiError:
            return None

    async def list_readable(self, resource: str, namespace: str, label_selector: str = "") -> list[Object]:
        """Return the objects of a resource as `list_if_allowed` does, with an empty list in place of None."""
        return await self.list_if_allowed(resource, namespace, label_selector) or []


def similar_names(name: str, known: Iterable[str], limit: int = 5) -> list[str]:
    """Return the names in `known` that are similar to `name`, the most similar first, for the hint of an error message.

    Names that differ by few letters come before names that contain `name` or are contained in it.
    """
    names = list(dict.fromkeys(map(printable, known)))
    close = difflib.get_close_matches(name, names, n=limit, cutoff=0.6)
    containing = sorted(one for one in names if (name in one or one in name) and one not in close)
    return [*close, *containing][:limit]
