"""Finds the endpoints of backends, from Services and EndpointSlices.

Requests go directly to ready endpoints, not through the Service's address. When none is ready, terminating endpoints
that still serve are used, as kube-proxy does (KEP-1669).
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from hatchway.addons.ingress.ingressrules import IngressBackend
from hatchway.kube import dial
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, endpoint_is_ready, key_of
from hatchway.kube.wellknown import SERVICE_NAME
from hatchway.proxy.routing import Upstream

__all__ = ["Backends", "ResolvedBackend"]

# The maximum number of endpoints of one backend; further endpoints get no requests.
_MAX_ENDPOINTS = 1000
# The most Services whose endpoints are cached.
MAX_KNOWN = 20_000
# The longest time to connect to an endpoint, in seconds.
_DIAL_SECONDS = 5.0


@dataclass(slots=True)
class ResolvedBackend:
    """The endpoints of a backend.

    why: why there are no endpoints, as a sentence for people. turn: the index of the endpoint that was used last.
    """

    upstreams: list[Upstream]
    why: str = ""
    turn: int = 0

    def next(self) -> int:
        """Advance to the next endpoint in turn, and return its index. There must be an endpoint."""
        self.turn = (self.turn + 1) % len(self.upstreams)
        return self.turn


class Backends:
    """Finds the endpoints of backends, and caches them until one of their objects changes.

    services: the cluster's Services by key.

    Attributes:
        version: the number of changes that may affect decisions.
    """

    def __init__(self, services: Mapping[Key, Object]) -> None:
        self.version = 0
        self._services = services
        self._slices: dict[Key, dict[Key, Object]] = {}
        self._owners: dict[Key, Key] = {}
        self._known: dict[Key, dict[IngressBackend, ResolvedBackend]] = {}
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # An Ingress does not state the names in its backends' certificates, so these certificates are not verified.
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE
        self._tls.set_alpn_protocols(["http/1.1"])

    def service_changed(self, _kind: str, service: Object) -> None:
        """Note a change of a Service (a subscriber of an Informer)."""
        self._forget(key_of(service))

    def slice_changed(self, kind: str, piece: Object) -> None:
        """Note a change of an EndpointSlice (a subscriber of an Informer)."""
        key = key_of(piece)
        name = (piece["metadata"].get("labels") or {}).get(SERVICE_NAME) if kind != "DELETED" else None
        before = self._owners.pop(key, None)
        if before is not None:
            self._slices[before].pop(key, None)
            if not self._slices[before]:
                del self._slices[before]
            self._forget(before)
        if name:
            owner = (key[0], str(name))
            self._owners[key] = owner
            self._slices.setdefault(owner, {})[key] = piece
            self._forget(owner)

    def _forget(self, service: Key) -> None:
        if self._known.pop(service, None) is not None:
            self.version += 1

    def resolve(self, backend: IngressBackend) -> ResolvedBackend:
        """Return the endpoints of a backend: the same object until the Service or one of its EndpointSlices changes."""
        owner = (backend.namespace, backend.service)
        if owner not in self._known and len(self._known) >= MAX_KNOWN:
            # Drop all entries. Without a limit, endpoints of deleted Ingresses would be cached until their Services
            # change.
            self._known.clear()
            self.version += 1
        known = self._known.setdefault(owner, {})
        found = known.get(backend)
        if found is None:
            found = known[backend] = self._resolve(backend, owner)
        return found

    def _resolve(self, backend: IngressBackend, owner: Key) -> ResolvedBackend:
        name = f"{backend.namespace}/{backend.service}"
        if not backend.service:
            return ResolvedBackend([], "Its backend is not a Service. This cluster serves only Services.")
        service = self._services.get(owner)
        if service is None:
            return ResolvedBackend([], f"The Service {name} does not exist.")
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            return ResolvedBackend([], f"The Service {name} is a name outside the cluster (ExternalName).")
        port = next((one for one in spec.get("ports") or () if _is_port(one, backend.port)), None)
        if port is None:
            return ResolvedBackend([], f"The Service {name} has no TCP port {backend.port}.")
        tls = self._tls if str(port.get("appProtocol") or "").lower() == "https" else None
        slices = self._slices.get(owner, {}).values()
        for wanted in (endpoint_is_ready, _is_serving):
            addresses = dict.fromkeys(_addresses(slices, port.get("name") or "", wanted))
            upstreams = [
                Upstream((address, number, tls is not None), partial(_connect, address, number), tls)
                for address, number in itertools.islice(addresses, _MAX_ENDPOINTS)
            ]
            if upstreams:
                return ResolvedBackend(upstreams)
        return ResolvedBackend([], f"The Service {name} has no endpoint that is ready.")


def _is_port(port: Any, wanted: int | str) -> bool:
    found = port.get("port") if isinstance(wanted, int) else port.get("name")
    return bool(found == wanted) and port.get("protocol", "TCP") == "TCP"


def _is_serving(endpoint: Object) -> bool:
    conditions = endpoint.get("conditions") or {}
    return bool(conditions.get("serving")) and bool(conditions.get("terminating"))


def _addresses(slices: Iterable[Object], port_name: str, wanted: Any) -> Iterator[tuple[str, int]]:
    for piece in slices:
        if piece.get("addressType") not in ("IPv4", "IPv6"):
            continue
        for port in piece.get("ports") or ():
            if (port.get("name") or "") != port_name or not port.get("port") or port.get("protocol", "TCP") != "TCP":
                continue
            for endpoint in piece.get("endpoints") or ():
                if endpoint.get("addresses") and wanted(endpoint):
                    yield endpoint["addresses"][0], port["port"]


async def _connect(address: str, port: int) -> socket.socket:
    async with asyncio.timeout(_DIAL_SECONDS):
        return await dial.connect(address, port)
