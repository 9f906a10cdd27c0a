"""The private network's router: a namespace that routes between the namespaces of nodes and pods."""

from __future__ import annotations

import socket
from typing import Any

from hatchway.cluster.network import linuxnamespaces, packetfilter
from hatchway.cluster.network.linuxnamespaces import Namespaces
from hatchway.cluster.network.netlink import Netlink


class PacketRouter:
    """Make the current network namespace the router.

    A packet is dropped when it arrives at an interface that does not lead back to its source address. Behind each
    interface is only one address, so no pod can send with another pod's address.

    config: see `launcher.py`; its `nodes`, `local` and `refused` are read.
    own: the current namespaces, which become the router's.

    no_filter: why packets cannot be filtered here (`packetfilter.py`); "" when they can.

    Raises OSError when the kernel refuses a step.
    """

    def __init__(self, config: dict[str, Any], own: Namespaces) -> None:
        self._own = own
        self._netlink = Netlink()
        self._netlink.set_up(loopback := socket.if_nametoindex("lo"))
        for node in config["nodes"]:
            self._netlink.add_address(loopback, node["gateway"])
        for network, prefix in config["local"]:
            self._netlink.add_local_route(loopback, network, prefix)
        for network, prefix in config["refused"]:
            self._netlink.refuse(network, prefix)
        for setting, value in (("rp_filter", "1"), ("accept_redirects", "0"), ("send_redirects", "0")):
            for which in ("all", "default"):
                linuxnamespaces.set_sysctl(f"net/ipv4/conf/{which}/{setting}", value)
        # Answer each datagram that a network policy forbids. By default, the kernel answers six, then one a second.
        linuxnamespaces.set_sysctl("net/ipv4/icmp_ratelimit", "0")
        self.no_filter = packetfilter.obstacle()
        linuxnamespaces.set_sysctl("net/ipv4/ip_forward", "1")
        linuxnamespaces.set_sysctl("net/ipv4/ip_unprivileged_port_start", "0")

    def connect(self, link: str, ip: str, gateway: str) -> None:
        """Connect a new network namespace to the router. Call it while this process is in that namespace.

        link: the name of the router's end of the pair of interfaces.
        ip: the namespace's only address.
        gateway: the address that the router has for the namespace.

        Raises OSError.
        """
        with Netlink() as netlink:
            netlink.set_up(socket.if_nametoindex("lo"))
            netlink.add_veth("eth0", ip, link, self._own.net)
            index = socket.if_nametoindex("eth0")
            # IPv6 addresses would only delay the start (duplicate address detection); ::1 stays.
            linuxnamespaces.set_sysctl("net/ipv6/conf/eth0/disable_ipv6", "1")
            netlink.add_address(index, ip)
            netlink.set_up(index)
            netlink.add_link_route(index, gateway, ip)
            netlink.add_default_route(gateway)
        linuxnamespaces.set_sysctl("net/ipv4/ip_unprivileged_port_start", "0")
        linuxnamespaces.set_sysctl("net/ipv4/ping_group_range", "0 0")

    def route_to(self, link: str, ip: str, gateway: str) -> None:
        """Add the router's side of `connect`, with the same arguments. Raises OSError.

        Call it in the router's namespace.
        """
        linuxnamespaces.set_sysctl(f"net/ipv6/conf/{link}/disable_ipv6", "1")
        index = socket.if_nametoindex(link)
        self._netlink.set_up(index)
        self._netlink.add_link_route(index, ip, gateway)

    def use_gateway(self, ip: str) -> None:
        """Send everything that is not for the cluster to `ip`, to which `route_to` has made a route. Raises OSError."""
        self._netlink.add_default_route(ip)

    def remove(self, link: str) -> None:
        """Delete a link, and with it the namespace's end. Raises OSError."""
        self._netlink.delete_link(link)
