"""Deletes objects whose owners are deleted (`garbagecollector/garbagecollector.go`, `graph_builder.go`).

Background deletion: an object is deleted after all its owners.
Foreground deletion: an owner with the finalizer `foregroundDeletion` is deleted after its blocking dependents.
Orphan deletion: an owner with the finalizer `orphan` is first removed from its dependents' references.
Objects that own each other in a circle do not block each other's deletion.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectcache import ObjectCache
from hatchway.cluster.controllers.objectfields import is_deleting, owner_references, uid_of
from hatchway.cluster.controllers.servedtypes import ServedType
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import key_of

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
# Events have no owners and no dependents, and there are many Events.
_IGNORED = frozenset({"events"})
# Two deletions at the same time can make owners wait for each other in a circle. So if an owner waits only for
# dependents that also wait, it is checked again after this time (seconds). Other circles are resolved at once.
_CIRCLE_SECONDS = 1.5
# At most this many objects are visited in search of a circle.
_CIRCLE_VISITS = 10_000
# Number of dependents that are orphaned at the same time.
_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class ObjectIdentity:
    """The identity of one object: its resource, namespace, name and uid."""

    resource: str
    namespace: str
    name: str
    uid: str


class GarbageCollector(Controller):
    """Keeps a graph of owners and dependents of all resources, and deletes dependents whose owners are deleted."""

    name = "garbage-collector"
    workers = 8

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._by_uid: dict[str, ObjectIdentity] = {}
        # The uid of each owner → its dependents. `_blocking` has only dependents whose reference to the owner sets
        # blockOwnerDeletion.
        self._dependents: dict[str, set[ObjectIdentity]] = {}
        self._blocking: dict[str, set[ObjectIdentity]] = {}
        self._waiting_since: dict[ObjectIdentity, float] = {}
        self.events = context.recorder("garbage-collector-controller")
        for served in context.config.types.all():
            if served.resource not in _IGNORED:
                self._follow(context.cache(served.resource))
        context.config.types.subscribe(self._types_changed)

    def _types_changed(self, added: frozenset[ServedType], removed: frozenset[ServedType]) -> None:
        for served in removed:
            self.context.drop_cache(served.resource)
        for served in added:
            self._follow(self.context.cache(served.resource))

    def _follow(self, cache: ObjectCache) -> None:
        cache.subscribe(lambda kind, obj, before: self._changed(cache.resource, kind, obj, before))

    # --- the graph ---------------------------------------------------------------------------------------------

    def _changed(self, resource: str, kind: str, obj: Object, before: Object | None) -> None:
        if before is not None and uid_of(before) != uid_of(obj):
            self._changed(resource, "DELETED", before, before)
            before = None
        item = _item(resource, obj)
        owners = _owners(obj)
        former = _owners(before) if before is not None else {}
        if kind == "DELETED":
            self._by_uid.pop(item.uid, None)
            self._waiting_since.pop(item, None)
            for dependent in self._dependents.get(item.uid, ()):
                self.queue.add(dependent)
            for owner in owners | former:
                self._unlink(owner, item)
            return
        self._by_uid[item.uid] = item
        for owner, blocks in owners.items():
            self._link(owner, item, blocks)
        for owner in former.keys() - owners.keys():
            self._unlink(owner, item)
        if is_waiting(obj) and (before is None or not is_waiting(before)):
            for dependent in self._dependents.get(item.uid, ()):
                self.queue.add(dependent)
        if (owners and (before is None or owners != former)) or (
            is_deleting(obj) and _finalizers(obj) & {FOREGROUND, ORPHAN}
        ):
            self.queue.add(item)

    def _link(self, owner: str, item: ObjectIdentity, blocks: bool) -> None:
        self._dependents.setdefault(owner, set()).add(item)
        if blocks:
            self._blocking.setdefault(owner, set()).add(item)
        else:
            self._unblock(owner, item)

    def _unlink(self, owner: str, item: ObjectIdentity) -> None:
        _discard(self._dependents, owner, item)
        self._unblock(owner, item)

    def _unblock(self, owner: str, item: ObjectIdentity) -> None:
        """Record that `item` no longer blocks its owner, and queue the owner, which may wait for its dependents."""
        if _discard(self._blocking, owner, item) and owner in self._by_uid:
            self.queue.add(self._by_uid[owner])

    def _object(self, item: ObjectIdentity) -> Object | None:
        cache = self.context.caches.get(item.resource)
        found = cache.get((item.namespace, item.name)) if cache is not None else None
        return found if found is not None and uid_of(found) == item.uid else None

    async def reconcile(self, item: ObjectIdentity) -> float | None:
        """Orphan the dependents of the object `item`, remove its finalizer, or delete it, as its state requires."""
        obj = self._object(item)
        if obj is None:
            return None
        if is_deleting(obj):
            if ORPHAN in _finalizers(obj):
                await self._orphan_dependents(item)
                await self._remove_finalizer(item, obj, ORPHAN)
            elif FOREGROUND in _finalizers(obj):
                return await self._wait_for_dependents(item, obj)
            return None
        if owner_references(obj):
            await self._check_owners(item, obj)
        return None

    # --- owners that are being deleted -------------------------------------------------------------------------

    async def _orphan_dependents(self, owner: ObjectIdentity) -> None:
        dependents = list(self._dependents.get(owner.uid, ()))
        for start in range(0, len(dependents), _AT_ONCE):
            batch = [(one, obj) for one in dependents[start : start + _AT_ONCE] if (obj := self._object(one))]
            await asyncio.gather(*(self._drop_owners(one, obj, {owner.uid}) for one, obj in batch))

    async def _wait_for_dependents(self, owner: ObjectIdentity, obj: Object) -> float | None:
        """Remove the owner's finalizer when no dependent blocks it. An object never waits for itself.

        Returns the seconds until the next check, or None.
        """
        blocking = {one: found for one in self._blockers(owner) if (found := self._object(one)) is not None}
        if not blocking:
            self._waiting_since.pop(owner, None)
            await self._remove_finalizer(owner, obj, FOREGROUND)
            return None
        only_waiting = True
        for dependent, found in blocking.items():
            # Nothing is done for a dependent that is being deleted: when it changes or is gone, its owner is queued.
            if not is_deleting(found):
                self.queue.add(dependent)
            only_waiting = only_waiting and is_waiting(found)
        if not only_waiting:
            self._waiting_since.pop(owner, None)
            return None
        now = asyncio.get_running_loop().time()
        since = self._waiting_since.setdefault(owner, now)
        if now - since < _CIRCLE_SECONDS:
            return _CIRCLE_SECONDS
        self._waiting_since[owner] = now
        for dependent in self._circle_through(owner):
            if (found := self._object(dependent)) is not None:
                await self._unblock_owners(dependent, found)
        # When a dependent is gone, this owner is queued again. But another client's deletion of a dependent can make a
        # new circle, which is found only by checking again.
        return 30.0

    def _blockers(self, owner: ObjectIdentity) -> Iterable[ObjectIdentity]:
        return [one for one in self._blocking.get(owner.uid, ()) if one != owner]

    def _circle_through(self, owner: ObjectIdentity) -> list[ObjectIdentity]:
        """Return the blocking dependents of `owner` that are in a circle with it.

        From such a dependent, a path of blocking dependents that are all waiting leads back to `owner`.
        """
        found = []
        for first in self._blockers(owner):
            seen, front = {first}, [first]
            while front and len(seen) < _CIRCLE_VISITS:
                for dependent in self._blockers(front.pop()):
                    if dependent not in seen and (obj := self._object(dependent)) is not None and is_waiting(obj):
                        seen.add(dependent)
                        front.append(dependent)
            if owner in seen:
                found.append(first)
        return found

    async def _remove_finalizer(self, item: ObjectIdentity, obj: Object, finalizer: str) -> None:
        left = [f for f in obj["metadata"].get("finalizers") or () if f != finalizer]
        await self._patch(item, obj, {"finalizers": left or None})

    # --- dependents --------------------------------------------------------------------------------------------

    async def _check_owners(self, item: ObjectIdentity, obj: Object) -> None:
        solid, gone, waiting = False, set(), set()
        for ref in owner_references(obj):
            state = await self._owner_state(item, obj, ref)
            if state == "unknown":
                return
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
        dependents = self._dependents.get(item.uid, ())
        finalizers = _finalizers(obj)
        if waiting and dependents:
            if any((found := self._object(one)) is not None and is_waiting(found) for one in dependents):
                # One of this object's waiting owners may also be its dependent. Such a circle must not block itself.
                await self._unblock_owners(item, obj)
            propagation = "Foreground"
        elif ORPHAN in finalizers:
            propagation = "Orphan"
        else:
            propagation = "Foreground" if FOREGROUND in finalizers else "Background"
        await self._delete(item, obj, propagation)

    async def _delete(self, item: ObjectIdentity, obj: Object, propagation: str) -> None:
        try:
            current = await self.client.get(item.resource, item.name, item.namespace or None)
            if {ref["uid"] for ref in owner_references(current)} != {ref["uid"] for ref in owner_references(obj)}:
                # The object has other owners now. The watch will report the change.
                return
            await self.client.delete(
                item.resource, item.name, item.namespace or None, uid=item.uid, propagation=propagation
            )
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def _owner_state(self, item: ObjectIdentity, obj: Object, ref: Object) -> str:
        """Return `solid` (the owner exists), `waiting` (it is in foreground deletion), `gone` or `unknown`."""
        group = ref["apiVersion"].rpartition("/")[0]
        served = self.context.config.types.find(group, ref["kind"])
        known = self._by_uid.get(ref["uid"])
        if known is not None:
            if known.namespace not in ("", item.namespace):
                self._report_namespace(item, obj, ref)
            elif known.name == ref["name"] and served is not None and known.resource == served.resource:
                owner = self._object(known)
                if owner is not None:
                    return "waiting" if is_waiting(owner) else "solid"
        if served is None:
            # It is not known whether the owner exists, so its dependent must not be deleted.
            return "unknown"
        if served.namespaced and not item.namespace:
            # The reference is not valid, so no look-up can show that the owner is gone.
            return "unknown"
        # The cache may be out of date, so ask the API server before deleting.
        try:
            owner = await self.client.get(served.resource, ref["name"], item.namespace or None)
        except ApiError as error:
            if error.code == 404:
                return "gone"
            raise
        if uid_of(owner) != ref["uid"]:
            return "gone"
        return "waiting" if is_waiting(owner) else "solid"

    def _report_namespace(self, item: ObjectIdentity, obj: Object, ref: Object) -> None:
        wanted = (
            f"[{ref['apiVersion']}/{ref['kind']}, namespace: {item.namespace}, name: {ref['name']}, uid: {ref['uid']}]"
        )
        text = f'ownerRef {wanted} does not exist in namespace "{item.namespace}"'
        self.events.event(obj, "Warning", "OwnerRefInvalidNamespace", text)

    async def _drop_owners(self, item: ObjectIdentity, obj: Object, uids: set[str]) -> None:
        left = [ref for ref in owner_references(obj) if ref["uid"] not in uids]
        await self._patch(item, obj, {"ownerReferences": left or None})

    async def _unblock_owners(self, item: ObjectIdentity, obj: Object) -> None:
        references = owner_references(obj)
        if any(ref.get("blockOwnerDeletion") for ref in references):
            free = [{**ref, "blockOwnerDeletion": False} for ref in references]
            await self._patch(item, obj, {"ownerReferences": free})

    async def _patch(self, item: ObjectIdentity, obj: Object, metadata: Object) -> None:
        patch = {
            "metadata": {"uid": item.uid, "resourceVersion": obj["metadata"]["resourceVersion"], **metadata},
        }
        try:
            written = await self.client.patch(item.resource, item.name, patch, item.namespace or None)
        except ApiError as error:
            if error.code != 404:
                raise
            return
        cache = self.context.caches.get(item.resource)
        if cache is not None:
            await cache.wait_for_write(written)


def is_waiting(obj: Object) -> bool:
    """Return True while `obj` is being deleted in the foreground."""
    return is_deleting(obj) and FOREGROUND in _finalizers(obj)


def _item(resource: str, obj: Object) -> ObjectIdentity:
    namespace, name = key_of(obj)
    return ObjectIdentity(resource, namespace, name, uid_of(obj))


def _owners(obj: Object) -> dict[str, bool]:
    """Return the uid of each owner, with True if the owner must wait for this object (blockOwnerDeletion)."""
    found: dict[str, bool] = {}
    for ref in owner_references(obj):
        found[ref["uid"]] = found.get(ref["uid"], False) or bool(ref.get("blockOwnerDeletion"))
    return found


def _finalizers(obj: Object) -> set[str]:
    return set(obj["metadata"].get("finalizers") or ())


def _discard(graph: dict[str, set[ObjectIdentity]], owner: str, item: ObjectIdentity) -> bool:
    """Remove an edge from a graph. Return True if the graph had this edge."""
    found = graph.get(owner)
    if found is None or item not in found:
        return False
    found.discard(item)
    if not found:
        del graph[owner]
    return True
