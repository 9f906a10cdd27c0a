"""Makes the door's own answers: finds out the problem of a request that has failed.

Browsers get a page, and other clients a Kubernetes `Status` (`pages.py`). `targetdiagnosis.py` finds out why a target
gives no answer.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

import msgspec

from hatchway.door import pages
from hatchway.door.address import DoorAddress
from hatchway.door.hostheader import BadAnnotation
from hatchway.door.problems import notfound, refused, unreached
from hatchway.door.problems.problem import DoorProblem, from_error, from_status, placed_at
from hatchway.door.problems.unanswered import NoAnswer, api_broken, no_answer
from hatchway.door.targetdiagnosis import LARGE_HEAD, NO_ADDRESS, TargetDiagnosis
from hatchway.errors import ApiError, HatchwayError, NoCredentials
from hatchway.kube.access import user_name
from hatchway.kube.connection import Connection
from hatchway.kube.lookup import ObjectLookup
from hatchway.proxy.routing import ProxyError, RequestHead, Respond
from hatchway.route.chooser import RouteChoice
from hatchway.route.contract import TargetUnreached, Unreached
from hatchway.target import Kind, Target, format_host_name

_READING = frozenset(("GET", "HEAD"))
# A kube-apiserver's message about a service that has no endpoint for the port in a proxy path.
_NO_ENDPOINTS: Final = "no endpoints available"
# A kube-apiserver's message about an upgrade that was not answered with 101 (apimachinery `proxy/upgradeaware.go`).
_UPGRADE = re.compile(r"invalid upgrade response: status code (\d{3})\b")
# Errors of an upgrade after dialing; the API server reports them without an explanation.
_AFTER_DIALING = re.compile(r"unexpected EOF|EOF|malformed HTTP|read tcp |write tcp |error sending request")
_KINDS_BY_LABEL: dict[str, Kind] = {"svc": "services", "pod": "pods"}
# The most similar host names that are suggested for a host name without a target.
_MAX_SIMILAR = 5
_PROXY_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
# The kubelet's answers at paths that it does not serve (go-restful, net/http).
_KUBELETS_NOT_FOUND = (b"404 page not found", b"404: Page Not Found")


# Stages at which the API server was not reached. After an error at a later stage, the API server itself may work.
NOT_REACHED: Final = frozenset(("dial", "tls"))


class Diagnosis:
    """Makes the door's own answers."""

    def __init__(
        self,
        connection: Connection,
        lookup: ObjectLookup,
        address: DoorAddress,
    ) -> None:
        """Store the arguments.

        Args:
            connection: the API server.
            lookup: reads the objects that show why a target gives no answer.
            address: the address at which browsers reach the door.
        """
        self._connection = connection
        self._lookup = lookup
        self._address = address
        self._targets = TargetDiagnosis(lookup, address, self._user, lambda: connection.label)

    # Answers

    def answer(self, problem: DoorProblem, head: RequestHead, *, html: bool) -> Respond:
        """Return the answer to a request that describes a problem. html: True for a page, False for a Status."""
        retry = problem.retry if head.method in _READING else 0
        address, cluster = self._address, self._connection.label
        problem = replace(placed_at(problem, address.domain, address.portal_url, cluster), retry=retry)
        answer = pages.error_answer(problem, html)
        if head.method == "HEAD":
            answer.body = b""
        return answer

    def away(self, error: ProxyError, head: RequestHead, *, html: bool) -> Respond:
        """Answer a request for which the API server could not be reached, and record the error on the connection."""
        self._connection.note(error)
        return self.answer(self._away(error), head, html=html)

    def _away(self, error: ProxyError) -> DoorProblem:
        label, trouble = self._connection.label, self._connection.trouble
        if error.silent:
            return unreached.cluster_silent(label, error.message)
        if error.stage == "tls" and "certificate" in error.message:
            return unreached.certificate(self._connection.server, error.message)
        return unreached.cluster_away(label, error.message, trouble.hint if trouble is not None else "")

    async def broken(self, error: ProxyError, target: Target | None, head: RequestHead, *, html: bool) -> Respond:
        """Answer a request for which the API server was reached, but gave no answer that can be passed on.

        When an application aborts its answer, an API server only closes the connection. So this method requests the API
        server's version, to find out whether the API server itself has failed.

        Args:
            error: the error.
            target: the target, with the scheme that was tried; None for the API itself.
            head: the request.
            html: True to answer with a page.
        """
        if error.stage in ("read", "write"):
            try:
                await self._connection.client.exchange("GET", "/version")
            except HatchwayError:
                if (trouble := self._connection.trouble) is not None:
                    return self.answer(self._away(trouble.error), head, html=html)
        else:
            self._connection.note(None)
        if target is None:
            problem = api_broken(self._connection.label, error.message, error.status)
        else:
            if error.stage == "upgrade":
                cause = NoAnswer.NOT_UPGRADED
            elif LARGE_HEAD.search(error.message):
                cause = NoAnswer.LARGE_HEAD
            elif error.stage == "protocol":
                cause = NoAnswer.MALFORMED
            else:
                cause = NoAnswer.BROKE_OFF
            problem = no_answer(cause, target, error.message, upgrade_status=error.status)
        return self.answer(problem, head, html=html)

    def no_credentials(self, error: NoCredentials, head: RequestHead, *, html: bool) -> Respond:
        """Answer a request that could not be sent to the API server, because the door has no credentials for it."""
        return self.answer(self._no_credentials(error.message, error.hint), head, html=html)

    def _no_credentials(self, message: str, hint: str) -> DoorProblem:
        label = self._connection.label
        # The error of a credential plugin already begins with the label.
        return unreached.no_credentials(label, message.removeprefix(f"{label}: "), hint)

    def failed(self, error: HatchwayError, head: RequestHead, *, html: bool) -> Respond:
        """Answer a request when its route cannot be prepared, or when an object has an annotation that is not valid."""
        if isinstance(error, BadAnnotation):
            problem = refused.bad_annotation(error.target, error.name, error.message, error.hint)
            return self.answer(problem, head, html=html)
        if isinstance(error, ApiError):
            if error.code == 503:
                trouble = self._connection.trouble
                why = trouble.error if trouble is not None else ProxyError("read", error.message)
                return self.answer(self._away(why), head, html=html)
            if isinstance(error, NoCredentials):
                return self.no_credentials(error, head, html=html)
            if error.code == 401:
                problem = unreached.credentials_expired(self._connection.context, error.message)
                return self.answer(problem, head, html=html)
            return self.answer(from_error(error), head, html=html)
        return self.answer(from_error(ApiError(502, "", error.message, hint=error.hint)), head, html=html)

    def too_large(self, why: str, head: RequestHead, *, html: bool) -> Respond:
        """Answer a request whose head would cause too much work. why: what is too large."""
        return self.answer(from_status(431, why), head, html=html)

    def refused(self, why: str, head: RequestHead, *, html: bool, hint: str = "") -> Respond:
        """Answer a request that the door itself refuses. why, hint: as `problems.refused.refused_by_guard`."""
        return self.answer(refused.refused_by_guard(why, hint), head, html=html)

    async def unknown_host(self, host: str, head: RequestHead, *, html: bool) -> Respond:
        """Answer a request for a host name of the door that means no target; often the namespace is missing in it."""
        domain = self._address.domain
        name, _, label = host.removesuffix(f".{domain}").rpartition(".")
        similar: list[tuple[str, str]] = []
        kind = _KINDS_BY_LABEL.get(label)
        if html and kind is not None and name and "." not in name:
            for one in await self._lookup.list_readable(kind, ""):
                metadata = one["metadata"]
                if metadata["name"] == name and len(similar) < _MAX_SIMILAR:
                    target = Target(kind, name, metadata["namespace"])
                    similar.append((format_host_name(target, domain), self._address.url_of(target)))
        return self.answer(notfound.unknown_host(host, domain, similar), head, html=html)

    async def instead(self, status: dict[str, Any], target: Target, head: RequestHead) -> Respond | None:
        """Return a better answer for a tool if the API server's message is misleading, else None."""
        code, message = status.get("code"), status.get("message")
        if (target.kind, code) == ("services", 404) or (target.kind, code, message) == ("pods", 400, NO_ADDRESS):
            problem = await self.of_status(status, target, head)
            if problem.status != code:
                return self.answer(problem, head, html=False)
        if (target.kind, code, target.port) == ("services", 503, "") and _NO_ENDPOINTS in str(message):
            # The service may have endpoints, but no port without a name.
            problem = await self.of_status(status, target, head)
            if problem.kind == "no-such-port":
                return self.answer(problem, head, html=False)
        return None

    # Problems

    async def of_status(
        self, status: dict[str, Any], target: Target, head: RequestHead, *, both: bool = False
    ) -> DoorProblem:
        """Return the problem behind a `Status` with which the API server has answered a request for a target.

        Args:
            status: the decoded JSON.
            target: the target, with the scheme of the request.
            head: the request.
            both: True when the other scheme was tried, too.
        """
        code = int(status.get("code") or 500)
        message = str(status.get("message") or "")
        targets = self._targets
        if code == 401:
            return unreached.credentials_expired(self._connection.context, message)
        if code == 403:
            verb = _PROXY_VERBS.get(head.method, "get")
            resource = f"{target.kind}/proxy"
            return refused.forbidden(await self._user(), verb, resource, target.namespace, message=message)
        if code == 404:
            return await targets.not_found(target, message)
        if code == 400 and message == NO_ADDRESS:
            problem = await targets.not_running(target)
            if problem is not None:
                return problem
        if code == 500 and head.upgrade is not None and (found := _UPGRADE.match(message)):
            return no_answer(NoAnswer.NOT_UPGRADED, target, upgrade_status=int(found[1]))
        if _NO_ENDPOINTS in message:
            return await targets.no_endpoints(target)
        reached = "error trying to reach service" in message or "error dialing backend" in message
        if reached or (head.upgrade is not None and code == 500 and _AFTER_DIALING.match(message)):
            return await targets.unreachable(target, message, both=both)
        if code == 503 and "no service port" in message:
            return await targets.no_such_port(target)
        return from_error(ApiError(code, str(status.get("reason") or ""), message, status.get("details")))

    def no_route(self, target: Target, choice: RouteChoice, head: RequestHead, *, html: bool) -> Respond:
        """Answer a request for a target that no permitted route reaches."""
        name, refusal = choice.refusals[0]
        return self.answer(refused.no_route(target, name, refusal.why, refusal.missing_rule), head, html=html)

    async def of_unreached(self, error: TargetUnreached, target: Target) -> DoorProblem:
        """Return the problem of a target to which port-forward could not connect."""
        targets = self._targets
        match error.cause:
            case Unreached.AWAY:
                trouble = self._connection.trouble
                return self._away(trouble.error if trouble is not None else ProxyError("dial", error.message))
            case Unreached.NO_CREDENTIALS:
                return self._no_credentials(error.message, error.hint)
            case Unreached.CREDENTIALS:
                return unreached.credentials_expired(self._connection.context, error.message)
            case Unreached.NODE_AWAY | Unreached.NODE_REFUSES:
                return unreached.no_ssh(target, error.message, error.hint)
            case Unreached.FORBIDDEN:
                return refused.no_route(target, "forward", error.message, error.missing_rule)
            case Unreached.MISSING:
                return await targets.not_found(target, error.message)
            case Unreached.OUT_OF_REACH | Unreached.NO_PODS if target.kind == "services":
                return await targets.no_endpoints(target)
        return await targets.unreachable(target, error.message, both=False)

    async def of_failure(self, error: ProxyError, target: Target, *, both: bool) -> DoorProblem:
        """Return the problem of a target that was reached but gave no answer.

        Args:
            error: the error.
            target: the target, with the scheme of the request.
            both: True when the other scheme was tried, too.
        """
        if error.stage == "upgrade":
            return no_answer(NoAnswer.NOT_UPGRADED, target, error.message, upgrade_status=error.status)
        return await self._targets.unreachable(target, error.message, both=both)

    def is_of_route(self, status: dict[str, Any], target: Target) -> bool:
        """Return True when a `Status` may be from the API server, not from an application that uses the same format.

        A 403 or 404 counts only when its message is about the target, as in the API server's own answers.
        """
        code, message = status.get("code"), str(status.get("message") or "")
        if code == 404:
            # A kubelet's own 404 is plain text, not a Status.
            return message == f'{target.kind} "{target.name}" not found'
        if code == 403:
            return f"{target.kind}/proxy" in message
        return True

    def needs_forward(self, target: Target, why: str) -> DoorProblem:
        """Return the problem of an application that needs more than the route can carry. why: what it needs."""
        return refused.needs_forward(target, why)

    def kubelet_paths(self, target: Target, root: str) -> DoorProblem:
        """Return the problem of a node's root path, where kubelets serve nothing. root: as in `problems.notfound`."""
        return notfound.kubelet_paths(target, root)

    async def _user(self) -> str:
        """Return the user's name in the cluster; "" when the API server does not return it."""
        try:
            return await user_name(self._connection.client)
        except ApiError:
            return ""


def is_kubelets_not_found(target: Target, path: bytes, answer: Respond) -> bool:
    """Return True for a kubelet's 404 answer at the root path of a node."""
    if target.kind != "nodes" or answer.status != 404 or path not in (b"", b"/"):
        return False
    return answer.body.strip() in _KUBELETS_NOT_FOUND


def status_of(content_type: bytes | None, body: bytes) -> dict[str, Any] | None:
    """Return a response's body as a Kubernetes `Status`; None when it is something else."""
    if content_type is None or not content_type.lower().startswith(b"application/json"):
        return None
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    if isinstance(found, dict) and found.get("kind") == "Status" and found.get("apiVersion") == "v1":
        return found
    return None
