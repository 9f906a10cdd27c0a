"""Validates addresses in endpoints, in pods' statuses and in hostAliases (`pkg/apis/core/validation`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.errors import Cause


def endpoint_address(value: str, at: str, *, loopback: bool = False) -> list[Cause]:
    """Check that an address is neither loopback nor link-local (`ValidateEndpointIP`). loopback: allow 127/8."""
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
    """Check podIPs or hostIPs: at most one address of each family (`validatePodIPs`, `validateHostIPs`)."""
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
