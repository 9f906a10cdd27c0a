"""The packet filter of the private network, in nf_tables: drops packets that network policies do not allow.

The filter is in the router's namespace, through which each packet between pods, nodes and services passes:

    forward, first      answers pass; then `egress`: the chain of the source's address
    forward, second     answers pass; packets from the pod's own node pass; then `ingress`: the chain of the
                        destination's address
    input               `api`: refuses pods that may not reach the API server

An "accept" of the first chain ends only that chain, so a connection needs an "accept" of both. Everything that pods
send to addresses of Services ends at a socket in this namespace. The socket's owner checks the policies itself
(`services/`).

Packets of established TCP and SCTP connections pass without another check. With UDP, ping and other protocols, only
replies pass without a check: each datagram of the client is checked, so that a flow ends when no policy allows it any
more. A TCP SYN is always checked, because the kernel may assign it to an old connection, although another pod has the
address now.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeGuard

from hatchway.cluster.network import nftables as nft
from hatchway.cluster.packetrules import (
    PROTOCOLS,
    AllowRule,
    BlockApi,
    ChangeSet,
    Direction,
    DropChain,
    DropSet,
    Element,
    FilterChange,
    Interval,
    Isolate,
    MakeGroup,
    MakeRules,
    MakeSet,
    SetKind,
)

_TABLE = "hatchway"
_KEY_BYTES: dict[SetKind, int] = {"addresses": 4, "sockets": 8, "ranges": 4}
_PASSED, _ANSWER = struct.pack("=I", 0), b"\x01"
_TCP, _SCTP = bytes([PROTOCOLS["TCP"]]), bytes([PROTOCOLS["SCTP"]])
_SYN, _SYN_AND_ACK = b"\x02", b"\x12"
_KNOWN, _RELATED = struct.pack("=I", nft.ESTABLISHED | nft.RELATED), struct.pack("=I", nft.RELATED)
# Bytes of one transaction: the kernel's limit for a message is 208 KiB by default.
_TRANSACTION = 128 << 10
_ANSWERS, _HOLD, _REFUSE = "answers", "hold", "refuse"


class NftPacketFilter:
    """The filter of the network namespace in which it is made. See `packetrules.PacketFilter`.

    nodes: the address of each node, and the gateway of its pods, which is in the same /24 as the pods.
    api: the service address of the API server.

    Raises OSError when this kernel has no nf_tables, or does not allow it.
    """

    def __init__(self, nodes: Sequence[tuple[str, str]], api: str) -> None:
        self._nodes = nodes
        self._api = api
        self._table = nft.Table(_TABLE)
        self._socket = nft.NftSocket()

    def close(self) -> None:
        """Close the socket; the rules stay."""
        self._socket.close()

    def remove(self) -> None:
        """Delete all rules. Raises OSError."""
        self._socket.transact([self._table.make(), self._table.delete()])

    def reset(self) -> None:
        """Remove everything, and refuse all new connections of pods until `release`. Raises OSError."""
        table = self._table
        messages = [table.make(), table.delete(), table.make()]
        messages += [table.make_chain(name) for name in (_ANSWERS, _REFUSE, _HOLD)]
        messages += self._pass_answers()
        messages.append(table.add_rule(_REFUSE, nft.protocol(), nft.compare(_TCP), nft.reset_connection()))
        messages.append(table.add_rule(_REFUSE, nft.refuse_prohibited()))
        messages.append(table.add_rule(_HOLD, nft.decide(nft.GOTO, _REFUSE)))
        messages.append(table.make_set("near", 8))
        messages += table.add_elements("near", [nft.element(_near_key(*pair)) for pair in self._nodes])
        messages.append(table.make_set("egress", 4, verdicts=True))
        messages.append(table.make_set("ingress", 4, verdicts=True))
        messages.append(table.make_set("api", 4))
        for priority, (name, ours, theirs) in enumerate(
            (("egress", nft.SOURCE, nft.DESTINATION), ("ingress", nft.DESTINATION, nft.SOURCE))
        ):
            chain = f"from-{name}"
            messages.append(table.make_chain(chain, nft.FORWARD, priority))
            messages.append(table.add_rule(chain, nft.decide(nft.JUMP, _ANSWERS)))
            # The pod's own node always reaches the pod, and the pod always reaches its own node.
            own = nft.header_bytes(*theirs), nft.header_bytes(ours[0], 3, 1)
            messages.append(table.add_rule(chain, *own, nft.find("near"), nft.decide(nft.ACCEPT)))
            messages.append(table.add_rule(chain, nft.decide(nft.JUMP, _HOLD)))
            messages.append(table.add_rule(chain, nft.header_bytes(*ours), nft.find(name, verdict=True)))
        messages.append(table.make_chain("to-router", nft.INPUT))
        messages.append(table.add_rule("to-router", nft.decide(nft.JUMP, _ANSWERS)))
        server = nft.header_bytes(*nft.DESTINATION), nft.compare(socket.inet_aton(self._api))
        blocked = nft.header_bytes(*nft.SOURCE), nft.find("api")
        messages.append(table.add_rule("to-router", *server, *blocked, nft.decide(nft.GOTO, _REFUSE)))
        self._socket.transact(messages)

    def _pass_answers(self) -> Iterator[bytes]:
        """Yield the rules that accept established TCP and SCTP connections, and replies of other protocols."""
        add, protocol = self._table.add_rule, nft.protocol()
        begins = nft.tcp_flags(), nft.keep_bits(_SYN_AND_ACK), nft.compare(_SYN)
        known = nft.connection_state(), nft.keep_bits(_KNOWN), nft.compare(_PASSED, nft.NOT_EQUAL)
        yield add(_ANSWERS, protocol, nft.compare(_TCP), *begins, nft.decide(nft.RETURN))
        related = nft.connection_state(), nft.keep_bits(_RELATED), nft.compare(_PASSED, nft.NOT_EQUAL)
        # ICMP errors about packets of a tracked connection.
        yield add(_ANSWERS, *related, nft.decide(nft.ACCEPT))
        for number in (_TCP, _SCTP):
            yield add(_ANSWERS, protocol, nft.compare(number), *known, nft.decide(nft.ACCEPT))
        yield add(_ANSWERS, *known, nft.connection_direction(), nft.compare(_ANSWER), nft.decide(nft.ACCEPT))

    def release(self) -> None:
        """End the refusal of all new connections, which `reset` has begun. Raises OSError."""
        self._socket.transact([self._table.flush_chain(_HOLD)])

    def apply(self, changes: list[FilterChange]) -> None:
        """Apply changes in their order, in as few transactions as possible. Raises OSError."""
        batch: list[bytes] = []
        size = 0
        for change in changes:
            for group in self._messages(change):
                length = sum(map(len, group))
                if size + length > _TRANSACTION:
                    self._socket.transact(batch)
                    batch, size = [], 0
                batch += group
                size += length
        self._socket.transact(batch)

    def _messages(self, change: FilterChange) -> Iterator[list[bytes]]:
        """Yield a change's messages, in lists. The messages of one list must be in one transaction."""
        table = self._table
        match change:
            case MakeSet(name, kind, elements):
                yield [table.make_set(name, _KEY_BYTES[kind], ranges=kind == "ranges")]
                yield from ([message] for message in table.add_elements(name, _keys(kind, elements)))
            case ChangeSet(name, kind, added, removed):
                yield from ([message] for message in table.delete_elements(name, _keys(kind, removed)))
                yield from ([message] for message in table.add_elements(name, _keys(kind, added)))
            case DropSet(name):
                yield [table.delete_set(name)]
            case MakeRules(name, direction, rules):
                yield [table.make_chain(name)]
                for rule in rules:
                    yield [table.add_rule(name, *self._conditions(direction, rule), nft.decide(nft.ACCEPT))]
            case MakeGroup(name, chains):
                yield [table.make_chain(name)]
                for chain in chains:
                    yield [table.add_rule(name, nft.decide(nft.JUMP, chain))]
                yield [table.add_rule(name, nft.decide(nft.GOTO, _REFUSE))]
            case DropChain(name):
                yield table.delete_chain(name)
            case Isolate(direction, ip, group, before):
                key, moved = socket.inet_aton(ip), []
                if before is not None:
                    moved += table.delete_elements(direction, [nft.element(key)])
                if group is not None:
                    moved += table.add_elements(direction, [nft.element(key, (nft.GOTO, group))])
                yield moved
            case BlockApi(ip, blocked):
                key = nft.element(socket.inet_aton(ip))
                yield (table.add_elements if blocked else table.delete_elements)("api", [key])

    def _conditions(self, direction: Direction, rule: AllowRule) -> Iterator[bytes]:
        if rule.peers:
            yield nft.header_bytes(*(nft.SOURCE if direction == "ingress" else nft.DESTINATION))
            yield nft.find(rule.peers)
        if rule.protocol:
            yield nft.protocol()
            yield nft.compare(bytes([PROTOCOLS[rule.protocol]]))
        if rule.sockets:
            yield nft.header_bytes(*nft.DESTINATION)
            yield nft.destination_port(1)
            yield nft.find(rule.sockets)
        elif rule.ports is not None:
            first, last = rule.ports
            yield nft.destination_port()
            yield nft.in_range(first.to_bytes(2, "big"), last.to_bytes(2, "big"))


def _near_key(ip: str, gateway: str) -> bytes:
    """Return a node's address and the first three bytes of its pods' addresses (a /24), as a key of the set `near`."""
    return socket.inet_aton(ip) + socket.inet_aton(gateway)[:3] + b"\0"


def _keys(kind: SetKind, elements: Iterable[Element]) -> list[bytes]:
    """Return the kernel's elements of a set."""
    if kind == "ranges":
        return nft.range_elements((one for one in elements if _is_range(one)), _KEY_BYTES[kind])
    return [nft.element(_key(one)) for one in elements]


def _is_range(one: Element) -> TypeGuard[Interval]:
    return isinstance(one[0], int)


def _key(one: Element) -> bytes:
    if isinstance(one, str):
        return socket.inet_aton(one)
    ip, port = one
    return socket.inet_aton(str(ip)) + struct.pack(">Hxx", port)


def obstacle() -> str:
    """Return why packets cannot be filtered in this network namespace, in the kernel's words; "" when they can.

    This function tries to make rules of each kind, and removes them.
    """
    filters = None
    try:
        filters = NftPacketFilter([("172.18.0.2", "10.244.0.1")], "10.96.0.1")
        filters.reset()
        filters.apply(_SAMPLE)
        filters.remove()
    except OSError as error:
        return error.strerror or str(error)
    finally:
        if filters is not None:
            # Rules that the kernel has accepted must not stay: they would refuse connections.
            with contextlib.suppress(OSError):
                filters.remove()
            filters.close()
    return ""


# One change of each kind, to try whether the kernel supports it.
_SAMPLE: list[FilterChange] = [
    MakeSet("addresses", "addresses", ("10.244.0.2",)),
    MakeSet("sockets", "sockets", (("10.244.0.2", 80),)),
    MakeSet("ranges", "ranges", ((1, 5),)),
    MakeRules(
        "rules",
        "ingress",
        (
            AllowRule("addresses", "TCP", (80, 90)),
            AllowRule("ranges", "UDP"),
            AllowRule("", "SCTP", None, "sockets"),
        ),
    ),
    MakeGroup("group", ("rules",)),
    Isolate("ingress", "10.244.0.2", "group"),
    BlockApi("10.244.0.2", True),
]
