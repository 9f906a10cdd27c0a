"""Finds the addresses to dial for services, pods and nodes in a URL.

The rules are those of Kubernetes' `ResourceLocation` functions: `pkg/registry/core/service/storage/storage.go` (with
EndpointSlices, as in apiserver's `pkg/util/proxy/proxy.go`), `pod/strategy.go` and `node/strategy.go` with
`pkg/kubelet/client/kubelet_client.go`. Two deviations are deliberate. Only the addresses of a node are used, and its
names are never resolved, so that the checked address is always the dialed address (CVE-2020-8562). A pod's port may be
the name of a container port.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from hatchway.cluster.api.connect.firststart import FirstStart
from hatchway.cluster.firstuse import deployment_to_start
from hatchway.cluster.plan import KUBELET_PORT
from hatchway.errors import ApiError, bad_request, not_found, service_unavailable
from hatchway.kube.api import Object
from hatchway.kube.objects import endpoint_is_ready
from hatchway.numerals import is_digits, parse_int
from hatchway.proxy.routing import Upstream
from hatchway.target import TargetError, split_scheme_name_port

DialBackend = Callable[[str, int], Awaitable[socket.socket]]

# The maximum number of services whose endpoints are cached, and the maximum number of cached endpoints. An endpoint
# needs half a kilobyte.
_REMEMBERED = 1024
_REMEMBERED_ENDPOINTS = 16 * 1024
_DEFAULT_PORTS = {"http": 80, "https": 443}
# The preferred types of node addresses: the types that kubelet clients prefer, without the types for names.
_ADDRESS_TYPES = ("InternalIP", "ExternalIP")


class CommittedObjects(Protocol):
    """Reads committed objects without I/O. Objects must not be changed."""

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return an object, or None. resource: `services`, `pods` or `nodes` (namespace "")."""
        ...

    def endpoint_slices(self, namespace: str, service: str) -> list[Object]:
        """Return the EndpointSlices (discovery.k8s.io/v1) with the label `kubernetes.io/service-name=SERVICE`."""
        ...


class UnreachableBackend(Exception):
    """An endpoint's port is not valid. The message has the form of Go's errors of failed dials."""


@dataclass(slots=True)
class BackendEndpoint:
    """An address to which an exchange can be sent.

    host: its address in URLs, `ip:port`; without the port when the request has none.
    dialed: the address and port to which connections are made.
    pod: the name of the pod that must still have the address; "" for none.
    owner: the pod object that was checked last to have the address; None before the first check.
    """

    address: str
    host: bytes
    dialed: str
    upstream: Upstream
    pod: str = ""
    owner: Object | None = None


@dataclass(slots=True)
class _KnownService:
    service: Object
    slices: tuple[Object, ...]
    endpoints: list[BackendEndpoint]


class Locator:
    """Finds endpoints. The endpoints of a service are cached until the service or one of its slices changes.

    dial: returns a connected non-blocking socket for an address and a port.
    kubelet_tls: the TLS context for kubelets.
    allow_loopback_pods: True to allow addresses in 127.0.0.0/8 for nodes, and for pods in the nodes' ranges (clusters
        without a private network).
    first_start: starts Services on first use; None when there are no such Services.
    """

    def __init__(
        self,
        *,
        lookup: CommittedObjects,
        dial: DialBackend,
        kubelet_tls: ssl.SSLContext,
        allow_loopback_pods: bool,
        first_start: FirstStart | None = None,
    ) -> None:
        self._first_start = first_start
        self._lookup = lookup
        self._dial = dial
        self._kubelet_tls = kubelet_tls
        self._allow_loopback = allow_loopback_pods
        self._known: dict[tuple[str, str], _KnownService] = {}
        self._size = 0
        self._backend_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # As in Kubernetes' CreateProxyTransport, a backend's certificate is not verified, and no client certificate is
        # sent.
        self._backend_tls.check_hostname = False
        self._backend_tls.verify_mode = ssl.CERT_NONE
        self._backend_tls.set_alpn_protocols(["http/1.1"])

    def locate(self, resource: str, namespace: str, raw: str) -> list[BackendEndpoint]:
        """Return the endpoints of a service, a pod or a node: at least one. Any of them may be used.

        The endpoints are valid until an object of the cluster changes.

        resource: `services`, `pods` or `nodes`.
        raw: `[scheme:]name[:port]`.

        Raises ApiError 400, 404 or 503, with a kube-apiserver's messages; UnreachableBackend.
        """
        if resource == "services":
            return self._service(namespace, raw)
        return [self._pod(namespace, raw) if resource == "pods" else self._node(raw)]

    def _service(self, namespace: str, raw: str) -> list[BackendEndpoint]:
        service, usable = self._usable(namespace, raw)
        if not usable:
            held = self._held_endpoint(service, raw)
            if held is None:
                raise service_unavailable(f'no endpoints available for service "{raw}"')
            return [held]
        return usable

    def _held_endpoint(self, service: Object, raw: str) -> BackendEndpoint | None:
        """Return an endpoint for a Service that starts on first use; None for other Services.

        A connection to this endpoint waits until the Service has a ready endpoint. The address is the cluster IP.
        """
        deployment, first_start = deployment_to_start(service), self._first_start
        scheme, name, port = _split("service", raw)
        wanted = _service_port(service, name, port)
        spec, namespace = service["spec"], service["metadata"]["namespace"]
        number = next((one["port"] for one in spec.get("ports") or () if (one.get("name") or "") == wanted), 0)
        address = spec.get("clusterIP") or ""
        if not deployment or first_start is None or not number or not address:
            return None
        found: list[BackendEndpoint] = []

        def is_ready() -> bool:
            with contextlib.suppress(ApiError):  # the Service was deleted, or its ports have changed
                found[:] = self._usable(namespace, raw)[1]
            return bool(found)

        async def connect() -> socket.socket | asyncio.Transport:
            await first_start.wait(deployment, is_ready)
            return await random.choice(found).upstream.connect()

        host = _host(address, number)
        tls = self._backend_tls if scheme == "https" else None
        upstream = Upstream(("first use", namespace, raw), connect, tls)
        return BackendEndpoint(address, host.encode(), host, upstream)

    def _usable(self, namespace: str, raw: str) -> tuple[Object, list[BackendEndpoint]]:
        """Return a Service and its ready endpoints."""
        scheme, name, port = _split("service", raw)
        service = self._lookup.get("services", namespace, name)
        if service is None:
            raise not_found("services", name)
        slices = self._lookup.endpoint_slices(namespace, name)
        known = self._known.get((namespace, raw))
        if known is None or not _same_version(known, service, slices):
            found = self._endpoints(scheme, _service_port(service, name, port), service, slices)
            known = _KnownService(service, tuple(slices), found)
            self._remember((namespace, raw), known)
        return service, [endpoint for endpoint in known.endpoints if self._is_owned(namespace, endpoint)]

    def _remember(self, key: tuple[str, str], known: _KnownService) -> None:
        """Cache the endpoints of a service, unless it has none or too many, and remove the oldest entries."""
        before = self._known.pop(key, None)
        self._size -= len(before.endpoints) if before is not None else 0
        if not known.endpoints or len(known.endpoints) > _REMEMBERED_ENDPOINTS:
            return
        self._known[key] = known
        self._size += len(known.endpoints)
        while len(self._known) > _REMEMBERED or self._size > _REMEMBERED_ENDPOINTS:
            self._size -= len(self._known.pop(next(iter(self._known))).endpoints)

    def _endpoints(self, scheme: str, port_name: str, service: Object, slices: list[Object]) -> list[BackendEndpoint]:
        families = service.get("spec", {}).get("ipFamilies") or ["IPv4"]
        primary: list[BackendEndpoint] = []
        others: list[BackendEndpoint] = []
        for piece in slices:
            if piece.get("addressType") not in ("IPv4", "IPv6"):
                continue
            found = primary if piece["addressType"] == families[0] else others
            for port in piece.get("ports") or ():
                if (
                    (port.get("name") or "") != port_name
                    or not port.get("port")
                    or port.get("protocol", "TCP") != "TCP"
                ):
                    continue
                for endpoint in piece.get("endpoints") or ():
                    reference = endpoint.get("targetRef") or {}
                    if (
                        not endpoint_is_ready(endpoint)
                        or reference.get("kind") != "Pod"
                        or not endpoint.get("addresses")
                    ):
                        continue
                    if reference.get("namespace", "") != piece["metadata"].get("namespace", ""):
                        continue
                    made = self._endpoint(scheme or "http", endpoint["addresses"][0], port["port"])
                    made.pod = reference.get("name", "")
                    found.append(made)
        return primary or others

    def _is_owned(self, namespace: str, endpoint: BackendEndpoint) -> bool:
        """Return True when the endpoint's pod has this address. Users can write false slices (CVE-2021-25740)."""
        pod = self._lookup.get("pods", namespace, endpoint.pod)
        if pod is None:
            return False
        if pod is not endpoint.owner:
            if endpoint.address not in _pod_addresses(pod) or not self._pod_allowed(endpoint.address, pod):
                return False
            endpoint.owner = pod
        return True

    def _pod(self, namespace: str, raw: str) -> BackendEndpoint:
        scheme, name, port = _split("pod", raw)
        pod = self._lookup.get("pods", namespace, name)
        if pod is None:
            raise not_found("pods", name)
        containers = pod.get("spec", {}).get("containers") or []
        ports = [port for container in containers for port in container.get("ports") or ()]
        if not port and ports:
            port = str(ports[0]["containerPort"])
        elif port and not is_digits(port):
            port = next((str(known["containerPort"]) for known in ports if known.get("name") == port), port)
        address = next(iter(_pod_addresses(pod)), "")
        if not self._pod_allowed(address, pod):
            raise bad_request("address not allowed")
        return self._endpoint(scheme or "http", address, port)

    def _node(self, raw: str) -> BackendEndpoint:
        scheme, name, port = _split("node", raw)
        node = self._lookup.get("nodes", "", name)
        if node is None:
            raise not_found("nodes", name)
        if port in ("", str(_kubelet_port(node))):
            return self.kubelet(node)
        return self._endpoint(scheme or "http", self._node_address(node), port)

    def kubelet(self, node: Object) -> BackendEndpoint:
        """Return the endpoint of the node's kubelet, with TLS and the API server's client certificate.

        Raises ApiError.
        """
        address = self._node_address(node)
        port = _kubelet_port(node)
        hostname = address if self._kubelet_tls.check_hostname else None
        upstream = Upstream(("kubelet", address, port), partial(self._dial, address, port), self._kubelet_tls, hostname)
        host = _host(address, port)
        return BackendEndpoint(address, host.encode(), host, upstream)

    def _node_address(self, node: Object) -> str:
        addresses = node.get("status", {}).get("addresses") or []
        for kind in _ADDRESS_TYPES:
            for entry in addresses:
                if entry.get("type") == kind:
                    address: str = entry["address"]
                    if _is_global(address) or (self._allow_loopback and _is_loopback(address)):
                        return address
                    raise bad_request("address not allowed")
        known = [entry.get("address") for entry in addresses]
        raise ApiError(500, "", f"no preferred addresses found; known addresses: {known}")

    def _endpoint(self, scheme: str, address: str, port: str | int) -> BackendEndpoint:
        if port == "":
            number = _DEFAULT_PORTS[scheme]
            host = _host(address)
        else:
            number = _port_number(port)
            host = _host(address, number)
        tls = self._backend_tls if scheme == "https" else None
        upstream = Upstream((scheme, address, number), partial(self._dial, address, number), tls)
        return BackendEndpoint(address, host.encode(), _host(address, number), upstream)

    def _pod_allowed(self, address: str, pod: Object) -> bool:
        if _is_global(address):
            return True
        if not self._allow_loopback or not _is_loopback(address):
            return False
        node = self._lookup.get("nodes", "", pod.get("spec", {}).get("nodeName") or "")
        spec = (node or {}).get("spec", {})
        ranges = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(cidr) for cidr in ranges)


def _split(kind: str, raw: str) -> tuple[str, str, str]:
    try:
        return split_scheme_name_port(raw)
    except TargetError as error:
        raise bad_request(f'invalid {kind} request "{raw}"', error.hint) from error


def _same_version(known: _KnownService, service: Object, slices: list[Object]) -> bool:
    if not _same(known.service, service) or len(known.slices) != len(slices):
        return False
    return all(map(_same, known.slices, slices))


def _same(one: Object, other: Object) -> bool:
    if one is other:
        return True
    a, b = one["metadata"], other["metadata"]
    return bool(a.get("uid") == b.get("uid") and a.get("resourceVersion") == b.get("resourceVersion") is not None)


def _service_port(service: Object, name: str, port: str) -> str:
    """Return the name of a service's port. port: its name, or the number of the service's port."""
    number = parse_int(port)
    if number is None:
        return port
    for known in service.get("spec", {}).get("ports") or ():
        if known.get("port") == number:
            return known.get("name") or ""
    raise service_unavailable(f'no service port {number} found for service "{name}"')


def _pod_addresses(pod: Object) -> list[str]:
    status = pod.get("status", {})
    addresses = [entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip")]
    return addresses or ([status["podIP"]] if status.get("podIP") else [])


def _kubelet_port(node: Object) -> int:
    endpoints = node.get("status", {}).get("daemonEndpoints") or {}
    return (endpoints.get("kubeletEndpoint") or {}).get("Port") or KUBELET_PORT


def _port_number(port: str | int) -> int:
    number = port if isinstance(port, int) else parse_int(port)
    if number is None:
        raise UnreachableBackend(f"dial tcp: lookup tcp/{port}: unknown port")
    if not 0 <= number <= 65535:
        raise UnreachableBackend(f"dial tcp: address {number}: invalid port")
    return number


def _host(address: str, port: int | None = None) -> str:
    bare = f"[{address}]" if ":" in address else address
    return bare if port is None else f"{bare}:{port}"


def _is_global(address: str) -> bool:
    """Return the result of Go's `IP.IsGlobalUnicast`, which is True for private addresses, too."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None) or ip
    return not (
        mapped.is_unspecified
        or mapped.is_loopback
        or mapped.is_multicast
        or mapped.is_link_local
        or str(mapped) == "255.255.255.255"
    )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network("127.0.0.0/8")
    except ValueError:
        return False
