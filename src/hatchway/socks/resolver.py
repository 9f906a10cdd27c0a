"""Finds the service or pod of the cluster that a host name or an address means."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable
from typing import Final

from hatchway.addresses import normal_host, parse_address
from hatchway.errors import HatchwayError
from hatchway.kube.api import Object
from hatchway.kube.connection import Connection
from hatchway.kube.lookup import ObjectLookup, similar_names
from hatchway.kube.objects import is_finished
from hatchway.kube.ports import ports
from hatchway.kube.readyendpoints import format_selector, selector_of
from hatchway.kube.workload import in_order
from hatchway.socks.names import CLUSTER_DOMAIN, Meaning, meanings
from hatchway.target import Target

# The seconds for which an answer is kept when a name exists, and when it does not exist.
_FOUND_SECONDS: Final = 10.0
_MISSING_SECONDS: Final = 2.0
# Seconds between two searches for similar names.
_SUGGESTION_SECONDS: Final = 1.0
# The maximum number of answers that are kept.
_MOST: Final = 4096


class NotInCluster(HatchwayError):
    """No service or pod of the cluster has this name or address."""


class HostResolver:
    """Finds the service or pod that a host name or an address means, with the user's rights."""

    def __init__(
        self,
        connection: Connection,
        namespace: str = "",
        domain: str = CLUSTER_DOMAIN,
        *,
        any_address: bool = False,
    ) -> None:
        """Make a resolver.

        Args:
            connection: the API server of the cluster.
            namespace: where a name without a namespace is looked for; "" for the namespace of the context.
            domain: the cluster's DNS domain.
            any_address: True to accept private addresses and names of the cluster's domain to which no object belongs,
                because the route connects from inside the cluster.
        """
        self._any_address = any_address
        self._connection = connection
        self._lookup = ObjectLookup(connection)
        self._namespace = namespace
        self._domain = domain
        self._kept: dict[tuple[object, str, int], tuple[float, Target | None]] = {}
        self._next_suggestion = 0.0

    def is_private(self, host: str) -> bool:
        """Return True for a host name that cannot be a public name, so that it can only be a name of the cluster."""
        name = host.lower().removesuffix(".")
        return "." not in name or name.endswith((".svc", f".{self._domain}"))

    async def resolve(self, host: str, port: int) -> Target:
        """Return the service or pod that a host name means, with the port.

        Raises:
            NotInCluster: the cluster has no such service or pod.
            ApiError: the API server cannot be reached, or answers with an error other than 403 and 404.
        """
        key = self._connection.identity, host.lower().removesuffix("."), port
        kept = self._kept.get(key)
        if kept is None or kept[0] < time.monotonic():
            found = await self._find(host, port)
            if len(self._kept) >= _MOST:
                self._kept.clear()
            seconds = _MISSING_SECONDS if found is None else _FOUND_SECONDS
            kept = self._kept[key] = time.monotonic() + seconds, found
        if kept[1] is not None:
            return kept[1]
        inside = self._inside(host) if self._any_address else ""
        if not inside:
            raise NotInCluster(f"{host} is no service or pod of this cluster")
        return Target("hosts", inside, port=str(port))

    async def suggest(self, host: str) -> str:
        """Return a question that proposes services with names similar to `host`; "" when there are none.

        This lists services, so it returns "" when it was called less than a second ago: a page in a browser can request
        any number of unknown names.
        """
        now = time.monotonic()
        if now < self._next_suggestion:
            return ""
        self._next_suggestion = now + _SUGGESTION_SECONDS
        meant = meanings(host, self._namespace or self._connection.namespace, self._domain)
        one = next((meaning for meaning in meant if meaning.kind == "services"), None)
        if one is None:
            return ""
        own = "." not in host
        services = await self._lookup.list_readable("services", one.namespace)
        found = similar_names(one.name, [service["metadata"]["name"] for service in services], 3)
        names = [name if own else f"{name}.{one.namespace}" for name in found]
        if not services and (spaces := await self._lookup.similar_namespaces(one.namespace)):
            names = [f"{one.name}.{space}" for space in spaces[:3]]
        return f"did you mean {' or '.join(names)}?" if names else ""

    def _inside(self, host: str) -> str:
        """Return the usual form of a host that may be in the cluster's networks.

        Return "" for a host of the Internet, and for an address of this machine or of its link.
        """
        name = normal_host(host.removeprefix("[").removesuffix("]"))
        if parse_address(name):
            found = ipaddress.ip_address(name)
            own = found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast
            # Not `is_private`: some clouds give pods addresses of 100.64.0.0/10 (RFC 6598), which Python counts neither
            # as private nor as global.
            return name if not own and not found.is_global else ""
        return name if "." in name and self.is_private(name) else ""

    async def _find(self, host: str, port: int) -> Target | None:
        ways: dict[str, Callable[[Meaning, int], Awaitable[Target | None]]] = {
            "services": self._service,
            "pods": self._pod,
            "address": self._address,
        }
        for meaning in meanings(host, self._namespace or self._connection.namespace, self._domain):
            target = await ways[meaning.kind](meaning, port)
            if target is not None:
                return target
        return None

    async def _service(self, meaning: Meaning, port: int) -> Target | None:
        found = await self._lookup.get("services", meaning.namespace, meaning.name)
        if found.object is None:
            # A user who may not read services gets an error when the connection is opened.
            return None if found.readable else _target("services", meaning.name, meaning.namespace, port)
        return await self._in_service(found.object, port)

    async def _in_service(self, service: Object, port: int) -> Target:
        metadata, spec = service["metadata"], service.get("spec") or {}
        if spec.get("clusterIP") == "None" and all(one.number != port for one in ports(service)):
            # In DNS, the name of a headless service means its pods' addresses, so it reaches every port of the pods.
            selector = format_selector(selector_of(service))
            pods = await self._lookup.list_readable("pods", metadata["namespace"], selector) if selector else []
            running = [pod for pod in in_order(pods) if not is_finished(pod)]
            if running:
                return _target("pods", running[0]["metadata"]["name"], metadata["namespace"], port)
        return _target("services", metadata["name"], metadata["namespace"], port)

    async def _pod(self, meaning: Meaning, port: int) -> Target | None:
        if meaning.service:
            return await self._pod_of_service(meaning, port)
        found = await self._lookup.get("pods", meaning.namespace, meaning.name)
        return None if found.object is None else _target("pods", meaning.name, meaning.namespace, port)

    async def _pod_of_service(self, meaning: Meaning, port: int) -> Target | None:
        """Return the pod of a name like `web-0.web`, by `hostname` and `subdomain` (which StatefulSets set) of pods."""

        def has_name(pod: Object) -> bool:
            spec = pod.get("spec") or {}
            hostname = spec.get("hostname") or pod["metadata"]["name"]
            return spec.get("subdomain") == meaning.service and hostname == meaning.name

        # In most cases, the pod's host name is also the name of its object.
        found = await self._lookup.get("pods", meaning.namespace, meaning.name)
        if found.object is not None and has_name(found.object):
            return _target("pods", meaning.name, meaning.namespace, port)
        pods = await self._lookup.list_if_allowed("pods", meaning.namespace)
        if pods is None:
            # A user who may not read pods gets an error when the connection is opened.
            return None if found.readable else _target("pods", meaning.name, meaning.namespace, port)
        named = next((pod for pod in pods if has_name(pod) and not is_finished(pod)), None)
        return None if named is None else _target("pods", named["metadata"]["name"], meaning.namespace, port)

    async def _address(self, meaning: Meaning, port: int) -> Target | None:
        namespaces = [meaning.namespace] if meaning.namespace else ["", self._namespace or self._connection.namespace]
        for namespace in namespaces:
            services = await self._lookup.list_if_allowed("services", namespace)
            for service in services or ():
                if meaning.name in _addresses(service):
                    return _target("services", service["metadata"]["name"], service["metadata"]["namespace"], port)
            pods = await self._lookup.list_if_allowed("pods", namespace)
            for pod in pods or ():
                known = [one.get("ip") for one in (pod.get("status") or {}).get("podIPs") or ()]
                of_node = (pod.get("spec") or {}).get("hostNetwork")
                if meaning.name in known and not of_node and not is_finished(pod):
                    return _target("pods", pod["metadata"]["name"], pod["metadata"]["namespace"], port)
            if services is not None and pods is not None:
                return None
        return None


def _target(kind: str, name: str, namespace: str, port: int) -> Target:
    return Target("services" if kind == "services" else "pods", name, namespace, "", str(port))


def _addresses(service: Object) -> list[str]:
    # externalIPs are not searched: a user who may write Services could redirect any address (CVE-2020-8554).
    spec = service.get("spec") or {}
    return [one for one in (spec.get("clusterIP"), *(spec.get("clusterIPs") or ())) if one and one != "None"]
