"""Finds out why a target gives no answer, by reading its objects."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from hatchway.door.address import DoorAddress
from hatchway.door.problems import absent, notfound
from hatchway.door.problems.problem import Detail, DoorProblem
from hatchway.door.problems.unanswered import NoAnswer, dial_refused, no_answer, timed_out
from hatchway.door.schemechoice import SchemeHint, scheme_hint
from hatchway.errors import ApiError
from hatchway.kube import ports
from hatchway.kube.api import Object
from hatchway.kube.lookup import ObjectLookup, similar_names
from hatchway.kube.objects import is_finished
from hatchway.kube.readyendpoints import (
    endpoints_of,
    format_selector,
    selector_of,
    why_node_not_ready,
    why_not_ready,
    why_out_of_reach,
)
from hatchway.kube.wellknown import ENDPOINT_SLICES, SERVICE_NAME
from hatchway.target import Target, TargetError, format_argument, format_arguments

# A kube-apiserver's message about a pod that has no address (`pod/strategy.go`).
NO_ADDRESS: Final = "address not allowed"
# Messages of Go (net/http), a kube-apiserver and the engine about a head that is too large.
LARGE_HEAD: Final = re.compile(r"headers exceeded|header list too large|large heads at once")
_DIALED = re.compile(r"dial tcp ([^ ]+?): ")
_REACHING = re.compile("error trying to reach service: |error dialing backend: ")
_IN_CLUSTER = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.|\Z)")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\Z")
# The maximum number of addresses of endpoints on a page.
_MAX_ADDRESSES: Final = 20


class TargetDiagnosis:
    """Finds the problem of a target that gives no answer."""

    def __init__(
        self,
        lookup: ObjectLookup,
        address: DoorAddress,
        ask_user: Callable[[], Awaitable[str]],
        cluster: Callable[[], str],
    ) -> None:
        """Store the arguments.

        Args:
            lookup: reads the objects.
            address: the address at which browsers reach the door, for links.
            ask_user: returns the user's name in the cluster; "" when unknown.
            cluster: returns the cluster's name for messages (`Connection.label`).
        """
        self._cluster = cluster
        self._lookup = lookup
        self._address = address
        self._ask_user = ask_user

    async def not_found(self, target: Target, message: str) -> DoorProblem:
        """Return the problem behind a 404 of the API server. message: the API server's message."""
        if target.kind == "services":
            found = await self._lookup.get("services", target.namespace, target.name)
            if found.object is not None:
                # The 404 is about the Service or its Endpoints: kube-apiserver's `service/storage` reads no other
                # object. The Service exists, so its Endpoints are missing.
                return await self.no_endpoints(target)
            if not found.readable:
                return absent.not_told(target, message, await self._ask_user())
        known = await self._lookup.list_readable(target.kind, target.namespace)
        if not known and target.namespace:
            similar = await self._lookup.similar_namespaces(target.namespace)
            if similar is not None:
                return await self._no_namespace(target, similar)
        others = [name for one in known if (name := one["metadata"]["name"]) != target.name]
        names = similar_names(target.name, others)
        links = [self._link(replace(target, name=name, port="", scheme="")) for name in names]
        return notfound.not_found(target, self._cluster(), [link for link in links if link is not None])

    async def _no_namespace(self, target: Target, similar: list[str]) -> DoorProblem:
        meant = []
        for namespace in similar:
            one = replace(target, namespace=namespace)
            link = self._link(one)
            if link and (await self._lookup.get(one.kind, namespace, one.name)).object is not None:
                meant.append((format_arguments(one), link[1]))
        return notfound.no_namespace(target, self._cluster(), meant, similar)

    async def no_such_port(self, target: Target) -> DoorProblem:
        """Return the problem of a service that does not have the requested port."""
        found = await self._object(target)
        others = [
            Detail(f"{port.name or 'port'} ({port.number})", why, "")
            for port in (ports.ports(found) if found is not None else ())
            if (why := ports.why_no_http(port))
        ]
        return notfound.no_such_port(target, await self._other_ports(target), others)

    async def no_endpoints(self, target: Target) -> DoorProblem:
        """Return the problem of a service for which the API server finds no endpoints."""
        service = (await self._lookup.get("services", target.namespace, target.name)).object
        if service is None:
            return absent.not_seen(target, ["services"], await self._ask_user())
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            name = str(spec.get("externalName") or "something")
            return absent.external(target, name, self._external_links(name, ports.ports(service)))
        declared = ports.ports(service)
        port = next((one for one in declared if target.port in (one.name, str(one.number))), None)
        if declared and port is None:
            return await self.no_such_port(target)
        selector = format_selector(selector_of(service))
        pods: list[Object] | None = []
        if selector:
            pods = await self._lookup.list_if_allowed("pods", target.namespace, selector)
        label = f"{SERVICE_NAME}={target.name}"
        slices = await self._lookup.list_if_allowed(ENDPOINT_SLICES, target.namespace, label)
        if slices and why_out_of_reach(service, slices):
            return absent.foreign_endpoints(target, _addresses(slices))
        # Without slices, the pods must show the reason. (A new service's pods may be ready before it has endpoints.)
        found = endpoints_of(service, slices or None, pods or ())
        ready = [one.name for one in found if one.ready]
        if port is None:
            links = [self._link(Target("pods", name, target.namespace)) for name in ready]
            return absent.no_ports(target, [link for link in links if link is not None])
        if ready and pods and port.target and not port.target.isdigit():
            named = [one for pod in pods for one in ports.ports(pod)]
            if not any(one.name == port.target for one in named):
                known = dict.fromkeys(f"{one.name} ({one.number})" for one in named if one.name)
                return absent.no_target_port(target, port.target, list(known), ready)
        if ready:
            return absent.being_made(target, ready)
        if not found:
            if not selector:
                return absent.no_selector(target)
            if pods is None:
                return absent.not_seen(target, ["pods"], await self._ask_user())
        return absent.no_endpoints(target, [(one.name or one.address or "?", one.why) for one in found], selector)

    def _external_links(self, name: str, declared: list[ports.Port]) -> list[tuple[str, str]]:
        """Return (text, URL) of the target of an ExternalName: another service of this cluster, or a host."""
        inside = _IN_CLUSTER.match(name)
        if inside:
            link = self._link(Target("services", inside[1], inside[2]))
            return [(f"{inside[1]} in namespace {inside[2]}", link[1])] if link else []
        if not _HOST_NAME.match(name):
            return []
        urls = []
        for port in declared or [ports.Port("", 80)]:
            scheme = ports.scheme_of(port) or "http"
            number = "" if (scheme, port.number) in (("http", 80), ("https", 443)) else f":{port.number}"
            if ports.is_http(port) is not False:
                urls.append(f"{scheme}://{name}{number}/")
        return [(url, url) for url in dict.fromkeys(urls)]

    async def not_running(self, target: Target) -> DoorProblem | None:
        """Return the problem of a pod that does not run; None when it runs or cannot be read."""
        if target.kind != "pods":
            return None
        pod = await self._object(target)
        if pod is None:
            return None
        if is_finished(pod):
            return absent.pod_does_not_run(target, why_not_ready(pod), ended=True)
        if not (pod.get("status") or {}).get("podIP"):
            return absent.pod_does_not_run(target, why_not_ready(pod), ended=False)
        return None

    async def unreachable(self, target: Target, message: str, *, both: bool) -> DoorProblem:
        """Return the problem of a target that the API server could not reach.

        Args:
            target: the target, with the scheme of the request.
            message: the API server's message.
            both: True when the other scheme was tried, too.
        """
        text = message.partition(": ")[2] if _REACHING.match(message) else message
        if (problem := await self.not_running(target)) is not None:
            return problem
        unready = await self._why_not_ready(target)
        if target.kind == "nodes" and unready:
            return absent.node_not_ready(target, message, unready)
        if LARGE_HEAD.search(text):
            return no_answer(NoAnswer.LARGE_HEAD, target, text)
        if "timeout" in text or "timed out" in text or "deadline" in text:
            return timed_out(target, message, unready=unready)
        found = self._refused_protocol(target, text, both=both, unready=unready)
        if found is not None:
            return found
        dialed = _DIALED.search(message)
        return dial_refused(target, text, await self._other_ports(target), dialed[1] if dialed else "", unready=unready)

    def _refused_protocol(self, target: Target, text: str, *, both: bool, unready: str) -> DoorProblem | None:
        """Return the problem of a program that speaks another protocol; None when `text` is not about the protocol."""
        secure = target.scheme == "https"
        hint = scheme_hint(text, target.scheme, upgrade=True)
        if hint is not SchemeHint.NONE:
            link = None if both else self._link(replace(target, scheme="http" if secure else "https"))
            other = [link] if link else []
            if hint is SchemeHint.PERHAPS:
                cause = NoAnswer.CLOSED_BY_BOTH if both else NoAnswer.CLOSED
                return no_answer(cause, target, text, other=other, unready=unready)
            if secure:
                return no_answer(NoAnswer.SPEAKS_NO_TLS, target, text, other=other)
            cause = NoAnswer.SPEAKS_TLS_BUT_NO_HTTPS if both else NoAnswer.SPEAKS_TLS
            return no_answer(cause, target, text, other=other)
        if "tls: " in text:
            cause = NoAnswer.WANTS_CERTIFICATE if "certificate" in text else NoAnswer.REFUSES_TLS
            return no_answer(cause, target, text)
        if "malformed HTTP" in text or "HTTP/1.x transport connection broken" in text:
            return no_answer(NoAnswer.SPEAKS_NO_HTTP, target, text)
        return None

    async def _why_not_ready(self, target: Target) -> str:
        """Return why a pod or a node is not ready; "" when it is ready or cannot be read."""
        if target.kind == "services":
            return ""
        found = await self._object(target)
        if found is None:
            return ""
        return why_not_ready(found) if target.kind == "pods" else why_node_not_ready(found)

    async def _other_ports(self, target: Target) -> list[tuple[str, str]]:
        """Return (port, URL) of each other port that may speak HTTP, without the port of this target."""
        found = None if target.kind == "nodes" else await self._object(target)
        listed = []
        for port in ports.ports(found) if found is not None else ():
            if target.port in (port.name, str(port.number)) or ports.is_http(port) is False:
                continue
            link = self._link(replace(target, port=port.name or str(port.number), scheme=""))
            listed.append((f"{port.name or 'port'} ({port.number})", link[1] if link else ""))
        return listed

    async def _object(self, target: Target) -> Object | None:
        """Return the target's object; None when it cannot be read."""
        try:
            return (await self._lookup.get(target.kind, target.namespace, target.name)).object
        except ApiError:
            return None

    def _link(self, target: Target) -> tuple[str, str] | None:
        """Return (text, URL) of a target; None when its name cannot be part of a host name."""
        try:
            return format_argument(target), self._address.url_of(target)
        except TargetError:
            return None


def _addresses(slices: list[Object]) -> list[str]:
    """Return the addresses of endpoints, with ports where they have some."""
    found = []
    for piece in slices:
        numbers = [f":{port['port']}" for port in piece.get("ports") or () if port.get("port")] or [""]
        for endpoint in piece.get("endpoints") or ():
            for address in endpoint.get("addresses") or ():
                found += [(f"[{address}]" if ":" in address and number else address) + number for number in numbers]
    return list(dict.fromkeys(found))[:_MAX_ADDRESSES]
