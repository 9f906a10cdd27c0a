"""UDP flows of the service proxy: one socket per client address, so that answers find their way back."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import OrderedDict

from hatchway.cluster.network import sockets
from hatchway.cluster.network.balancer import Balancer
from hatchway.cluster.network.servicerules import Endpoint

_log = logging.getLogger(__name__)

# conntrack's default for a flow without answer (net.netfilter.nf_conntrack_udp_timeout), here for all.
IDLE_SECONDS = 30.0
_MAX_FLOWS = 4096
_MAX_DATAGRAM = 65535
_BURST = 64

Client = tuple[str, int]


class _Flow:
    def __init__(self, sock: socket.socket, endpoint: Endpoint) -> None:
        self.sock = sock
        self.endpoint = endpoint
        self.used = time.monotonic()


class UdpListener:
    """One frontend. A datagram that cannot be passed on at once is dropped, as any router would."""

    def __init__(self, balancer: Balancer, idle_seconds: float = IDLE_SECONDS) -> None:
        self.balancer = balancer
        self._idle_seconds = idle_seconds
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._flows: OrderedDict[Client, _Flow] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    async def listen(self, ip: str, port: int) -> None:
        """Raises OSError."""
        self._socket = sockets.datagram(ip, port)
        self._loop.add_reader(self._socket.fileno(), self._from_clients)

    @property
    def flows(self) -> int:
        """How many clients have a socket of their own right now."""
        return len(self._flows)

    def close(self) -> None:
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
        """Flows to endpoints that are gone choose anew (kube-proxy clears conntrack for the same reason)."""
        kept = set(self.balancer.rule.endpoints)
        for client in [client for client, flow in self._flows.items() if flow.endpoint not in kept]:
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

    def _forward(self, client: Client, data: bytes) -> None:
        flow = self._flows.get(client) or self._open(client)
        if flow is None:
            return
        flow.used = time.monotonic()
        self._flows.move_to_end(client)
        try:
            flow.sock.send(data)
        except BlockingIOError:
            return
        except OSError as error:
            # An ICMP "port unreachable" for an earlier datagram: the next one may find another endpoint.
            _log.debug("%s: %s: %s", self.balancer.rule.service, flow.endpoint, error)
            self._drop(client)

    def _open(self, client: Client) -> _Flow | None:
        endpoint = self.balancer.candidates(client[0], time.monotonic())[0]
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect(endpoint)
        except OSError as error:
            sock.close()
            _log.info("%s: %s:%d: %s", self.balancer.rule.service, endpoint.ip, endpoint.port, error)
            return None
        self.balancer.chosen(client[0], endpoint, time.monotonic())
        if len(self._flows) >= _MAX_FLOWS:
            self._drop(next(iter(self._flows)))
        flow = self._flows[client] = _Flow(sock, endpoint)
        self._loop.add_reader(sock.fileno(), self._from_endpoint, client)
        if self._timer is None:
            self._timer = self._loop.call_later(self._idle_seconds, self._sweep)
        return flow

    def _from_endpoint(self, client: Client) -> None:
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
            flow.used = time.monotonic()
            self._flows.move_to_end(client)
            assert self._socket is not None
            try:
                self._socket.sendto(data, client)
            except OSError as error:
                _log.debug("%s: answer to %s: %s", self.balancer.rule.service, client, error)

    def _drop(self, client: Client) -> None:
        flow = self._flows.pop(client)
        self._loop.remove_reader(flow.sock.fileno())
        flow.sock.close()

    def _sweep(self) -> None:
        """Flows are in the order of their last use."""
        oldest = time.monotonic() - self._idle_seconds
        while self._flows and next(iter(self._flows.values())).used <= oldest:
            self._drop(next(iter(self._flows)))
        self._timer = self._loop.call_later(self._idle_seconds, self._sweep) if self._flows else None
