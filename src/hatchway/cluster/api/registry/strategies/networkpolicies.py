"""NetworkPolicies (networking.k8s.io/v1): defaults and validation (`pkg/apis/networking`).

`cluster/policies/` enforces network policies. Where this is impossible, clients that write them get a warning.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["NetworkPolicyStrategy"]

Json = dict[str, Any]

NOT_ENFORCED = "This cluster stores NetworkPolicies but does not enforce them, so all pods can reach each other"
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_TYPES = ("Egress", "Ingress")
# Limits the time of one validation. Real policies need less.
_MOST_ADDRESSES = 10_000


class NetworkPolicyStrategy(Strategy):
    """NetworkPolicies (`pkg/registry/networking/networkpolicy/strategy.go`).

    not_enforced: why network policies are not enforced; "" when they are.
    """

    generation = True

    def __init__(self, not_enforced: str = "") -> None:
        self._not_enforced = not_enforced

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set protocols and policyTypes (`SetDefaults_NetworkPolicy`)."""
        spec = obj.get("spec")
        if spec is None:
            return
        for rule in (*(spec.get("ingress") or ()), *(spec.get("egress") or ())):
            for port in rule.get("ports") or ():
                if port.get("protocol") is None:
                    port["protocol"] = "TCP"
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in selectors, ports, peers and types (`ValidateNetworkPolicySpec`)."""
        spec = obj.get("spec") or {}
        causes = v.label_selector(spec.get("podSelector") or {}, "spec.podSelector")
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for number, rule in enumerate(spec.get(direction) or ()):
                at = f"spec.{direction}[{number}]"
                for index, port in enumerate(rule.get("ports") or ()):
                    causes += _port(port, f"{at}.ports[{index}]")
                for index, peer in enumerate(rule.get(peers) or ()):
                    causes += _peer(peer, f"{at}.{peers}[{index}]")
        types = spec.get("policyTypes") or ()
        if len(types) > len(_TYPES):
            return [*causes, v.invalid("spec.policyTypes", types, "may not specify more than two policyTypes")]
        return causes + [
            v.not_supported(f"spec.policyTypes[{index}]", one, _TYPES)
            for index, one in enumerate(types)
            if one not in _TYPES
        ]

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        """Return the warning that a new or changed policy has no effect; [] where policies are enforced."""
        changed = old is None or obj.get("spec") != old.get("spec")
        return [f"{NOT_ENFORCED}: {self._not_enforced}"] if self._not_enforced and changed else []


def _port(port: Json, at: str) -> list[Cause]:
    causes = []
    protocol = port.get("protocol")
    if protocol is not None and protocol not in _PROTOCOLS:
        causes.append(v.not_supported(f"{at}.protocol", protocol, _PROTOCOLS))
    number, end = port.get("port"), port.get("endPort")
    if number is None:
        if end is not None:
            causes.append(v.invalid(f"{at}.endPort", end, "may not be specified when `port` is not specified"))
    elif isinstance(number, str):
        if end is not None:
            causes.append(v.invalid(f"{at}.endPort", end, "may not be specified when `port` is non-numeric"))
        causes += v.each(f"{at}.port", number, v.port_name(number))
    else:
        causes += [v.invalid(f"{at}.port", number, message) for message in v.port_number(number)]
        if end is not None:
            if end < number:
                causes.append(v.invalid(f"{at}.endPort", end, "must be greater than or equal to `port`"))
            causes += [v.invalid(f"{at}.endPort", end, message) for message in v.port_number(end)]
    return causes


def _peer(peer: Json, at: str) -> list[Cause]:
    causes = []
    given = [key for key in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(key) is not None]
    for key in ("podSelector", "namespaceSelector"):
        if key in given:
            causes += v.label_selector(peer[key], f"{at}.{key}")
    if "ipBlock" in given:
        causes += _ip_block(peer["ipBlock"], f"{at}.ipBlock")
    if not given:
        causes.append(v.required(at, "must specify a peer"))
    elif len(given) > 1 and "ipBlock" in given:
        causes.append(v.forbidden(at, "may not specify both ipBlock and another peer"))
    return causes


def _ip_block(block: Json, at: str) -> list[Cause]:
    """Return the errors in an address range and its exceptions (`ValidateIPBlock`)."""
    whole = block.get("cidr") or ""
    if not whole:
        return [v.required(f"{at}.cidr")]
    if causes := v.cidr(f"{at}.cidr", whole):
        return causes
    network = _network(whole)
    exceptions = block.get("except") or ()
    if len(exceptions) > _MOST_ADDRESSES:
        return [v.too_many(f"{at}.except", len(exceptions), _MOST_ADDRESSES)]
    causes = []
    for index, one in enumerate(exceptions):
        place = f"{at}.except[{index}]"
        if wrong := v.cidr(place, one):
            causes += wrong
            continue
        inner = _network(one)
        contained = inner.version == network.version and inner.network_address in network
        if not contained or inner.prefixlen <= network.prefixlen:
            causes.append(v.invalid(place, one, "must be a strict subset of `cidr`"))
    return causes


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Parse a valid range. Like Go's parser, this accepts addresses with leading zeros."""
    address, _, length = text.partition("/")
    return ipaddress.ip_network(f"{v.parse_ip(address)}/{length}", strict=False)
