"""Removes what belonged to something that is gone (`garbagecollector/garbagecollector.go`).

Background: an object whose owners are all gone is deleted. Foreground: an owner with the finalizer
`foregroundDeletion` waits until its blocking dependents are gone. Orphan: an owner with the finalizer `orphan` has
itself removed from its dependents first.
"""

from __future__ import annotations

from dataclasses import dataclass

from hatchway.cluster.controllers.base import Cache, Context, Controller
from hatchway.cluster.controllers.objects import is_deleting, key_of, owner_references, uid_of
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.paths import parse_resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
# Nobody owns an event, and there are many.
_IGNORED = frozenset({"events"})


@dataclass(frozen=True, slots=True)
class Item:
    """One object, by place and identity."""

    resource: str
    namespace: str
    name: str
    uid: str


class GarbageCollector(Controller):
    name = "garbage-collector"
    workers = 8

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._by_uid: dict[str, Item] = {}
        self._dependents: dict[str, set[Item]] = {}
        for resource in context.config.resources.values():
            if resource not in _IGNORED:
                self._follow(context.cache(resource))

    def _follow(self, cache: Cache) -> None:
        cache.subscribe(lambda kind, obj, before: self._changed(cache.resource, kind, obj, before))

    def _changed(self, resource: str, kind: str, obj: Object, before: Object | None) -> None:
        if before is not None and uid_of(before) != uid_of(obj):
            self._changed(resource, "DELETED", before, before)
            before = None
        item = _item(resource, obj)
        owners = {ref["uid"] for ref in owner_references(obj)}
        former = {ref["uid"] for ref in owner_references(before)} if before is not None else set()
        if kind == "DELETED":
            self._by_uid.pop(item.uid, None)
            for dependent in self._dependents.get(item.uid, ()):
                self.queue.add(dependent)
            for owner in owners | former:
                self._unlink(owner, item)
            return
        self._by_uid[item.uid] = item
        for owner in owners:
            self._dependents.setdefault(owner, set()).add(item)
        for owner in former - owners:
            self._unlink(owner, item)
        if (owners and (before is None or owners != former)) or (
            is_deleting(obj) and _finalizers(obj) & {FOREGROUND, ORPHAN}
        ):
            self.queue.add(item)

    def _unlink(self, owner: str, item: Item) -> None:
        found = self._dependents.get(owner)
        if found is None:
            return
        found.discard(item)
        if not found:
            del self._dependents[owner]
        # An owner that waits for its dependents may be free now.
        if owner in self._by_uid:
            self.queue.add(self._by_uid[owner])

    def _object(self, item: Item) -> Object | None:
        found = self.context.cache(item.resource).get((item.namespace, item.name))
        return found if found is not None and uid_of(found) == item.uid else None

    async def reconcile(self, item: Item) -> float | None:
        obj = self._object(item)
        if obj is None:
            return None
        if is_deleting(obj):
            if ORPHAN in _finalizers(obj):
                await self._orphan_dependents(item)
                await self._remove_finalizer(item, obj, ORPHAN)
            elif FOREGROUND in _finalizers(obj):
                await self._wait_for_dependents(item, obj)
            return None
        if owner_references(obj):
            await self._check_owners(item, obj)
        return None

    # --- owners that go ----------------------------------------------------------------------------------------

    async def _orphan_dependents(self, owner: Item) -> None:
        for dependent in list(self._dependents.get(owner.uid, ())):
            obj = self._object(dependent)
            if obj is not None:
                await self._drop_owners(dependent, obj, {owner.uid})

    async def _wait_for_dependents(self, owner: Item, obj: Object) -> None:
        blocking = False
        for dependent in list(self._dependents.get(owner.uid, ())):
            found = self._object(dependent)
            if found is None:
                continue
            blocking |= any(
                ref.get("uid") == owner.uid and ref.get("blockOwnerDeletion") for ref in owner_references(found)
            )
            self.queue.add(dependent)
        if not blocking:
            await self._remove_finalizer(owner, obj, FOREGROUND)

    async def _remove_finalizer(self, item: Item, obj: Object, finalizer: str) -> None:
        left = [f for f in obj["metadata"].get("finalizers") or () if f != finalizer]
        await self._patch(item, obj, {"finalizers": left or None})

    # --- dependents --------------------------------------------------------------------------------------------

    async def _check_owners(self, item: Item, obj: Object) -> None:
        solid, gone, waiting = False, set(), set()
        for ref in owner_references(obj):
            state = await self._owner_state(item, ref)
            if state == "gone":
                gone.add(ref["uid"])
            elif state == "waiting":
                waiting.add(ref["uid"])
            else:
                solid = True
        if solid:
            if gone or waiting:
                await self._drop_owners(item, obj, gone | waiting)
            return
        finalizers = _finalizers(obj)
        if ORPHAN in finalizers:
            propagation = "Orphan"
        elif FOREGROUND in finalizers or (waiting and self._dependents.get(item.uid)):
            propagation = "Foreground"
        else:
            propagation = "Background"
        try:
            await self.client.delete(
                item.resource, item.name, item.namespace or None, uid=item.uid, propagation=propagation
            )
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def _owner_state(self, item: Item, ref: Object) -> str:
        """`solid`, `waiting` (it is being deleted in the foreground) or `gone`."""
        known = self._by_uid.get(ref["uid"])
        if known is not None and known.namespace in ("", item.namespace) and known.name == ref["name"]:
            owner = self._object(known)
            if owner is not None:
                return "waiting" if is_deleting(owner) and FOREGROUND in _finalizers(owner) else "solid"
        group = ref["apiVersion"].partition("/")[0] if "/" in ref["apiVersion"] else ""
        resource = self.context.config.resources.get((group, ref["kind"]))
        if resource is None:
            # Nobody here can tell whether it exists: deleting on a guess would be wrong.
            return "solid"
        if parse_resource(resource).namespaced and not item.namespace:
            return "solid"
        # The cache may be a moment behind: only the server's word deletes.
        try:
            owner = await self.client.get(resource, ref["name"], item.namespace or None)
        except ApiError as error:
            if error.code == 404:
                return "gone"
            raise
        if uid_of(owner) != ref["uid"]:
            return "gone"
        return "waiting" if is_deleting(owner) and FOREGROUND in _finalizers(owner) else "solid"

    async def _drop_owners(self, item: Item, obj: Object, uids: set[str]) -> None:
        left = [ref for ref in owner_references(obj) if ref["uid"] not in uids]
        await self._patch(item, obj, {"ownerReferences": left or None})

    async def _patch(self, item: Item, obj: Object, metadata: Object) -> None:
        patch = {
            "metadata": {"uid": item.uid, "resourceVersion": obj["metadata"]["resourceVersion"], **metadata},
        }
        try:
            written = await self.client.patch(item.resource, item.name, patch, item.namespace or None)
        except ApiError as error:
            if error.code != 404:
                raise
            return
        await self.context.cache(item.resource).shows(written)


def _item(resource: str, obj: Object) -> Item:
    namespace, name = key_of(obj)
    return Item(resource, namespace, name, uid_of(obj))


def _finalizers(obj: Object) -> set[str]:
    return set(obj["metadata"].get("finalizers") or ())
