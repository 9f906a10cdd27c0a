"""The audit log: the user, the request and the result. One audit.k8s.io/v1 Event a line, at level Metadata.

Requests put their events into a bounded queue; a separate thread writes the events. When the queue is full, further
events are dropped and counted: requests never wait. Bodies are not written. Of the header fields, only User-Agent,
X-Forwarded-For, Audit-ID and the impersonated user are written. Only query parameters that the API defines are written,
because an application behind the proxy may get tokens in its parameters.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from hatchway.cluster.auth.user import UserInfo
from hatchway.proxy.routing import RequestHead

_log = logging.getLogger(__name__)
# The maximum number of events that wait to be written, and the seconds between two writes.
_QUEUE = 16384
_PACE = 0.1
_READS = frozenset(("get", "list", "watch"))
_UNRECORDED_PATHS = ("/healthz", "/livez", "/readyz", "/version")
# The maximum number of characters of a client's text in an event, because the queue limits only the number of events.
LONGEST = 8192
# The maximum number of characters of all annotations of one event.
_LONGEST_ANNOTATIONS = 4 * LONGEST
# Printable characters that JSON does not escape.
_GOOD_ID = re.compile(rb"[ !#-\[\]-~]{1,64}")
_ENCODER = msgspec.json.Encoder()
_EVENT = (
    b'{"auditID":"%b","responseStatus":{"metadata":{},"code":%d},'
    b'"requestReceivedTimestamp":"%b.%06dZ","stageTimestamp":"%b.%06dZ",%b\n'
)
_QUERY = frozenset(
    b"labelSelector fieldSelector watch resourceVersion resourceVersionMatch timeoutSeconds limit continue "
    b"allowWatchBookmarks sendInitialEvents dryRun fieldManager fieldValidation force pretty gracePeriodSeconds "
    b"propagationPolicy orphanDependents timeout container follow previous tailLines sinceSeconds timestamps "
    b"limitBytes "
    b"verbose exclude".split()
)


@dataclass(slots=True)
class AuditRecord:
    """The facts about a request for the audit log. Repetitions of the same request share the record.

    uri: the part of the request-target that may be logged.
    user: the user who was authenticated. impersonated: the user as whom the request acts; None without impersonation.
    source: the client's address. forwarded_for, user_agent: header fields; None without them.
    decision: "allow" or "forbid"; "" while not decided. reason: the authorizer's reason.
    annotations: the annotations that admission plugins have added.

    Do not change a record after its first event: `constant` then has the common part of all its events, as JSON.
    """

    verb: str
    uri: bytes
    user: UserInfo | None = None
    impersonated: UserInfo | None = None
    source: str = ""
    forwarded_for: bytes | None = None
    user_agent: bytes | None = None
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    api_group: str = ""
    api_version: str = ""
    decision: str = ""
    reason: str = ""
    constant: bytes = b""
    annotations: dict[str, str] | None = None


class _AuditIds:
    """Makes IDs in the form of UUIDs from random bits of this process and a counter. The IDs need not be secret."""

    def __init__(self) -> None:
        text = os.urandom(16).hex()
        self._form = f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-%012x".encode()
        self._next = itertools.count(int(text[20:], 16) >> 1).__next__

    def make(self) -> bytes:
        return self._form % self._next()


_new_id = _AuditIds().make


def audit_id(given: bytes | None) -> bytes:
    """Return a request's ID: the client's ID if it is valid, otherwise a new ID.

    given: the header Audit-ID; None if it is missing (apiserver `filters/audit_init.go`).
    """
    if given is None:
        return _new_id()
    if _GOOD_ID.fullmatch(given):
        return given
    return _new_id()


def uri(head: RequestHead, *, proxied: bool) -> bytes:
    """Return the part of the request-target that may be logged."""
    path = head.path[:LONGEST]
    if not head.query or proxied:
        return path
    kept = [part for part in head.query.split(b"&") if part.partition(b"=")[0] in _QUERY]
    return (path + b"?" + b"&".join(kept))[:LONGEST] if kept else path


def event(record: AuditRecord, audit_id: bytes, received: float, status: int, finished: float) -> bytes:
    """Return the Event (apiserver `pkg/apis/audit/v1/types.go`) as JSON. received, finished: POSIX seconds."""
    constant = record.constant
    if not constant:
        constant = record.constant = _encode(_constant(record)).removeprefix(b"{")
    began, ended = int(received), int(finished)
    first = _second(began)
    return _EVENT % (
        audit_id,
        status,
        first,
        (received - began) * 1_000_000,
        first if began == ended else _second(ended),
        (finished - ended) * 1_000_000,
        constant,
    )


def _constant(record: AuditRecord) -> dict[str, Any]:
    """Return the part of an Event that depends neither on the request's time nor on its result."""
    out: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "stage": "ResponseComplete",
        "requestURI": record.uri.decode("utf-8", "backslashreplace"),
        "verb": record.verb,
        "user": record.user.as_object() if record.user is not None else {},
    }
    if record.impersonated is not None:
        out["impersonatedUser"] = record.impersonated.as_object()
    sources = []
    if record.forwarded_for:
        sources = [item.strip().decode("latin-1") for item in record.forwarded_for[:1024].split(b",")[:8]]
    if record.source and record.source not in sources:
        sources.append(record.source)
    if sources:
        out["sourceIPs"] = sources
    if record.user_agent:
        out["userAgent"] = record.user_agent[:1024].decode("utf-8", "backslashreplace")
    if record.resource:
        reference = {
            "resource": record.resource,
            "namespace": record.namespace,
            "name": record.name,
            "apiGroup": record.api_group,
            "apiVersion": record.api_version,
            "subresource": record.subresource,
        }
        out["objectRef"] = {key: value for key, value in reference.items() if value}
    annotations = dict(record.annotations or {})
    if record.decision:
        annotations["authorization.k8s.io/decision"] = record.decision
        annotations["authorization.k8s.io/reason"] = record.reason
    if annotations:
        out["annotations"] = annotations
    return out


def annotated(record: AuditRecord, annotations: dict[str, str] | None) -> AuditRecord:
    """Return the record with the annotations of admission plugins, up to the limit of an event."""
    if not annotations:
        return record
    kept, size = {}, 0
    for key, value in annotations.items():
        size += len(key) + len(value)
        if size <= _LONGEST_ANNOTATIONS:
            kept[key] = value
    return replace(record, annotations=kept, constant=b"")


def _encode(value: dict[str, Any]) -> bytes:
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        # A name in a token can have lone surrogates. This encoder writes them as escapes, which are valid JSON.
        return json.dumps(value).encode()


@lru_cache(maxsize=8)
def _second(seconds: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode()


class AuditLog:
    """Writes events to a file (0600) that is rotated: `audit.log`, `audit.log.1` ... `audit.log.BACKUPS`.

    Events are encoded on the event loop, which takes microseconds. The thread only writes them, so that requests do not
    wait for the interpreter's lock.
    """

    def __init__(self, path: Path, *, max_bytes: int = 16 * 1024 * 1024, backups: int = 3) -> None:
        self.path = path
        self.dropped = 0
        self._max_bytes = max_bytes
        self._backups = backups
        self._lines: deque[bytes] = deque()
        self._some = threading.Event()
        self._asleep = True
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def write(self, record: AuditRecord, audit_id: bytes, received: float, status: int, finished: float) -> None:
        """Record a finished request, without waiting. received, finished: POSIX seconds."""
        if len(self._lines) >= _QUEUE:
            self.dropped += 1
            return
        self._lines.append(event(record, audit_id, received, status, finished))
        if self._asleep:
            self._asleep = False
            self._some.set()

    def close(self) -> None:
        """Write the queued events, and end the thread. Idempotent."""
        self._closing.set()
        self._some.set()
        self._thread.join()

    def _run(self) -> None:
        reported = 0
        descriptor = -1
        while not (self._closing.is_set() and not self._lines):
            self._some.wait()
            # Wait a moment, so that many events are written at once.
            self._closing.wait(_PACE)
            self._some.clear()
            self._asleep = True
            batch: list[bytes] = []
            while self._lines:
                batch.append(self._lines.popleft())
            try:
                if descriptor < 0:
                    descriptor = self._open()
                _write_all(descriptor, b"".join(batch))
                if os.fstat(descriptor).st_size >= self._max_bytes:
                    os.close(descriptor)
                    descriptor = -1
                    self._rotate()
            except OSError as error:
                # A full disk must not end the audit log; events that cannot be written are counted.
                self.dropped += len(batch)
                _log.error("cannot write %s: %s", self.path, error.strerror)
            if self.dropped != reported:
                _log.warning("%d audit events were dropped", self.dropped - reported)
                reported = self.dropped
        if descriptor >= 0:
            os.close(descriptor)

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _rotate(self) -> None:
        for number in range(self._backups - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self._backup(number), self._backup(number + 1))
        os.replace(self.path, self._backup(1))

    def _backup(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _write_all(descriptor: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def is_recorded(record: AuditRecord) -> bool:
    """Return True when an allowed request is recorded.

    Health checks, the nodes' own frequent requests, and requests for events are not recorded.
    """
    if not record.resource:
        path = record.uri.decode("latin-1")
        return record.verb != "get" or not path.startswith(_UNRECORDED_PATHS)
    if record.resource == "events":
        return False
    user = record.user
    if user is None or "system:nodes" not in user.groups:
        return True
    return record.verb not in _READS and record.resource != "leases"
