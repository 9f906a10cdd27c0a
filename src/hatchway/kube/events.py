"""Reports Events, which `kubectl describe` shows (a small version of client-go's `tools/record`).

Equal events are counted in one Event object, similar events are combined, and the rate of events about one object is
limited, all with the limits of `tools/record/events_cache.go`. Reporting never blocks its caller and never raises.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar

from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object

log = logging.getLogger(__name__)

V = TypeVar("V")

# The maximum number of events that wait to be sent, and the maximum number of entries of each table.
_QUEUE = 1000
_REMEMBERED = 4096
# The `_SIMILAR`th different message with the same reason, and all later messages, are combined into one event, until
# no such message has come for `_SIMILAR_SECONDS`.
_SIMILAR = 10
_SIMILAR_SECONDS = 600.0
# `_BURST` events about one object may be reported at once; after that, one every `_REFILL_SECONDS`.
_BURST = 25
_REFILL_SECONDS = 300.0
# The maximum number of attempts to send one event, and the seconds before the second attempt. Each further pause is
# twice as long.
_TRIES = 4
_FIRST_RETRY = 0.5
# The maximum number of characters of a message; the rest is cut off.
_MESSAGE_LIMIT = 1024
# The form of an Event's name (apimachinery `pkg/util/validation/validation.go`, `IsDNS1123Subdomain`).
_NAME_LIMIT = 253
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_COMBINED = "(combined from similar events): "


@dataclass(slots=True)
class _ReportedEvent:
    obj: Object
    type: str
    reason: str
    message: str
    field_path: str
    moment: datetime


@dataclass(slots=True)
class _Known:
    """An Event object of this recorder. first: the time of its first report."""

    name: str
    first: str
    count: int = 0


@dataclass(slots=True)
class _Similar:
    messages: set[str]
    last: float


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float


class EventRecorder:
    """Reports events of one component. host: the node's name, for kubelets."""

    def __init__(self, client: Client, component: str, host: str = "") -> None:
        self._client = client
        self._component = component
        self._host = host
        self._queue: deque[_ReportedEvent] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._known: OrderedDict[tuple[str, ...], _Known] = OrderedDict()
        self._similar: OrderedDict[tuple[str, ...], _Similar] = OrderedDict()
        self._buckets: OrderedDict[tuple[str, ...], _Bucket] = OrderedDict()
        self._closed = False

    def event(
        self,
        obj: Object,
        type: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        *,
        field_path: str = "",
    ) -> None:
        """Queue an event about `obj` for sending, and return at once. A running event loop is needed.

        When the queue is full, new events are dropped.

        obj: an object with apiVersion, kind and metadata.
        field_path: the part of the object that the event is about, such as `spec.containers{web}`.
        """
        if self._closed or len(self._queue) >= _QUEUE:
            return
        self._queue.append(_ReportedEvent(obj, type, reason, message[:_MESSAGE_LIMIT], field_path, datetime.now(UTC)))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send_all(), name=f"events {self._component}")

    async def aclose(self, patience: float = 1.0) -> None:
        """Send queued events for at most `patience` seconds, then stop. Events that are reported later are dropped."""
        self._closed = True
        if self._sender is not None and not self._sender.done():
            done, _ = await asyncio.wait([self._sender], timeout=patience)
            if not done:
                self._sender.cancel()
                await asyncio.wait([self._sender])

    async def _send_all(self) -> None:
        while self._queue:
            report = self._queue.popleft()
            try:
                await self._send(report)
            except Exception:
                log.exception("event %s of %s is lost", report.reason, report.obj["metadata"].get("name"))

    async def _send(self, report: _ReportedEvent) -> None:
        involved = _reference(report)
        message = self._combine(report, involved)
        identity = (
            *(str(involved.get(key, "")) for key in ("kind", "namespace", "name", "uid", "fieldPath")),
            report.type,
            report.reason,
            message if not message.startswith(_COMBINED) else _COMBINED,
        )
        known = self._known.get(identity)
        if known is None:
            known = _remember(self._known, identity, _Known(_name_for(involved["name"]), _stamp(report)))
        # As in client-go, events that the rate limit suppresses are counted, too.
        known.count += 1
        if not self._admit((involved["kind"], involved.get("namespace", ""), involved["name"], involved["uid"])):
            return
        wait = _FIRST_RETRY
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(wait)
                wait *= 2
            try:
                await self._write(report, involved, known, message)
                return
            except ApiError as error:
                # Most refusals are final (for example, the namespace is being deleted). The request is sent again only
                # when the server cannot be reached, is overloaded or fails internally.
                if error.code not in (429, 500, 502, 503, 504):
                    log.debug("event %s was refused: %s", report.reason, error.message)
                    return
            except (TimeoutError, OSError) as error:
                log.debug("event %s cannot be sent now: %s", report.reason, error)

    async def _write(self, report: _ReportedEvent, involved: Object, known: _Known, message: str) -> None:
        namespace = involved.get("namespace") or "default"
        if known.count > 1:
            patch = {"count": known.count, "lastTimestamp": _stamp(report), "message": message}
            try:
                await self._client.patch("events", known.name, patch, namespace)
                return
            except ApiError as error:
                # The Event was deleted, or was never created because of the rate limit: create it.
                if error.code != 404:
                    raise
        source = {"component": self._component, **({"host": self._host} if self._host else {})}
        await self._client.create(
            "events",
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": known.name, "namespace": namespace},
                "involvedObject": involved,
                "reason": report.reason,
                "message": message,
                "source": source,
                "firstTimestamp": known.first,
                "lastTimestamp": _stamp(report),
                "count": known.count,
                "type": report.type,
                "reportingComponent": self._component,
                "reportingInstance": self._host,
            },
            namespace,
        )

    def _admit(self, key: tuple[str, ...]) -> bool:
        """Take one token of the object's bucket; return False when it has none left (EventSourceObjectSpamFilter)."""
        now = time.monotonic()
        bucket = self._buckets.get(key) or _remember(self._buckets, key, _Bucket(_BURST, now))
        bucket.tokens = min(_BURST, bucket.tokens + (now - bucket.filled) / _REFILL_SECONDS)
        bucket.filled = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _combine(self, report: _ReportedEvent, involved: Object) -> str:
        """Count similar reports. Return the report's message; after too many, mark it as combined (EventAggregator)."""
        place = (involved["kind"], involved.get("namespace", ""), involved["name"], involved["uid"])
        key = (*place, report.type, report.reason)
        now = time.monotonic()
        similar = self._similar.get(key)
        if similar is None or now - similar.last > _SIMILAR_SECONDS:
            similar = _remember(self._similar, key, _Similar(set(), now))
        similar.last = now
        if report.message not in similar.messages and len(similar.messages) >= _SIMILAR - 1:
            return _COMBINED + report.message
        similar.messages.add(report.message)
        return report.message


def _name_for(name: str) -> str:
    """Return the name of a new Event: the object's name and the time, or a UUID when that name would not be valid.

    This is client-go's `GenerateEventName` (`tools/record/util/util.go`). Names of objects may be too long for this, or
    contain characters that are not allowed in names of Events (`system:node`).
    """
    found = f"{name}.{time.time_ns():x}"
    if len(found) <= _NAME_LIMIT and _DNS_SUBDOMAIN.fullmatch(found):
        return found
    return str(uuid.uuid4())


def _stamp(report: _ReportedEvent) -> str:
    return report.moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _reference(report: _ReportedEvent) -> Object:
    obj, metadata = report.obj, report.obj["metadata"]
    found = {
        "kind": obj.get("kind", ""),
        "namespace": metadata.get("namespace", ""),
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
        "apiVersion": obj.get("apiVersion", ""),
        "resourceVersion": metadata.get("resourceVersion", ""),
        "fieldPath": report.field_path,
    }
    return {key: value for key, value in found.items() if value or key in ("kind", "name", "uid")}


def _remember(table: OrderedDict[tuple[str, ...], V], key: tuple[str, ...], value: V) -> V:
    table[key] = value
    table.move_to_end(key)
    if len(table) > _REMEMBERED:
        table.popitem(last=False)
    return value
