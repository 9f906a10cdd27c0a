"""A client for code in the API server's process: implements `Client` (`kube/api.py`) by function calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from hatchway.cluster.api.operations import deletion
from hatchway.cluster.api.operations.operation import Operation, decode, encode
from hatchway.cluster.api.operations.requestoptions import DeleteOptions, ListOptions
from hatchway.cluster.api.operations.subresources import SubresourceVerbs, create_object, verbs_of
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.operations.versions import as_stored, as_unserved
from hatchway.cluster.api.operations.watching import watch
from hatchway.cluster.api.patch.patches import merge_patch
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.selectors import parse_field_selector, parse_label_selector
from hatchway.cluster.api.work import HEAVY, Pace, begin_request
from hatchway.cluster.auth.user import LOOPBACK_USER, UserInfo
from hatchway.errors import ApiError, no_such_path
from hatchway.kube.api import Object, WatchEvent
from hatchway.kube.objects import Key, key_of
from hatchway.kube.relist import replace_known

_Objects = list[Object]


class LocalClient:
    """A client that calls the API's verbs. Returned objects are the store's own, so never change them in place.

    Objects of custom types are handled in the versions in which they are stored. Controllers use only the metadata and
    the Scale of such objects, so they need not wait for conversion webhooks.

    Objects from the caller are copied, so the caller may change them later.

    manager: the field manager of writes.
    """

    def __init__(self, api: Api, user: UserInfo = LOOPBACK_USER, manager: str = "kube-controller-manager") -> None:
        self._api = api
        self._user = user
        self._manager = manager

    def _row(self, resource: str) -> Resource:
        row = self._api.registry.by_name(resource)
        if row is None:
            raise no_such_path()
        return row

    def _row_of(self, resource: str, name: str, namespace: str | None, subresource: str = "") -> Resource:
        """Return the row of the version in which an object is stored, so that no webhook has to convert the object."""
        row = self._row(resource)
        if row.conversion is None:
            return row
        stored = self._api.store.latest(row.stored_as, (namespace or "") if row.namespaced else "", name)
        if stored is not None and stored["apiVersion"] != row.api_version:
            version = stored["apiVersion"].rpartition("/")[2]
            found = self._api.registry.find(row.group, version, row.plural)
            if subresource and (found is None or found.subresource(subresource) is None):
                # Only a version that has the subresource can be used.
                return row
            row = found or as_unserved(row, version)
        return as_stored(row)

    def _request(
        self, row: Resource, namespace: str | None, name: str = "", size: int = 0, subresource: str = ""
    ) -> Operation:
        space = (namespace or "") if row.namespaced else ""
        return Operation(
            self._user, row, space, name, size=row.weight_of(size), manager=self._manager, subresource=subresource
        )

    def _verbs(self, row: Resource, subresource: str) -> SubresourceVerbs:
        found = row.subresource(subresource)
        verbs = verbs_of(self._api, row, found) if found is not None else None
        if verbs is None:
            raise no_such_path()
        return verbs

    async def get(self, resource: str, name: str, namespace: str | None = None, *, subresource: str = "") -> Object:
        """Return an object, or a subresource of it. Raises ApiError 404, also when there is no such subresource."""
        if subresource:
            row = self._row_of(resource, name, namespace, subresource)
            request = self._request(row, namespace, name, subresource=subresource)
            return await self._verbs(row, subresource).get(self._api, request)
        row = as_stored(self._row(resource))
        return await self._api.get(row, (namespace or "") if row.namespaced else "", name)

    async def list(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> _Objects:
        """Return all matching objects. namespace: None for all namespaces."""
        row = as_stored(self._row(resource))
        return (await self._api.list(row, _space(row, namespace), _selection(label_selector, field_selector))).items

    async def create(
        self, resource: str, obj: Object, namespace: str | None = None, *, subresource: str = "", name: str = ""
    ) -> Object:
        """Create an object, or POST to a subresource of the object `name`. Return the new object or the answer."""
        row = self._row(resource)
        obj, size = await _copied(obj)
        space = namespace or (obj.get("metadata") or {}).get("namespace")
        request = self._request(row, space, name, size, subresource)
        if not subresource:
            return await create_object(self._api, request, obj)
        return await self._verbs(row, subresource).create(self._api, request, obj)

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        """Replace an object, or a subresource of it. Raises ApiError like `Api.update`."""
        obj, size = await _copied(obj)
        metadata = obj["metadata"]
        row = self._row_of(resource, metadata["name"], metadata.get("namespace"), subresource)
        request = self._request(row, metadata.get("namespace"), metadata["name"], size, subresource)
        if subresource:
            return await self._verbs(row, subresource).update(self._api, request, obj)
        return (await self._api.update(request, obj))[0]

    async def patch(
        self, resource: str, name: str, patch: Object, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        """Apply a merge patch to an object, or to a subresource of it. Raises ApiError like `Api.patch`."""
        change, size = await _copied(patch)
        row = self._row_of(resource, name, namespace, subresource)
        request = self._request(row, namespace, name, size, subresource)

        def apply(current: Object) -> Object:
            found: Object = merge_patch(current, change)
            return found

        if subresource:
            return await self._verbs(row, subresource).patch(self._api, request, apply)
        return await self._api.patch(request, apply)

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
        """Delete an object.

        grace_period: seconds; None for the type's default. uid: a precondition; "" for none. propagation: Background,
        Foreground, Orphan, or "" for the type's default.
        """
        await begin_request()
        options = DeleteOptions(grace_period, propagation, None, uid)
        row = self._row_of(resource, name, namespace)
        await deletion.delete(self._api, self._request(row, namespace, name), options)

    async def watch(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """Yield all matching objects as ADDED, then SYNCED, then every change.

        When the history no longer has the next change, list again and yield the differences. The iterator ends when
        the store closes.
        """
        row = self._row(resource)
        selection = _selection(label_selector, field_selector)
        known: dict[Key, Object] = {}
        synced = False
        while True:
            page = await self._api.list(as_stored(row), _space(row, namespace), selection)
            pace = Pace()
            for event in replace_known(known, page.items):
                if pace.due():
                    await pace.rest()
                yield event
            if not synced:
                synced = True
                yield WatchEvent("SYNCED", {})
            options = ListOptions(selection.labels, selection.fields, resource_version=str(page.revision))
            try:
                space = _space(row, namespace)
                async with aclosing(watch(self._api, row, space, options, pace, in_place=True)) as batches:
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


async def _copied(obj: Object) -> tuple[Object, int]:
    """Return a copy of an object that a controller passed, and its size.

    Controllers may pass many large objects at once. So each large object is copied in a separate turn of the event
    loop.
    """
    await begin_request()
    data = encode(obj)
    if len(data) >= HEAVY:
        await Pace().rest()
    return decode(data), len(data)


def _selection(label_selector: str, field_selector: str) -> ListOptions:
    return ListOptions(parse_label_selector(label_selector), parse_field_selector(field_selector))


def _space(row: Resource, namespace: str | None) -> str | None:
    return (namespace or None) if row.namespaced else None
