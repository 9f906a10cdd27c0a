"""Addresses and ports of Services: families, ClusterIPs, node ports (`pkg/registry/core/service/storage/alloc.go`).

As in Kubernetes, allocation comes before validation. The response to a failed allocation therefore has no other errors.
Allocations are not stored separately: the addresses and ports in use are read from an index of all Services, which
includes writes in progress (`serviceclaims.py`). Deleting a Service therefore frees its addresses and ports.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hatchway.cluster import plan
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import WriteContext
from hatchway.cluster.api.registry.strategies.serviceclaims import OtherClaims, ServiceClaims, node_ports_of
from hatchway.cluster.api.registry.strategies.serviceranges import ServiceRanges, is_reserved
from hatchway.cluster.api.registry.strategies.servicevalidation import (
    EXTERNAL,
    needs_health_check,
    validate_cluster_ips,
)
from hatchway.cluster.api.storage.store import Store
from hatchway.errors import Cause, internal, invalid
from hatchway.kube.api import Object

Spec = dict[str, Any]

# In a range with at most this many addresses, no part is reserved for addresses that clients choose themselves.
_SMALL = 16
_FIRST_DYNAMIC_PORT = min(max(16, len(plan.NODE_PORTS) // 32), 128)
_FAMILIES = {4: "IPv4", 6: "IPv6"}
_POLICY = "spec.ipFamilyPolicy"


def choose_families(obj: Object, old: Object | None) -> None:
    """Fill in ipFamilyPolicy and ipFamilies (`initIPFamilyFields`). Raises ApiError 422.

    The cluster has only IPv4. Only a headless Service without a selector may have both families.
    """
    spec = obj["spec"]
    if spec["type"] == "ExternalName":
        return
    before = old["spec"] if old is not None and old["spec"]["type"] != "ExternalName" else None
    selectorless = spec.get("clusterIP") == "None" and not spec.get("selector")
    if not spec.get("ipFamilyPolicy"):
        former = (before or {}).get("ipFamilyPolicy")
        spec["ipFamilyPolicy"] = former or ("RequireDualStack" if selectorless else "SingleStack")
    if before is not None and not spec.get("ipFamilies") and before.get("ipFamilies"):
        spec["ipFamilies"] = list(before["ipFamilies"])
    causes = validate_cluster_ips(spec)
    if not causes:
        causes = _check_policy(spec, before)
    if causes:
        raise invalid("Service", obj["metadata"].get("name") or "", causes)
    families: list[str] = list(spec.get("ipFamilies") or ())
    if selectorless:
        families = families or ["IPv4"]
        if spec["ipFamilyPolicy"] != "SingleStack" and len(families) < 2:
            families.append("IPv6" if families[0] == "IPv4" else "IPv4")
    else:
        causes = []
        if spec["ipFamilyPolicy"] == "RequireDualStack":
            text = "this cluster is not configured for dual-stack services"
            causes.append(v.invalid(_POLICY, "RequireDualStack", text))
        for index, family in enumerate(families):
            if family != "IPv4":
                causes.append(v.invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster"))
        if causes:
            raise invalid("Service", obj["metadata"].get("name") or "", causes)
    spec["ipFamilies"] = families or ["IPv4"]


def _check_policy(spec: Spec, before: Spec | None) -> list[Cause]:
    causes = []
    policy, many = spec["ipFamilyPolicy"], spec.get("clusterIPs") or []
    if policy == "SingleStack":
        if before is not None and many == (before.get("clusterIPs") or []):
            spec["clusterIPs"] = many = many[:1]
        if before is not None and spec.get("ipFamilies") == before.get("ipFamilies") and before.get("ipFamilies"):
            spec["ipFamilies"] = spec["ipFamilies"][:1]
        why = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"
        if len(many) == 2:
            causes.append(v.invalid(_POLICY, policy, why.format("cluster IPs")))
        if len(spec.get("ipFamilies") or ()) == 2:
            causes.append(v.invalid(_POLICY, policy, why.format("IP families")))
        if not many:
            spec.pop("clusterIPs", None)
    elif before is not None and len(spec.get("ipFamilies") or ()) < len(before.get("ipFamilies") or ()):
        causes.append(v.invalid(_POLICY, policy, "must be 'SingleStack' to release the secondary IP family"))
    for index, address in enumerate(many):
        found = v.parse_ip(address)
        if found is None or index < len(spec.get("ipFamilies") or ()):
            continue
        family = _FAMILIES[found.version]
        if family != "IPv4":
            causes.append(v.invalid(f"spec.clusterIPs[{index}]", many, f"{family} is not configured on this cluster"))
    return causes


def allocate(ctx: WriteContext, obj: Object, old: Object | None) -> None:
    """Allocate addresses and node ports. Raises ApiError 422 for an invalid value, 500 when a range is used up."""
    spec = obj["spec"]
    if spec["type"] == "ExternalName":
        return
    name = obj["metadata"].get("name") or ""
    others = ServiceClaims.of(ctx.store).others(ctx.store, obj)
    if not spec.get("clusterIP"):
        address = _free_address(ctx.store, others, obj)
        spec["clusterIP"], spec["clusterIPs"] = address, [address]
    elif spec["clusterIP"] != "None" and (old is None or old["spec"]["type"] == "ExternalName"):
        _claim_address(ctx.store, spec["clusterIP"], others, name)
    node_ports = _NodePorts(others, old, name)
    if spec["type"] in EXTERNAL:
        # Node ports in the request are checked even if no node ports are allocated.
        node_ports.claim(spec.get("ports") or [], allocate=spec["type"] == "NodePort" or _allocates(spec))
    if needs_health_check(spec):
        node_ports.claim_health_check(spec)


def _allocates(spec: Spec) -> bool:
    return bool(spec.get("allocateLoadBalancerNodePorts"))


def _free_address(store: Store, others: OtherClaims, obj: Object) -> str:
    metadata = obj["metadata"]
    # The search begins at an offset derived from the Service's name. A released address is thus rarely reused at once.
    start = hash((metadata.get("namespace"), metadata.get("name")))
    for network in ServiceRanges.of(store).ready():
        for offset in _offsets(network.num_addresses, start):
            address = str(network[offset])
            if not others.has_address(address) and not is_reserved(store, address):
                return address
    raise internal("failed to allocate a serviceIP: range is full")


def _offsets(size: int, start: int) -> Iterator[int]:
    """Yield the offsets of a range's addresses in the order in which they are tried. size: addresses in the range.

    The lowest min(max(16, size/16), 256) addresses come last: they are for Services that request an address (KEP-3070).
    """
    kept = 0 if size <= _SMALL else min(max(16, size // 16), 256)
    first, last = max(kept, 1), size - 1
    dynamic = last - first
    for step in range(dynamic):
        yield first + (start + step) % dynamic
    yield from range(1, min(first, last))


def _claim_address(store: Store, address: str, others: OtherClaims, name: str) -> None:
    problem = ""
    found = v.parse_ip(address)
    ranges = [one for one in ServiceRanges.of(store).ready() if found is not None and found in one]
    if not ranges:
        problem = "the provided network does not match the current range"
    elif all(found in (one.network_address, one.broadcast_address) for one in ranges):
        problem = f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {ranges[0]}"
    elif others.has_address(address) or is_reserved(store, address):
        problem = "provided IP is already allocated"
    if problem:
        text = f"failed to allocate IP {address}: {problem}"
        raise invalid("Service", name, [v.invalid("spec.clusterIPs", [address], text)])


class _NodePorts:
    """Allocates the node ports of one Service."""

    def __init__(self, others: OtherClaims, old: Object | None, name: str) -> None:
        self._name = name
        self._others = others
        self._is_new = old is None
        # The node ports that this Service already has, of any protocol: the port of its health check, and its other
        # ports.
        self._stored_health = (old["spec"].get("healthCheckNodePort") or 0) if old is not None else 0
        self._stored = {number for _, number in node_ports_of(old)} if old is not None else set()
        # All node ports of this Service, stored and new.
        self._numbers = set(self._stored)
        self._stored.discard(self._stored_health)
        # One iterator for all ports, so that each candidate is tried only once.
        self._candidates = self._free_numbers()

    def claim(self, ports: list[Spec], *, allocate: bool) -> None:
        """Check the node ports in `ports`, and allocate missing node ports. allocate: False to allocate none."""
        if allocate and len({port.get("port") for port in ports if not port.get("nodePort")}) > len(plan.NODE_PORTS):
            raise internal("failed to allocate a nodePort: range is full")
        given = {port.get("port"): port["nodePort"] for port in ports if port.get("nodePort")}
        used = {(port.get("protocol"), port["nodePort"]) for port in ports if port.get("nodePort")}
        for index, port in enumerate(ports):
            wanted = port.get("nodePort")
            if not wanted:
                continue
            at = f"spec.ports[{index}].nodePort"
            problem = self._problem(wanted, kept=wanted in self._stored, own=wanted == self._stored_health)
            if problem:
                raise invalid("Service", self._name, [v.invalid(at, wanted, problem)])
            self._numbers.add(wanted)
        for port in ports if allocate else ():
            if port.get("nodePort"):
                continue
            # In a new Service, ports with the same number and different protocols share a node port.
            shared = given.get(port.get("port")) if self._is_new else None
            if shared is not None and (port.get("protocol"), shared) not in used:
                port["nodePort"] = shared
            else:
                port["nodePort"] = given[port.get("port")] = self._take_free()
            used.add((port.get("protocol"), port["nodePort"]))

    def claim_health_check(self, spec: Spec) -> None:
        wanted = spec.get("healthCheckNodePort")
        if not wanted:
            spec["healthCheckNodePort"] = self._take_free()
            return
        own = wanted in self._numbers and wanted != self._stored_health
        problem = self._problem(wanted, kept=wanted == self._stored_health, own=own)
        if problem:
            raise internal(f"failed to allocate requested HealthCheck NodePort {wanted}: {problem}")
        self._numbers.add(wanted)

    def _problem(self, wanted: int, *, kept: bool, own: bool) -> str:
        """Return why this Service cannot have a node port; "" when it can.

        kept: this Service already has the node port for the same purpose (a port, or its health check). own: this
        Service has the node port for the other purpose.
        """
        if wanted not in plan.NODE_PORTS:
            low, high = plan.NODE_PORTS[0], plan.NODE_PORTS[-1]
            return f"provided port is not in the valid range. The range of valid ports is {low}-{high}"
        # Two Services never share a number, even with different protocols.
        taken = not kept and (own or self._others.has_number(wanted))
        return "provided port is already allocated" if taken else ""

    def _take_free(self) -> int:
        """Take the next free number. Raises ApiError 500 when there is none."""
        port = next((one for one in self._candidates if one not in self._numbers), None)
        if port is None:
            raise internal("failed to allocate a nodePort: range is full")
        self._numbers.add(port)
        return port

    def _free_numbers(self) -> Iterator[int]:
        """Yield the numbers that no other Service has, in the order in which this Service tries them."""
        dynamic = plan.NODE_PORTS[_FIRST_DYNAMIC_PORT:]
        start = hash(self._name) % len(dynamic)
        order = [*dynamic[start:], *dynamic[:start], *plan.NODE_PORTS[:_FIRST_DYNAMIC_PORT]]
        taken = set(self._others.node_port_numbers())
        yield from (port for port in order if port not in taken)
