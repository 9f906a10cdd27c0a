"""A client of the API server inside its own process: `kube/api.py`'s `Client` over function calls, as LOOPBACK_USER."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from hatchway.cluster.api import deletion, subresources
from hatchway.cluster.api.options import DeleteOptions, ListOptions
from hatchway.cluster.api.patch import merge_patch
from hatchway.cluster.api.registry import Resource
from hatchway.cluster.api.rest import Api, Request, clone
from hatchway.cluster.api.selectors import parse_field_selector, parse_label_selector
from hatchway.cluster.api.watching import watch
from hatchway.cluster.auth.user import LOOPBACK_USER, UserInfo
from hatchway.errors import ApiError, bad_request, no_such_path
from hatchway.kube.api import Object, WatchEvent
from hatchway.kube.relist import Key, differences, key_of

_Objects = list[Object]


class LocalClient:
    """Implements `Client`. Objects that it hands out are the store's own: shared, never to be changed in place.

    Objects handed in are copied, so the caller may go on using them.
    """

    def __init__(self, api: Api, user: UserInfo = LOOPBACK_USER) -> None:
        self._api = api
        self._user = user

    def _row(self, resource: str) -> Resource:
        row = self._api.registry.by_name(resource)
        if row is None:
            raise no_such_path()
        return row

    def _request(self, row: Resource, namespace: str | None, name: str = "") -> Request:
        return Request(self._user, row, (namespace or "") if row.namespaced else "", name)

    async def get(self, resource: str, name: str, namespace: str | None = None) -> Object:
        row = self._row(resource)
        return self._api.get(row, (namespace or "") if row.namespaced else "", name)

    async def list(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> _Objects:
        row = self._row(resource)
        return self._api.list(row, _space(row, namespace), _selection(label_selector, field_selector)).items

    async def create(
        self, resource: str, obj: Object, namespace: str | None = None, *, subresource: str = "", name: str = ""
    ) -> Object:
        row = self._row(resource)
        request = self._request(row, namespace or (obj.get("metadata") or {}).get("namespace"), name)
        obj = clone(obj)
        if not subresource:
            return await self._api.create(request, obj)
        if row.plural == "pods" and subresource == "binding":
            return await subresources.bind(self._api, request, obj)
        if row.plural == "pods" and subresource == "eviction":
            return await subresources.evict(self._api, request, obj)
        found = row.subresource(subresource)
        if found is None:
            raise no_such_path()
        return await create_virtual_subresource(self._api, request, row, subresource, obj)

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        row = self._row(resource)
        metadata = obj["metadata"]
        request = self._request(row, metadata.get("namespace"), metadata["name"])
        obj = clone(obj)
        if subresource == "scale":
            return await subresources.update_scale(self._api, request, obj)
        if subresource == "finalize":
            return await subresources.finalize(self._api, request, obj)
        return (await self._api.update(request, obj, status=_is_status(subresource)))[0]

    async def patch(
        self, resource: str, name: str, patch: Object, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        row = self._row(resource)
        request = self._request(row, namespace, name)
        change = clone(patch)

        def apply(current: Object) -> Object:
            found: Object = merge_patch(current, change)
            return found

        if subresource == "scale":
            return await subresources.patch_scale(self._api, request, apply)
        return await self._api.patch(request, apply, status=_is_status(subresource))

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
        options = DeleteOptions(grace_period, propagation, None, uid)
        await deletion.delete(self._api, self._request(self._row(resource), namespace, name), options)

    async def watch(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """List, then follow. Falling behind what the store remembers, it lists again and tells what vanished. Ends when
        the store closes."""
        row = self._row(resource)
        selection = _selection(label_selector, field_selector)
        known: dict[Key, Object] = {}
        synced = False
        while True:
            page = self._api.list(row, _space(row, namespace), selection)
            for event in differences(known, page.items):
                yield event
            if not synced:
                synced = True
                yield WatchEvent("SYNCED", {})
            options = ListOptions(selection.labels, selection.fields, resource_version=str(page.revision))
            try:
                async with aclosing(watch(self._api, row, _space(row, namespace), options)) as batches:
                    async for batch in batches:
                        for change in batch:
                            key = key_of(change.object)
                            if change.type == "DELETED":
                                known.pop(key, None)
                                yield WatchEvent("DELETED", change.object)
                            else:
                                known[key] = change.object
                                yield WatchEvent("ADDED" if change.type == "ADDED" else "MODIFIED", change.object)
                return
            except ApiError as error:
                if error.code != 410:
                    raise


async def create_virtual_subresource(
    api: Api, request: Request, row: Resource, subresource: str, obj: Object
) -> Object:
    """POST to a computed subresource (`serviceaccounts/token`): its wired handler answers."""
    found = row.subresource(subresource)
    assert found is not None
    typed = Resource(
        found.group, found.version or row.version, row.plural, row.singular, found.kind or row.kind, row.namespaced
    )
    return await api.create_virtual(request, f"{row.group_resource}/{subresource}", typed, obj)


def _is_status(subresource: str) -> bool:
    if subresource not in ("", "status"):
        raise bad_request(f"the subresource {subresource} cannot be updated")
    return subresource == "status"


def _selection(label_selector: str, field_selector: str) -> ListOptions:
    return ListOptions(parse_label_selector(label_selector), parse_field_selector(field_selector))


def _space(row: Resource, namespace: str | None) -> str | None:
    return (namespace or None) if row.namespaced else None
