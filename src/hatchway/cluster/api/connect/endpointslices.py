"""An index of EndpointSlices by service."""

from __future__ import annotations

import asyncio

from hatchway.cluster.auth.source import StoreCallback, StoredObjects
from hatchway.kube.api import Object
from hatchway.kube.wellknown import ENDPOINT_SLICES, SERVICE_NAME


class IndexedObjects:
    """Reads committed objects. An index of EndpointSlices by service is updated with each commit.

    This class implements `CommittedObjects` and `ServiceEndpoints`.

    source: the store. The index is updated as long as the store exists.
    """

    def __init__(self, source: StoredObjects) -> None:
        self.get = source.get
        self._waiting: list[asyncio.Future[None]] = []
        self._slices: dict[tuple[str, str], dict[str, Object]] = {}
        for obj in source.list(ENDPOINT_SLICES):
            self._put(obj)
        follow: StoreCallback = self._follow
        source.subscribe(ENDPOINT_SLICES, follow)

    def endpoint_slices(self, namespace: str, service: str) -> list[Object]:
        """Return the EndpointSlices of a service (label kubernetes.io/service-name)."""
        return [*self._slices.get((namespace, service), {}).values()]

    async def wait_for_change(self) -> None:
        """Return after the next change of any EndpointSlice."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def _follow(self, _type: str, old: Object | None, new: Object | None) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        if old is not None:
            self._remove(old)
        if new is not None:
            self._put(new)

    def _remove(self, obj: Object) -> None:
        key = _service_of(obj)
        slices = self._slices.get(key) if key is not None else None
        if key is not None and slices is not None:
            slices.pop(obj["metadata"]["name"], None)
            if not slices:
                del self._slices[key]

    def _put(self, obj: Object) -> None:
        key = _service_of(obj)
        if key is not None:
            self._slices.setdefault(key, {})[obj["metadata"]["name"]] = obj


def _service_of(obj: Object) -> tuple[str, str] | None:
    """Return the namespace and the name of a slice's service; None for a slice without a service."""
    metadata = obj["metadata"]
    service = (metadata.get("labels") or {}).get(SERVICE_NAME)
    return None if service is None else (metadata["namespace"], service)
