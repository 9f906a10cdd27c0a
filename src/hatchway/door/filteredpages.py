"""A client that refuses to read paths that the flags of the door exclude."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hatchway.door.requestfilter import RequestFilter, check_read
from hatchway.kube.api import Object
from hatchway.kube.connection import Connection
from hatchway.kube.paths import parse_resource


class FilteredPages:
    """Reads objects with the user's rights, if the door's flags allow it (`--accept-paths`, `--reject-paths` ...)."""

    def __init__(self, connection: Connection, filter: RequestFilter | None) -> None:
        """Wrap a connection's client. filter: the door's filter; None when it is off."""
        self._connection = connection
        self._filter = filter

    async def pages(self, resource: str, namespace: str | None = None) -> AsyncIterator[list[Object]]:
        """Yield all objects of a resource, page by page. Raises ApiError; 403 also for paths that the flags exclude."""
        check_read(self._filter, parse_resource(resource).path(namespace))
        async for page in self._connection.client.pages(resource, namespace):
            yield page

    async def get(self, resource: str, name: str, namespace: str | None = None) -> Object:
        """Return one object. Raises ApiError; 403 also for paths that the flags exclude."""
        check_read(self._filter, parse_resource(resource).path(namespace, name))
        return await self._connection.client.get(resource, name, namespace)
