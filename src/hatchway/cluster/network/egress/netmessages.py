"""Reads messages of rtnetlink(7) about interfaces and addresses. The kernel alone sends them."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

# Groups of `netlink.open_socket`: interfaces; IPv4 addresses.
LINKS, ADDRESSES = 0x1, 0x10

_HEAD = struct.Struct("=IHHII")
_DONE, _ERROR = 3, 2
_RTM_NEWLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 20, 22
_REQUEST, _DUMP = 0x1, 0x300
_IFINFO_BYTES, _IFADDR_BYTES = 16, 8
_IFLA_IFNAME, _IFA_ADDRESS, _IFA_LOCAL = 3, 1, 2
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
    """Return the index of the interface `name` when a datagram tells of it; else None."""
    for kind, body in messages(data):
        if kind == _RTM_NEWLINK and len(body) >= _IFINFO_BYTES:
            told = attributes(body, _IFINFO_BYTES).get(_IFLA_IFNAME, b"").rstrip(b"\0")
            if told == name.encode():
                return int(struct.unpack_from("=i", body, 4)[0])
    return None


def own_addresses() -> set[str]:
    """Return the IPv4 addresses of the current network namespace, without 127.0.0.0/8. Raises OSError."""
    found: set[str] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
        sock.bind((0, 0))
        body = struct.pack("=BBBBI", socket.AF_INET, 0, 0, 0, 0)
        sock.send(_HEAD.pack(_HEAD.size + len(body), _RTM_GETADDR, _REQUEST | _DUMP, 1, 0) + body)
        while True:
            for kind, told in messages(sock.recv(_RECEIVE)):
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", told)[0] or errno.EIO
                    raise OSError(number, "cannot read this machine's addresses")
                if kind == _RTM_NEWADDR and len(told) >= _IFADDR_BYTES:
                    parts = attributes(told, _IFADDR_BYTES)
                    address = socket.inet_ntoa(parts.get(_IFA_LOCAL) or parts[_IFA_ADDRESS])
                    if not address.startswith("127."):
                        found.add(address)
