"""Finds the node of a client by the addresses of nodes and their pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network
from typing import NamedTuple


class NodePlace(NamedTuple):
    """One node. ip: its address. pods: the /24 range of its pods' addresses."""

    name: str
    ip: str
    pods: IPv4Network


class NodePlaces:
    """All nodes of a cluster, which do not change while it runs."""

    def __init__(self, places: Iterable[NodePlace] = ()) -> None:
        self.all = tuple(places)
        self.ips = {place.name: place.ip for place in self.all}
        self._by_ip = {place.ip: place.name for place in self.all}
        self._by_prefix = {_prefix(str(place.pods[0])): place.name for place in self.all}

    def node_of(self, ip: str) -> str | None:
        """Return the name of the node that has this address, or has a pod with it; None for other addresses."""
        return self._by_ip.get(ip) or self._by_prefix.get(_prefix(ip))


def _prefix(ip: str) -> str:
    return ip[: ip.rfind(".")]
