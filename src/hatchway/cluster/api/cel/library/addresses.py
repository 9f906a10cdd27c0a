"""Addresses, networks and URLs (apiserver `pkg/cel/library/ip.go`, `cidr.go`, `urls.go`)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import unquote_plus

from hatchway.cluster.api.cel.celtypes import Overload
from hatchway.cluster.api.cel.library.declaring import declare, traversal, twice_traversal
from hatchway.cluster.api.cel.values import EvaluationError, Value
from hatchway.rewrite.gourl import URL, GoURLError, parse_request_uri, quoted

__all__ = ["address_library"]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
_LONGEST = 64 * 1024
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class AddressValue:
    """An IP address."""

    address: _Address
    type_name: ClassVar[str] = "net.IP"


@dataclass(frozen=True, slots=True)
class NetworkValue:
    """An address with the length of a network's prefix."""

    interface: _Interface
    type_name: ClassVar[str] = "net.CIDR"


@dataclass(frozen=True, slots=True)
class UrlValue:
    """A URL."""

    url: URL
    type_name: ClassVar[str] = "kubernetes.URL"


def _parse_address(text: str) -> AddressValue:
    shown = text[:128]
    try:
        found = ipaddress.ip_address(text) if len(text) <= 64 else None
    except ValueError:
        found = None
    if found is None:
        why = f'ParseAddr("{shown}"): unable to parse IP'
        raise EvaluationError(f'IP Address "{shown}" parse error during conversion from string: {why}')
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            raise EvaluationError(f'IP address "{shown}" with zone value is not allowed')
        if found.ipv4_mapped is not None:
            raise EvaluationError(f'IPv4-mapped IPv6 address "{shown}" is not allowed')
    return AddressValue(found)


def _parse_network(text: str) -> NetworkValue:
    shown = text[:128]
    address, slash, bits = text.partition("/")
    why = "network address parse error during conversion from string: "
    is_number = bits.isascii() and bits.isdigit() and (bits == "0" or not bits.startswith("0"))
    if not slash or not is_number or len(text) > 80 or "%" in address:
        reason = "no '/'" if not slash else "bad bits after slash"
        raise EvaluationError(f'{why}{why}netip.ParsePrefix("{shown}"): {reason}')
    try:
        found = ipaddress.ip_interface(text)
    except ValueError:
        raise EvaluationError(f'{why}{why}netip.ParsePrefix("{shown}"): unable to parse') from None
    if isinstance(found, ipaddress.IPv6Interface) and found.ip.ipv4_mapped is not None:
        raise EvaluationError(f'{why}IPv4-mapped IPv6 address "{shown}" is not allowed')
    return NetworkValue(found)


def _holds(parse: object, text: str) -> bool:
    try:
        parse(text)  # type: ignore[operator]
    except EvaluationError:
        return False
    return True


def _contains(network: NetworkValue, address: AddressValue) -> bool:
    return address.address in network.interface.network


def _contains_network(network: NetworkValue, other: NetworkValue) -> bool:
    outer, inner = network.interface.network, other.interface.network
    return outer.version == inner.version and outer.prefixlen <= inner.prefixlen and inner.network_address in outer


def _masked(network: NetworkValue) -> NetworkValue:
    found = network.interface.network
    return NetworkValue(ipaddress.ip_interface(f"{found.network_address}/{found.prefixlen}"))


def _is_global_unicast(value: AddressValue) -> bool:
    found = value.address
    if isinstance(found, ipaddress.IPv4Address) and found == ipaddress.IPv4Address("255.255.255.255"):
        return False
    return not (found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local)


def _is_local_multicast(value: AddressValue) -> bool:
    packed = value.address.packed
    return packed[:3] == b"\xe0\x00\x00" if len(packed) == 4 else packed[0] == 0xFF and packed[1] & 0x0F == 2


def _address_bytes(value: Value) -> int:
    return len(value.interface.ip.packed)


def _contains_cost(args: tuple[Value, ...], result: Value) -> int:
    cost = -(-2 * _address_bytes(args[0]) // 10)
    return cost + (-(-len(args[1]) // 10) if isinstance(args[1], str) else 0)


def _contains_network_cost(args: tuple[Value, ...], result: Value) -> int:
    return _contains_cost(args, result) + -(-_address_bytes(args[0]) // 10) + 1


# URLs


def parse_url(text: str) -> UrlValue:
    """Parse an absolute URL or an absolute path (Go's url.ParseRequestURI). Raises EvaluationError."""
    try:
        if len(text) > _LONGEST:
            raise GoURLError(f"parse {quoted(text[:256].encode())}: invalid URI for request")
        return UrlValue(parse_request_uri(text.encode()))
    except GoURLError as error:
        raise EvaluationError(f"URL parse error during conversion from string: {error}") from None


def _split_host(url: UrlValue) -> tuple[str, str]:
    """Return host and port (net/url's splitHostPort)."""
    host, colon, port = url.url.host.decode(errors="replace").rpartition(":")
    if not colon or (port and not (port.isascii() and port.isdigit())):
        host, port = host + colon + port, ""
    return (host[1:-1] if host.startswith("[") and host.endswith("]") else host), port


def _query(url: UrlValue) -> dict[str, list[str]]:
    """Return the values of each key in a URL's query. As in Go, pairs with `;` or a broken escape are left out."""
    found: dict[str, list[str]] = {}
    for pair in url.url.raw_query.decode(errors="replace").split("&"):
        if pair and ";" not in pair and not _BROKEN_ESCAPE.search(pair):
            key, _, value = pair.partition("=")
            found.setdefault(unquote_plus(key), []).append(unquote_plus(value))
    return found


def address_library() -> Iterator[Overload]:
    """Yield the functions of IP addresses, networks and URLs."""
    yield declare("string_to_ip", "ip(string) IP", _parse_address, traversal)
    yield declare("is_ip", "isIP(string) bool", lambda text: _holds(_parse_address, text), traversal)
    yield declare("ip_is_canonical", ".ip.isCanonical(string) bool",
                  lambda text: str(_parse_address(text).address) == text, twice_traversal)  # fmt: skip
    yield declare("ip_family", "IP.family() int", lambda value: value.address.version + 0)
    yield declare("ip_is_unspecified", "IP.isUnspecified() bool", lambda value: value.address.is_unspecified)
    yield declare("ip_is_loopback", "IP.isLoopback() bool", lambda value: value.address.is_loopback)
    yield declare("ip_is_link_local_multicast", "IP.isLinkLocalMulticast() bool", _is_local_multicast)
    yield declare("ip_is_link_local_unicast", "IP.isLinkLocalUnicast() bool", lambda one: one.address.is_link_local)
    yield declare("ip_is_global_unicast", "IP.isGlobalUnicast() bool", _is_global_unicast)
    yield declare("ip_to_string", "string(IP) string", lambda value: str(value.address))
    yield declare("string_to_cidr", "cidr(string) CIDR", _parse_network, traversal)
    yield declare("is_cidr", "isCIDR(string) bool", lambda text: _holds(_parse_network, text), traversal)
    yield declare("cidr_contains_ip_string", "CIDR.containsIP(string) bool",
                  lambda value, text: _contains(value, _parse_address(text)), _contains_cost)  # fmt: skip
    yield declare("cidr_contains_ip_ip", "CIDR.containsIP(IP) bool", _contains, _contains_cost)
    yield declare("cidr_contains_cidr_string", "CIDR.containsCIDR(string) bool",
                  lambda value, text: _contains_network(value, _parse_network(text)),
                  _contains_network_cost)  # fmt: skip
    yield declare("cidr_contains_cidr", "CIDR.containsCIDR(CIDR) bool", _contains_network, _contains_network_cost)
    yield declare("cidr_ip", "CIDR.ip() IP", lambda value: AddressValue(value.interface.ip))
    yield declare("cidr_prefix_length", "CIDR.prefixLength() int", lambda value: value.interface.network.prefixlen)
    yield declare("cidr_masked", "CIDR.masked() CIDR", _masked)
    yield declare("cidr_to_string", "string(CIDR) string", lambda value: str(value.interface))
    yield declare("string_to_url", "url(string) URL", parse_url, traversal)
    yield declare("is_url_string", "isURL(string) bool", lambda text: _holds(parse_url, text), traversal)
    yield declare("url_get_scheme", "URL.getScheme() string", lambda url: url.url.scheme.decode())
    yield declare("url_get_host", "URL.getHost() string", lambda url: url.url.host.decode(errors="replace"))
    yield declare("url_get_hostname", "URL.getHostname() string", lambda url: _split_host(url)[0])
    yield declare("url_get_port", "URL.getPort() string", lambda url: _split_host(url)[1])
    yield declare("url_get_escaped_path", "URL.getEscapedPath() string", lambda url: url.url.escaped_path().decode())
    yield declare("url_get_query", "URL.getQuery() map(string, list(string))", _query)
