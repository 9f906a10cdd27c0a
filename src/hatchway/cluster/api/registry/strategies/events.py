"""Events. They are stored in the form of core/v1, served by two API groups, and deleted after an hour.

The conversion between the two forms is that of `pkg/apis/events/v1/conversion.go`.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext, field, readers
from hatchway.cluster.api.storage.store import Store
from hatchway.errors import ApiError, Cause
from hatchway.kube.api import Object

# The default of kube-apiserver's `--event-ttl`.
TTL = timedelta(hours=1)

_log = logging.getLogger(__name__)

_TO_CORE = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_FROM_CORE = {core: new for new, core in _TO_CORE.items()}


def events_v1_to_core(obj: Object) -> Object:
    """Convert an Event from events.k8s.io/v1 to core/v1."""
    out = {_TO_CORE.get(key, key): value for key, value in obj.items()}
    return {**out, "apiVersion": "v1"}


def events_v1_from_core(obj: Object) -> Object:
    """Convert an Event from core/v1 to events.k8s.io/v1."""
    out = {_FROM_CORE.get(key, key): value for key, value in obj.items()}
    for key in ("reportingController", "reportingInstance"):
        if not out.get(key):
            out.pop(key, None)
    return {**out, "apiVersion": "events.k8s.io/v1"}


class EventStrategy(Strategy):
    """The rules of Events.

    new_api: use the stricter rules of events.k8s.io/v1. All methods get objects in the form of core/v1.
    """

    create_on_update = True
    selectable = readers(
        {
            "involvedObject.kind": field("involvedObject", "kind"),
            "involvedObject.namespace": field("involvedObject", "namespace"),
            "involvedObject.name": field("involvedObject", "name"),
            "involvedObject.uid": field("involvedObject", "uid"),
            "involvedObject.apiVersion": field("involvedObject", "apiVersion"),
            "involvedObject.resourceVersion": field("involvedObject", "resourceVersion"),
            "involvedObject.fieldPath": field("involvedObject", "fieldPath"),
            "reason": field("reason"),
            "reportingComponent": lambda obj: (
                obj.get("reportingComponent") or (obj.get("source") or {}).get("component", "")
            ),
            "source": lambda obj: (obj.get("source") or {}).get("component") or obj.get("reportingComponent") or "",
            "type": field("type"),
        }
    )

    def __init__(self, new_api: bool = False) -> None:
        self._new_api = new_api
        if new_api:
            renamed = {"reportingController": EventStrategy.selectable["reportingComponent"]}
            for key, reader in EventStrategy.selectable.items():
                renamed[key.replace("involvedObject", "regarding")] = reader
            self.selectable = renamed

    def has_status(self, obj: Object) -> bool:
        """Return False: events have no status."""
        return False

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Add missing fields that Kubernetes always writes, because clients expect them."""
        obj.setdefault("involvedObject", {})
        obj.setdefault("source", {})
        for key in ("firstTimestamp", "lastTimestamp", "eventTime"):
            obj.setdefault(key, None)
        obj.setdefault("reportingComponent", "")
        obj.setdefault("reportingInstance", "")

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Do nothing: an event has no status to keep."""

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the event's namespace and, in the new API, in the other fields."""
        causes = []
        namespace = obj["metadata"].get("namespace", "")
        involved = (obj.get("involvedObject") or {}).get("namespace", "")
        if involved:
            if involved != namespace:
                causes.append(v.invalid("involvedObject.namespace", involved, "does not match event.namespace"))
        elif namespace not in ("default", "kube-system"):
            causes.append(v.invalid("involvedObject.namespace", involved, "does not match event.namespace"))
        if self._new_api or obj.get("eventTime"):
            causes += self._validate_new(obj)
        return causes

    @staticmethod
    def _validate_new(obj: Object) -> list[Cause]:
        causes = []
        if not obj.get("eventTime"):
            causes.append(v.required("eventTime"))
        if not obj.get("reportingComponent"):
            causes.append(v.required("reportingController"))
        if not obj.get("reportingInstance"):
            causes.append(v.required("reportingInstance"))
        if not obj.get("action"):
            causes.append(v.required("action"))
        if not obj.get("reason"):
            causes.append(v.required("reason"))
        if obj.get("type", "") not in ("Normal", "Warning"):
            causes.append(v.invalid("type", obj.get("type", ""), "has invalid value: " + str(obj.get("type", ""))))
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in the new event. All fields may change."""
        return self.validate(obj)


def _age_from(obj: Object) -> str:
    series = obj.get("series") or {}
    found = series.get("lastObservedTime") or obj.get("lastTimestamp") or obj.get("eventTime")
    return str(found or obj["metadata"]["creationTimestamp"])


async def prune(store: Store, now: datetime | None = None) -> int:
    """Delete the events whose last occurrence is older than `TTL`. Return the number of deleted events."""
    limit = ((now or datetime.now(UTC)) - TTL).strftime("%Y-%m-%dT%H:%M:%S")
    waiting = []
    for obj in store.list("events"):
        if (
            _age_from(obj)[:19] < limit
            and store.latest("events", obj["metadata"]["namespace"], obj["metadata"]["name"]) is obj
        ):
            waiting.append(store.delete("events", obj))
    pruned = 0
    for one in waiting:
        try:
            await one
            pruned += 1
        except ApiError as error:
            if error.code not in (404, 409):
                raise
    return pruned


async def prune_forever(store: Store, interval: float = 60.0) -> None:
    """Prune every `interval` seconds, until cancelled. A failed deletion is tried again the next time."""
    while True:
        try:
            await prune(store)
        except ApiError as error:
            _log.warning("old events could not be deleted: %s", error.message)
        await asyncio.sleep(interval)
