"""What the API server says of a target, asked for when it is needed and remembered for some seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

from hatchway.door.problems import similar_names
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.connection import Connection
from hatchway.target import Kind

_SECONDS = 10.0
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Found:
    """object: None when there is none, or when it may not be read (`readable` is False then)."""

    object: Object | None
    readable: bool = True


class Lookup:
    """Single objects of the cluster, and lists for the reasons on error pages."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[tuple[object, str, str, str], tuple[float, Found]] = {}

    async def get(self, kind: Kind, namespace: str, name: str) -> Found:
        """Raises ApiError when it cannot be asked (401, 503 ...)."""
        key = self._connection.identity, kind, namespace, name
        known = self._known.get(key)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        try:
            found = Found(await self._connection.client.get(kind, name, namespace or None))
        except ApiError as error:
            if error.code == 404:
                found = Found(None)
            elif error.code == 403:
                found = Found(None, readable=False)
            else:
                raise
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[key] = (time.monotonic() + _SECONDS, found)
        return found

    async def instead_of_namespace(self, name: str) -> list[str] | None:
        """The namespaces that may have been meant when there is none of this name; None when there is, or nobody tells."""
        try:
            await self._connection.client.get("namespaces", name)
        except ApiError as error:
            if error.code != 404:
                return None
        else:
            return None
        return similar_names(name, [found["metadata"]["name"] for found in await self.list("namespaces", "")])

    def forget(self) -> None:
        """Ask anew: an answer has shown that something has changed."""
        self._known.clear()

    async def list(self, resource: str, namespace: str, label_selector: str = "") -> list[Object]:
        """All that may be listed; nothing when it may not be, or cannot be asked now."""
        try:
            return await self._connection.client.list(resource, namespace or None, label_selector=label_selector)
        except ApiError:
            return []
