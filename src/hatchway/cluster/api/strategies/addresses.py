"""Addresses in objects: of endpoints, of pods' statuses, in a pod's own files (`pkg/apis/core/validation`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api import validation as v
from hatchway.errors import Cause

_MAX_NAMESERVERS, _MAX_SEARCHES, _MAX_SEARCH_LENGTH = 3, 32, 2048


def endpoint_address(value: str, at: str, *, loopback: bool = False) -> list[Cause]:
    """`ValidateEndpointIP`: no address that reaches the node itself or its link. loopback: allow 127.0.0.0/8, too."""
    address = v.parse_ip(value)
    if address is None:
        return [v.invalid(at, value, v.IP_ERROR)]
    if address.is_unspecified:
        return [v.invalid(at, value, f"may not be unspecified ({value})")]
    if address.is_loopback and not (loopback and address.version == 4):
        return [v.invalid(at, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if address.is_link_local:
        return [v.invalid(at, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    if address.is_multicast:
        return [v.invalid(at, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")]
    return []


def several_addresses(items: list[dict[str, Any]], at: str) -> list[Cause]:
    """`status.podIPs` or `status.hostIPs`: valid, one of each family at most (`validatePodIPs`, `validateHostIPs`)."""
    values = [item.get("ip", "") for item in items]
    found = [v.parse_ip(value) for value in values]
    causes = [
        v.invalid(f"{at}[{index}]", value, v.IP_ERROR)
        for index, (value, address) in enumerate(zip(values, found, strict=True))
        if address is None
    ]
    families = [address.version for address in found if address is not None]
    if len(items) > 2 or len(set(families)) < len(families):
        causes.append(v.invalid(at, items[:3], "may specify no more than one IP for each IP family"))
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            causes.append(v.duplicate(f"{at}[{index}]", items[index]))
        seen.add(value)
    return causes


def host_aliases(aliases: list[dict[str, Any]], at: str, causes: list[Cause]) -> None:
    """`ValidateHostAliases`: they become lines of /etc/hosts."""
    for index, alias in enumerate(aliases):
        here = f"{at}[{index}]"
        address = alias.get("ip", "")
        if v.parse_ip(address) is None:
            causes.append(v.invalid(f"{here}.ip", address, v.IP_ERROR))
        for number, name in enumerate(alias.get("hostnames") or ()):
            causes += v.each(f"{here}.hostnames[{number}]", name, v.dns1123_subdomain(name))


def dns_config(spec: dict[str, Any], at: str, causes: list[Cause]) -> None:
    """`validatePodDNSConfig`: it becomes /etc/resolv.conf. spec: the pod's, at: its path."""
    config = spec.get("dnsConfig")
    where = f"{at}.dnsConfig"
    if spec.get("dnsPolicy") == "None":
        if config is None:
            causes.append(v.required(where, "must provide `dnsConfig` when `dnsPolicy` is None"))
            return
        if not config.get("nameservers"):
            why = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            causes.append(v.required(f"{where}.nameservers", why))
            return
    if config is None:
        return
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > _MAX_NAMESERVERS:
        why = f"must not have more than {_MAX_NAMESERVERS} nameservers"
        causes.append(v.invalid(f"{where}.nameservers", servers, why))
    for index, server in enumerate(servers):
        if v.parse_ip(server) is None:
            causes.append(v.invalid(f"{where}.nameservers[{index}]", server, v.IP_ERROR))
    if len(searches) > _MAX_SEARCHES:
        causes.append(v.invalid(f"{where}.searches", searches, f"must not have more than {_MAX_SEARCHES} search paths"))
    if len(" ".join(searches)) > _MAX_SEARCH_LENGTH:
        why = f"must not have more than {_MAX_SEARCH_LENGTH} characters (including spaces) in the search list"
        causes.append(v.invalid(f"{where}.searches", searches, why))
    for index, search in enumerate(searches):
        if search != ".":
            # Underscores are taken since 1.34 (RelaxedDNSSearchValidation).
            plain = search.removesuffix(".").replace("_", "-")
            causes += v.each(f"{where}.searches[{index}]", search, v.dns1123_subdomain(plain.strip("-") or plain))
    for index, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            causes.append(v.required(f"{where}.options[{index}]", "must not be empty"))
        elif any(one.isspace() for text in (option["name"], option.get("value") or "") for one in text):
            causes.append(v.invalid(f"{where}.options[{index}]", option, "must not contain whitespace"))
