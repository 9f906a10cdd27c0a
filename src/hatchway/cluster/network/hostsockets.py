"""Opens the sockets of node ports and load balancers on this machine's addresses, outside the cluster's network."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Sequence

from hatchway.cluster import plan, sockets


class HostSockets:
    """Opens sockets on the addresses of this machine that the cluster may use, and on no others.

    These are node ports on the published addresses (127.0.0.1 and the addresses of `hatchway up --publish`), and all
    ports of load balancers' addresses, which are loopback addresses.

    published: the addresses for node ports.
    """

    def __init__(self, published: Sequence[str]) -> None:
        self._published = frozenset(published)

    def open(self, protocol: str, ip: str, port: int) -> socket.socket:
        """Open a socket in non-blocking mode: listening for "TCP", bound for "UDP".

        Raises OSError: EACCES for an address that the cluster may not open, EADDRINUSE when another program uses it.
        """
        if protocol not in ("TCP", "UDP") or not self._is_allowed(ip, port):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return sockets.listen(ip, port) if protocol == "TCP" else sockets.datagram(ip, port)

    def _is_allowed(self, ip: str, port: int) -> bool:
        try:
            address = ipaddress.IPv4Address(ip)
        except ValueError:
            return False
        if address in plan.BALANCER_CIDR:
            return 0 < port < 65536
        return ip in self._published and port in plan.NODE_PORTS
