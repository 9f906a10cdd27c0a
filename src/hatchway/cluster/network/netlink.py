"""Just enough of rtnetlink(7) to build the private network: bridge, veth pairs, addresses, routes.

Written out, since the process that uses it (`init.py`) must stay small: every container starts as a fork of it.
A socket stays in the network namespace it was made in.
"""

from __future__ import annotations

import os
import socket
import struct

_NLMSG_ERROR = 2
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
_NEW = _NLM_F_CREATE | _NLM_F_EXCL
_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 17, 20, 24

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 10, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_IFF_UP = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_RT_TABLE_MAIN, _RT_TABLE_LOCAL = 254, 255
_RTPROT_BOOT = 3
_RT_SCOPE_UNIVERSE, _RT_SCOPE_HOST = 0, 254
_RTN_UNICAST, _RTN_LOCAL = 1, 2


def _attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + bytes(-length % 4)


def _name(name: str) -> bytes:
    return _attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _hardware(address: str) -> bytes:
    """A locally administered MAC address that follows from the IP address (as the CNI plugins' utils/hwaddr has it).

    Whoever has an address in its ARP cache then stays right when the address is given to another interface.
    """
    return _attribute(_IFLA_ADDRESS, b"\x0a\x58" + socket.inet_aton(address))


def _link(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


class Netlink:
    """A socket for requests. Every request waits for the kernel's answer and raises OSError when it refuses."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
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

    def add_bridge(self, name: str, address: str) -> None:
        """address: its first IP address. Without a MAC of its own a bridge takes the lowest of its ports', and all
        traffic to it is lost for a while when a port with a lower one comes."""
        kind = _attribute(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, b"bridge\0"))
        self._request(_RTM_NEWLINK, _link() + _name(name) + _hardware(address) + kind, f"make the bridge {name}", _NEW)

    def add_veth(self, name: str, address: str, peer: str, peer_namespace: int) -> None:
        """A pair of interfaces: `name` here, which will get the IP address, and `peer` in the network namespace of that
        descriptor."""
        there = _link() + _name(peer) + _attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_namespace))
        data = _attribute(_IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, there))
        info = _attribute(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, b"veth\0") + data)
        body = _link() + _name(name) + _hardware(address) + info
        self._request(_RTM_NEWLINK, body, f"make the veth pair {name}, {peer}", _NEW)

    def set_up(self, index: int, master: int = 0) -> None:
        """Switch an interface on; attach it to the bridge with the index `master` unless that is 0."""
        body = _link(index, _IFF_UP, _IFF_UP)
        if master:
            body += _attribute(_IFLA_MASTER, struct.pack("=I", master))
        self._request(_RTM_NEWLINK, body, f"switch interface {index} on")

    def delete_link(self, name: str) -> None:
        self._request(_RTM_DELLINK, _link() + _name(name), f"delete interface {name}")

    def add_address(self, index: int, address: str, prefix: int) -> None:
        packed = socket.inet_aton(address)
        body = struct.pack("=BBBBI", socket.AF_INET, prefix, 0, _RT_SCOPE_UNIVERSE, index)
        body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
        self._request(_RTM_NEWADDR, body, f"add the address {address}/{prefix}", _NEW)

    def add_default_route(self, gateway: str) -> None:
        body = struct.pack(
            "=BBBBBBBBI",
            *(socket.AF_INET, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, _RT_SCOPE_UNIVERSE, _RTN_UNICAST, 0),
        )
        body += _attribute(_RTA_GATEWAY, socket.inet_aton(gateway))
        self._request(_RTM_NEWROUTE, body, f"add the default route by {gateway}", _NEW)

    def add_local_route(self, index: int, network: str, prefix: int) -> None:
        """Make every address of a network one of this machine's own ("AnyIP")."""
        body = struct.pack(
            "=BBBBBBBBI",
            *(socket.AF_INET, prefix, 0, 0, _RT_TABLE_LOCAL, _RTPROT_BOOT, _RT_SCOPE_HOST, _RTN_LOCAL, 0),
        )
        body += _attribute(_RTA_DST, socket.inet_aton(network)) + _attribute(_RTA_OIF, struct.pack("=I", index))
        self._request(_RTM_NEWROUTE, body, f"make {network}/{prefix} local", _NEW)
