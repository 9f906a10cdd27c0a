"""Addresses and ports of Services: families, ClusterIPs, node ports (`pkg/registry/core/service/storage/alloc.go`).

As there, everything here comes before validation, so an error names the allocation alone. What other Services hold is
read from the store, writes in progress included: there is nothing to release and nothing to repair.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from hatchway.cluster import plan
from hatchway.cluster.api import validation as v
from hatchway.cluster.api.strategies.base import Context
from hatchway.cluster.api.strategies.servicevalidation import EXTERNAL, needs_health_check, validate_cluster_ips
from hatchway.errors import Cause, internal, invalid
from hatchway.kube.api import Object

Spec = dict[str, Any]

# KEP-3070: addresses that are asked for come from the lower band, the others from above it, min(256, size/16) of it.
_FIRST_DYNAMIC = min(max(16, plan.SERVICE_CIDR.num_addresses // 16), 256)
_FIRST_DYNAMIC_PORT = min(max(16, len(plan.NODE_PORTS) // 32), 128)
_FAMILIES = {4: "IPv4", 6: "IPv6"}
_POLICY = "spec.ipFamilyPolicy"


def choose_families(obj: Object, old: Object | None) -> None:
    """Fill in ipFamilyPolicy and ipFamilies (`initIPFamilyFields`). Raises ApiError 422.

    The cluster has IPv4 alone; a Service without addresses and selector may name both families all the same.
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


def allocate(ctx: Context, obj: Object, old: Object | None) -> None:
    """Claim addresses and node ports. Raises ApiError 422, and 500 when a range is used up."""
    spec = obj["spec"]
    if spec["type"] == "ExternalName":
        return
    name = obj["metadata"].get("name") or ""
    others = [one for one in ctx.store.latest_all("services") if not _same(one, obj)]
    if not spec.get("clusterIP"):
        address = _free_address(others, obj)
        spec["clusterIP"], spec["clusterIPs"] = address, [address]
    elif spec["clusterIP"] != "None" and (old is None or old["spec"]["type"] == "ExternalName"):
        _claim_address(spec["clusterIP"], others, name)
    numbers = _Numbers(others, old, name)
    if spec["type"] == "NodePort" or (spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts")):
        numbers.claim(spec.get("ports") or [])
    elif spec["type"] in EXTERNAL:
        numbers.claim([port for port in spec.get("ports") or () if port.get("nodePort")])
    if needs_health_check(spec):
        numbers.claim_health_check(spec)


def _same(one: Object, other: Object) -> bool:
    left, right = one["metadata"], other["metadata"]
    return bool(left["name"] == right.get("name") and left.get("namespace") == right.get("namespace"))


def _taken(services: list[Object]) -> set[str]:
    return {
        address
        for one in services
        for address in one["spec"].get("clusterIPs") or (one["spec"].get("clusterIP"),)
        if address
    }


def _free_address(others: list[Object], obj: Object) -> str:
    taken = _taken(others)
    network = plan.SERVICE_CIDR
    last = network.num_addresses - 1
    # Begins at a place of the service's own, so that an address freed by one service is not at once another's.
    size = last - _FIRST_DYNAMIC
    start = hash((obj["metadata"].get("namespace"), obj["metadata"].get("name"))) % size
    order = (_FIRST_DYNAMIC + (start + step) % size for step in range(size))
    for offset in (*order, *range(1, _FIRST_DYNAMIC)) if len(taken) >= size else order:
        address = str(network[offset])
        if address not in taken:
            return address
    raise internal("failed to allocate a serviceIP: range is full")


def _claim_address(address: str, others: list[Object], name: str) -> None:
    problem = ""
    found = v.parse_ip(address)
    network = plan.SERVICE_CIDR
    if not isinstance(found, ipaddress.IPv4Address) or found not in network:
        problem = "the provided network does not match the current range"
    elif found in (network.network_address, network.broadcast_address):
        problem = f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {network}"
    elif address in _taken(others):
        problem = "provided IP is already allocated"
    if problem:
        text = f"failed to allocate IP {address}: {problem}"
        raise invalid("Service", name, [v.invalid("spec.clusterIPs", [address], text)])


class _Numbers:
    """The node ports that are in use, by other Services and by this one."""

    def __init__(self, others: list[Object], old: Object | None, name: str) -> None:
        self._name = name
        self._mine = set(_numbers_of(old)) if old is not None else set()
        self._taken = {pair for one in others for pair in _numbers_of(one)}
        self._numbers = {number for _, number in self._taken} | {number for _, number in self._mine}

    def claim(self, ports: list[Spec]) -> None:
        # Ports of one number with different protocols share a node port, unless they ask for other ones.
        given = {port.get("port"): port["nodePort"] for port in ports if port.get("nodePort")}
        for index, port in enumerate(ports):
            wanted = port.get("nodePort")
            if not wanted:
                continue
            at = f"spec.ports[{index}].nodePort"
            problem = self._problem(port.get("protocol"), wanted)
            if problem:
                raise invalid("Service", self._name, [v.invalid(at, wanted, problem)])
            self._numbers.add(wanted)
        for port in ports:
            if port.get("nodePort"):
                continue
            shared = given.get(port.get("port"))
            free = shared is not None and not self._problem(port.get("protocol"), shared)
            used = {(one.get("protocol"), one.get("nodePort")) for one in ports}
            if shared is not None and free and (port.get("protocol"), shared) not in used:
                port["nodePort"] = shared
            else:
                port["nodePort"] = given[port.get("port")] = self._free()

    def claim_health_check(self, spec: Spec) -> None:
        wanted = spec.get("healthCheckNodePort")
        if not wanted:
            spec["healthCheckNodePort"] = self._free()
            return
        problem = self._problem("TCP", wanted)
        if problem:
            raise internal(f"failed to allocate requested HealthCheck NodePort {wanted}: {problem}")
        self._numbers.add(wanted)

    def _problem(self, protocol: str | None, wanted: int) -> str:
        if wanted not in plan.NODE_PORTS:
            low, high = plan.NODE_PORTS[0], plan.NODE_PORTS[-1]
            return f"provided port is not in the valid range. The range of valid ports is {low}-{high}"
        pair = (protocol, wanted)
        return "provided port is already allocated" if pair in self._taken and pair not in self._mine else ""

    def _free(self) -> int:
        dynamic = plan.NODE_PORTS[_FIRST_DYNAMIC_PORT:]
        start = hash(self._name) % len(dynamic)
        order = [*dynamic[start:], *dynamic[:start], *plan.NODE_PORTS[:_FIRST_DYNAMIC_PORT]]
        port: int
        for port in order:
            if port not in self._numbers:
                self._numbers.add(port)
                return port
        raise internal("failed to allocate a nodePort: range is full")


def _numbers_of(service: Object) -> list[tuple[str | None, int]]:
    spec = service["spec"]
    found = [(port.get("protocol"), port["nodePort"]) for port in spec.get("ports") or () if port.get("nodePort")]
    if spec.get("healthCheckNodePort"):
        found.append(("TCP", spec["healthCheckNodePort"]))
    return found
