"""The audit log: who asked what, and what came of it, one audit.k8s.io/v1 Event a line, at level Metadata.

Requests leave their event in a bounded queue; a thread of its own writes. When it cannot keep up, events are dropped
and counted, requests never wait. No bodies and no header values but User-Agent are written, and of a query only what
the API itself defines: an application behind the proxy may have tokens in its own.
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
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from hatchway.cluster.auth.user import UserInfo
from hatchway.proxy.routing import RequestHead

_log = logging.getLogger(__name__)
_QUEUE = 16384
_PACE = 0.1  # seconds
# Printable, and the same in JSON as it stands.
_GOOD_ID = re.compile(rb"[ !#-\[\]-~]{1,64}")
_ENCODER = msgspec.json.Encoder()
_EVENT = (
    b'{"auditID":"%b","responseStatus":{"metadata":{},"code":%d},'
    b'"requestReceivedTimestamp":"%b.%06dZ","stageTimestamp":"%b.%06dZ",%b\n'
)
_QUERY = frozenset(
    b"labelSelector fieldSelector watch resourceVersion resourceVersionMatch timeoutSeconds limit continue "
    b"allowWatchBookmarks sendInitialEvents dryRun fieldManager fieldValidation force pretty gracePeriodSeconds "
    b"propagationPolicy orphanDependents timeout container follow previous tailLines sinceSeconds timestamps limitBytes "
    b"verbose exclude".split()
)


@dataclass(slots=True)
class Record:
    """What is known of a request when it is authorized; the same for every time that it comes again.

    Not to be changed after its first event: `constant` then holds what all its events have in common, as JSON.
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


class _Ids:
    """UUIDs by form: random bits for this process and a counter, since they are names and not secrets."""

    def __init__(self) -> None:
        text = os.urandom(16).hex()
        self._form = f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-%012x".encode()
        self._next = itertools.count(int(text[20:], 16) >> 1).__next__

    def make(self) -> bytes:
        return self._form % self._next()


_new_id = _Ids().make


def audit_id(given: bytes | None) -> bytes:
    """A request's id: the client's own when it sent a reasonable one (apiserver `filters/audit_init.go`), else a new one.

    given: the header Audit-ID.
    """
    if given is None:
        return _new_id()
    if _GOOD_ID.fullmatch(given):
        return given
    return _new_id()


def uri(head: RequestHead, *, proxied: bool) -> bytes:
    """The request-target as it may be written down."""
    if not head.query or proxied:
        return head.path
    kept = [part for part in head.query.split(b"&") if part.partition(b"=")[0] in _QUERY]
    return head.path + b"?" + b"&".join(kept) if kept else head.path


def event(record: Record, audit_id: bytes, received: float, status: int, finished: float) -> bytes:
    """The Event (apiserver `pkg/apis/audit/v1/types.go`) as JSON. received, finished: POSIX seconds."""
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


def _constant(record: Record) -> dict[str, Any]:
    """What does not depend on when the request came and on what became of it."""
    out: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "stage": "ResponseComplete",
        "requestURI": record.uri.decode("utf-8", "backslashreplace"),
        "verb": record.verb,
        "user": _user(record.user),
    }
    if record.impersonated is not None:
        out["impersonatedUser"] = _user(record.impersonated)
    sources = []
    if record.forwarded_for:
        sources = [item.strip().decode("latin-1") for item in record.forwarded_for.split(b",")[:8]]
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
    if record.decision:
        out["annotations"] = {
            "authorization.k8s.io/decision": record.decision,
            "authorization.k8s.io/reason": record.reason,
        }
    return out


def _encode(value: dict[str, Any]) -> bytes:
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        # Lone surrogates, which a name in a token can have: escaped, they are still JSON.
        return json.dumps(value).encode()


def _user(user: UserInfo | None) -> dict[str, Any]:
    if user is None:
        return {}
    out: dict[str, Any] = {"username": user.name}
    if user.uid:
        out["uid"] = user.uid
    if user.groups:
        out["groups"] = list(user.groups)
    if user.extra:
        out["extra"] = {key: list(values) for key, values in user.extra.items()}
    return out


@lru_cache(maxsize=8)
def _second(seconds: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode()


class AuditLog:
    """Writes events to a file (0600) that is rotated: `audit.log`, `audit.log.1` ... `audit.log.BACKUPS`.

    Events are encoded where they happen, which costs microseconds, and written by a thread that does nothing else, so
    that it never holds the interpreter's lock while requests wait.
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

    def write(self, record: Record, audit_id: bytes, received: float, status: int, finished: float) -> None:
        """Hand over a finished request. received, finished: POSIX seconds. Never waits."""
        if len(self._lines) >= _QUEUE:
            self.dropped += 1
            return
        self._lines.append(event(record, audit_id, received, status, finished))
        if self._asleep:
            self._asleep = False
            self._some.set()

    def close(self) -> None:
        """Write what is queued and end. Idempotent."""
        self._closing.set()
        self._some.set()
        self._thread.join()

    def _run(self) -> None:
        reported = 0
        descriptor = -1
        while not (self._closing.is_set() and not self._lines):
            self._some.wait()
            # Collect for a moment: one wake-up for many events.
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
                # A full disk must not end the log for good, nor be silent.
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
