"""The part of nf_tables' netlink interface that a packet filter needs (linux/netfilter/nf_tables.h).

The kernel takes a batch of messages as one transaction: all of them take effect at the same moment, or none does. The
functions here return messages without sequence numbers; `NftSocket.transact` numbers and sends them. All objects are in
one table of the family "ip".
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from hatchway.cluster.network.netlink import attribute

_NETLINK_NETFILTER: Final = 12
_SUBSYSTEM = 10
_NLMSG_ERROR, _BATCH_BEGIN, _BATCH_END = 2, 16, 17
_REQUEST, _ACK, _EXCL, _CREATE, _APPEND = 0x1, 0x4, 0x200, 0x400, 0x800
_NEWTABLE, _DELTABLE, _NEWCHAIN, _DELCHAIN, _NEWRULE, _DELRULE = 0, 2, 3, 5, 6, 8
_NEWSET, _DELSET, _NEWELEMENT, _DELELEMENT = 9, 11, 12, 14
_IPV4 = socket.AF_INET
_NESTED = 0x8000
_RECEIVE = 65536
# The longest attribute has 65535 bytes; an element takes up to 100 bytes.
_ELEMENTS = 500

_SET_INTERVAL, _SET_MAP = 0x4, 0x8
_VERDICT_TYPE = 0xFFFFFF00
_INTERVAL_END = 1
_VERDICT_REGISTER, _FIRST_REGISTER = 0, 8

ACCEPT, DROP, JUMP, GOTO, RETURN = 1, 0, -3, -4, -5
EQUAL, NOT_EQUAL = 0, 1
# Bits of the connection's state in `connection_state`.
ESTABLISHED, RELATED = 2, 4
PREROUTING, INPUT, FORWARD, POSTROUTING = 0, 1, 2, 4
_INTERFACE_NAME = 16


def _nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(attributes))


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _message(kind: int, flags: int, body: bytes) -> bytes:
    head = struct.pack("=IHHII", 20 + len(body), _SUBSYSTEM << 8 | kind, _REQUEST | flags, 0, 0)
    return head + struct.pack("=BBH", _IPV4, 0, 0) + body


class Table:
    """Makes messages about one table and its contents. name: the table's name."""

    def __init__(self, name: str) -> None:
        self._in = _text(1, name)

    def make(self) -> bytes:
        """Make the table, unless it exists."""
        return _message(_NEWTABLE, _CREATE, self._in)

    def delete(self) -> bytes:
        """Delete the table with everything in it."""
        return _message(_DELTABLE, 0, self._in)

    def make_chain(self, name: str, hook: int | None = None, priority: int = 0, kind: str = "filter") -> bytes:
        """Make a chain.

        hook: the hook that sends packets to the chain; None for a chain to which only other chains lead.
        kind: "filter", or "nat" for a chain that changes addresses.
        """
        body = self._in + _text(3, name)
        if hook is not None:
            body += _nested(4, _number(1, hook), _number(2, priority)) + _number(5, ACCEPT) + _text(7, kind)
        return _message(_NEWCHAIN, _CREATE | _EXCL, body)

    def delete_chain(self, name: str) -> list[bytes]:
        """Delete a chain with its rules."""
        return [self.flush_chain(name), _message(_DELCHAIN, 0, self._in + _text(3, name))]

    def flush_chain(self, name: str) -> bytes:
        """Delete the rules of a chain."""
        return _message(_DELRULE, 0, self._in + _text(2, name))

    def add_rule(self, chain: str, *expressions: bytes) -> bytes:
        """Add a rule at the end of a chain."""
        body = self._in + _text(2, chain) + _nested(4, *expressions)
        return _message(_NEWRULE, _CREATE | _APPEND, body)

    def make_set(self, name: str, key_bytes: int, *, ranges: bool = False, verdicts: bool = False) -> bytes:
        """Make a set, or a map to verdicts."""
        flags = (_SET_INTERVAL if ranges else 0) | (_SET_MAP if verdicts else 0)
        body = self._in + _text(2, name) + _number(3, flags) + _number(4, 0) + _number(5, key_bytes)
        if verdicts:
            body += _number(6, _VERDICT_TYPE) + _number(7, 0)
        # The kernel demands a number, by which rules of the same transaction could name the set. The rules here use its
        # name.
        return _message(_NEWSET, _CREATE | _EXCL, body + _number(10, 1))

    def delete_set(self, name: str) -> bytes:
        """Delete a set that no rule uses."""
        return _message(_DELSET, 0, self._in + _text(2, name))

    def add_elements(self, name: str, elements: Sequence[bytes]) -> list[bytes]:
        """Add elements to a set."""
        return self._elements(_NEWELEMENT, _CREATE | _EXCL, name, elements)

    def delete_elements(self, name: str, elements: Sequence[bytes]) -> list[bytes]:
        """Delete elements of a set."""
        return self._elements(_DELELEMENT, 0, name, elements)

    def _elements(self, kind: int, flags: int, name: str, elements: Sequence[bytes]) -> list[bytes]:
        head = self._in + _text(2, name)
        pieces = (elements[at : at + _ELEMENTS] for at in range(0, len(elements), _ELEMENTS))
        return [_message(kind, flags, head + _nested(3, *piece)) for piece in pieces]


def element(key: bytes, verdict: tuple[int, str] | None = None, *, ends_range: bool = False) -> bytes:
    """Return an element of a set.

    key: its bytes. verdict: only in a map: a code, and the chain for JUMP and GOTO ("" for other codes). ends_range:
    True for the first value after a range.
    """
    body = _nested(1, attribute(1, key))
    if verdict is not None:
        body += _nested(2, _verdict(*verdict))
    if ends_range:
        body += _number(3, _INTERVAL_END)
    return _nested(1, body)


def range_elements(ranges: Iterable[tuple[int, int]], key_bytes: int) -> list[bytes]:
    """Return the elements of a set of ranges.

    ranges: the first and the last value of each range, sorted, with gaps between the ranges.
    """
    found = []
    for first, last in ranges:
        found.append(element(first.to_bytes(key_bytes, "big")))
        if last + 1 < 1 << 8 * key_bytes:
            found.append(element((last + 1).to_bytes(key_bytes, "big"), ends_range=True))
    return found


def _verdict(code: int, chain: str = "") -> bytes:
    return _nested(2, _number(1, code), _text(2, chain) if chain else b"")


def _expression(name: str, *attributes: bytes) -> bytes:
    return _nested(1, _text(1, name), _nested(2, *attributes))


def header_bytes(offset: int, length: int, register: int = 0) -> bytes:
    """Load bytes of the IPv4 header. register: 0 to 15, of four bytes each."""
    return _payload(1, offset, length, register)


def destination_port(register: int = 0) -> bytes:
    """Load the destination's port, which TCP, UDP and SCTP have at the same place."""
    return _payload(2, 2, 2, register)


def tcp_flags() -> bytes:
    """Load the byte with TCP's flags."""
    return _payload(2, 13, 1, 0)


def _payload(base: int, offset: int, length: int, register: int) -> bytes:
    to = _number(1, _FIRST_REGISTER + register)
    return _expression("payload", to, _number(2, base), _number(3, offset), _number(4, length))


SOURCE, DESTINATION = (12, 4), (16, 4)


def protocol() -> bytes:
    """Load the number of the protocol above IP."""
    return _expression("meta", _number(1, _FIRST_REGISTER), _number(2, 16))


def arrives_at(interface: str) -> bytes:
    """Go on only if the packet has come through this interface."""
    return _interface(6, interface)


def leaves_by(interface: str) -> bytes:
    """Go on only if the packet leaves through this interface."""
    return _interface(7, interface)


def _interface(key: int, name: str) -> bytes:
    loaded = _expression("meta", _number(1, _FIRST_REGISTER), _number(2, key))
    return loaded + compare(name.encode().ljust(_INTERFACE_NAME, b"\0"))


def masquerade() -> bytes:
    """Replace the source's address by the address of the interface through which the packet leaves."""
    return _expression("masq")


def connection_state() -> bytes:
    """Load the bits of the connection's state (ESTABLISHED ...)."""
    return _expression("ct", _number(1, _FIRST_REGISTER), _number(2, 0))


def connection_direction() -> bytes:
    """Load 0 for a packet in the direction of the connection's first packet, 1 for an answer."""
    return _expression("ct", _number(1, _FIRST_REGISTER), _number(2, 1))


def compare(value: bytes, how: int = EQUAL) -> bytes:
    """Go on only if the first register has this value; with `NOT_EQUAL`, only if it has another value."""
    return _expression("cmp", _number(1, _FIRST_REGISTER), _number(2, how), _nested(3, attribute(1, value)))


def in_range(first: bytes, last: bytes) -> bytes:
    """Go on only if the first register is in the range from `first` to `last`, including both."""
    ends = _nested(3, attribute(1, first)), _nested(4, attribute(1, last))
    return _expression("range", _number(1, _FIRST_REGISTER), _number(2, EQUAL), *ends)


def keep_bits(mask: bytes, set_bits: bytes = b"") -> bytes:
    """Clear the bits of the first register that are not in `mask`, and set those in `set_bits`."""
    register = _number(1, _FIRST_REGISTER) + _number(2, _FIRST_REGISTER) + _number(3, len(mask))
    masks = _nested(4, attribute(1, mask)) + _nested(5, attribute(1, set_bits or bytes(len(mask))))
    return _expression("bitwise", register, masks)


def set_tcp_flags(bits: int) -> list[bytes]:
    """Set bits of the byte with TCP's flags."""
    # TCP's checksum is computed over pairs of bytes, so the byte before is written, too.
    mask = struct.pack(">H", 0xFFFF & ~bits)
    to = _number(5, _FIRST_REGISTER), _number(2, 2), _number(3, 12), _number(4, 2), _number(6, 1), _number(7, 16)
    changed = keep_bits(mask, struct.pack(">H", bits))
    return [_payload(2, 12, 2, 0), changed, _expression("payload", *to)]


def find(name: str, *, verdict: bool = False) -> bytes:
    """Go on only if a set has the value of the registers. verdict: True for a map, whose verdict is then followed."""
    body = _text(1, name) + _number(2, _FIRST_REGISTER)
    if verdict:
        body += _number(3, _VERDICT_REGISTER)
    return _expression("lookup", body)


def decide(code: int, chain: str = "") -> bytes:
    """Give a verdict: ACCEPT, DROP, RETURN; JUMP or GOTO with a chain."""
    return _expression("immediate", _number(1, _VERDICT_REGISTER), _nested(2, _verdict(code, chain)))


def reset_connection() -> bytes:
    """Refuse with a TCP reset."""
    return _expression("reject", _number(1, 1))


def refuse_prohibited() -> bytes:
    """Refuse with ICMP's "communication administratively prohibited"."""
    return _expression("reject", _number(1, 0), attribute(2, b"\x0d"))


class NftSocket:
    """A socket to nf_tables of the network namespace in which it is made.

    Raises OSError when the kernel has no nf_tables.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def close(self) -> None:
        """Close the socket; tables stay."""
        self._socket.close()

    def transact(self, messages: Sequence[bytes]) -> None:
        """Send messages as one transaction. Raises OSError when the kernel refuses one of them; then none takes effect.

        messages: at most about 200 kB together.
        """
        if not messages:
            return
        self._drain()
        parts = [_batch_message(_BATCH_BEGIN, 0)]
        for number, message in enumerate(messages, 1):
            flags = struct.unpack_from("=H", message, 6)[0] | (_ACK if number == len(messages) else 0)
            parts.append(message[:6] + struct.pack("=HI", flags, number) + message[12:])
        parts.append(_batch_message(_BATCH_END, len(messages) + 1))
        # The kernel handles the batch before this call returns, so its answers can be read immediately.
        self._socket.send(b"".join(parts))
        acknowledged, refused = False, 0
        for sequence, number in self._answers():
            refused = refused or number
            acknowledged = acknowledged or (sequence == len(messages) and not number)
        if refused or not acknowledged:
            number = refused or errno.EIO
            raise OSError(number, f"nf_tables: {os.strerror(number)}")

    def _answers(self) -> list[tuple[int, int]]:
        """Return (sequence number, error number) of each answer that can be read without waiting."""
        found: list[tuple[int, int]] = []
        while True:
            try:
                data = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return found
            at = 0
            while at + 20 <= len(data):
                length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, at)
                if kind == _NLMSG_ERROR:
                    found.append((sequence, -struct.unpack_from("=i", data, at + 16)[0]))
                at += max(16, length + -length % 4)

    def _drain(self) -> None:
        self._answers()


def _batch_message(kind: int, sequence: int) -> bytes:
    return struct.pack("=IHHII", 20, kind, _REQUEST, sequence, 0) + struct.pack(">BBH", 0, 0, _SUBSYSTEM)
