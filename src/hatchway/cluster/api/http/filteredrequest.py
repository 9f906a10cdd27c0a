"""The requests that pass the filters: their limit, their metrics, their audit IDs, and their audit log lines."""

from __future__ import annotations

import time
from typing import Any

from hatchway.cluster.api.connect.answers import status_response
from hatchway.cluster.api.http.metrics import RequestKind, RequestMetrics
from hatchway.cluster.api.http.requestinfo import RequestInfo
from hatchway.cluster.auth import audit
from hatchway.errors import ApiError
from hatchway.proxy.routing import AcceptUpgrade, App, ASGIApp, Decision, Forward, RequestHead, Respond

__all__ = ["FilteredRequest", "FilteredRequests", "stamp_answers"]


class FilteredRequests:
    """The shared state of an API server's requests: the limit of requests in flight, the metrics and the audit log.

    log, metrics: the audit log and the metrics; None to record nothing.
    max_in_flight: the maximum number of requests in flight at the same time.

    Attributes:
        in_flight: the number of requests in flight that count for the limit.
    """

    def __init__(self, log: audit.AuditLog | None, metrics: RequestMetrics | None, max_in_flight: int) -> None:
        self.log = log
        self.metrics = metrics
        self.max_in_flight = max_in_flight
        self.in_flight = 0


class FilteredRequest:
    """One request in the filters.

    given_id: the value of its header field Audit-ID.
    received: when the request arrived, in POSIX seconds.
    """

    __slots__ = (
        "_requests",
        "audit_id",
        "counted",
        "given_id",
        "head",
        "kind",
        "over",
        "received",
        "record",
        "recorded",
    )

    def __init__(
        self,
        requests: FilteredRequests,
        head: RequestHead,
        record: audit.AuditRecord,
        given_id: bytes | None,
        received: float,
    ) -> None:
        self._requests = requests
        self.over = False
        self.counted = False
        # Refusals are always recorded. Other requests are answered only after `recorded` has its final value.
        self.recorded = True
        self.kind: RequestKind | None = None
        self.head = head
        self.record = record
        self.given_id = given_id
        self.received = received
        self.audit_id = head.state["audit_id"] = audit.audit_id(given_id)
        head.on_complete = self.complete

    def begin_as(self, info: RequestInfo, *, long_running: bool) -> RequestKind | None:
        """Count the request in the series of its verb and resource. Return the series; None without metrics."""
        metrics = self._requests.metrics
        if metrics is None:
            return None
        kind = metrics.kind(info, long_running=long_running)
        self.begin(kind)
        return kind

    def begin(self, kind: RequestKind) -> None:
        """Count the request in a series."""
        if not self.over:
            self.kind = kind
            kind.begin()

    def count_in_flight(self) -> None:
        """Count the request for the limit of requests in flight. Raises ApiError 429 if the limit is reached."""
        requests = self._requests
        if requests.in_flight >= requests.max_in_flight:
            raise _busy()
        if not self.over:
            self.counted = True
            requests.in_flight += 1

    def complete(self, status: int, _bytes_in: int, _bytes_out: int) -> None:
        """Count and record the end of the request. status: the status of its answer; 0 without an answer."""
        if self.over:
            return
        self.over = True
        now = time.time()
        requests = self._requests
        if self.counted:
            requests.in_flight -= 1
        if self.kind is not None:
            self.kind.end(status, now - self.received)
        elif requests.metrics is not None:
            requests.metrics.refused(status)
        if requests.log is not None and self.recorded:
            record = audit.annotated(self.record, self.head.state.get("audit_annotations"))
            requests.log.write(record, self.audit_id, self.received, status, now)

    def refuse(self, error: ApiError) -> Respond:
        """Return the answer to a refused request, with the request ID."""
        answer = status_response(error)
        if error.code == 403:
            answer.headers.append((b"X-Content-Type-Options", b"nosniff"))
        return self._stamped(answer)

    def _stamped(self, answer: Respond) -> Respond:
        answer.headers.append((b"Audit-Id", self.audit_id))
        return answer

    def stamp(self, decision: Decision) -> Decision:
        """Return the decision, changed so that the answer contains the request ID."""
        if isinstance(decision, Forward):
            self.head.answer_field = (b"Audit-Id", self.audit_id)
        elif isinstance(decision, Respond):
            self._stamped(decision)
        elif isinstance(decision, AcceptUpgrade):
            decision.headers.append((b"Audit-Id", self.audit_id))
        elif isinstance(decision, App):
            return App(stamp_answers(decision.app))
        return decision


def _busy() -> ApiError:
    return ApiError(429, "TooManyRequests", "Too many requests, please try again later.", {"retryAfterSeconds": 1})


def stamp_answers(app: ASGIApp) -> ASGIApp:
    """Return an application that adds the request ID to the answers of `app`."""

    async def stamped(scope: Any, receive: Any, send: Any) -> None:
        field = (b"audit-id", scope["state"]["audit_id"])

        async def stamping_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), field]}
            await send(message)

        await app(scope, receive, stamping_send)

    return stamped
