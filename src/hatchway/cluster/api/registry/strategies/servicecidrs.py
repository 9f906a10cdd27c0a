"""ServiceCIDRs and IPAddresses (networking.k8s.io/v1): validation (`pkg/apis/networking/validation`)."""

from __future__ import annotations

import ipaddress

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["IPAddressStrategy", "ServiceCIDRStrategy"]

_IMMUTABLE = "field is immutable"
_ONE_OF_EACH = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"


class IPAddressStrategy(Strategy):
    """IPAddresses (`pkg/registry/networking/ipaddress`): the name of the object is the address."""

    generation = True

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        """Return the errors in the name: an address in its canonical form."""
        return _address_errors(name)

    def has_status(self, obj: Object) -> bool:
        """Return False: the type has no status."""
        return False

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the reference to the object that has the address."""
        parent = (obj.get("spec") or {}).get("parentRef")
        at = "spec.parentRef"
        if parent is None:
            return [v.required(at)]
        group, causes = parent.get("group") or "", []
        if group:
            causes += v.each(f"{at}.group", group, v.dns1123_subdomain(group))
        for key in ("resource", "name", "namespace"):
            value = parent.get(key) or ""
            if value:
                causes += v.each(f"{at}.{key}", value, v.path_segment(value))
            elif key != "namespace":
                causes.append(v.required(f"{at}.{key}"))
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: the reference never changes."""
        new, before = ((one.get("spec") or {}).get("parentRef") for one in (obj, old))
        return self.validate(obj) + v.immutable(new, before, "spec.parentRef")


class ServiceCIDRStrategy(Strategy):
    """ServiceCIDRs (`pkg/registry/networking/servicecidr`): ranges from which Services get their addresses."""

    generation = True
    empty_status = True

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the ranges: there must be one range, or one of each family."""
        at, ranges = "spec.cidrs", _ranges(obj)
        if not ranges:
            return [v.required(at, "at least one CIDR required")]
        if len(ranges) > 2:
            return [v.invalid(at, obj["spec"], "may only hold up to 2 values")]
        causes = [
            cause for index, text in enumerate(ranges) for cause in v.each(f"{at}[{index}]", text, _range_errors(text))
        ]
        families = [":" in text for text in ranges]
        if not causes and len(families) == 2 and families[0] == families[1]:
            causes.append(v.invalid(at, ranges, _ONE_OF_EACH))
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: only a range of the other family may be added."""
        at, new, before = "spec.cidrs", _ranges(obj), _ranges(old)
        if len(new) == len(before):
            return [
                v.invalid(f"{at}[{index}]", one, _IMMUTABLE)
                for index, (one, former) in enumerate(zip(new, before, strict=True))
                if one != former
            ]
        if (len(before), len(new)) != (1, 2):
            return [v.invalid(at, new, _IMMUTABLE)]
        causes = [] if new[0] == before[0] else [v.invalid(f"{at}[0]", new[0], _IMMUTABLE)]
        return causes + self.validate(obj)


def _ranges(obj: Object) -> list[str]:
    return list((obj.get("spec") or {}).get("cidrs") or ())


def _address_errors(text: str) -> list[str]:
    """Return the errors in an address (`IsValidIP` of apimachinery's `pkg/util/validation/ip.go`)."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return [v.IP_ERROR]
    if "%" in text:
        return [v.IP_ERROR]
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return ["must not be an IPv4-mapped IPv6 address"]
    return [] if text == str(found) else [f"must be in canonical form ({v.quote(str(found))})"]


def _range_errors(text: str) -> list[str]:
    """Return the errors in a range (`IsValidCIDR` of apimachinery's `pkg/util/validation/ip.go`)."""
    if v.cidr("", text):
        return [v.CIDR_ERROR]
    found = ipaddress.ip_address(text.partition("/")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return ["must not have an IPv4-mapped IPv6 address"]
    network = ipaddress.ip_network(text, strict=False)
    if network.network_address != found:
        return ["must not have bits set beyond the prefix length"]
    return [] if text == str(network) else [f"must be in canonical form ({v.quote(str(network))})"]
