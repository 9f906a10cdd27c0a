"""Counts the resources that the quotas of a namespace limit, and writes the counts into their status.

This does the work of `pkg/controller/resourcequota`. It runs in the API server, because a count must include writes in
progress. A count begins with a snapshot of all objects in the store, made in one turn of the event loop. At its end,
also in one turn, the count adds the amounts that admission has charged to the quotas since the snapshot.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from hatchway.cluster.amounts import ZERO, Amounts, add, amounts_of, mask, subtract, texts_of
from hatchway.cluster.api.admission.quota.scopes import in_scope
from hatchway.cluster.api.admission.quota.usage import resource_of, usage
from hatchway.cluster.api.admission.storedrules import latest_of
from hatchway.cluster.api.storage.history import EventType
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.api.work import Pace, run_apart
from hatchway.errors import ApiError
from hatchway.kube.api import Object

__all__ = ["QUOTAS", "QuotaRecount", "is_counted"]

QUOTAS = "resourcequotas"
# Seconds between two counts of a namespace whose objects change all the time.
_PAUSE = 0.1
# Seconds between two counts of all namespaces (`--resource-quota-sync-period`).
_FULL_RESYNC = 300.0
_log = logging.getLogger(__name__)


class QuotaRecount:
    """Keeps the status of all quotas up to date. Must be created in the store's event loop.

    A namespace is counted when one of its quotas is new or has changed. It is also counted when an object that a quota
    counts is deleted or changes its amounts. All namespaces are counted every `_FULL_RESYNC` seconds.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._quotas: Counter[str] = Counter()  # the number of quotas in each namespace
        self._followed: Counter[str] = Counter()  # the number of quotas that count each type
        self._unfollow: dict[str, Any] = {}
        self._dirty: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pauses: dict[str, asyncio.TimerHandle] = {}
        self._resync: asyncio.Handle | None = None
        store.subscribe(QUOTAS, self._quota_changed)
        for quota in store.list(QUOTAS):
            self._index(quota, 1)
        if self._quotas:
            self._resync = asyncio.get_running_loop().call_soon(self._count_all)

    def has_quotas(self, namespace: str) -> bool:
        """Return True when a namespace has quotas."""
        return namespace in self._quotas

    def recount(self, namespace: str) -> None:
        """Count a namespace as soon as possible."""
        if namespace not in self._quotas:
            self._dirty.discard(namespace)
            return
        self._dirty.add(namespace)
        if namespace not in self._tasks and namespace not in self._pauses:
            task = asyncio.get_running_loop().create_task(self._count(namespace), name=f"quotas of {namespace}")
            self._tasks[namespace] = task
            task.add_done_callback(lambda _: self._end_count(namespace))

    def _end_count(self, namespace: str) -> None:
        task = self._tasks.pop(namespace)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("the quotas of namespace %s could not be counted", namespace, exc_info=error)
        self._pauses[namespace] = task.get_loop().call_later(_PAUSE, self._end_pause, namespace)

    def _end_pause(self, namespace: str) -> None:
        del self._pauses[namespace]
        if namespace in self._dirty:
            self.recount(namespace)

    def _count_all(self) -> None:
        for namespace in list(self._quotas):
            self.recount(namespace)
        self._resync = asyncio.get_running_loop().call_later(_FULL_RESYNC, self._count_all)

    # -- changes of objects

    def _index(self, quota: Object, step: int) -> None:
        namespace = quota["metadata"]["namespace"]
        self._quotas[namespace] += step
        if not self._quotas[namespace]:
            del self._quotas[namespace]
        for resource in _types(quota):
            self._followed[resource] += step
            if self._followed[resource] and resource not in self._unfollow:
                self._unfollow[resource] = self._store.subscribe(resource, self._follower(resource))
            elif not self._followed[resource]:
                del self._followed[resource]
                self._unfollow.pop(resource)()

    def _quota_changed(self, type: EventType, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and old.get("spec") == new.get("spec"):
            if is_counted(new):
                return
        else:
            if new is not None:
                self._index(new, 1)
            if old is not None:
                self._index(old, -1)
        if self._resync is None:
            self._resync = asyncio.get_running_loop().call_later(_FULL_RESYNC, self._count_all)
        if new is not None:
            self.recount(new["metadata"]["namespace"])

    def _follower(self, resource: str) -> Any:
        def changed(type: EventType, old: Object | None, new: Object | None) -> None:
            namespace = ((new or old or {}).get("metadata") or {}).get("namespace", "")
            if namespace not in self._quotas:
                return
            # A new object needs no count, because admission has already charged it.
            if old is None:
                return
            # A large object always counts as changed, because comparing it on the event loop would take too long.
            is_large = new is not None and bool(self._store.weight(resource, namespace, new["metadata"]["name"]))
            if new is None or is_large or _may_use_other_amounts(resource, old, new):
                self.recount(namespace)

        return changed

    # -- counting

    def _snapshot(self, resources: Iterable[str], namespace: str) -> dict[str, list[Object]]:
        """Return the objects of a namespace by their type, with all writes in progress."""
        writing: dict[str, dict[str, Object | None]] = {}
        for (resource, of, name), new in self._store.pending(None):
            if of == namespace:
                writing.setdefault(resource, {})[name] = new
        found = {}
        for resource in resources:
            changed = writing.get(resource, {})
            stored = self._store.list(resource, namespace)
            kept = [obj for obj in stored if obj["metadata"]["name"] not in changed] if changed else stored
            found[resource] = kept + [new for new in changed.values() if new is not None]
        return found

    async def _count(self, namespace: str) -> None:
        self._dirty.discard(namespace)
        quotas = latest_of(self._store, QUOTAS, namespace)
        objects = self._snapshot({one for quota in quotas for one in _types(quota)}, namespace)
        totals = await self._total(quotas, objects)
        for quota, counted in zip(quotas, totals, strict=True):
            self._write(quota, counted)

    async def _total(self, quotas: list[Object], objects: dict[str, list[Object]]) -> list[Amounts]:
        """Return the used amounts of each quota."""
        pace, now = Pace(), time.time()
        hards = [(quota.get("spec") or {}).get("hard") or {} for quota in quotas]
        totals: list[Amounts] = [{name: ZERO for name in hard if resource_of(name)} for hard in hards]
        types = [_types(quota) for quota in quotas]
        for resource, found in objects.items():
            concerned = [index for index, counted in enumerate(types) if resource in counted]
            for obj in found:
                if pace.due():
                    await pace.rest()
                metadata = obj["metadata"]
                if self._store.weight(resource, metadata.get("namespace", ""), metadata["name"]):
                    used = await run_apart(usage, resource, obj, now)
                else:
                    used = usage(resource, obj, now)
                known: dict[str, str] = {}
                for index in concerned:
                    if in_scope(quotas[index], resource, obj, known):
                        totals[index] = add(totals[index], mask(used, totals[index]))
        return totals

    def _write(self, before: Object, counted: Amounts) -> None:
        """Write the counted amounts into a quota's status. before: the quota at the beginning of the count."""
        metadata = before["metadata"]
        latest = self._store.latest(QUOTAS, metadata["namespace"], metadata["name"])
        if latest is None or latest["metadata"].get("uid") != metadata.get("uid") or latest["spec"] != before["spec"]:
            return  # the quota was deleted, or its spec has changed, which starts another count
        status = latest.get("status") or {}
        since = subtract(amounts_of(status.get("used")), amounts_of((before.get("status") or {}).get("used")))
        used = texts_of(add(counted, mask(since, counted)))
        hard = (latest.get("spec") or {}).get("hard") or {}
        if status.get("hard", {}) == hard and status.get("used", {}) == used and "hard" in status:
            return
        new = {**latest, "metadata": dict(latest["metadata"]), "status": {"hard": dict(hard), "used": used}}
        try:
            self._store.begin_update(QUOTAS, new, latest)
        except ApiError as error:
            _log.warning("the status of quota %s/%s: %s", metadata["namespace"], metadata["name"], error.message)


def _types(quota: Object) -> set[str]:
    """Return the types whose objects a quota counts."""
    found = {resource_of(name) for name in (quota.get("spec") or {}).get("hard") or ()}
    return found - {""}


def is_counted(quota: Object) -> bool:
    """Return True when a quota's status has used amounts for the limits in its spec. Admission needs these amounts."""
    status, hard = quota.get("status") or {}, (quota.get("spec") or {}).get("hard") or {}
    if status.get("hard") != hard:
        return False
    return all(name in (status.get("used") or {}) for name in hard if resource_of(name))


def _may_use_other_amounts(resource: str, old: Object, new: Object) -> bool:
    """Return True when a change of an object may change the amounts that it uses."""
    if resource not in ("pods", "services", "persistentvolumeclaims"):
        return False
    now = time.time()
    before, after = old.get("spec") or {}, new.get("spec") or {}
    # Scopes depend on these fields.
    if any(before.get(key) != after.get(key) for key in ("activeDeadlineSeconds", "volumeAttributesClassName")):
        return True
    if resource == "persistentvolumeclaims" and old.get("status") != new.get("status"):
        return True
    return usage(resource, old, now) != usage(resource, new, now)
