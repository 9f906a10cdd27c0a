"""What every request to the API server passes, in this order: a request id, what it asks for, who asks, on whose behalf,
may they, is there room, and the audit log when it is over. Then it is dispatched: the proxy verb and logs are forwarded,
the rest is the REST application's.

The order is that of apiserver's `pkg/server/config.go` (`DefaultBuildHandlerChain`). Nothing here waits, but for the
first check of a password; nothing is dialed or read from the store before the request is authorized.

A request's `state` holds "user" (UserInfo), "info" (RequestInfo) and "audit_id" for what comes behind.

Clients send the same head again and again. One that was admitted is admitted again without another look (`_Admitted`,
kept in the head's memo, which only requests of the same client share), as long as nothing has changed that the admission came from: no object of
the cluster whatsoever, no credential file, no credential's time is over. A right that is taken away, a token that is
deleted and an endpoint that is not ready any more hold from the next request on.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api import requestinfo
from hatchway.cluster.api.metrics import Kind, Metrics
from hatchway.cluster.api.podlog import PodLog
from hatchway.cluster.api.proxyverb import Prepared, ProxyRequest, ProxyVerb, status_response
from hatchway.cluster.api.requestinfo import RequestInfo
from hatchway.cluster.auth import audit
from hatchway.cluster.auth.authenticators import Authenticator, Identity
from hatchway.cluster.auth.impersonation import impersonate
from hatchway.cluster.auth.rbac import PRIVILEGED_GROUP, Rbac, refusal
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.errors import ApiError
from hatchway.proxy.routing import (
    App,
    ASGIApp,
    Decision,
    Forward,
    RequestHead,
    Respond,
)
from hatchway.rewrite.stray import stray_target

# Requests that may take for ever are not counted as being in flight (`BasicLongRunningRequestCheck`).
_LONG_VERBS = frozenset(("watch", "proxy"))
_LONG_SUBRESOURCES = frozenset(("attach", "exec", "proxy", "log", "portforward"))
# An upgrade gives more than reading: `get` is not enough where it runs commands or reaches a kubelet.
_CREATE_TO_UPGRADE = frozenset((("pods", "exec"), ("pods", "attach"), ("pods", "portforward"), ("nodes", "proxy")))
_NAMESPACED_PROXIES = frozenset(("services", "pods"))
_READS = frozenset(("get", "list", "watch"))
_UNRECORDED_PATHS = ("/healthz", "/livez", "/readyz", "/version")


class Filters:
    """The API server's routing function (`route`), over the parts that it puts in order.

    revision: the number of the cluster's last change; without one nothing is admitted twice without another look.
    log, metrics: None when nothing is to be recorded. app: serves the REST API. max_in_flight: how many requests that are not
    long-running may be under way at once; members of system:masters are not limited.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        rbac: Rbac,
        proxy: ProxyVerb,
        logs: PodLog,
        app: ASGIApp,
        revision: Callable[[], int] | None = None,
        log: audit.AuditLog | None = None,
        metrics: Metrics | None = None,
        max_in_flight: int = 400,
    ) -> None:
        self._authenticator = authenticator
        self._rbac = rbac
        self._proxy = proxy
        self._logs = logs
        self._app = App(_stamping(app))
        self._revision = revision if revision is not None else itertools.count().__next__
        self._log = log
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self.in_flight = 0

    def route(self, head: RequestHead) -> Decision | Awaitable[Decision]:
        """Decide on a request. Awaitable only while a password is checked. Raises nothing that a client can cause."""
        known: _Admitted | None = head.memo.value
        if known is not None:
            now = time.time()
            if (
                known.revision == self._revision()
                and now < known.until
                and known.credentials == self._authenticator.version()
            ):
                exchange = _Exchange(self, head, known.record, known.given_id, now)
                exchange.recorded = known.recorded
                try:
                    if known.kind is not None:
                        exchange.begin(known.kind)
                    return self._pass(exchange, known)
                except ApiError as error:
                    return exchange.refuse(error)
        record, given_id, impersonates = _describe(head)
        exchange = _Exchange(self, head, record, given_id, time.time())
        if requestinfo.has_bad_escape(head.path):
            # As Go's HTTP server answers it, before anybody else sees the request.
            return exchange.stamp(Respond(400, [(b"Content-Type", b"text/plain; charset=utf-8")], b"400 Bad Request"))
        try:
            info = requestinfo.parse(head.method, head.path, head.query)
            if info.subresource != "proxy" and (belongs := stray_target(head.target, head.headers)) is not None:
                return exchange.stamp(Respond(307, [(b"Location", belongs)]))
            _describe_target(record, head, info)
            identity = self._authenticator.authenticate(head)
            if isinstance(identity, Identity):
                admitted = self._admit(exchange, info, identity.user, impersonates)
                admitted.until = identity.until
                admitted.revision = self._revision()
                admitted.credentials = self._authenticator.version()
                head.memo.value = admitted
                return self._pass(exchange, admitted)
        except ApiError as error:
            return exchange.refuse(error)
        return self._admit_later(exchange, info, identity, impersonates)

    async def _admit_later(
        self, exchange: _Exchange, info: RequestInfo, user: Awaitable[UserInfo], impersonates: bool
    ) -> Decision:
        try:
            return self._pass(exchange, self._admit(exchange, info, await user, impersonates))
        except ApiError as error:
            return exchange.refuse(error)

    def _admit(self, exchange: _Exchange, info: RequestInfo, user: UserInfo, impersonates: bool) -> _Admitted:
        """Raises ApiError when the user may not do this."""
        head, record = exchange.head, exchange.record
        long_running = _is_long_running(info)
        kind = None
        if self._metrics is not None:
            kind = self._metrics.kind(info, long_running=long_running)
            exchange.begin(kind)
        record.user = user
        acting = user
        if impersonates:
            acting = impersonate(self._rbac, user, head)
            if acting is not user:
                record.impersonated = acting
        asked = _attributes(info, acting, head)
        decision = self._rbac.decide(asked)
        record.reason = decision.reason
        if not decision.allowed:
            record.decision = "forbid"
            raise refusal(asked, decision.reason)
        record.decision = "allow"
        exchange.recorded = _is_recorded(record)
        limited = not long_running and PRIVILEGED_GROUP not in acting.groups
        return _Admitted(info, acting, record, exchange.given_id, exchange.recorded, kind, limited)

    def _pass(self, exchange: _Exchange, admitted: _Admitted) -> Decision:
        """What is done for each request. Raises ApiError 429."""
        if admitted.limited:
            if self.in_flight >= self._max_in_flight:
                raise _busy()
            exchange.count()
        head = exchange.head
        prepared = admitted.prepared
        if prepared is not None:
            head.answer_field = (b"Audit-Id", exchange.audit_id)
            return prepared.forward()
        info = admitted.info
        head.state["user"] = admitted.user
        head.state["info"] = info
        if info.subresource == "proxy" and _is_proxied(info):
            request = ProxyRequest(
                info.resource, info.namespace, info.name, info.prefix, info.rest, head.method, head.query
            )
            found = self._proxy.prepare(head, request)
            if isinstance(found, Respond):
                return exchange.stamp(found)
            admitted.prepared = found
            return exchange.stamp(found.forward())
        if info.subresource == "log" and _is_log(info):
            return exchange.stamp(self._logs.route(head, info.namespace, info.name))
        return self._app

    def finish(self, exchange: _Exchange, status: int) -> None:
        """An exchange is over."""
        now = time.time()
        if exchange.counted:
            self.in_flight -= 1
        if exchange.kind is not None:
            exchange.kind.end(status, now - exchange.received)
        elif self._metrics is not None:
            self._metrics.refused(status)
        if self._log is not None and exchange.recorded:
            self._log.write(exchange.record, exchange.audit_id, exchange.received, status, now)


@dataclass(slots=True)
class _Admitted:
    """What made a request pass, and what it passes to. until: POSIX seconds. See the head of this file."""

    info: RequestInfo
    user: UserInfo
    record: audit.Record
    given_id: bytes | None
    recorded: bool
    kind: Kind | None
    limited: bool
    prepared: Prepared | None = None
    until: float = 0.0
    revision: int = 0
    credentials: int = 0


class _Exchange:
    """One request on its way through the filters. given_id: the header Audit-ID. received: POSIX seconds."""

    __slots__ = (
        "_filters",
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
        self, filters: Filters, head: RequestHead, record: audit.Record, given_id: bytes | None, received: float
    ) -> None:
        self._filters = filters
        self.over = False
        self.counted = False
        # What is refused is written down.
        self.recorded = True
        self.kind: Kind | None = None
        self.head = head
        self.record = record
        self.given_id = given_id
        self.received = received
        self.audit_id = head.state["audit_id"] = audit.audit_id(given_id)
        head.on_complete = self.complete

    def begin(self, kind: Kind) -> None:
        """Count it among those of its kind."""
        if not self.over:
            self.kind = kind
            kind.begin()

    def count(self) -> None:
        if not self.over:
            self.counted = True
            self._filters.in_flight += 1

    def complete(self, status: int, _bytes_in: int, _bytes_out: int) -> None:
        if not self.over:
            self.over = True
            self._filters.finish(self, status)

    def refuse(self, error: ApiError) -> Respond:
        answer = status_response(error)
        if error.code == 403:
            answer.headers.append((b"X-Content-Type-Options", b"nosniff"))
        return self._stamped(answer)

    def _stamped(self, answer: Respond) -> Respond:
        answer.headers.append((b"Audit-Id", self.audit_id))
        return answer

    def stamp(self, decision: Decision) -> Decision:
        """Put the request's id into the answer."""
        if isinstance(decision, Forward):
            self.head.answer_field = (b"Audit-Id", self.audit_id)
        elif isinstance(decision, Respond):
            self._stamped(decision)
        return decision


def _describe(head: RequestHead) -> tuple[audit.Record, bytes | None, bool]:
    """What the audit log says of a request, its own Audit-ID, and whether it asks to act as somebody else."""
    given_id = user_agent = forwarded_for = None
    impersonates = False
    # One pass, since this is done for every request.
    for name, value in head.headers:
        lower = name.lower()
        if lower == b"user-agent":
            user_agent = value
        elif lower == b"audit-id":
            given_id = value
        elif lower == b"x-forwarded-for":
            forwarded_for = value
        elif lower.startswith(b"impersonate-"):
            impersonates = True
    record = audit.Record(
        head.method.lower(),
        head.path,
        source=head.peer.address[0] if head.peer.address else "",
        forwarded_for=forwarded_for,
        user_agent=user_agent,
    )
    return record, given_id, impersonates


def _describe_target(record: audit.Record, head: RequestHead, info: RequestInfo) -> None:
    record.verb = info.verb
    record.uri = audit.uri(head, proxied=info.subresource == "proxy")
    if info.is_resource:
        record.resource = info.resource
        record.subresource = info.subresource
        record.namespace = info.namespace
        record.name = info.name
        record.api_group = info.api_group
        record.api_version = info.api_version


def _attributes(info: RequestInfo, user: UserInfo, head: RequestHead) -> Attributes:
    if not info.is_resource:
        return Attributes(user, info.verb, path=info.path)
    verb = info.verb
    if head.upgrade is not None and not info.api_group and (info.resource, info.subresource) in _CREATE_TO_UPGRADE:
        verb = "create"
    return Attributes(
        user,
        verb,
        info.resource,
        info.subresource,
        info.api_group,
        info.api_version,
        info.namespace,
        info.name,
        fields=info.fields,
    )


def _is_core(info: RequestInfo) -> bool:
    return info.api_prefix == "api" and info.api_version == "v1" and bool(info.name)


def _is_proxied(info: RequestInfo) -> bool:
    if not _is_core(info):
        return False
    if info.namespace:
        return info.resource in _NAMESPACED_PROXIES
    return info.resource == "nodes"


def _is_log(info: RequestInfo) -> bool:
    wanted = info.resource == "pods" and info.verb == "get" and len(info.parts) == 3
    return wanted and bool(info.namespace) and _is_core(info)


def _is_long_running(info: RequestInfo) -> bool:
    return info.is_resource and (info.verb in _LONG_VERBS or info.subresource in _LONG_SUBRESOURCES)


def _is_recorded(record: audit.Record) -> bool:
    """Whether an allowed request is worth a line: not what health checks and the nodes' own housekeeping ask all the time."""
    if not record.resource:
        path = record.uri.decode("latin-1")
        return record.verb != "get" or not path.startswith(_UNRECORDED_PATHS)
    if record.resource == "events":
        return False
    user = record.user
    if user is None or "system:nodes" not in user.groups:
        return True
    return record.verb not in _READS and record.resource != "leases"


def _busy() -> ApiError:
    return ApiError(429, "TooManyRequests", "Too many requests, please try again later.", {"retryAfterSeconds": 1})


def _stamping(app: ASGIApp) -> ASGIApp:
    """The application, with the request's id in its answers."""

    async def stamped(scope: Any, receive: Any, send: Any) -> None:
        field = (b"audit-id", scope["state"]["audit_id"])

        async def stamping_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), field]}
            await send(message)

        await app(scope, receive, stamping_send)

    return stamped
