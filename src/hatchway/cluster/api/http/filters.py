"""The filters that every request to the API server passes before it is answered.

Their order: request ID, request info (verb and resource), authentication, impersonation, authorization, the limit of
requests in flight; and the audit log at the end. Then requests for connecting subresources (proxy, log) go to their
handlers, requests for API groups of other servers to these servers, and all others to the REST application.

The order is that of apiserver's `pkg/server/config.go` (`DefaultBuildHandlerChain`). Only the first check of a password
is asynchronous. Nothing is dialed or read from the store before the request is authorized.

For the handlers, a request's `state` has "user" (UserInfo), "info" (RequestInfo) and "audit_id".

Clients often send the same head again. Such a head is admitted without another check while everything is unchanged on
which the first decision depends: the cluster's objects, the credential files, and the validity of the credential. (The
engine keeps an `AdmittedRequest`, which only requests of the same client use.) So a removed right, a deleted token or
an endpoint that is no longer ready takes effect with the next request. ConfigMaps, Events and Leases change often, so
their changes count only for connecting subresources, whose admission may depend on any object.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from hatchway.cluster.api.admission.chain import AdmissionChain
from hatchway.cluster.api.aggregation.aggregator import Aggregator
from hatchway.cluster.api.aggregation.remoteapis import RemoteApi
from hatchway.cluster.api.connect.answers import status_response
from hatchway.cluster.api.connect.handler import ConnectRequest, RepeatableForward
from hatchway.cluster.api.http import requestinfo
from hatchway.cluster.api.http.connectadmission import admit_connection
from hatchway.cluster.api.http.connectroutes import ConnectRoute, ConnectRoutes
from hatchway.cluster.api.http.metrics import RequestKind, RequestMetrics
from hatchway.cluster.api.http.plainreads import PlainRead, PlainReads
from hatchway.cluster.api.http.requestinfo import RequestInfo
from hatchway.cluster.api.http.socketanswer import accept_socket, wants_socket
from hatchway.cluster.auth import audit
from hatchway.cluster.auth.authenticators import Authenticator, Identity
from hatchway.cluster.auth.impersonation import impersonate
from hatchway.cluster.auth.rbac import PRIVILEGED_GROUP, Authorizer, refusal
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.errors import ApiError
from hatchway.proxy.routing import (
    AcceptUpgrade,
    App,
    ASGIApp,
    CachedDecision,
    Decision,
    Forward,
    RequestHead,
    Respond,
)
from hatchway.rewrite.stray import stray_target

# Verbs of long-running requests. These do not count as requests in flight (`BasicLongRunningRequestCheck`), nor do
# requests for connecting subresources.
_LONG_VERBS = frozenset(("watch", "proxy"))
# No right, no credential and no served type depends on these resources.
WITHOUT_RIGHTS = frozenset(("configmaps", "events", "leases.coordination.k8s.io"))


class Filters:
    """The API server's routing function (`route`).

    revision: a function that returns the number of the cluster's last change. Without it, every request is checked
    anew.
    rights_revision: the same, but only for changes of resources that are not in `WITHOUT_RIGHTS`; None to use
    `revision`.
    connections: the connecting subresources and their handlers.
    app: serves the REST API.
    aggregator: finds the API groups of other servers; None when there are none.
    log, metrics: the audit log and the metrics; None to record nothing.
    max_in_flight: the most requests at the same time, without long-running ones and those of members of system:masters.
    admission: the admission chain for requests for connecting subresources; None to admit all.
    plain_reads: answers some reads at once; None to let the application answer all.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        authorizer: Authorizer,
        connections: ConnectRoutes,
        app: ASGIApp,
        aggregator: Aggregator | None = None,
        revision: Callable[[], int] | None = None,
        rights_revision: Callable[[], int] | None = None,
        log: audit.AuditLog | None = None,
        metrics: RequestMetrics | None = None,
        max_in_flight: int = 400,
        admission: AdmissionChain | None = None,
        plain_reads: PlainReads | None = None,
    ) -> None:
        self._admission = admission
        self._plain_reads = plain_reads
        self.authenticator = authenticator
        self._authorizer = authorizer
        self._connections = connections
        self._aggregator = aggregator
        self._app = App(_stamping(app))
        self._revision = revision if revision is not None else itertools.count().__next__
        self._rights_revision = rights_revision if rights_revision is not None else self._revision
        self._log = log
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self.in_flight = 0

    def route(self, head: RequestHead) -> Decision | Awaitable[Decision]:
        """Decide on a request.

        The result is an awaitable only when a password must be checked or a webhook called. No request can make this
        raise an exception.
        """
        record, given_id, impersonates = _describe(head)
        exchange = _FilteredRequest(self, head, record, given_id, time.time())
        if requestinfo.has_bad_escape(head.path):
            # The same answer as that of Go's HTTP server, which sends it before it reads the rest of the request.
            return exchange.stamp(Respond(400, [(b"Content-Type", b"text/plain; charset=utf-8")], b"400 Bad Request"))
        try:
            info = requestinfo.parse(head.method, head.path, head.query)
            if info.subresource != "proxy" and (belongs := stray_target(head.target, head.headers)) is not None:
                return exchange.stamp(Respond(307, [(b"Location", belongs)]))
            _describe_target(record, head, info)
            identity = self.authenticator.authenticate(head)
            if isinstance(identity, Identity):
                admitted = self._admit(exchange, info, identity.user, impersonates)
                admitted.until = identity.until
                admitted.revision = self.revision_for(admitted)
                admitted.credentials = self.authenticator.version
                waiting = self._admit_connection(admitted, head)
                if waiting is not None:
                    # This decision is not cached, because webhooks must be called for each request.
                    return self._pass_later(exchange, admitted, waiting)
                decision = self._pass(exchange, admitted)
                if _is_for_socket(decision, admitted, head):
                    return _upgraded(decision, admitted, head)
                head.cached = admitted
                return decision
        except ApiError as error:
            return exchange.refuse(error)
        return self._admit_later(exchange, info, identity, impersonates)

    async def _admit_later(
        self, exchange: _FilteredRequest, info: RequestInfo, user: Awaitable[UserInfo], impersonates: bool
    ) -> Decision:
        try:
            admitted = self._admit(exchange, info, await user, impersonates)
            waiting = self._admit_connection(admitted, exchange.head)
            if waiting is not None:
                await waiting
            return await _upgraded(self._pass(exchange, admitted), admitted, exchange.head)
        except ApiError as error:
            return exchange.refuse(error)

    def _admit_connection(self, admitted: AdmittedRequest, head: RequestHead) -> Awaitable[None] | None:
        """Pass a request for a connecting subresource to admission. Return an awaitable if a plugin must wait."""
        if admitted.connection is None or self._admission is None:
            return None
        return admit_connection(self._admission, admitted.connection, admitted.info, admitted.user, head)

    async def _pass_later(
        self, exchange: _FilteredRequest, admitted: AdmittedRequest, waiting: Awaitable[None]
    ) -> Decision:
        try:
            await waiting
            return await _upgraded(self._pass(exchange, admitted), admitted, exchange.head)
        except ApiError as error:
            return exchange.refuse(error)

    def _admit(
        self, exchange: _FilteredRequest, info: RequestInfo, user: UserInfo, impersonates: bool
    ) -> AdmittedRequest:
        """Authorize a request. Raises ApiError 403."""
        head, record = exchange.head, exchange.record
        connection = self._connections.find(info)
        remote = self._remote_api(info)
        long_running = connection is not None or (info.is_resource and info.verb in _LONG_VERBS)
        kind = None
        if self._metrics is not None:
            kind = self._metrics.kind(info, long_running=long_running)
            exchange.begin(kind)
        record.user = user
        acting = user
        if impersonates:
            acting = impersonate(self._authorizer, user, head)
            if acting is not user:
                record.impersonated = acting
        asked = _attributes(info, acting, head, connection)
        decision = self._authorizer.decide(asked)
        record.reason = decision.reason
        if not decision.allowed:
            record.decision = "forbid"
            raise refusal(asked, decision.reason)
        also = connection.connect.also_verb if connection is not None else ""
        if also and also != asked.verb:
            asked = replace(asked, verb=also)
            decision = self._authorizer.decide(asked)
            if not decision.allowed:
                record.decision, record.reason = "forbid", decision.reason
                raise refusal(asked, decision.reason)
        record.decision = "allow"
        exchange.recorded = audit.is_recorded(record)
        limited = not long_running and PRIVILEGED_GROUP not in acting.groups
        if connection is not None and not connection.serves(info):
            connection = None
        read = None
        if self._plain_reads is not None and remote is None:
            read = self._plain_reads.find(head, info)
        return AdmittedRequest(
            self, info, acting, record, exchange.given_id, exchange.recorded, kind, limited, connection, remote, read
        )

    def _remote_api(self, info: RequestInfo) -> RemoteApi | None:
        """Return the API of another server to which the request belongs; None for this server's own APIs."""
        if self._aggregator is None:
            return None
        if info.is_resource:
            return self._aggregator.find(info.api_group, info.api_version) if info.api_prefix == "apis" else None
        return self._aggregator.find_path(info.path)

    def revision_for(self, admitted: AdmittedRequest) -> int:
        """Return the number of the last change that may have changed the decision about a request."""
        needs_all = admitted.connection is not None or admitted.remote is not None
        return self._revision() if needs_all else self._rights_revision()

    def is_unchanged(self, admitted: AdmittedRequest) -> bool:
        """Return True while no object and no credential file has changed on which the decision depends."""
        unchanged = admitted.revision == self.revision_for(admitted)
        return unchanged and admitted.credentials == self.authenticator.version

    def repeat(self, admitted: AdmittedRequest, head: RequestHead) -> Decision:
        """Decide on another request with the same head, while the admission is still valid."""
        exchange = _FilteredRequest(self, head, admitted.record, admitted.given_id, time.time())
        exchange.recorded = admitted.recorded
        try:
            if admitted.kind is not None:
                exchange.begin(admitted.kind)
            return self._pass(exchange, admitted)
        except ApiError as error:
            return exchange.refuse(error)

    def _pass(self, exchange: _FilteredRequest, admitted: AdmittedRequest) -> Decision:
        """Do the steps that are needed for every admitted request, also for a cached one. Raises ApiError 429."""
        if admitted.limited:
            if self.in_flight >= self._max_in_flight:
                raise _busy()
            exchange.count()
        head = exchange.head
        prepared = admitted.prepared
        if prepared is not None:
            head.answer_field = (b"Audit-Id", exchange.audit_id)
            return prepared.forward()
        answer = admitted.read() if admitted.read is not None else None
        if answer is not None:
            return exchange.stamp(answer)
        info = admitted.info
        head.state["user"] = admitted.user
        head.state["info"] = info
        if admitted.remote is not None and self._aggregator is not None:
            return self._prepared(exchange, admitted, self._aggregator.prepare(head, admitted.remote, admitted.user))
        if admitted.connection is None:
            return self._app
        request = ConnectRequest(
            info.resource, info.namespace, info.name, info.prefix, info.rest, head.method, head.query
        )
        return self._prepared(exchange, admitted, admitted.connection.handler.prepare(head, request))

    def _prepared(
        self,
        exchange: _FilteredRequest,
        admitted: AdmittedRequest,
        found: RepeatableForward | Forward | AcceptUpgrade | App | Respond,
    ) -> Decision:
        """Return a handler's decision with the request ID added, and store the part that can be used again."""
        if isinstance(found, (Respond, Forward, AcceptUpgrade, App)):
            return exchange.stamp(found)
        admitted.prepared = found
        return exchange.stamp(found.forward())

    def finish(self, exchange: _FilteredRequest, status: int) -> None:
        """Count and record a finished exchange. status: the status of its answer; 0 without an answer."""
        now = time.time()
        if exchange.counted:
            self.in_flight -= 1
        if exchange.kind is not None:
            exchange.kind.end(status, now - exchange.received)
        elif self._metrics is not None:
            self._metrics.refused(status)
        if self._log is not None and exchange.recorded:
            record = audit.annotated(exchange.record, exchange.head.state.get("audit_annotations"))
            self._log.write(record, exchange.audit_id, exchange.received, status, now)


@dataclass(slots=True)
class AdmittedRequest(CachedDecision):
    """The filters' results for a request, cached for further requests with the same head (see the module).

    Attributes:
        filters: the filters that admitted it.
        info: its verb, resource, namespace and name.
        user: the user who makes it.
        record: its facts for the audit log.
        given_id: the value of its header field Audit-ID.
        recorded: True if the audit log gets a line for each such request.
        kind: the series of metrics in which it is counted; None without metrics.
        limited: True if it counts for the limit of requests in flight.
        connection: its connecting subresource; None for the REST application.
        remote: the API of another server to which it belongs; None for this server's own APIs.
        read: answers it at once; None for all requests except plain reads.
        prepared: how it is forwarded; None until that is known, and for requests that are not forwarded.
        until: when the credential expires, in POSIX seconds.
        revision: the number, when it was admitted, of the last change that matters (`Filters.revision_for`).
        credentials: the version of the credential files when it was admitted.
    """

    filters: Filters
    info: RequestInfo
    user: UserInfo
    record: audit.AuditRecord
    given_id: bytes | None
    recorded: bool
    kind: RequestKind | None
    limited: bool
    connection: ConnectRoute | None
    remote: RemoteApi | None = None
    read: PlainRead | None = None
    prepared: RepeatableForward | None = None
    until: float = 0.0
    revision: int = 0
    credentials: int = 0

    def begin(self, make_head: Callable[[], RequestHead]) -> Decision | None:
        """Admit another request with this head, with its own audit ID (`CachedDecision`)."""
        filters = self.filters
        filters.authenticator.reload_changed_files()
        if time.time() < self.until and filters.is_unchanged(self):
            return filters.repeat(self, make_head())
        return None


class _FilteredRequest:
    """One request in the filters.

    given_id: the value of its header field Audit-ID.
    received: when it has arrived, in POSIX seconds.
    """

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
        self, filters: Filters, head: RequestHead, record: audit.AuditRecord, given_id: bytes | None, received: float
    ) -> None:
        self._filters = filters
        self.over = False
        self.counted = False
        # Until the audit policy was asked, an answer is recorded: it is a refusal.
        self.recorded = True
        self.kind: RequestKind | None = None
        self.head = head
        self.record = record
        self.given_id = given_id
        self.received = received
        self.audit_id = head.state["audit_id"] = audit.audit_id(given_id)
        head.on_complete = self.complete

    def begin(self, kind: RequestKind) -> None:
        """Count the request in its series."""
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
        """Add the request ID to the answer."""
        if isinstance(decision, Forward):
            self.head.answer_field = (b"Audit-Id", self.audit_id)
        elif isinstance(decision, Respond):
            self._stamped(decision)
        elif isinstance(decision, AcceptUpgrade):
            decision.headers.append((b"Audit-Id", self.audit_id))
        elif isinstance(decision, App):
            return App(_stamping(decision.app))
        return decision


def _describe(head: RequestHead) -> tuple[audit.AuditRecord, bytes | None, bool]:
    """Return the audit record of a request, its Audit-ID, and True when it requests impersonation."""
    given_id = user_agent = forwarded_for = None
    impersonates = False
    # A single pass over the fields, because this is done for every request.
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
    record = audit.AuditRecord(
        head.method.lower(),
        head.path[: audit.LONGEST],
        source=head.peer.address[0] if head.peer.address else "",
        forwarded_for=forwarded_for[: audit.LONGEST] if forwarded_for is not None else None,
        user_agent=user_agent[: audit.LONGEST] if user_agent is not None else None,
    )
    return record, given_id, impersonates


def _describe_target(record: audit.AuditRecord, head: RequestHead, info: RequestInfo) -> None:
    record.verb = info.verb
    record.uri = audit.uri(head, proxied=info.subresource == "proxy")
    if info.is_resource:
        longest = audit.LONGEST
        record.resource = info.resource[:longest]
        record.subresource = info.subresource[:longest]
        record.namespace = info.namespace[:longest]
        record.name = info.name[:longest]
        record.api_group = info.api_group[:longest]
        record.api_version = info.api_version[:longest]


def _attributes(info: RequestInfo, user: UserInfo, head: RequestHead, connection: ConnectRoute | None) -> Attributes:
    if not info.is_resource:
        return Attributes(user, info.verb, path=info.path)
    verb = info.verb
    if head.upgrade is not None and connection is not None:
        verb = connection.connect.upgrade_verb or verb
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


def _is_for_socket(decision: Decision, admitted: AdmittedRequest, head: RequestHead) -> TypeGuard[App]:
    """Return True for an answer of an application over a WebSocket: that of a watch or a connecting subresource."""
    may_be = admitted.connection is not None or admitted.info.verb == "watch"
    return may_be and isinstance(decision, App) and wants_socket(head)


async def _upgraded(decision: Decision, admitted: AdmittedRequest, head: RequestHead) -> Decision:
    """Return the decision, or the upgrade that the request asks for."""
    if _is_for_socket(decision, admitted, head):
        return await accept_socket(decision, head, admitted.info.verb)
    return decision


def _busy() -> ApiError:
    return ApiError(429, "TooManyRequests", "Too many requests, please try again later.", {"retryAfterSeconds": 1})


def _stamping(app: ASGIApp) -> ASGIApp:
    """Return the application, wrapped so that the request ID is added to its answers."""

    async def stamped(scope: Any, receive: Any, send: Any) -> None:
        field = (b"audit-id", scope["state"]["audit_id"])

        async def stamping_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), field]}
            await send(message)

        await app(scope, receive, stamping_send)

    return stamped
