"""Sets of IP addresses, and their meaning: the Internet, a part of it, private networks or one machine. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

# Who can connect, from many clients to none; "unknown" when the addresses could not be read.
Reach = Literal["unknown", "internet", "restricted", "private", "machine", "nobody"]
REACHES: Final[tuple[Reach, ...]] = ("unknown", "internet", "restricted", "private", "machine", "nobody")

_Interval = tuple[int, int]
# From this number of public addresses on, a set is "the Internet": a /8 of IPv4, a /24 of IPv6.
_MANY = {4: 1 << 24, 6: 1 << 104}


@dataclass(frozen=True)
class AddressSet:
    """A set of client addresses. v4, v6: sorted intervals (first, last) with gaps between them."""

    v4: tuple[_Interval, ...] = ()
    v6: tuple[_Interval, ...] = ()

    @classmethod
    def parse(cls, ranges: Iterable[str]) -> AddressSet:
        """Return the addresses of CIDR ranges and single addresses. Texts that are neither are left out."""
        found: dict[int, list[_Interval]] = {4: [], 6: []}
        for text in ranges:
            try:
                network = ipaddress.ip_network(text.strip(), strict=False)
            except ValueError:
                continue
            first = int(network.network_address)
            found[network.version].append((first, first + network.num_addresses - 1))
        return cls(_merged(found[4]), _merged(found[6]))

    def __bool__(self) -> bool:
        return bool(self.v4 or self.v6)

    def __or__(self, other: AddressSet) -> AddressSet:
        return AddressSet(_merged([*self.v4, *other.v4]), _merged([*self.v6, *other.v6]))

    def __and__(self, other: AddressSet) -> AddressSet:
        return AddressSet(_common(self.v4, other.v4), _common(self.v6, other.v6))

    def __sub__(self, other: AddressSet) -> AddressSet:
        return AddressSet(_without(self.v4, other.v4, 32), _without(self.v6, other.v6, 128))

    @cached_property
    def reach(self) -> Reach:
        """Return the reach of the most public addresses in the set."""
        public = self - _NOT_PUBLIC
        for version, intervals in ((4, public.v4), (6, public.v6)):
            if sum(last - first + 1 for first, last in intervals) >= _MANY[version]:
                return "internet"
        if public:
            return "restricted"
        if self - MACHINE:
            return "private"
        return "machine" if self else "nobody"

    def shown(self, most: int = 4) -> str:
        """Return the addresses as CIDR ranges, at most `most` of them."""
        found: list[str] = []
        for intervals, kind in ((self.v4, ipaddress.IPv4Address), (self.v6, ipaddress.IPv6Address)):
            for first, last in intervals:
                for network in ipaddress.summarize_address_range(kind(first), kind(last)):
                    if len(found) == most:
                        return ", ".join(found) + " ..."
                    found.append(str(network))
        return ", ".join(found)


def _merged(intervals: Iterable[_Interval]) -> tuple[_Interval, ...]:
    found: list[_Interval] = []
    for first, last in sorted(intervals):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return tuple(found)


def _common(one: tuple[_Interval, ...], two: tuple[_Interval, ...]) -> tuple[_Interval, ...]:
    found: list[_Interval] = []
    left = right = 0
    while left < len(one) and right < len(two):
        first, last = max(one[left][0], two[right][0]), min(one[left][1], two[right][1])
        if first <= last:
            found.append((first, last))
        if one[left][1] < two[right][1]:
            left += 1
        else:
            right += 1
    return tuple(found)


def _without(one: tuple[_Interval, ...], two: tuple[_Interval, ...], bits: int) -> tuple[_Interval, ...]:
    """Return the addresses of `one` that are not in `two`: those in the gaps of `two`."""
    gaps: list[_Interval] = []
    begin = 0
    for first, last in two:
        if first > begin:
            gaps.append((begin, first - 1))
        begin = last + 1
    if begin < 1 << bits:
        gaps.append((begin, (1 << bits) - 1))
    return _common(one, tuple(gaps))


EVERYWHERE: Final = AddressSet.parse(("0.0.0.0/0", "::/0"))
NOWHERE: Final = AddressSet()
# One machine: loopback addresses.
MACHINE: Final = AddressSet.parse(("127.0.0.0/8", "::1"))
# Private networks (RFC 1918, RFC 4193), shared address space (RFC 6598), link-local addresses.
PRIVATE: Final = AddressSet.parse(
    ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10")
)
# PRIVATE, MACHINE, and addresses from which no connection can come: "this network", multicast, reserved, unspecified.
_NOT_PUBLIC: Final = PRIVATE | MACHINE | AddressSet.parse(("0.0.0.0/8", "224.0.0.0/3", "::", "ff00::/8"))


def audience_of(address: str) -> AddressSet | None:
    """Return the clients that can reach an address, as far as the address alone shows this; None for other texts.

    All clients can reach a public address, private networks a private one, and this machine a loopback address.
    """
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return None
    reach = AddressSet.parse((address,)).reach
    if reach in ("internet", "restricted"):
        return EVERYWHERE
    return PRIVATE if reach == "private" else MACHINE


def worst(reaches: Iterable[Reach]) -> Reach:
    """Return the most public of several reaches; "nobody" for none."""
    return min(reaches, key=REACHES.index, default="nobody")
