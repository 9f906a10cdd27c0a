"""The part of rtnetlink(7) that builds the private network: veth pairs, addresses, routes.

No library is used, because the process that needs this (`init.py`) must stay small: every container starts as a fork of
it. A socket stays in the network namespace it was made in.
"""

from __future__ import annotations

import os
import socket
import struct

_NLMSG_ERROR = 2
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
_NEW = _NLM_F_CREATE | _NLM_F_EXCL
_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR, _RTM_NEWROUTE, _RTM_DELROUTE = 16, 17, 20, 24, 25

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_IFF_UP = 1
# Nearly the largest possible MTU, because these packets never leave this machine. A large MTU avoids fragments of long
# datagrams: old releases of pasta do not reassemble fragments.
_VETH_MTU = 65520
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7
_RT_TABLE_MAIN, _RT_TABLE_LOCAL = 254, 255
_RTPROT_BOOT = 3
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RT_SCOPE_HOST = 0, 253, 254
_RTN_UNICAST, _RTN_LOCAL, _RTN_UNREACHABLE, _RTN_PROHIBIT = 1, 2, 7, 8
_RTNH_F_ONLINK = 4


def attribute(kind: int, payload: bytes) -> bytes:
    """Return a netlink attribute, padded to a multiple of four bytes."""
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + bytes(-length % 4)


def _name(name: str) -> bytes:
    return attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _mac_address(address: str) -> bytes:
    """Return a locally administered MAC address made from the IP address, as in the CNI plugins' utils/hwaddr.

    Therefore, ARP caches stay valid when another interface gets the IP address.
    """
    return attribute(_IFLA_ADDRESS, b"\x0a\x58" + socket.inet_aton(address))


def _link(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def open_socket(groups: int = 0) -> socket.socket:
    """Return a socket of the current network namespace. groups: a mask of the groups whose messages it receives."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    sock.bind((0, groups))
    return sock


class Netlink:
    """A socket for requests.

    Every request waits for the kernel's answer, and raises OSError when the kernel refuses it.

    opened: a socket of another network namespace (`open_socket`); None to make a socket of the current namespace.
    """

    def __init__(self, opened: socket.socket | None = None) -> None:
        self._socket = open_socket() if opened is None else opened
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(self, kind: int, body: bytes, what: str, flags: int = 0) -> None:
        self._sequence += 1
        flags |= _NLM_F_REQUEST | _NLM_F_ACK
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, flags, self._sequence, 0) + body)
        while True:
            answer = self._socket.recv(65536)
            _, answer_kind, _, sequence, _ = struct.unpack_from("=IHHII", answer)
            if answer_kind == _NLMSG_ERROR and sequence == self._sequence:
                break
        number = -struct.unpack_from("=i", answer, 16)[0]
        if number:
            raise OSError(number, f"{what}: {os.strerror(number)}")

    def add_veth(self, name: str, address: str, peer: str, peer_namespace: int) -> None:
        """Make a pair of interfaces.

        name: the interface in this namespace. address: the interface's future IP address, from which the MAC address is
        made. peer: the name of the other interface. peer_namespace: a descriptor of that interface's network namespace.
        """
        size = attribute(_IFLA_MTU, struct.pack("=I", _VETH_MTU))
        there = _link() + _name(peer) + size + attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_namespace))
        data = attribute(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, there))
        info = attribute(_IFLA_LINKINFO, attribute(_IFLA_INFO_KIND, b"veth\0") + data)
        body = _link() + _name(name) + _mac_address(address) + size + info
        self._request(_RTM_NEWLINK, body, f"make the veth pair {name}, {peer}", _NEW)

    def set_up(self, index: int) -> None:
        """Switch an interface on."""
        self._request(_RTM_NEWLINK, _link(index, _IFF_UP, _IFF_UP), f"switch interface {index} on")

    def set_mtu(self, index: int, size: int) -> None:
        """Set the maximum number of bytes of a packet on an interface."""
        body = _link(index) + attribute(_IFLA_MTU, struct.pack("=I", size))
        self._request(_RTM_NEWLINK, body, f"set the MTU of interface {index}")

    def delete_link(self, name: str) -> None:
        """Delete an interface, and with it the other end of a pair."""
        self._request(_RTM_DELLINK, _link() + _name(name), f"delete interface {name}")

    def add_address(self, index: int, address: str) -> None:
        """Give an interface a single address, without a network prefix."""
        packed = socket.inet_aton(address)
        body = struct.pack("=BBBBI", socket.AF_INET, 32, 0, _RT_SCOPE_UNIVERSE, index)
        body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
        self._request(_RTM_NEWADDR, body, f"add the address {address}", _NEW)

    def add_link_route(self, index: int, address: str, source: str) -> None:
        """Route one address directly to an interface. source: the source address of packets on this route."""
        body = _route(32, _RT_TABLE_MAIN, _RT_SCOPE_LINK, _RTN_UNICAST)
        body += attribute(_RTA_DST, socket.inet_aton(address)) + attribute(_RTA_OIF, struct.pack("=I", index))
        body += attribute(_RTA_PREFSRC, socket.inet_aton(source))
        self._request(_RTM_NEWROUTE, body, f"add the route to {address}", _NEW)

    def add_default_route(self, gateway: str) -> None:
        """Send everything that has no other route to `gateway`."""
        body = _route(0, _RT_TABLE_MAIN, _RT_SCOPE_UNIVERSE, _RTN_UNICAST)
        body += attribute(_RTA_GATEWAY, socket.inet_aton(gateway))
        self._request(_RTM_NEWROUTE, body, f"add the default route by {gateway}", _NEW)

    def add_route(self, network: str, prefix: int, gateway: str, index: int) -> None:
        """Send everything to a network by way of `gateway`, which is reached directly through an interface."""
        body = _route(prefix, _RT_TABLE_MAIN, _RT_SCOPE_UNIVERSE, _RTN_UNICAST, _RTNH_F_ONLINK)
        if prefix:
            body += attribute(_RTA_DST, socket.inet_aton(network))
        body += attribute(_RTA_GATEWAY, socket.inet_aton(gateway)) + attribute(_RTA_OIF, struct.pack("=I", index))
        self._request(_RTM_NEWROUTE, body, f"add the route to {network}/{prefix}", _NEW)

    def prohibit(self, network: str, prefix: int) -> None:
        """Refuse packets to a network with "administratively prohibited", unless another route leads to the address."""
        self._request(_RTM_NEWROUTE, _prohibition(network, prefix), f"prohibit {network}/{prefix}", _NEW)

    def permit(self, network: str, prefix: int) -> None:
        """Undo `prohibit`."""
        self._request(_RTM_DELROUTE, _prohibition(network, prefix), f"permit {network}/{prefix}")

    def add_local_route(self, index: int, network: str, prefix: int) -> None:
        """Make every address of a network local ("AnyIP")."""
        body = _local_route(index, network, prefix)
        self._request(_RTM_NEWROUTE, body, f"make {network}/{prefix} local", _NEW)

    def remove_local_route(self, index: int, network: str, prefix: int) -> None:
        """Undo `add_local_route`."""
        body = _local_route(index, network, prefix)
        self._request(_RTM_DELROUTE, body, f"remove {network}/{prefix} from the local routes")

    def refuse(self, network: str, prefix: int) -> None:
        """Refuse connections to a network at once (EHOSTUNREACH), unless another route leads to the address."""
        body = _route(prefix, _RT_TABLE_MAIN, _RT_SCOPE_UNIVERSE, _RTN_UNREACHABLE)
        body += attribute(_RTA_DST, socket.inet_aton(network))
        self._request(_RTM_NEWROUTE, body, f"refuse {network}/{prefix}", _NEW)


def _local_route(index: int, network: str, prefix: int) -> bytes:
    body = _route(prefix, _RT_TABLE_LOCAL, _RT_SCOPE_HOST, _RTN_LOCAL)
    return body + attribute(_RTA_DST, socket.inet_aton(network)) + attribute(_RTA_OIF, struct.pack("=I", index))


def _prohibition(network: str, prefix: int) -> bytes:
    body = _route(prefix, _RT_TABLE_MAIN, _RT_SCOPE_UNIVERSE, _RTN_PROHIBIT)
    return body + attribute(_RTA_DST, socket.inet_aton(network))


def _route(prefix: int, table: int, scope: int, kind: int, flags: int = 0) -> bytes:
    return struct.pack("=BBBBBBBBI", socket.AF_INET, prefix, 0, 0, table, _RTPROT_BOOT, scope, kind, flags)
