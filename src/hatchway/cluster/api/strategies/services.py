"""Services: addresses and node ports (`pkg/registry/core/service/storage/alloc.go`) and validation (`ValidateService`)."""

from __future__ import annotations

import ipaddress
from typing import Any

from hatchway.cluster import plan
from hatchway.cluster.api import validation as v
from hatchway.cluster.api.strategies.base import Context, Strategy, field, keep, label_name_errors, readers
from hatchway.errors import Cause, internal
from hatchway.errors import invalid as invalid_object
from hatchway.kube.api import Object

_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
# KEP-3070: addresses that are asked for come from the lower band, the others from above it, min(256, size/16) of it.
_FIRST_DYNAMIC = min(max(16, plan.SERVICE_CIDR.num_addresses // 16), 256)
_FIRST_DYNAMIC_PORT = min(max(16, len(plan.NODE_PORTS) // 32), 128)
_EXTERNAL = ("NodePort", "LoadBalancer")


class ServiceStrategy(Strategy):
    return_deleted = True
    selectable = readers({"spec.clusterIP": field("spec", "clusterIP"), "spec.type": field("spec", "type")})

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        # A DNS label that may begin with a digit (RelaxedServiceNameValidation, on in this release).
        return label_name_errors(name, prefix)

    def prepare_create(self, ctx: Context, obj: Object) -> None:
        obj["status"] = {"loadBalancer": {}}
        spec = obj["spec"]
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        if spec["type"] != "ExternalName":
            self._default_families(spec)

    @staticmethod
    def _default_families(spec: dict[str, Any]) -> None:
        if not spec.get("ipFamilyPolicy"):
            spec["ipFamilyPolicy"] = "SingleStack"
        if not spec.get("ipFamilies"):
            spec["ipFamilies"] = ["IPv4"]

    def prepare_update(self, ctx: Context, obj: Object, old: Object) -> None:
        keep(obj, old, "status")
        new, before = obj["spec"], old["spec"]
        _normalize_addresses(new, before)
        if new["type"] == "ExternalName" and before["type"] != "ExternalName":
            for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
                if new.get(key) == before.get(key):
                    new.pop(key, None)
        elif new["type"] != "ExternalName":
            # What was left out of a PUT stays as it was allocated (`patchAllocatedValues`).
            if before["type"] != "ExternalName" and not new.get("clusterIP"):
                for key in ("clusterIP", "clusterIPs"):
                    if before.get(key):
                        new[key] = before[key]
            for key in ("ipFamilies", "ipFamilyPolicy"):
                if not new.get(key) and before.get(key):
                    new[key] = before[key]
            self._default_families(new)
        if new["type"] in _EXTERNAL and before["type"] in _EXTERNAL:
            former = {
                (port.get("protocol"), port.get("port")): port.get("nodePort") for port in before.get("ports") or ()
            }
            for port in new.get("ports") or ():
                if not port.get("nodePort") and former.get((port.get("protocol"), port.get("port"))):
                    port["nodePort"] = former[port.get("protocol"), port.get("port")]
        if new["type"] not in _EXTERNAL and before["type"] in _EXTERNAL:
            former_ports = [port.get("nodePort") for port in before.get("ports") or ()]
            if [port.get("nodePort") for port in new.get("ports") or ()] == former_ports:
                for port in new.get("ports") or ():
                    port.pop("nodePort", None)
            if not new.get("externalIPs") and new.get("externalTrafficPolicy") == before.get("externalTrafficPolicy"):
                new.pop("externalTrafficPolicy", None)
        if new["type"] != "LoadBalancer":
            new.pop("allocateLoadBalancerNodePorts", None)

    def allocate(self, ctx: Context, obj: Object, old: Object | None) -> None:
        """Claim addresses and node ports. What other services hold is read from the store, writes in progress
        included, so there is nothing to release and nothing to repair."""
        spec = obj["spec"]
        if spec["type"] == "ExternalName":
            return
        name = obj["metadata"]["name"]
        others = [one for one in ctx.store.latest_all("services") if not _same(one, obj)]
        if not spec.get("clusterIP"):
            address = _free_address(others, obj)
            spec["clusterIP"], spec["clusterIPs"] = address, [address]
        elif spec["clusterIP"] != "None" and (old is None or old["spec"].get("clusterIP") != spec["clusterIP"]):
            _claim_address(spec["clusterIP"], others, name)
        if spec["type"] in _EXTERNAL and spec.get("allocateLoadBalancerNodePorts", True):
            _claim_ports(spec.get("ports") or [], others, name, old)

    def validate(self, obj: Object) -> list[Cause]:
        spec = obj["spec"]
        causes: list[Cause] = []
        ports = spec.get("ports") or []
        kind = spec["type"]
        headless = spec.get("clusterIP") == "None"
        if not ports and not headless and kind != "ExternalName":
            causes.append(v.required("spec.ports"))
        if kind == "ExternalName":
            _validate_external_name(spec, causes)
        elif kind == "LoadBalancer" and headless:
            causes.append(v.invalid("spec.clusterIPs[0]", "None", "may not be set to 'None' for LoadBalancer services"))
        elif kind == "NodePort" and headless:
            causes.append(v.invalid("spec.clusterIPs[0]", "None", "may not be set to 'None' for NodePort services"))
        names: set[str] = set()
        for index, port in enumerate(ports):
            _validate_port(port, f"spec.ports[{index}]", len(ports) > 1, names, causes)
        causes += v.labels(spec.get("selector"), "spec.selector")
        affinity = spec.get("sessionAffinity")
        if affinity not in ("None", "ClientIP"):
            causes.append(v.not_supported("spec.sessionAffinity", affinity, ("ClientIP", "None")))
        elif affinity == "ClientIP":
            seconds = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
            if not 0 < seconds <= 86400:
                at = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
                causes.append(v.invalid(at, seconds, "must be greater than 0 and less than 86400"))
        _validate_addresses(spec, causes)
        for index, address in enumerate(spec.get("externalIPs") or ()):
            _validate_external_ip(address, f"spec.externalIPs[{index}]", causes)
        if kind not in _TYPES:
            causes.append(v.not_supported("spec.type", kind, _TYPES))
        if kind not in _EXTERNAL:
            for index, port in enumerate(ports):
                if port.get("nodePort"):
                    causes.append(
                        v.forbidden(f"spec.ports[{index}].nodePort", f"may not be used when `type` is '{kind}'")
                    )
        _unique_ports(ports, causes)
        _validate_policies(spec, kind, causes)
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        new, before = obj["spec"], old["spec"]
        causes = []
        if before["type"] != "ExternalName" and new["type"] != "ExternalName" and before.get("clusterIP"):
            if new.get("clusterIP") != before["clusterIP"]:
                causes.append(
                    v.invalid(
                        "spec.clusterIPs[0]", new.get("clusterIPs") or [new.get("clusterIP")], "may not change once set"
                    )
                )
            if before.get("ipFamilies") and (new.get("ipFamilies") or [None])[0] != before["ipFamilies"][0]:
                causes.append(v.invalid("spec.ipFamilies[0]", new.get("ipFamilies"), "may not change once set"))
        return causes + self.validate(obj)


def _same(one: Object, other: Object) -> bool:
    left, right = one["metadata"], other["metadata"]
    return bool(left["name"] == right["name"] and left.get("namespace") == right.get("namespace"))


def _normalize_addresses(new: dict[str, Any], before: dict[str, Any]) -> None:
    # Clients that know clusterIP only and such that know clusterIPs too (`NormalizeClusterIPs`).
    former, former_all = before.get("clusterIP"), before.get("clusterIPs") or []
    if new.get("clusterIP") != former:
        if new.get("clusterIP") and (new.get("clusterIPs") or []) == former_all:
            new["clusterIPs"] = [new["clusterIP"]]
        elif not new.get("clusterIP") and (new.get("clusterIPs") or []) == former_all and former:
            new.pop("clusterIPs", None)
    if new.get("clusterIPs") and not new.get("clusterIP"):
        new["clusterIP"] = new["clusterIPs"][0]


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
    start = hash((obj["metadata"].get("namespace"), obj["metadata"]["name"])) % size
    order = (_FIRST_DYNAMIC + (start + step) % size for step in range(size))
    for offset in (*order, *range(1, _FIRST_DYNAMIC)) if len(taken) >= size else order:
        address = str(network[offset])
        if address not in taken:
            return address
    raise internal("failed to allocate a serviceIP: range is full")


def _claim_address(address: str, others: list[Object], name: str) -> None:
    problem = ""
    found = v.parse_ip(address)
    if not isinstance(found, ipaddress.IPv4Address) or found not in plan.SERVICE_CIDR:
        problem = (
            f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {plan.SERVICE_CIDR}"
        )
    elif address in _taken(others):
        problem = "provided IP is already allocated"
    elif found in (plan.SERVICE_CIDR.network_address, plan.SERVICE_CIDR.broadcast_address):
        problem = (
            f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {plan.SERVICE_CIDR}"
        )
    if problem:
        text = f"failed to allocate IP {address}: {problem}"
        raise invalid_object("Service", name, [v.invalid("spec.clusterIPs", [address], text)])


def _claim_ports(ports: list[dict[str, Any]], others: list[Object], name: str, old: Object | None) -> None:
    taken = {(port.get("protocol"), port.get("nodePort")) for one in others for port in one["spec"].get("ports") or ()}
    numbers = {number for _, number in taken}
    mine = {port["nodePort"] for port in (old or {}).get("spec", {}).get("ports") or () if port.get("nodePort")}
    for index, port in enumerate(ports):
        wanted = port.get("nodePort")
        if not wanted:
            continue
        at = f"spec.ports[{index}].nodePort"
        if wanted not in plan.NODE_PORTS:
            low, high = plan.NODE_PORTS[0], plan.NODE_PORTS[-1]
            text = f"provided port is not in the valid range. The range of valid ports is {low}-{high}"
            raise invalid_object("Service", name, [v.invalid(at, wanted, text)])
        if wanted not in mine and (port.get("protocol"), wanted) in taken:
            raise invalid_object("Service", name, [v.invalid(at, wanted, "provided port is already allocated")])
        numbers.add(wanted)
    for port in ports:
        if not port.get("nodePort"):
            port["nodePort"] = _free_port(numbers, name)
            numbers.add(port["nodePort"])


def _free_port(taken: set[Any], name: str) -> int:
    dynamic = plan.NODE_PORTS[_FIRST_DYNAMIC_PORT:]
    start = hash(name) % len(dynamic)
    for step in range(len(dynamic)):
        port = dynamic[(start + step) % len(dynamic)]
        if port not in taken:
            return port
    for port in plan.NODE_PORTS[:_FIRST_DYNAMIC_PORT]:
        if port not in taken:
            return port
    raise internal("failed to allocate a nodePort: range is full")


def _validate_external_name(spec: dict[str, Any], causes: list[Cause]) -> None:
    if spec.get("clusterIPs") or spec.get("clusterIP"):
        causes.append(v.forbidden("spec.clusterIPs", "may not be set for ExternalName services"))
    for key in ("ipFamilies", "ipFamilyPolicy"):
        if spec.get(key):
            causes.append(v.forbidden(f"spec.{key}", "may not be set for ExternalName services"))
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        causes.append(v.required("spec.externalName"))
    else:
        causes += v.each("spec.externalName", name, v.dns1123_subdomain(name))


def _validate_port(port: dict[str, Any], at: str, name_required: bool, names: set[str], causes: list[Cause]) -> None:
    name = port.get("name", "")
    if name_required and not name:
        causes.append(v.required(f"{at}.name"))
    elif name:
        causes += v.each(f"{at}.name", name, v.dns1123_label(name))
        if name in names:
            causes.append(v.duplicate(f"{at}.name", name))
        names.add(name)
    number = port.get("port", 0)
    causes += [v.invalid(f"{at}.port", number, message) for message in v.port_number(number)]
    if port.get("protocol") not in _PROTOCOLS:
        causes.append(v.not_supported(f"{at}.protocol", port.get("protocol"), _PROTOCOLS))
    target = port.get("targetPort")
    if isinstance(target, int):
        causes += [v.invalid(f"{at}.targetPort", target, message) for message in v.port_number(target)]
    elif isinstance(target, str):
        causes += v.each(f"{at}.targetPort", target, v.port_name(target))
    protocol = port.get("appProtocol")
    if protocol:
        causes += v.each(f"{at}.appProtocol", protocol, v.qualified_name(protocol))


def _validate_addresses(spec: dict[str, Any], causes: list[Cause]) -> None:
    single, many = spec.get("clusterIP"), spec.get("clusterIPs") or []
    if many and single != many[0]:
        causes.append(v.invalid("spec.clusterIPs", many, "first value must match `clusterIP`"))
    if len(many) > 2:
        causes.append(v.invalid("spec.clusterIPs", many, "may only hold up to 2 values"))
    if many[:1] == ["None"] and len(many) > 1:
        causes.append(v.invalid("spec.clusterIPs", many, "'None' must be the first and only value"))
    for index, address in enumerate(many):
        if address != "None" and v.parse_ip(address) is None:
            causes.append(v.invalid(f"spec.clusterIPs[{index}]", address, v.IP_ERROR))
    policy, families = spec.get("ipFamilyPolicy"), spec.get("ipFamilies") or []
    policies = ("SingleStack", "PreferDualStack", "RequireDualStack")
    if policy and policy not in policies:
        causes.append(v.not_supported("spec.ipFamilyPolicy", policy, policies))
    elif policy == "RequireDualStack":
        causes.append(v.invalid("spec.ipFamilyPolicy", policy, "Cluster is not configured for dual-stack services"))
    for index, family in enumerate(families):
        if family not in ("IPv4", "IPv6"):
            causes.append(v.not_supported(f"spec.ipFamilies[{index}]", family, ("IPv4", "IPv6")))
        elif family == "IPv6":
            causes.append(v.invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster"))


def _validate_external_ip(address: str, at: str, causes: list[Cause]) -> None:
    found = v.parse_ip(address)
    if found is None:
        causes.append(v.invalid(at, address, v.IP_ERROR))
    elif found.is_unspecified:
        causes.append(
            v.invalid(
                at, address, "may not be unspecified (0.0.0.0)" if found.version == 4 else "may not be unspecified (::)"
            )
        )
    elif found.is_loopback:
        causes.append(v.invalid(at, address, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    elif found.is_link_local:
        causes.append(v.invalid(at, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
    elif found.is_multicast:
        causes.append(v.invalid(at, address, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"))


def _unique_ports(ports: list[dict[str, Any]], causes: list[Cause]) -> None:
    seen, node_ports = set(), set()
    for index, port in enumerate(ports):
        key = (port.get("protocol"), port.get("port"))
        if key in seen:
            causes.append(
                v.duplicate(f"spec.ports[{index}]", {"port": port.get("port"), "protocol": port.get("protocol")})
            )
        seen.add(key)
    for index, port in enumerate(ports):
        if port.get("nodePort"):
            key = (port.get("protocol"), port["nodePort"])
            if key in node_ports:
                causes.append(v.duplicate(f"spec.ports[{index}].nodePort", port["nodePort"]))
            node_ports.add(key)


def _validate_policies(spec: dict[str, Any], kind: str, causes: list[Cause]) -> None:
    external = spec.get("externalTrafficPolicy")
    if external:
        if kind not in _EXTERNAL and not (kind == "ClusterIP" and spec.get("externalIPs")):
            causes.append(
                v.invalid("spec.externalTrafficPolicy", external, "may only be set for externally-accessible services")
            )
        elif external not in ("Cluster", "Local"):
            causes.append(v.not_supported("spec.externalTrafficPolicy", external, ("Cluster", "Local")))
    internal_policy = spec.get("internalTrafficPolicy")
    if internal_policy and internal_policy not in ("Cluster", "Local"):
        causes.append(v.not_supported("spec.internalTrafficPolicy", internal_policy, ("Cluster", "Local")))
