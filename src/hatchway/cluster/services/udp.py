"""Forwards UDP flows on a frontend of the service proxy. Each client address has its own socket for the answers."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Sequence

from hatchway.cluster.descriptors import ClientQuota
from hatchway.cluster.services.balancer import Balancer
from hatchway.cluster.services.endpointpools import ServiceEndpoint

_log = logging.getLogger(__name__)

# The seconds after which an unused flow ends. Conntrack has this default for flows without an answer
# (net.netfilter.nf_conntrack_udp_timeout). The proxy uses it for all flows.
IDLE_SECONDS = 30.0
# The share of the process's descriptors for UDP flows.
SHARE = 0.2
_MAX_DATAGRAM = 65535
# The maximum number of datagrams of a socket that are read in one iteration of the event loop.
_BURST = 64

ClientAddress = tuple[str, int]


class _Flow:
    def __init__(self, sock: socket.socket, endpoint: ServiceEndpoint) -> None:
        self.sock = sock
        self.endpoint = endpoint
        self.used = time.monotonic()


class UdpListener:
    """Forwards the datagrams of one frontend. A datagram that cannot be sent at once is dropped, as in a router.

    sock: a bound, non-blocking socket, which this object owns.
    quota: shared with other frontends. When a client has used its share, its next flow replaces its oldest one.
    idle_seconds: the seconds after which an unused flow ends.
    """

    def __init__(
        self,
        balancer: Balancer,
        sock: socket.socket,
        quota: ClientQuota | None = None,
        *,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._quota = quota if quota is not None else ClientQuota.of_process(SHARE)
        self._ports: dict[str, OrderedDict[ClientAddress, None]] = {}
        self.balancer = balancer
        self._idle_seconds = idle_seconds
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = sock
        self._flows: OrderedDict[ClientAddress, _Flow] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(sock.fileno(), self._from_clients)

    @property
    def flows(self) -> int:
        """Return the number of flows: client addresses that have a socket now."""
        return len(self._flows)

    def close(self) -> None:
        """Stop listening, and end all flows. Idempotent."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        for client in list(self._flows):
            self._drop(client)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    abort = close

    def endpoints_changed(self) -> None:
        """Drop flows to removed endpoints, so that their clients get other endpoints (kube-proxy clears conntrack)."""
        self.check_flows(list(self._flows))

    @property
    def clients(self) -> list[ClientAddress]:
        """Return the addresses of the clients that have flows."""
        return list(self._flows)

    def check_flows(self, clients: Sequence[ClientAddress]) -> None:
        """Drop the flows of these clients to endpoints that the balancer no longer offers."""
        for client in clients:
            flow = self._flows.get(client)
            if flow is not None and not self.balancer.offers(flow.endpoint, client[0]):
                self._drop(client)

    def _from_clients(self) -> None:
        assert self._socket is not None
        for _ in range(_BURST):
            try:
                data, client = self._socket.recvfrom(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                _log.debug("%s: %s", self.balancer.rule.service, error)
                return
            self._forward(client, data)

    def _forward(self, client: ClientAddress, data: bytes) -> None:
        flow = self._flows.get(client) or self._open(client)
        if flow is None:
            return
        self._use(client, flow)
        try:
            flow.sock.send(data)
        except BlockingIOError:
            return
        except OSError as error:
            # An ICMP "port unreachable" has arrived for an earlier datagram. End the flow, so that the next datagram
            # may go to another endpoint.
            _log.debug("%s: %s: %s", self.balancer.rule.service, flow.endpoint, error)
            self._drop(client)

    def _use(self, client: ClientAddress, flow: _Flow) -> None:
        flow.used = time.monotonic()
        self._flows.move_to_end(client)
        self._ports[client[0]].move_to_end(client)

    def _make_room(self, client: ClientAddress) -> bool:
        """Reserve a flow in the client's quota; end its oldest flow if necessary. Return False without room."""
        if self._quota.take(client[0]):
            return True
        oldest = next(iter(self._ports.get(client[0], ())), None)
        if oldest is None:
            return False
        self._drop(oldest)
        return self._quota.take(client[0])

    def _open(self, client: ClientAddress) -> _Flow | None:
        if not self.balancer.permits(client[0]):
            return None
        endpoint = self.balancer.choose(client[0], time.monotonic())
        if endpoint is None or not self.balancer.allows(client[0], endpoint) or not self._make_room(client):
            return None
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:
            self._quota.give_back(client[0])
            _log.warning("%s: %s", self.balancer.rule.service, error)
            return None
        try:
            sock.setblocking(False)
            sock.connect(endpoint)
        except OSError as error:
            sock.close()
            self._quota.give_back(client[0])
            _log.info("%s: %s:%d: %s", self.balancer.rule.service, endpoint.ip, endpoint.port, error)
            return None
        self.balancer.remember(client[0], endpoint, time.monotonic())
        flow = self._flows[client] = _Flow(sock, endpoint)
        self._ports.setdefault(client[0], OrderedDict())[client] = None
        self._loop.add_reader(sock.fileno(), self._from_endpoint, client)
        if self._timer is None:
            self._timer = self._loop.call_later(self._idle_seconds, self._sweep)
        return flow

    def _from_endpoint(self, client: ClientAddress) -> None:
        flow = self._flows[client]
        for _ in range(_BURST):
            try:
                data = flow.sock.recv(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                _log.debug("%s: %s: %s", self.balancer.rule.service, flow.endpoint, error)
                self._drop(client)
                return
            self._use(client, flow)
            assert self._socket is not None
            try:
                self._socket.sendto(data, client)
            except OSError as error:
                _log.debug("%s: answer to %s: %s", self.balancer.rule.service, client, error)

    def _drop(self, client: ClientAddress) -> None:
        flow = self._flows.pop(client)
        ports = self._ports[client[0]]
        del ports[client]
        if not ports:
            del self._ports[client[0]]
        self._quota.give_back(client[0])
        self._loop.remove_reader(flow.sock.fileno())
        flow.sock.close()

    def _sweep(self) -> None:
        """End flows that were not used for `idle_seconds`. `_flows` is in the order of their last use."""
        oldest = time.monotonic() - self._idle_seconds
        while self._flows and next(iter(self._flows.values())).used <= oldest:
            self._drop(next(iter(self._flows)))
        self._timer = self._loop.call_later(self._idle_seconds, self._sweep) if self._flows else None
