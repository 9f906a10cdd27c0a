"""Opens sockets in the network namespaces of nodes and pods."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence

from hatchway.cluster import plan, sockets
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.netlink import Netlink

# Opens a socket on an address of this machine, outside the private network: protocol, address, port.
Publish = Callable[[str, str, int], Awaitable[socket.socket]]


class NodeNetworks:
    """Opens sockets in the namespace that has their address; a socket stays in its namespace.

    namespaces: descriptors of the nodes' network namespaces, by index; owned by this object.

    publisher: opens sockets outside; set by the owner. None while no such socket can be opened.
    """

    def __init__(self, namespaces: Sequence[int]) -> None:
        self.publisher: Publish | None = None
        self._added: Counter[str] = Counter()
        for descriptor in namespaces:
            os.set_inheritable(descriptor, False)
        self._by_address = {plan.node_ip(index): descriptor for index, descriptor in enumerate(namespaces)}
        self._own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def listen(self, ip: str, port: int, node_ip: str = "") -> socket.socket:
        """Listen, like `sockets.listen`, on a node's address or on an address that all nodes share. Raises OSError.

        node_ip: the node's own address, if `ip` is an address of the node's loopback interface; else "".
        """
        with self._at(node_ip or ip):
            return sockets.listen(ip, port)

    def datagram(self, ip: str, port: int, node_ip: str = "") -> socket.socket:
        """Open a UDP socket, like `sockets.datagram`, on the same addresses as `listen`. Raises OSError."""
        with self._at(node_ip or ip):
            return sockets.datagram(ip, port)

    async def publish(self, protocol: str, ip: str, port: int) -> socket.socket:
        """Open a socket on an address of this machine, like `ServiceSockets.publish`. Raises OSError."""
        if self.publisher is None:
            raise OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))
        return await self.publisher(protocol, ip, port)

    def add_address(self, ip: str) -> None:
        """Make an address local to the router's namespace. Raises OSError: EPERM for the cluster's own addresses."""
        if ip in self._by_address:
            return
        address = ipaddress.IPv4Address(ip)
        if any(address in network for network in (plan.POD_CIDR, plan.NODE_CIDR, plan.SERVICE_CIDR)):
            raise OSError(errno.EPERM, "the address belongs to the cluster's own network")
        if not self._added[ip]:
            with Netlink() as netlink:
                try:
                    netlink.add_local_route(socket.if_nametoindex("lo"), ip, 32)
                except OSError as error:
                    # An earlier node agent has added the address.
                    if error.errno != errno.EEXIST:
                        raise
        self._added[ip] += 1

    def remove_address(self, ip: str) -> None:
        """Undo `add_address`. Raises OSError."""
        if not self._added[ip]:
            return
        self._added[ip] -= 1
        if not self._added[ip]:
            del self._added[ip]
            with Netlink() as netlink:
                netlink.remove_local_route(socket.if_nametoindex("lo"), ip, 32)

    @contextlib.contextmanager
    def _at(self, ip: str) -> Iterator[None]:
        """Move this thread into the namespace of an address for a block, which must not await."""
        namespace = self._by_address.get(ip)
        if namespace is None:
            yield
            return
        with self.inside(namespace):
            yield

    @contextlib.contextmanager
    def inside(self, namespace: int) -> Iterator[None]:
        """Move only this thread into a network namespace for a block, which must not await. Raises OSError."""
        linux.setns(namespace, linux.CLONE_NEWNET)
        try:
            yield
        finally:
            linux.setns(self._own, linux.CLONE_NEWNET)
