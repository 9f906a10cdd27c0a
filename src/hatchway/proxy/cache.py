"""The cache of decisions: what was decided about a request's head is used again for the next request with that head.

One table for the whole process, bounded by bytes.
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
    """The head of an upstream's response as it was relayed to the client, to be relayed again.

    Attributes:
        forward: the decision by which the request was sent.
        block: the head as the upstream has sent it, byte for byte.
        added: the name of the field that is added anew for each request (`RequestHead.answer_field`); b"" for none.
        status: the status that was sent to the client.
        lines: status line and field lines, Content-Length included where it is known; without the field `added` and
            without the empty line.
        head: `lines` and the empty line; b"" when a field was added.
    """

    forward: Forward
    block: bytes
    added: bytes
    status: int
    lines: bytes
    head: bytes

    def head_with(self, added: tuple[bytes, bytes]) -> bytes:
        """Return the head with the field that is added for this request; b"" when its name is not `self.added`.

        Raises:
            BadMessage: the value has a line break.
        """
        return b"%b%b\r\n" % (self.lines, field_line(*added)) if added[0] == self.added else b""


class CachedHead:
    """A request's head, the decision about it, and the bytes that the engine has made from both.

    Attributes:
        request: the parsed head.
        decision: gives the decision for the next request with this head.
        forward: the Forward from which `sent` was made; None at first.
        sent: the head that was sent to the upstream, with its empty line.
        relayed: the head of the last response, where it may be relayed again unchanged; otherwise None.
    """

    __slots__ = ("decision", "forward", "relayed", "request", "sent")

    def __init__(self, request: Request, decision: CachedDecision) -> None:
        self.request = request
        self.decision = decision
        self.forward: Forward | None = None
        self.sent = b""
        self.relayed: RelayedHead | None = None

    def head_for(self, forward: Forward) -> bytes:
        """Return the head for the upstream, with its empty line. It is made once for each Forward.

        Raises:
            BadMessage: the routing function's target or fields cannot be sent.
        """
        if self.forward is not forward:
            self.sent = self.request.head_for(forward)
            self.forward = forward
        return self.sent


class ClientDecisions:
    """The cached decisions for one client, kept while it is connected.

    Attributes:
        heads: the decisions, by the bytes of the requests' heads. The client's connections share this dictionary.
        size: about how many bytes of memory they take.
        connections: the number of the client's connections.
    """

    __slots__ = ("connections", "heads", "key", "size")

    def __init__(self, key: object) -> None:
        self.key = key
        self.heads: dict[bytes, CachedHead] = {}
        self.size = 0
        self.connections = 0


class DecisionCache:
    """The cached decisions of all clients. When they take too much memory, those of the largest client are dropped.

    Clients do not share decisions: what a routing function decides may depend on the client.

    Attributes:
        limit: the largest `size`, in bytes.
        size: about how many bytes of memory all decisions take.
    """

    __slots__ = ("_clients", "_lock", "limit", "size")

    # A decision about a head of N bytes takes about BASE + N * _TIMES bytes of memory.
    BASE: Final = 4096
    _TIMES: Final = 8

    def __init__(self, limit: int) -> None:
        """Make an empty cache."""
        self._clients: dict[object, ClientDecisions] = {}
        # Listeners of one process may run on event loops of different threads. Look-ups need no lock.
        self._lock = threading.Lock()
        self.limit = limit
        self.size = 0

    def __len__(self) -> int:
        """Return how many clients are connected."""
        return len(self._clients)

    def join(self, key: object) -> ClientDecisions:
        """Count a new connection, and return the decisions of its client.

        Args:
            key: the listener and the client; hashable.
        """
        with self._lock:
            client = self._clients.get(key)
            if client is None:
                client = self._clients[key] = ClientDecisions(key)
            client.connections += 1
            return client

    def leave(self, client: ClientDecisions) -> None:
        """Count the end of a connection, once for each `join`. With the last one the client's decisions are dropped."""
        with self._lock:
            client.connections -= 1
            if not client.connections:
                self._clear(client)
                del self._clients[client.key]

    def add(self, client: ClientDecisions, found: CachedHead) -> None:
        """Keep a decision, in place of the one that was kept for the same head."""
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
        """Forget the decision about a head, if there is one."""
        with self._lock:
            if client.heads.pop(head, None) is not None:
                weight = self._weigh(head)
                client.size -= weight
                self.size -= weight

    def _weigh(self, head: bytes) -> int:
        return self.BASE + self._TIMES * len(head)

    def _clear(self, client: ClientDecisions) -> None:
        # In place: the connections share the dictionary.
        client.heads.clear()
        self.size -= client.size
        client.size = 0


# The table of all listeners of the process.
DECISIONS: Final = DecisionCache(8 * 1024 * 1024)
