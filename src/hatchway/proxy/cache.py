"""The cache of decisions: the decision about a request's head is used again for later requests with the same head.

There is one table for the process. Its size in bytes is limited.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from hatchway.proxy.fields import field_line
from hatchway.proxy.heads import Request
from hatchway.proxy.routing import CachedDecision, Forward


@dataclass(slots=True)
class RelayedHead:
    """The head of an upstream's response as it was relayed to the client; it may be relayed again.

    Attributes:
        forward: the decision by which the request was sent.
        block: the bytes of the head that the upstream has sent.
        added: the name of the field whose value differs for each request (`RequestHead.answer_field`); b"" for none.
        status: the status that was sent to the client.
        lines: status line and field lines, with Content-Length if it is known; without the field `added`, and without
            the empty line.
        head: `lines` and the empty line; b"" when `added` is not empty.
    """

    forward: Forward
    block: bytes
    added: bytes
    status: int
    lines: bytes
    head: bytes

    def head_with(self, added: tuple[bytes, bytes]) -> bytes:
        """Return the head with the field `added` (name, value); b"" when its name is not `self.added`.

        Raises:
            BadMessage: the value has a line break.
        """
        return b"%b%b\r\n" % (self.lines, field_line(*added)) if added[0] == self.added else b""


class CachedHead:
    """A request's head, the decision about it, and the bytes that the engine made from both.

    Attributes:
        request: the parsed head.
        decision: the object from the routing function; its `begin` returns the decision for the next such request.
        forward: the Forward from which `sent` was made; None at first.
        sent: the head that was sent to the upstream, with its empty line.
        relayed: the head of the last response, if it may be relayed again unchanged; otherwise None.
    """

    __slots__ = ("decision", "forward", "relayed", "request", "sent")

    def __init__(self, request: Request, decision: CachedDecision) -> None:
        self.request = request
        self.decision = decision
        self.forward: Forward | None = None
        self.sent = b""
        self.relayed: RelayedHead | None = None

    def head_for(self, forward: Forward) -> bytes:
        """Return the head for the upstream, with its empty line. It is computed once for each Forward.

        Raises:
            BadMessage: the routing function's target or fields cannot be sent.
        """
        if self.forward is not forward:
            self.sent = self.request.head_for(forward)
            self.forward = forward
        return self.sent


class ClientDecisions:
    """The cached decisions for one client, cached while the client is connected.

    Attributes:
        heads: the decisions, by the bytes of the requests' heads. The client's connections share this dictionary.
        size: an estimate of the memory that these decisions need, in bytes.
        connections: the number of the client's connections.
    """

    __slots__ = ("connections", "heads", "key", "size")

    def __init__(self, key: object) -> None:
        self.key = key
        self.heads: dict[bytes, CachedHead] = {}
        self.size = 0
        self.connections = 0


class DecisionCache:
    """The cached decisions for all clients. At the limit, the client with the largest share loses all its decisions.

    Clients do not share decisions, because a decision may depend on the client.

    Attributes:
        limit: the largest `size`, in bytes.
        size: an estimate of the memory that all decisions need, in bytes.
    """

    __slots__ = ("_clients", "_lock", "limit", "size")

    # A decision about a head of N bytes needs about BASE + N * _TIMES bytes of memory.
    BASE: Final = 4096
    _TIMES: Final = 8

    def __init__(self, limit: int) -> None:
        """Make an empty cache."""
        self._clients: dict[object, ClientDecisions] = {}
        # Listeners of a process may run in different threads. The lock is for changes; look-ups need none.
        self._lock = threading.Lock()
        self.limit = limit
        self.size = 0

    def __len__(self) -> int:
        """Return the number of connected clients."""
        return len(self._clients)

    def join(self, key: object) -> ClientDecisions:
        """Count a new connection, and return the decisions of its client.

        Args:
            key: identifies the listener and the client; hashable.
        """
        with self._lock:
            client = self._clients.get(key)
            if client is None:
                client = self._clients[key] = ClientDecisions(key)
            client.connections += 1
            return client

    def leave(self, client: ClientDecisions) -> None:
        """Count the end of a connection, once for each `join`. With the last connection, the decisions are dropped."""
        with self._lock:
            client.connections -= 1
            if not client.connections:
                self._clear(client)
                del self._clients[client.key]

    def add(self, client: ClientDecisions, found: CachedHead) -> None:
        """Store a decision, in place of an older decision about the same head."""
        head = found.request.head
        if not head or not client.connections:
            return
        with self._lock:
            if head not in client.heads:
                weight = self._weigh(head)
                if self.size + weight > self.limit:
                    self._clear(max(self._clients.values(), key=lambda one: one.size))
                client.size += weight
                self.size += weight
            client.heads[head] = found

    def drop(self, client: ClientDecisions, head: bytes) -> None:
        """Remove the decision about a head, if there is one."""
        with self._lock:
            if client.heads.pop(head, None) is not None:
                weight = self._weigh(head)
                client.size -= weight
                self.size -= weight

    def _weigh(self, head: bytes) -> int:
        return self.BASE + self._TIMES * len(head)

    def _clear(self, client: ClientDecisions) -> None:
        # Clear the dictionary in place, because the client's connections share it.
        client.heads.clear()
        self.size -= client.size
        client.size = 0


# The cache that all listeners of the process share.
DECISIONS: Final = DecisionCache(8 * 1024 * 1024)
