"""Accepts TCP connections on a frontend of the service proxy, and joins each to an endpoint, byte for byte.

A client's bytes stay in the kernel's buffer until the connection to its endpoint is made. So when an endpoint refuses
the connection, nothing is lost, and the next endpoint is tried.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Coroutine

from hatchway.cluster import sockets
from hatchway.cluster.descriptors import ClientQuota
from hatchway.cluster.services.balancer import Balancer
from hatchway.cluster.services.endpointpools import ServiceEndpoint
from hatchway.cluster.services.heldclients import HeldClients
from hatchway.cluster.services.joinedsockets import JoinedSockets
from hatchway.cluster.services.socketpoll import SocketPoll
from hatchway.proxy.acceptloop import AcceptLoop, refuse

_log = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0
# The share of the process's descriptors for TCP connections; a connection needs two.
SHARE = 0.25
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)
_CONNECTED = (0, errno.EISCONN)


class TcpListener:
    """Accepts and joins the TCP connections of one frontend. `close` lets connections continue; `abort` resets them.

    sock: a listening, non-blocking socket, which this object owns.
    poll, quota, held: shared with other frontends.
    """

    def __init__(
        self,
        balancer: Balancer,
        sock: socket.socket,
        poll: SocketPoll,
        quota: ClientQuota | None = None,
        held: HeldClients | None = None,
    ) -> None:
        self.balancer = balancer
        self._poll = poll
        self._quota = quota if quota is not None else ClientQuota.of_process(SHARE)
        self._held = held
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()
        self._clients: dict[JoinedSockets, str] = {}
        # Accepted sockets inherit this option.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepting = AcceptLoop(sock, self._accepted, f"service {balancer.rule.service}")

    @property
    def busy(self) -> bool:
        """Return True while the listener has connections."""
        return bool(self._connecting or self._clients)

    def close(self) -> None:
        """Stop listening. Connections continue, and clients without an endpoint are refused. Idempotent."""
        self._accepting.close()
        if self._held is not None:
            self._held.release(self, found=False)

    def abort(self) -> None:
        """Stop listening, and reset every connection."""
        self.close()
        for task in self._connecting:
            task.cancel()
        for joined in list(self._clients):
            joined.abort()

    def endpoints_changed(self) -> None:
        """Wake up the clients that wait for an endpoint. Other clients keep their endpoint, as with conntrack."""
        if self._held is not None and self.balancer.rule.endpoints:
            self._held.release(self, found=True)

    def _accepted(self, sock: socket.socket, address: tuple[str, int]) -> None:
        client = address[0]
        if not self.balancer.permits(client) or not self._quota.take(client):
            refuse(sock)
            return
        now = time.monotonic()
        endpoint = self.balancer.choose(client, now)
        if endpoint is None:
            self._without_endpoint(sock, client)
            return
        if not self.balancer.allows(client, endpoint):
            # As with a packet filter behind kube-proxy, no other endpoint is tried.
            self._quota.give_back(client)
            refuse(sock)
            return
        # Most endpoints are on this machine and accept at once. Then no task is needed.
        try:
            far = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            _log.warning("%s: %s", self.balancer.rule.service, error)
            self._quota.give_back(client)
            refuse(sock)
            return
        number = far.connect_ex(endpoint)
        if number == errno.EINPROGRESS:
            number = far.connect_ex(endpoint)
        if number in _CONNECTED:
            self.balancer.remember(client, endpoint, now)
            self._join(sock, far, client)
            return
        under_way = far if number in _UNDER_WAY else None
        if under_way is None:
            far.close()
        self._run(self._connect(sock, client, endpoint, under_way))

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def _without_endpoint(self, sock: socket.socket, client: str) -> None:
        """Hold the client if the Service starts on first use, else refuse it."""
        starts = self.balancer.rule.starts
        if starts and self._held is not None and self._held.take(starts):
            self._run(self._hold(self._held, sock, client))
            return
        self._quota.give_back(client)
        refuse(sock)

    async def _hold(self, held: HeldClients, sock: socket.socket, client: str) -> None:
        """Wait for an endpoint, and join the client to it. Reset the client when there is none in time."""
        found = False
        try:
            found = await held.wait(self, sock)
        finally:
            if not found:
                self._quota.give_back(client)
                refuse(sock)
        if found:
            await self._connect(sock, client, None, None)

    async def _connect(
        self,
        sock: socket.socket,
        client: str,
        endpoint: ServiceEndpoint | None,
        under_way: socket.socket | None,
    ) -> None:
        """Join a client to the first endpoint that accepts; reset the client when none does.

        endpoint: the endpoint that was tried first; None for none.
        under_way: the socket that is connecting to `endpoint`; None when `endpoint` has already refused the connection.
        """
        far: socket.socket | None = None
        first = endpoint
        try:
            if endpoint is not None and under_way is not None:
                far = await self._dial(endpoint, client, under_way)
            if far is None:
                for endpoint in self.balancer.candidates(client, time.monotonic()):
                    # The rule may have changed since the candidates were listed.
                    if endpoint != first and self.balancer.offers(endpoint, client):
                        far = await self._dial(endpoint, client)
                        if far is not None:
                            break
        finally:
            if far is None:
                self._quota.give_back(client)
                refuse(sock)
        if far is not None and endpoint is not None:
            self.balancer.remember(client, endpoint, time.monotonic())
            self._join(sock, far, client)

    async def _dial(
        self, endpoint: ServiceEndpoint, client: str, made: socket.socket | None = None
    ) -> socket.socket | None:
        """Connect to an endpoint. Return None when the endpoint does not accept, or is no longer part of the rule."""
        try:
            far = await sockets.connect(endpoint.ip, endpoint.port, _CONNECT_SECONDS, made)
        except OSError as error:
            _log.info("%s: %s:%d: %s", self.balancer.rule.service, endpoint.ip, endpoint.port, error)
            return None
        if not self.balancer.offers(endpoint, client):
            far.close()
            return None
        return far

    def _join(self, near: socket.socket, far: socket.socket, client: str) -> None:
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        joined = JoinedSockets(self._poll, near, far, self._ended)
        self._clients[joined] = client
        joined.start()

    def _ended(self, joined: JoinedSockets) -> None:
        self._quota.give_back(self._clients.pop(joined))
