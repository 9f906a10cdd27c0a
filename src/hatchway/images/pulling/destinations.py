"""The addresses to which a registry may lead Hatchway, by a redirect or by the realm of its tokens. Pure.

A registry may be hostile, or a pod behind a node port. Without these rules, the registry could make Hatchway send
requests to this machine's other servers, to a router, or to a cloud's metadata service (server-side request forgery).
"""

from __future__ import annotations

import socket
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult

from hatchway.images.pulling.registries import is_local

# NAT64 (RFC 6052): the last 32 bits are an IPv4 address.
_NAT64 = ip_network("64:ff9b::/96")
# Metadata services of clouds (Azure, Alibaba, Oracle, Amazon) without a link-local address. Pods cannot reach these
# addresses, either (docs/egress.md).
_METADATA = frozenset(map(ip_address, ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")))


class Reach(IntEnum):
    """From where an address can be reached: the whole Internet, networks of an organisation, one machine or link."""

    PUBLIC = 0
    PRIVATE = 1
    LOCAL = 2


def reach_of(host: str) -> Reach:
    """Return the reach of an address, or of a name before it is looked up.

    Names are public, except for `localhost`. Metadata services of clouds count as local, like link-local addresses.
    """
    address = _address(host)
    if address is None:
        return Reach.LOCAL if is_local(host.rstrip(".").lower()) else Reach.PUBLIC
    address = _embedded(address)
    if (
        address in _METADATA
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address.is_multicast
    ):
        return Reach.LOCAL
    return Reach.PUBLIC if address.is_global else Reach.PRIVATE


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address in a host name; None for other names. Like resolvers, accept `127.1` and `0x7f000001`."""
    try:
        return ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host.rstrip(".")))
    except (OSError, ValueError):
        return None


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address contains (NAT64, 6to4 or mapped); else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def may_lead(registry: Reach, target: Reach) -> bool:
    """Return True when a registry may name a host of this reach without a setting.

    Only a registry in a private network may name other private addresses. No registry may name local addresses:
    a registry on this machine may be a pod.
    """
    return target is Reach.PUBLIC or (target is Reach.PRIVATE and registry is Reach.PRIVATE)


def authority_of(parts: SplitResult) -> str:
    """Return a URL's host and port as `redirects-to` of registries.toml has them; default ports are left out."""
    port = None if parts.port == default_port(parts) else parts.port
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return host if port is None else f"{host}:{port}"


def is_same_server(parts: SplitResult, other: SplitResult) -> bool:
    """Return True for URLs with the same host and port. `localhost`, 127.0.0.1 and ::1 are one host."""
    return _server(parts) == _server(other)


def _server(parts: SplitResult) -> tuple[str, int]:
    host = (parts.hostname or "").rstrip(".")
    return "localhost" if host in ("localhost", "127.0.0.1", "::1") else host, parts.port or default_port(parts)


def default_port(parts: SplitResult) -> int:
    """Return the default port of a URL's scheme."""
    return 443 if parts.scheme == "https" else 80
