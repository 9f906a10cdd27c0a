"""What every request to the API server passes, in this order: a request id, what it asks for, who asks, on whose behalf,
may they, is there room, and the audit log when it is over. Then it is dispatched: the proxy verb and logs are forwarded,
the rest is the REST application's.

The order is that of apiserver's `pkg/server/config.go` (`DefaultBuildHandlerChain`). Nothing here waits, but for the
first check of a password; nothing is dialed or read from the store before the request is authorized.

A request's `state` holds "user" (UserInfo), "info" (RequestInfo) and "audit_id" for what comes behind.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Any

from hatchway.cluster.api import requestinfo
from hatchway.cluster.api.metrics import Metrics, Running
from hatchway.cluster.api.podlog import PodLog
from hatchway.cluster.api.proxyverb import ProxyRequest, ProxyVerb, status_response
from hatchway.cluster.api.requestinfo import RequestInfo
from hatchway.cluster.auth import audit
from hatchway.cluster.auth.authenticators import Authenticator
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
    ResponseHead,
    Transform,
)

# Requests that may take for ever are not counted as being in flight (`BasicLongRunningRequestCheck`).
_LONG_VERBS = frozenset(("watch", "proxy"))
_LONG_SUBRESOURCES = frozenset(("attach", "exec", "proxy", "log", "portforward"))
# An upgrade gives more than reading: `get` is not enough where it runs commands or reaches a kubelet.
_CREATE_TO_CONNECT = frozenset((("pods", "exec"), ("pods", "attach"), ("pods", "portforward")))
_CREATE_TO_UPGRADE = frozenset((("nodes", "proxy"),))
_NAMESPACED_PROXIES = frozenset(("services", "pods"))
_READS = frozenset(("get", "list", "watch"))
_UNRECORDED_PATHS = ("/healthz", "/livez", "/readyz", "/version")


class Filters:
    """The API server's routing function (`route`), over the parts that it puts in order.

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
        log: audit.AuditLog | None = None,
        metrics: Metrics | None = None,
        max_in_flight: int = 400,
    ) -> None:
        self._authenticator = authenticator
        self._rbac = rbac
        self._proxy = proxy
        self._logs = logs
        self._app = App(_stamping(app))
        self._log = log
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self.in_flight = 0

    def route(self, head: RequestHead) -> Decision | Awaitable[Decision]:
        """Decide on a request. Awaitable only while a password is checked. Raises nothing that a client can cause."""
        exchange = _Exchange(self, head)
        head.on_complete = exchange.complete
        try:
            info = requestinfo.parse(head.method, head.path, head.query)
            exchange.describe(info)
            user = self._authenticator.authenticate(head)
            if isinstance(user, UserInfo):
                return self._admit(exchange, info, user)
        except ApiError as error:
            return exchange.refuse(error)
        return self._admit_later(exchange, info, user)

    async def _admit_later(self, exchange: _Exchange, info: RequestInfo, user: Awaitable[UserInfo]) -> Decision:
        try:
            return self._admit(exchange, info, await user)
        except ApiError as error:
            return exchange.refuse(error)

    def _admit(self, exchange: _Exchange, info: RequestInfo, user: UserInfo) -> Decision:
        head, record = exchange.head, exchange.record
        if self._metrics is not None and not exchange.over:
            exchange.running = self._metrics.begin(info, long_running=_is_long_running(info))
        record.user = user
        acting = user
        if exchange.impersonates:
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
        if not _is_long_running(info) and PRIVILEGED_GROUP not in acting.groups:
            if self.in_flight >= self._max_in_flight:
                raise _busy()
            exchange.count()
        head.state["user"] = acting
        head.state["info"] = info
        return self._dispatch(exchange, info)

    def _dispatch(self, exchange: _Exchange, info: RequestInfo) -> Decision:
        head = exchange.head
        if info.subresource == "proxy" and _is_proxied(info):
            request = ProxyRequest(
                info.resource, info.namespace, info.name, info.prefix, info.rest, head.method, head.query
            )
            return exchange.stamp(self._proxy.route(head, request))
        if info.subresource == "log" and _is_log(info):
            return exchange.stamp(self._logs.route(head, info.namespace, info.name))
        return self._app

    def finish(self, exchange: _Exchange, status: int) -> None:
        """An exchange is over."""
        if exchange.counted:
            self.in_flight -= 1
        if exchange.running is not None:
            exchange.running.end(status)
        elif self._metrics is not None:
            self._metrics.refused(status)
        if self._log is not None and _is_recorded(exchange.record):
            self._log.write(exchange.record, status)


class _Exchange:
    """One request on its way through the filters."""

    __slots__ = ("_filters", "counted", "head", "impersonates", "over", "record", "running")

    def __init__(self, filters: Filters, head: RequestHead) -> None:
        self._filters = filters
        self.over = False
        self.counted = False
        self.running: Running | None = None
        self.head = head
        self.impersonates = False
        given = user_agent = forwarded_for = None
        # One pass, since this is done for every request.
        for name, value in head.headers:
            lower = name.lower()
            if lower == b"user-agent":
                user_agent = value
            elif lower == b"audit-id":
                given = value
            elif lower == b"x-forwarded-for":
                forwarded_for = value
            elif lower.startswith(b"impersonate-"):
                self.impersonates = True
        number = audit.audit_id(given)
        head.state["audit_id"] = number
        self.record = audit.Record(
            number,
            time.time(),
            head.method.lower(),
            head.path,
            source=head.peer.address[0] if head.peer.address else "",
            forwarded_for=forwarded_for,
            user_agent=user_agent,
        )

    def describe(self, info: RequestInfo) -> None:
        record = self.record
        record.verb = info.verb
        record.uri = audit.uri(self.head, proxied=info.subresource == "proxy")
        if info.is_resource:
            record.resource = info.resource
            record.subresource = info.subresource
            record.namespace = info.namespace
            record.name = info.name
            record.api_group = info.api_group
            record.api_version = info.api_version

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
        answer.headers.append((b"Audit-Id", self.record.audit_id.encode()))
        return answer

    def stamp(self, decision: Decision) -> Decision:
        """Put the request's id into the answer."""
        if isinstance(decision, Forward):
            inner = decision.edit_response
            field = (b"Audit-Id", self.record.audit_id.encode())

            def edit(response: ResponseHead) -> Transform | None:
                transform = inner(response) if inner is not None else None
                response.headers = [item for item in response.headers if item[0].lower() != b"audit-id"]
                response.headers.append(field)
                return transform

            decision.edit_response = edit
        elif isinstance(decision, Respond):
            self._stamped(decision)
        return decision


def _attributes(info: RequestInfo, user: UserInfo, head: RequestHead) -> Attributes:
    if not info.is_resource:
        return Attributes(user, info.verb, path=info.path)
    verb = info.verb
    if not info.api_group and info.subresource:
        what = (info.resource, info.subresource)
        if what in _CREATE_TO_CONNECT or (head.upgrade is not None and what in _CREATE_TO_UPGRADE):
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
    """Whether a request is worth a line: not what health checks and the nodes' own housekeeping ask all the time."""
    if record.decision != "allow":
        return True
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
        field = (b"audit-id", scope["state"]["audit_id"].encode())

        async def stamping_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), field]}
            await send(message)

        await app(scope, receive, stamping_send)

    return stamped
