"""Why something did not work, found out when it happens: the cluster is asked, and the answer says what to do.

Browsers get a page, everyone else a Kubernetes `Status` (`pages.py`).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import msgspec

from hatchway.door import pages, problems
from hatchway.door.lookup import Lookup
from hatchway.door.problems import Problem
from hatchway.errors import ApiError, HatchwayError
from hatchway.kube import ports
from hatchway.kube.access import who
from hatchway.kube.api import Object
from hatchway.kube.connection import Connection
from hatchway.kube.endpoints import SERVICE_NAME, format_selector, ready_endpoints, selector_of
from hatchway.proxy.routing import ProxyError, RequestHead, Respond
from hatchway.target import Target, TargetError, format_argument, format_arguments, format_host_name

_SAFE = frozenset(("GET", "HEAD"))
_ADDRESS = re.compile(r"dial tcp ([^ ]+?): ")
_NO_TLS = re.compile("HTTP response to HTTPS|does not look like a TLS|wrong version number|record layer", re.I)
_TO_PROXY = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Diagnosis:
    """Answers of the door itself. domain: what its host names end with. port: the door's, 0 for none."""

    def __init__(self, connection: Connection, lookup: Lookup, domain: str) -> None:
        self._connection = connection
        self._lookup = lookup
        self._domain = domain
        self.port = 0

    def host_url(self, target: Target) -> str:
        """The URL of a target's host name. Raises TargetError when it has none."""
        port = f":{self.port}" if self.port not in (0, 80) else ""
        return f"http://{format_host_name(target, self._domain)}{port}/"

    @property
    def prefix_url(self) -> str:
        """Where targets are shown under their proxy paths."""
        port = f":{self.port}" if self.port not in (0, 80) else ""
        return f"http://prefix.{self._domain}{port}/"

    @property
    def portal(self) -> str:
        host = "localhost" if self._domain == "localhost" else self._domain
        return f"http://{host}:{self.port}/" if self.port else ""

    def answer(self, problem: Problem, head: RequestHead, *, html: bool) -> Respond:
        """The problem as an answer to a request."""
        retry = problem.retry if head.method in _SAFE else 0
        answer = pages.error_answer(replace(problem, retry=retry, portal=self.portal), html)
        if head.method == "HEAD":
            answer.body = b""
        return answer

    def away(self, error: ProxyError, head: RequestHead, *, html: bool) -> Respond:
        """The API server could not be reached."""
        self._connection.note(error)
        return self.answer(self._away(error), head, html=html)

    def _away(self, error: ProxyError) -> Problem:
        label = self._connection.label
        if error.silent:
            return problems.cluster_silent(label, error.message)
        if error.stage == "tls" and "certificate" in error.message:
            return problems.certificate(self._connection.server, error.message)
        return problems.cluster_away(label, error.message)

    def no_credentials(self, error: HatchwayError, head: RequestHead, *, html: bool) -> Respond:
        """There are no credentials: a plugin has failed, or what the kubeconfig names cannot be read."""
        problem = problems.credentials_expired(self._connection.context, error.message)
        if error.hint:
            problem = replace(problem, hint=error.hint)
        return self.answer(problem, head, html=html)

    def failed(self, error: HatchwayError, head: RequestHead, *, html: bool) -> Respond:
        """What a route needs could not be found out."""
        if isinstance(error, ApiError):
            if error.code == 503:
                trouble = self._connection.trouble
                why = trouble.error if trouble is not None else ProxyError("read", error.message)
                return self.answer(self._away(why), head, html=html)
            if error.code == 401:
                return self.no_credentials(error, head, html=html)
            return self.answer(problems.from_error(error), head, html=html)
        return self.no_credentials(error, head, html=html)

    def refused(self, why: str, head: RequestHead, *, html: bool) -> Respond:
        return self.answer(problems.refused_by_guard(why), head, html=html)

    def needs_forward(self, target: Target, why: str) -> Problem:
        """The route loses what the application asks for."""
        return problems.needs_forward(target, why, domain=self._domain)

    async def of_status(self, status: dict[str, Any], target: Target, head: RequestHead) -> Problem:
        """The problem behind a `Status` that the API server has answered to a request for a target."""
        code = int(status.get("code") or 500)
        message = str(status.get("message") or "")
        if code == 401:
            return problems.credentials_expired(self._connection.context, message)
        if code == 403:
            return await self._forbidden(target, head, message)
        if code == 404:
            return await self._not_found(target)
        if "no endpoints available" in message:
            return await self._no_endpoints(target)
        if "error trying to reach service" in message or "error dialing backend" in message:
            return await self._unreachable(target, message)
        error = ApiError(code, str(status.get("reason") or ""), message, status.get("details"))
        problem = problems.from_error(error)
        if code == 503 and "no service port" in message:
            return replace(problem, **(await self._ports(target)))
        return problem

    async def _forbidden(self, target: Target, head: RequestHead, message: str) -> Problem:
        try:
            user = await who(self._connection.client)
        except ApiError:
            user = ""
        verb = _TO_PROXY.get(head.method, "get")
        return problems.forbidden(user, verb, f"{target.kind}/proxy", target.namespace, "", why=message)

    async def _not_found(self, target: Target) -> Problem:
        known = await self._lookup.list(target.kind, target.namespace)
        if not known and target.namespace:
            similar = await self._lookup.instead_of_namespace(target.namespace)
            if similar is not None:
                return await self._no_namespace(target, similar)
        names = problems.similar_names(target.name, [one["metadata"]["name"] for one in known])
        links = [self._link(replace(target, name=name, port="", scheme="")) for name in names]
        return problems.not_found(target, [link for link in links if link is not None], domain=self._domain)

    async def _no_namespace(self, target: Target, similar: list[str]) -> Problem:
        meant = []
        for namespace in similar:
            one = replace(target, namespace=namespace)
            link = self._link(one)
            if link and (await self._lookup.get(one.kind, namespace, one.name)).object is not None:
                meant.append((format_arguments(one), link[1]))
        return problems.no_namespace(target, meant, similar, domain=self._domain)

    async def _no_endpoints(self, target: Target) -> Problem:
        service = (await self._lookup.get("services", target.namespace, target.name)).object
        if service is None:
            return problems.no_endpoints(target, (), domain=self._domain)
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            why = f"it is a name for {spec.get('externalName', 'something')} outside the cluster"
            return problems.out_of_reach(target, why, domain=self._domain)
        declared = ports.ports(service)
        if declared and not any(target.port in (port.name, str(port.number)) for port in declared):
            return problems.no_such_port(target, await self._declared(target), domain=self._domain)
        selector = format_selector(selector_of(service))
        pods = await self._lookup.list("pods", target.namespace, selector) if selector else []
        label = f"{SERVICE_NAME}={target.name}"
        slices = await self._lookup.list("endpointslices.discovery.k8s.io", target.namespace, label)
        found = ready_endpoints(service, slices, pods)
        if found.ready and not selector:
            # The API server dials pods only (CVE-2021-25740).
            return problems.out_of_reach(target, "its endpoints are no pods", domain=self._domain)
        return problems.no_endpoints(
            target, [(one.name, one.why) for one in found.waiting], selector, domain=self._domain
        )

    async def _unreachable(self, target: Target, message: str) -> Problem:
        text = message.partition(": ")[2] or message
        if "timeout" in text or "timed out" in text or "deadline" in text:
            return replace(
                problems.timed_out(target, 30, "connecting", domain=self._domain), message=f"{target}: {message}"
            )
        if target.scheme == "https" and _NO_TLS.search(text):
            plain = self._link(replace(target, scheme="http"))
            return problems.no_tls(target, text, [plain] if plain else [], domain=self._domain)
        address = _ADDRESS.search(message)
        declared = await self._declared(target)
        return problems.dial_refused(target, text, declared, address[1] if address else "", domain=self._domain)

    async def _declared(self, target: Target) -> list[tuple[str, str]]:
        """(port, URL) of the ports that the target declares, but for the one that was asked for."""
        if target.kind == "nodes":
            return []
        try:
            found: Object | None = (await self._lookup.get(target.kind, target.namespace, target.name)).object
        except ApiError:
            return []
        listed = []
        for port in ports.ports(found) if found is not None else ():
            if target.port in (port.name, str(port.number)) or ports.is_http(port) is False:
                continue
            link = self._link(replace(target, port=port.name or str(port.number), scheme=""))
            listed.append((f"{port.name or 'port'} ({port.number})", link[1] if link else ""))
        return listed

    async def _ports(self, target: Target) -> dict[str, Any]:
        declared = await self._declared(target)
        return {"links": tuple((text, url) for text, url in declared if url), "links_title": "Ports that it has"}

    def _link(self, target: Target) -> tuple[str, str] | None:
        try:
            return format_argument(target), self.host_url(target)
        except TargetError:
            return None


def status_of(content_type: bytes | None, body: bytes) -> dict[str, Any] | None:
    """The Kubernetes `Status` that an answer's body is, or None."""
    if content_type is None or not content_type.lower().startswith(b"application/json"):
        return None
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    if isinstance(found, dict) and found.get("kind") == "Status" and found.get("apiVersion") == "v1":
        return found
    return None
