"""Reads messages of rtnetlink(7) about interfaces and routes. The kernel sends them, so they are trusted."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

# Multicast groups for `netlink.open_socket`: interfaces; IPv4 routes, including the routes of this machine's own
# addresses.
LINKS, ROUTES = 0x1, 0x40

_HEAD = struct.Struct("=IHHII")
_DONE, _ERROR = 3, 2
_RTM_NEWLINK, _RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 16, 24, 25, 26
_SOL_NETLINK, _NETLINK_GET_STRICT_CHK = 270, 12
_REQUEST, _DUMP = 0x1, 0x300
_IFINFO_BYTES, _RTMSG_BYTES = 16, 12
_IFLA_IFNAME, _RTA_DST = 3, 1
_RTN_LOCAL, _RT_TABLE_LOCAL = 2, 255
_RECEIVE = 65536


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the body of each message in a datagram."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, kind, _, _, _ = _HEAD.unpack_from(data, at)
        if length < _HEAD.size:
            return
        yield kind, data[at + _HEAD.size : at + length]
        at += length + -length % 4


def attributes(body: bytes, at: int) -> dict[int, bytes]:
    """Return the attributes that begin at an offset."""
    found = {}
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if length < 4:
            break
        found[kind] = body[at + 4 : at + length]
        at += length + -length % 4
    return found


def new_link(data: bytes, name: str) -> int | None:
    """Return the index of the interface `name` if a datagram reports it as new; else None."""
    for kind, body in messages(data):
        if kind == _RTM_NEWLINK and len(body) >= _IFINFO_BYTES:
            told = attributes(body, _IFINFO_BYTES).get(_IFLA_IFNAME, b"").rstrip(b"\0")
            if told == name.encode():
                return int(struct.unpack_from("=i", body, 4)[0])
    return None


def local_networks() -> set[tuple[str, int]]:
    """Return the local IPv4 addresses of the current network namespace, as networks, without 127.0.0.0/8.

    A network is an address and the length of its prefix. Besides the addresses of interfaces, there are networks that a
    route makes local ("AnyIP"), for example on machines behind some clouds' load balancers. Raises OSError.
    """
    found: set[tuple[str, int]] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
        sock.bind((0, 0))
        # With this option, the kernel sends only this table (Linux 4.20); other tables may be long.
        with contextlib.suppress(OSError):
            sock.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        body = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, _RT_TABLE_LOCAL, 0, 0, 0, 0)
        sock.send(_HEAD.pack(_HEAD.size + len(body), _RTM_GETROUTE, _REQUEST | _DUMP, 1, 0) + body)
        while True:
            for kind, told in messages(sock.recv(_RECEIVE)):
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", told)[0] or errno.EIO
                    raise OSError(number, "cannot read this machine's routes")
                if kind == _RTM_NEWROUTE and (network := local_network(told)):
                    found.add(network)


def tells_of_local_network(data: bytes) -> bool:
    """Return True when a datagram reports a new or deleted route to this machine itself."""
    return any(
        kind in (_RTM_NEWROUTE, _RTM_DELROUTE) and local_network(body) is not None for kind, body in messages(data)
    )


def local_network(body: bytes) -> tuple[str, int] | None:
    """Return the destination of a route to this machine itself; None for another route."""
    if len(body) < _RTMSG_BYTES or body[0] != socket.AF_INET or body[7] != _RTN_LOCAL:
        return None
    packed = attributes(body, _RTMSG_BYTES).get(_RTA_DST, b"")
    if len(packed) != 4 or packed[0] == 127:
        return None
    return socket.inet_ntoa(packed), body[1]
