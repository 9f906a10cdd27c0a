"""The egress gateway: a network namespace between the router and the interface to other networks.

    pods, nodes --- router --- gateway --- uplink (pasta's or slirp4netns' TAP interface)

The router sends the gateway all packets that are not for the cluster. The gateway refuses some destinations, and
replaces the source address of outgoing packets by its own (masquerading), so all pods share one address outside.
Without an uplink, the gateway answers "network is unreachable" at once. Network policies are applied before, in the
router.

In the cluster's network, the gateway has one address, at which `hostnames.py` answers DNS queries.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from hatchway.cluster.network import linuxnamespaces, netlink
from hatchway.cluster.network import nftables as nft
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.egress import netmessages
from hatchway.cluster.network.linuxnamespaces import Namespaces
from hatchway.cluster.network.netlink import Netlink
from hatchway.cluster.network.router import PacketRouter

_LINK: Final = "hw-egress"
_DNS_PORT: Final = 53
_BACKLOG: Final = 128
_KNOWN: Final = struct.pack("=I", nft.ESTABLISHED | nft.RELATED)
# Priorities of chains: NF_IP_PRI_RAW (before connection tracking), NF_IP_PRI_NAT_SRC.
_RAW: Final = -300
_SOURCE_NAT: Final = 100
_TCP: Final = b"\x06"
_RST: Final = 0x04
_ACK: Final = 0x10


@dataclass(frozen=True, slots=True)
class EgressGateway:
    """The descriptors of the gateway's network namespace.

    network: the namespace itself. routes: a netlink socket for changes of routes (`Netlink`). links: a netlink socket
    for messages about interfaces. queries, connections: the name server's sockets: UDP, and listening TCP.
    """

    network: int
    routes: socket.socket
    links: socket.socket
    queries: socket.socket
    connections: socket.socket

    def close(self) -> None:
        """Close all descriptors. The namespace stays while a process or the router's interface uses it."""
        os.close(self.network)
        for sock in (self.routes, self.links, self.queries, self.connections):
            sock.close()


def make_gateway(config: dict[str, Any], router: PacketRouter, own: Namespaces) -> EgressGateway:
    """Create the gateway, and let the router use it. Call it in the router's namespace. Raises OSError.

    config: `EgressTool.settings`. own: the router's namespaces.
    """
    nameserver, router_ip = config["nameserver"], config["router"]
    try:
        linux.unshare(linux.CLONE_NEWNET)
        with contextlib.ExitStack() as undo:
            network = linuxnamespaces.open_namespace("self", "net")
            undo.callback(os.close, network)
            routes = undo.enter_context(netlink.open_socket())
            _configure(Netlink(routes), own.net, config)
            filters = nft.NftSocket()
            undo.callback(filters.close)
            filters.transact(_rules(config["interface"]))
            links = undo.enter_context(netlink.open_socket(netmessages.LINKS))
            queries = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            queries.bind((nameserver, _DNS_PORT))
            connections = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            connections.bind((nameserver, _DNS_PORT))
            connections.listen(_BACKLOG)
            undo.pop_all()
            filters.close()
    finally:
        own.enter()
    made = EgressGateway(network, routes, links, queries, connections)
    try:
        router.route_to(_LINK, nameserver, router_ip)
        router.use_gateway(nameserver)
    except OSError:
        made.close()
        raise
    return made


def _configure(routes: Netlink, router: int, config: dict[str, Any]) -> None:
    nameserver, router_ip = config["nameserver"], config["router"]
    for which in ("all", "default"):
        linuxnamespaces.set_sysctl(f"net/ipv6/conf/{which}/disable_ipv6", "1")
        for setting, value in (("rp_filter", "1"), ("accept_redirects", "0"), ("send_redirects", "0")):
            linuxnamespaces.set_sysctl(f"net/ipv4/conf/{which}/{setting}", value)
    # No rate limit: the kernel answers each refused packet.
    linuxnamespaces.set_sysctl("net/ipv4/icmp_ratelimit", "0")
    linuxnamespaces.set_sysctl("net/ipv4/ip_unprivileged_port_start", "0")
    routes.set_up(socket.if_nametoindex("lo"))
    routes.add_veth("eth0", nameserver, _LINK, router)
    index = socket.if_nametoindex("eth0")
    routes.add_address(index, nameserver)
    routes.set_up(index)
    routes.add_link_route(index, router_ip, nameserver)
    for network, prefix in config["inside"]:
        routes.add_route(network, prefix, router_ip, index)
    for network, prefix in config["refused"]:
        routes.prohibit(network, prefix)
    linuxnamespaces.set_sysctl("net/ipv4/ip_forward", "1")


def _rules(interface: str) -> list[bytes]:
    """Return the filter's rules: masquerading of outgoing packets, and no incoming packets of unknown connections."""
    table = nft.Table("hatchway-egress")
    found = [table.make(), table.make_chain("leave", nft.POSTROUTING, _SOURCE_NAT, "nat")]
    found.append(table.add_rule("leave", nft.leaves_by(interface), nft.masquerade()))
    # pasta before April 2023 refuses a connection by a RST without the flag ACK, which clients ignore.
    reset = nft.protocol(), nft.compare(_TCP), nft.tcp_flags(), nft.compare(bytes([_RST]))
    found.append(table.make_chain("arrive", nft.PREROUTING, _RAW))
    found.append(table.add_rule("arrive", nft.arrives_at(interface), *reset, *nft.set_tcp_flags(_ACK)))
    for chain, hook in (("enter", nft.FORWARD), ("input", nft.INPUT)):
        unknown = nft.connection_state(), nft.keep_bits(_KNOWN), nft.compare(bytes(4))
        found.append(table.make_chain(chain, hook))
        found.append(table.add_rule(chain, nft.arrives_at(interface), *unknown, nft.decide(nft.DROP)))
    return found


class GatewayRoutes:
    """Changes the gateway's routes from another network namespace. routes: `EgressGateway.routes`."""

    def __init__(self, config: dict[str, Any], routes: socket.socket) -> None:
        self._config = config
        self._netlink = Netlink(routes)
        self._refused: set[tuple[str, int]] = set()

    def connect(self, index: int) -> None:
        """Use an interface as the uplink. The interface is new, and may already be gone. Raises OSError."""
        self._netlink.set_mtu(index, self._config["mtu"])
        with _already():
            self._netlink.add_address(index, self._config["ip"])
        self._netlink.set_up(index)
        with _already():
            self._netlink.add_route("0.0.0.0", 0, self._config["next_hop"], index)

    def refuse_only(self, networks: set[tuple[str, int]]) -> None:
        """Refuse exactly these networks: networks of the last call that are not among them are allowed again.

        Raises OSError.
        """
        for network in self._refused - networks:
            self._netlink.permit(*network)
            self._refused.discard(network)
        for network in networks - self._refused:
            with _already():
                self._netlink.prohibit(*network)
            self._refused.add(network)


@contextlib.contextmanager
def _already() -> Iterator[None]:
    """Suppress the error EEXIST."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
