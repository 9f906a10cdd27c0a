"""Validation of Services.

From `ValidateService` and `ValidateServiceUpdate` in Kubernetes' `pkg/apis/core/validation/validation.go`.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.errors import Cause
from hatchway.kube.api import Object

Spec = dict[str, Any]

EXTERNAL = ("NodePort", "LoadBalancer")
# The order is the order in Kubernetes' messages.
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_HINTS, _MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"
_MAX_AFFINITY_SECONDS = 86400


def is_headless(spec: Spec) -> bool:
    """Return True for a service without a cluster address (`clusterIP: None`)."""
    return (spec.get("clusterIPs") or [spec.get("clusterIP")]) == ["None"]


def is_externally_accessible(spec: Spec) -> bool:
    """Return True for a service that can be reached from outside the cluster."""
    return spec["type"] in EXTERNAL or (spec["type"] == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health_check(spec: Spec) -> bool:
    """Return True for a service that has a health check node port."""
    return bool(spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local")


def validate_service(obj: Object) -> list[Cause]:
    """Return all errors in a service."""
    spec = obj["spec"]
    annotations = obj["metadata"].get("annotations") or {}
    causes: list[Cause] = []
    if _HINTS in annotations and _MODE in annotations and annotations[_HINTS] != annotations[_MODE]:
        text = f"must match annotations[{_HINTS}] when both are specified"
        causes.append(v.invalid(f"metadata.annotations[{_MODE}]", annotations[_MODE], text))
    ports, kind, headless = spec.get("ports") or [], spec["type"], is_headless(spec)
    if not ports and not headless and kind != "ExternalName":
        causes.append(v.required("spec.ports"))
    if kind == "ExternalName":
        _validate_external_name(spec, causes)
    elif kind in EXTERNAL and headless:
        causes.append(v.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    names: set[str] = set()
    for index, port in enumerate(ports):
        _validate_port(port, f"spec.ports[{index}]", len(ports) > 1, names, causes)
    causes += v.labels(spec.get("selector"), "spec.selector")
    _validate_affinity(spec, causes)
    causes += validate_cluster_ips(spec)
    for index, address in enumerate(spec.get("externalIPs") or ()):
        _validate_external_ip(address, f"spec.externalIPs[{index}]", causes)
    if kind not in _TYPES:
        causes.append(v.not_supported("spec.type", kind, _TYPES))
    if kind == "ClusterIP":
        for index, port in enumerate(ports):
            if port.get("nodePort"):
                at = f"spec.ports[{index}].nodePort"
                causes.append(v.forbidden(at, "may not be used when `type` is 'ClusterIP'"))
    _unique_ports(ports, causes)
    _validate_load_balancer(obj, causes)
    _validate_policies(spec, kind, causes)
    return causes


def _validate_external_name(spec: Spec, causes: list[Cause]) -> None:
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


def _validate_port(port: Spec, at: str, name_required: bool, names: set[str], causes: list[Cause]) -> None:
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
    if protocol is not None:
        causes += v.each(f"{at}.appProtocol", protocol, v.qualified_name(protocol))


def _validate_affinity(spec: Spec, causes: list[Cause]) -> None:
    affinity, config = spec.get("sessionAffinity"), spec.get("sessionAffinityConfig")
    at = "spec.sessionAffinityConfig"
    if affinity not in ("ClientIP", "None"):
        causes.append(v.not_supported("spec.sessionAffinity", affinity, ("ClientIP", "None")))
    elif affinity == "None":
        if config is not None:
            causes.append(v.forbidden(at, "must not be set when session affinity is None"))
    else:
        seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
        if seconds is None:
            causes.append(v.required(f"{at}.clientIP.timeoutSeconds", "when session affinity type is ClientIP"))
        elif not 0 < seconds <= _MAX_AFFINITY_SECONDS:
            text = f"must be greater than 0 and less than {_MAX_AFFINITY_SECONDS}"
            causes.append(v.invalid(f"{at}.clientIP.timeoutSeconds", seconds, text))


def validate_cluster_ips(spec: Spec) -> list[Cause]:
    """Check cluster addresses and IP families (`ValidateServiceClusterIPsRelatedFields`)."""
    if spec["type"] == "ExternalName":
        return []
    at, causes, wrong = "spec.clusterIPs", [], False
    single, many = spec.get("clusterIP"), spec.get("clusterIPs") or []
    if single and not many:
        causes.append(v.required(at))
    elif single and many[0] != single:
        causes.append(v.invalid(at, many, "first value must match `clusterIP`"))
    elif many and not single:
        causes.append(v.invalid(at, many, "must be empty when `clusterIP` is not specified"))
    families = spec.get("ipFamilies") or []
    for index, family in enumerate(families):
        if family not in ("IPv4", "IPv6"):
            causes.append(v.not_supported(f"spec.ipFamilies[{index}]", family, ("IPv4", "IPv6")))
        if family in families[:index]:
            causes.append(v.duplicate(f"spec.ipFamilies[{index}]", family))
    policy = spec.get("ipFamilyPolicy")
    if policy and policy not in _POLICIES:
        causes.append(v.not_supported("spec.ipFamilyPolicy", policy, _POLICIES))
    for index, address in enumerate(many):
        if index == 0 and address == "None":
            if len(many) > 1:
                wrong = True
                causes.append(v.invalid(at, many, "'None' must be the first and only value"))
        elif v.parse_ip(address) is None:
            wrong = True
            causes.append(v.invalid(f"{at}[{index}]", address, v.IP_ERROR))
    if len(many) > 2:
        causes.append(v.invalid(at, many, "may only hold up to 2 values"))
    if wrong or is_headless(spec):
        return causes
    versions = [ipaddress.ip_address(address).version for address in many]
    if len(many) > 1 and len(set(versions)) < len(many):
        causes.append(v.invalid(at, many, "may specify no more than one IP for each IP family"))
    for index, (address, version, family) in enumerate(zip(many, versions, families, strict=False)):
        if family in ("IPv4", "IPv6") and family != f"IPv{version}":
            text = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
            causes.append(v.invalid(f"{at}[{index}]", address, text))
    return causes


def _validate_external_ip(address: str, at: str, causes: list[Cause]) -> None:
    found = v.parse_ip(address)
    if found is None:
        causes.append(v.invalid(at, address, v.IP_ERROR))
    elif found.is_unspecified:
        shown = "0.0.0.0" if found.version == 4 else "::"
        causes.append(v.invalid(at, address, f"may not be unspecified ({shown})"))
    elif found.is_loopback:
        causes.append(v.invalid(at, address, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    elif found.is_link_local:
        causes.append(v.invalid(at, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
    elif found.is_multicast:
        causes.append(v.invalid(at, address, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"))


def _unique_ports(ports: list[Spec], causes: list[Cause]) -> None:
    seen, node_ports = set(), set()
    for index, port in enumerate(ports):
        if port.get("nodePort"):
            key = (port.get("protocol"), port["nodePort"])
            if key in node_ports:
                causes.append(v.duplicate(f"spec.ports[{index}].nodePort", port["nodePort"]))
            node_ports.add(key)
    for index, port in enumerate(ports):
        key = (port.get("protocol"), port.get("port"))
        if key in seen:
            # Kubernetes' message shows all fields of the internal Go structure.
            shown = {"Name": "", "Protocol": port.get("protocol"), "AppProtocol": None, "Port": port.get("port")}
            causes.append(v.duplicate(f"spec.ports[{index}]", {**shown, "TargetPort": 0, "NodePort": 0}))
        seen.add(key)


def _validate_load_balancer(obj: Object, causes: list[Cause]) -> None:
    spec = obj["spec"]
    only = "may only be used when `type` is 'LoadBalancer'"
    is_balancer = spec["type"] == "LoadBalancer"
    ranges, at = spec.get("loadBalancerSourceRanges") or [], "spec.LoadBalancerSourceRanges"
    if ranges and not is_balancer:
        causes.append(v.forbidden(at, only))
    for index, value in enumerate(ranges):
        causes += v.cidr(f"{at}[{index}]", value.strip())
    if not is_balancer and spec.get("allocateLoadBalancerNodePorts") is not None:
        causes.append(v.forbidden("spec.allocateLoadBalancerNodePorts", only))
    name = spec.get("loadBalancerClass")
    if name is not None and not is_balancer:
        causes.append(v.forbidden("spec.loadBalancerClass", only))
    elif name is not None:
        causes += v.each("spec.loadBalancerClass", name, v.qualified_name(name))


def _validate_policies(spec: Spec, kind: str, causes: list[Cause]) -> None:
    external, at = spec.get("externalTrafficPolicy"), "spec.externalTrafficPolicy"
    if not is_externally_accessible(spec):
        if external:
            causes.append(v.invalid(at, external, "may only be set for externally-accessible services"))
    elif not external:
        causes.append(v.required(at))
    elif external not in ("Cluster", "Local"):
        causes.append(v.not_supported(at, external, ("Cluster", "Local")))
    number, at = spec.get("healthCheckNodePort"), "spec.healthCheckNodePort"
    if number and not needs_health_check(spec):
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        causes.append(v.invalid(at, number, text))
    elif number:
        causes += [v.invalid(at, number, message) for message in v.port_number(number)]
    internal = spec.get("internalTrafficPolicy")
    if not internal and kind in ("ClusterIP", *EXTERNAL):
        causes.append(v.required("spec.internalTrafficPolicy"))
    elif internal and internal not in ("Cluster", "Local"):
        causes.append(v.not_supported("spec.internalTrafficPolicy", internal, ("Cluster", "Local")))
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution not in _DISTRIBUTIONS:
        causes.append(v.not_supported("spec.trafficDistribution", distribution, _DISTRIBUTIONS))


def validate_change(obj: Object, old: Object) -> list[Cause]:
    """Check that an update does not change addresses and other fixed fields."""
    new, before = obj["spec"], old["spec"]
    causes: list[Cause] = []
    if "ExternalName" not in (new["type"], before["type"]):
        many, former = new.get("clusterIPs") or [], before.get("clusterIPs") or []
        if not (is_headless(new) and is_headless(before)):
            if former and not many:
                causes.append(v.invalid("spec.clusterIPs[0]", many, "primary clusterIP can not be unset"))
            for index, (address, other) in enumerate(zip(former, many, strict=False)):
                if address != other:
                    causes.append(v.invalid(f"spec.clusterIPs[{index}]", many, "may not change once set"))
        if not is_headless(new) and not is_headless(before):
            pairs = zip(before.get("ipFamilies") or (), new.get("ipFamilies") or (), strict=False)
            if any(family != other for family, other in pairs):
                causes.append(v.invalid("spec.ipFamilies[0]", new.get("ipFamilies"), "may not change once set"))
    if new["type"] == before["type"] == "LoadBalancer":
        name = new.get("loadBalancerClass")
        if name != before.get("loadBalancerClass"):
            causes.append(v.invalid("spec.loadBalancerClass", name, "may not change once set"))
    both = needs_health_check(new) and needs_health_check(before)
    if both and new.get("healthCheckNodePort") != before.get("healthCheckNodePort"):
        causes.append(v.forbidden("spec.healthCheckNodePort", "field is immutable"))
    return causes


def validate_status(obj: Object) -> list[Cause]:
    """Check the addresses of a load balancer (`ValidateLoadBalancerStatus`)."""
    causes = []
    at = "status.loadBalancer.ingress"
    ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    if ingress and obj["spec"]["type"] != "LoadBalancer":
        causes.append(v.forbidden(at, "may only be used when `spec.type` is LoadBalancer"))
        return causes
    for index, one in enumerate(ingress):
        here = f"{at}[{index}]"
        address, name, mode = one.get("ip"), one.get("hostname"), one.get("ipMode")
        if address and v.parse_ip(address) is None:
            causes.append(v.invalid(f"{here}.ip", address, v.IP_ERROR))
        if mode is not None and mode not in ("VIP", "Proxy"):
            causes.append(v.not_supported(f"{here}.ipMode", mode, ("Proxy", "VIP")))
        if mode is not None and not address:
            causes.append(v.forbidden(f"{here}.ipMode", "may not be specified when `ip` is not set"))
        if address and mode is None:
            causes.append(v.required(f"{here}.ipMode", "must be specified when `ip` is set"))
        if name:
            causes += v.each(f"{here}.hostname", name, v.dns1123_subdomain(name))
            if v.parse_ip(name) is not None:
                causes.append(v.invalid(f"{here}.hostname", name, "must be a DNS name, not an IP address"))
    return causes
