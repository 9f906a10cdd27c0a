"""Endpoints and EndpointSlices: the addresses to which a Service's traffic goes."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.addresses import endpoint_address
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext
from hatchway.errors import Cause
from hatchway.kube.api import Object

_PROTOCOLS = ("SCTP", "TCP", "UDP")
# The maximum number of addresses of an endpoint, and the maximum number of ports of a slice
# (`pkg/apis/discovery/validation`).
_MAX_ADDRESSES, _MAX_PORTS = 100, 20_000


class _PlainStrategy(Strategy):
    """The rules that Endpoints and EndpointSlices share.

    loopback: True when the cluster and its pods use addresses of 127.0.0.0/8.
    """

    def __init__(self, *, loopback: bool = False) -> None:
        self._loopback = loopback

    def has_status(self, obj: Object) -> bool:
        return False

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        pass


class EndpointsStrategy(_PlainStrategy):
    """Endpoints, the older form of EndpointSlices (`ValidateEndpoints`)."""

    deprecation = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the addresses and ports of all subsets."""
        causes = []
        for index, subset in enumerate(obj.get("subsets") or ()):
            at = f"subsets[{index}]"
            if not subset.get("addresses") and not subset.get("notReadyAddresses"):
                causes.append(v.required(at, "must specify `addresses` or `notReadyAddresses`"))
            for key in ("addresses", "notReadyAddresses"):
                for number, address in enumerate(subset.get(key) or ()):
                    causes += self._address(address, f"{at}.{key}[{number}]")
            ports = subset.get("ports") or []
            for number, port in enumerate(ports):
                causes += _port(port, f"{at}.ports[{number}]", name_required=len(ports) > 1)
        return causes

    def _address(self, address: dict[str, Any], at: str) -> list[Cause]:
        causes = endpoint_address(address.get("ip", ""), f"{at}.ip", loopback=self._loopback)
        return causes + _place(address, at)


def _place(endpoint: dict[str, Any], at: str) -> list[Cause]:
    """Return the errors in the host name and the node of an endpoint."""
    causes = []
    hostname, node = endpoint.get("hostname") or "", endpoint.get("nodeName")
    if hostname:
        causes += v.each(f"{at}.hostname", hostname, v.dns1123_label(hostname))
    if node is not None:
        causes += v.each(f"{at}.nodeName", node, v.dns1123_subdomain(node))
    return causes


def _port(port: dict[str, Any], at: str, *, name_required: bool) -> list[Cause]:
    causes = []
    name = port.get("name", "")
    if name:
        causes += v.each(f"{at}.name", name, v.dns1123_label(name))
    elif name_required:
        causes.append(v.required(f"{at}.name"))
    number = port.get("port", 0)
    causes += [v.invalid(f"{at}.port", number, message) for message in v.port_number(number)]
    if port.get("protocol", "") not in _PROTOCOLS:
        causes.append(v.not_supported(f"{at}.protocol", port.get("protocol", ""), _PROTOCOLS))
    return causes


class EndpointSliceStrategy(_PlainStrategy):
    """EndpointSlices (`pkg/apis/discovery/validation`)."""

    generation = True

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Add missing `endpoints` and `ports`. Kubernetes always writes these fields, so clients expect them."""
        if obj.get("endpoints") is None:
            obj["endpoints"] = []
        if "ports" not in obj:
            obj["ports"] = None

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the address type, the endpoints and the ports."""
        kind = obj.get("addressType", "")
        supported = ("FQDN", "IPv4", "IPv6")
        causes = []
        if not kind:
            causes.append(v.required("addressType"))
        elif kind not in supported:
            causes.append(v.not_supported("addressType", kind, supported))
        endpoints = obj.get("endpoints") or []
        if len(endpoints) > 1000:
            causes.append(v.too_many("endpoints", len(endpoints), 1000))
        for index, endpoint in enumerate(endpoints):
            at = f"endpoints[{index}].addresses"
            addresses = endpoint.get("addresses") or []
            if not addresses:
                causes.append(v.required(at, "must contain at least 1 address"))
            elif len(addresses) > _MAX_ADDRESSES:
                causes.append(v.too_many(at, len(addresses), _MAX_ADDRESSES))
            for number, value in enumerate(addresses):
                causes += self._slice_address(kind, value, f"{at}[{number}]")
            causes += _place(endpoint, f"endpoints[{index}]")
        names = set()
        ports = obj.get("ports") or ()
        if len(ports) > _MAX_PORTS:
            causes.append(v.too_many("ports", len(ports), _MAX_PORTS))
            return causes
        for index, port in enumerate(ports):
            at = f"ports[{index}]"
            name = port.get("name") or ""
            if name:
                causes += v.each(f"{at}.name", name, v.dns1123_label(name))
            if name in names:
                causes.append(v.duplicate(f"{at}.name", name))
            names.add(name)
            if port.get("protocol", "") not in _PROTOCOLS:
                causes.append(v.not_supported(f"{at}.protocol", port.get("protocol", ""), _PROTOCOLS))
            number = port.get("port")
            if number is not None:
                causes += [v.invalid(f"{at}.port", number, message) for message in v.port_number(number)]
        return causes

    def _slice_address(self, kind: str, value: str, at: str) -> list[Cause]:
        if kind == "FQDN":
            return v.each(at, value, v.dns1123_subdomain(value))
        causes = endpoint_address(value, at, loopback=self._loopback)
        address = v.parse_ip(value)
        if not causes and address is not None and kind in ("IPv4", "IPv6") and f"IPv{address.version}" != kind:
            causes.append(v.invalid(at, value, f"must be an {kind} address"))
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: the address type never changes."""
        return self.validate(obj) + v.immutable(obj.get("addressType"), old.get("addressType"), "addressType")
