"""The filters that every request to the API server passes before it is answered.

The filters, in this order: request ID, request info (verb, resource), authentication, impersonation, authorization, the
limit of requests in flight. Then requests for connecting subresources (proxy, log) go to their handlers, requests for
API groups of other servers to these servers, and all others to the REST application. The audit log gets a line when a
request has ended.

The order is that of apiserver's `pkg/server/config.go` (`DefaultBuildHandlerChain`). Only the first check of a password
and admission webhooks are asynchronous. Nothing is dialed or read from the store before the request is authorized.

For the handlers, a request's `state` has "user" (UserInfo), "info" (RequestInfo) and "audit_id".

Clients often send the same head again. Such a head is admitted without another check until something changes on which
the first decision depends: the cluster's objects, the credential files, or the validity of the credential. (The engine
caches an `AdmittedRequest` for requests of the same client.) Therefore, a removed right, a deleted token or an endpoint
that is no longer ready takes effect with the next request. ConfigMaps, Events and Leases change often. Their changes
matter only for connecting subresources, whose admission may depend on any object.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeGuard

from hatchway.cluster.api.admission.chain import AdmissionChain
from hatchway.cluster.api.aggregation.aggregator import Aggregator
from hatchway.cluster.api.aggregation.remoteapis import RemoteApi
from hatchway.cluster.api.connect.handler import ConnectRequest, RepeatableForward
from hatchway.cluster.api.http import requestinfo
from hatchway.cluster.api.http.connectadmission import admit_connection
from hatchway.cluster.api.http.connectroutes import ConnectRoute, ConnectRoutes
from hatchway.cluster.api.http.filteredrequest import FilteredRequest, FilteredRequests, stamp_answers
from hatchway.cluster.api.http.metrics import RequestKind, RequestMetrics
from hatchway.cluster.api.http.plainreads import PlainRead, PlainReads
from hatchway.cluster.api.http.requestauthorization import authorize_request
from hatchway.cluster.api.http.requestinfo import RequestInfo
from hatchway.cluster.api.http.requestrecords import describe_request, describe_target
from hatchway.cluster.api.http.socketanswer import accept_socket, wants_socket
from hatchway.cluster.auth import audit
from hatchway.cluster.auth.authenticators import Authenticator, Identity
from hatchway.cluster.auth.rbac import PRIVILEGED_GROUP, Authorizer
from hatchway.cluster.auth.user import UserInfo
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

    revision: a function that returns the number of the cluster's last change; None to check every request.
    rights_revision: like `revision`, but without changes of the resources in `WITHOUT_RIGHTS`; None to use `revision`.
    connections: the connecting subresources and their handlers.
    app: serves the REST API.
    aggregator: finds the API groups of other servers; None when there are none.
    log, metrics: the audit log and the metrics; None to record nothing.
    max_in_flight: the maximum number of requests at the same time. Long-running requests and requests of members of
    system:masters do not count.
    admission: the admission chain for requests for connecting subresources; None to admit all.
    plain_reads: answers some reads at once; None to let the application answer all reads.
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
        self._app = App(stamp_answers(app))
        self._revision = revision if revision is not None else itertools.count().__next__
        self._rights_revision = rights_revision if rights_revision is not None else self._revision
        self.requests = FilteredRequests(log, metrics, max_in_flight)

    def route(self, head: RequestHead) -> Decision | Awaitable[Decision]:
        """Decide on a request.

        The result is an awaitable only when a password must be checked or a webhook called. Errors become answers:
        this method raises no exceptions.
        """
        record, given_id, impersonates = describe_request(head)
        exchange = FilteredRequest(self.requests, head, record, given_id, time.time())
        if requestinfo.has_bad_escape(head.path):
            # Go's HTTP server sends the same answer, before it reads the rest of the request.
            return exchange.stamp(Respond(400, [(b"Content-Type", b"text/plain; charset=utf-8")], b"400 Bad Request"))
        try:
            info = requestinfo.parse(head.method, head.path, head.query)
            if info.subresource != "proxy" and (belongs := stray_target(head.target, head.headers)) is not None:
                return exchange.stamp(Respond(307, [(b"Location", belongs)]))
            describe_target(record, head, info)
            identity = self.authenticator.authenticate(head)
            if isinstance(identity, Identity):
                admitted = self._admit(exchange, info, identity.user, impersonates)
                admitted.until = identity.until
                admitted.revision = admitted.last_change()
                admitted.credentials = self.authenticator.version
                waiting = self._admit_connection(admitted, head)
                if waiting is not None:
                    # This decision is not cached, because webhooks must be called for each request.
                    return self._pass_later(exchange, admitted, waiting)
                decision = self._pass(exchange, admitted)
                if _wants_socket_answer(decision, admitted, head):
                    return _accept_upgrade(decision, admitted, head)
                head.cached = admitted
                return decision
        except ApiError as error:
            return exchange.refuse(error)
        return self._admit_later(exchange, info, identity, impersonates)

    async def _admit_later(
        self, exchange: FilteredRequest, info: RequestInfo, user: Awaitable[UserInfo], impersonates: bool
    ) -> Decision:
        try:
            admitted = self._admit(exchange, info, await user, impersonates)
            waiting = self._admit_connection(admitted, exchange.head)
            if waiting is not None:
                await waiting
            return await _accept_upgrade(self._pass(exchange, admitted), admitted, exchange.head)
        except ApiError as error:
            return exchange.refuse(error)

    def _admit_connection(self, admitted: AdmittedRequest, head: RequestHead) -> Awaitable[None] | None:
        """Pass a request to the admission chain if it is for a connecting subresource.

        Returns None when the request is admitted, or an awaitable when a plugin must wait. Raises ApiError.
        """
        if admitted.connection is None or self._admission is None:
            return None
        return admit_connection(self._admission, admitted.connection, admitted.info, admitted.user, head)

    async def _pass_later(
        self, exchange: FilteredRequest, admitted: AdmittedRequest, waiting: Awaitable[None]
    ) -> Decision:
        try:
            await waiting
            return await _accept_upgrade(self._pass(exchange, admitted), admitted, exchange.head)
        except ApiError as error:
            return exchange.refuse(error)

    def _admit(
        self, exchange: FilteredRequest, info: RequestInfo, user: UserInfo, impersonates: bool
    ) -> AdmittedRequest:
        """Authorize a request, and find the handler that answers it. Raises ApiError 403."""
        head, record = exchange.head, exchange.record
        connection = self._connections.find(info)
        remote = self._remote_api(info)
        long_running = connection is not None or (info.is_resource and info.verb in _LONG_VERBS)
        kind = exchange.begin_as(info, long_running=long_running)
        acting = authorize_request(self._authorizer, info, user, connection, head, record, impersonates=impersonates)
        exchange.recorded = audit.is_recorded(record)
        limited = not long_running and PRIVILEGED_GROUP not in acting.groups
        if connection is not None and not connection.serves(info):
            connection = None
        read = None
        if self._plain_reads is not None and remote is None:
            read = self._plain_reads.find(head, info)
        return AdmittedRequest(
            self,
            info,
            acting,
            record,
            exchange.given_id,
            exchange.recorded,
            kind,
            limited,
            self._rights_revision if connection is None and remote is None else self._revision,
            connection,
            remote,
            read,
        )

    def _remote_api(self, info: RequestInfo) -> RemoteApi | None:
        """Return the API of another server to which the request belongs; None for this server's own APIs."""
        if self._aggregator is None:
            return None
        if info.is_resource:
            return self._aggregator.find(info.api_group, info.api_version) if info.api_prefix == "apis" else None
        return self._aggregator.find_path(info.path)

    def repeat(self, admitted: AdmittedRequest, head: RequestHead, now: float) -> Decision:
        """Decide on another request with the same head. The caller has checked that the admission is still valid.

        now: when the request arrived, in POSIX seconds.
        """
        exchange = FilteredRequest(self.requests, head, admitted.record, admitted.given_id, now)
        exchange.recorded = admitted.recorded
        try:
            if admitted.kind is not None:
                exchange.begin(admitted.kind)
            return self._pass(exchange, admitted)
        except ApiError as error:
            return exchange.refuse(error)

    def _pass(self, exchange: FilteredRequest, admitted: AdmittedRequest) -> Decision:
        """Do the steps that every admitted request needs, even one whose admission was cached. Raises ApiError 429."""
        if admitted.limited:
            exchange.count_in_flight()
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
            return self._keep_prepared(
                exchange, admitted, self._aggregator.prepare(head, admitted.remote, admitted.user)
            )
        if admitted.connection is None:
            return self._app
        request = ConnectRequest(
            info.resource, info.namespace, info.name, info.prefix, info.rest, head.method, head.query
        )
        return self._keep_prepared(exchange, admitted, admitted.connection.handler.prepare(head, request))

    def _keep_prepared(
        self,
        exchange: FilteredRequest,
        admitted: AdmittedRequest,
        found: RepeatableForward | Forward | AcceptUpgrade | App | Respond,
    ) -> Decision:
        """Add the request ID to a handler's decision and return it. A repeatable decision is cached in `admitted`."""
        if isinstance(found, (Respond, Forward, AcceptUpgrade, App)):
            return exchange.stamp(found)
        admitted.prepared = found
        return exchange.stamp(found.forward())


@dataclass(slots=True)
class AdmittedRequest(CachedDecision):
    """The filters' results for a request, cached for further requests with the same head.

    Attributes:
        filters: the filters that admitted it.
        info: the request's verb, resource, namespace and name.
        user: the user as whom the request is made.
        record: its facts for the audit log.
        given_id: the value of its header field Audit-ID; None if it has none.
        recorded: True if the audit log gets a line for each such request.
        kind: the series of metrics in which it is counted; None without metrics.
        limited: True if it counts for the limit of requests in flight.
        last_change: returns the number of the last change of an object on which the decision may depend.
        connection: its connecting subresource; None for the REST application.
        remote: the API of another server to which it belongs; None for this server's own APIs.
        read: answers the request at once; None unless it is a plain read.
        prepared: the handler's decision, if it can be repeated; None until the handler has decided.
        until: when the credential expires, in POSIX seconds.
        revision: the value of `last_change` when the request was admitted.
        credentials: the version of the credential files when the request was admitted.
    """

    filters: Filters
    info: RequestInfo
    user: UserInfo
    record: audit.AuditRecord
    given_id: bytes | None
    recorded: bool
    kind: RequestKind | None
    limited: bool
    last_change: Callable[[], int]
    connection: ConnectRoute | None
    remote: RemoteApi | None = None
    read: PlainRead | None = None
    prepared: RepeatableForward | None = None
    until: float = 0.0
    revision: int = 0
    credentials: int = 0

    def begin(self, make_head: Callable[[], RequestHead]) -> Decision | None:
        """Admit another request with this head, with its own audit ID (`CachedDecision`)."""
        filters, now = self.filters, time.time()
        authenticator = filters.authenticator
        authenticator.reload_changed_files()
        if now < self.until and self.revision == self.last_change() and self.credentials == authenticator.version:
            return filters.repeat(self, make_head(), now)
        return None


def _wants_socket_answer(decision: Decision, admitted: AdmittedRequest, head: RequestHead) -> TypeGuard[App]:
    """Return True if an application answers the request over a WebSocket. Only watches and connections allow this."""
    may_be = admitted.connection is not None or admitted.info.verb == "watch"
    return may_be and isinstance(decision, App) and wants_socket(head)


async def _accept_upgrade(decision: Decision, admitted: AdmittedRequest, head: RequestHead) -> Decision:
    """Accept the upgrade if the request asks for a WebSocket. Otherwise return the decision unchanged."""
    if _wants_socket_answer(decision, admitted, head):
        return await accept_socket(decision, head, admitted.info.verb)
    return decision
