"""Sockets of Services where there is no private network: all addresses are addresses of this machine."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from hatchway.cluster import sockets
from hatchway.cluster.network.hostsockets import HostSockets


class LoopbackSockets:
    """Opens sockets on loopback addresses. published: see `HostSockets`."""

    def __init__(self, published: Sequence[str]) -> None:
        self._host = HostSockets(published)

    def listen(self, ip: str, port: int, node_ip: str = "") -> socket.socket:
        """Listen, like `sockets.listen`. Raises OSError."""
        return sockets.listen(ip, port)

    def datagram(self, ip: str, port: int, node_ip: str = "") -> socket.socket:
        """Open a UDP socket, like `sockets.datagram`. Raises OSError."""
        return sockets.datagram(ip, port)

    async def publish(self, protocol: str, ip: str, port: int) -> socket.socket:
        """Open a socket on an address of this machine, like `ServiceSockets.publish`. Raises OSError."""
        return self._host.open(protocol, ip, port)

    def add_address(self, ip: str) -> None:
        """Refuse: this machine's addresses are not changed. Raises OSError (EADDRNOTAVAIL)."""
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

    def remove_address(self, ip: str) -> None:
        """Do nothing: no address is added."""
