"""Service addresses that work: what kube-proxy does, in the namespace that all nodes share.

Every ClusterIP and port with endpoints is a listening socket there (the whole range is local, see `init.py`), and so
is every node port on every node's address. Without endpoints nothing listens, so that clients are refused at once, as
kube-proxy arranges it. A frontend that somebody else listens on is left to him: 10.96.0.1:443 is the API server.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Sequence

from hatchway.cluster.network.balancer import Balancer
from hatchway.cluster.network.datagrams import UdpListener
from hatchway.cluster.network.servicerules import Frontend, Rule, rules
from hatchway.cluster.network.splice import TcpListener
from hatchway.kube.api import Client
from hatchway.kube.informer import Informer, running

_log = logging.getLogger(__name__)

Listener = TcpListener | UdpListener


class ServiceProxy:
    """client: reads services and EndpointSlices. node_ips: the addresses on which node ports are served."""

    def __init__(self, client: Client, *, node_ips: Sequence[str]) -> None:
        self._services = Informer(client, "services")
        self._slices = Informer(client, "endpointslices.discovery.k8s.io")
        self._node_ips = node_ips
        self._changed = asyncio.Event()
        self._listeners: dict[Frontend, Listener] = {}
        self._retired: list[TcpListener] = []
        self._told: set[Frontend] = set()

    async def run(self) -> None:
        """Follow the API until cancelled; then every connection is broken off. Raises ApiError (in a group) when the
        server refuses for good."""
        for informer in (self._services, self._slices):
            informer.subscribe(lambda *_: self._changed.set())
        try:
            async with running(self._services, self._slices):
                while True:
                    self._changed.clear()
                    await self.apply(rules(self._services.items.values(), self._slices.items.values(), self._node_ips))
                    await self._changed.wait()
        finally:
            self.close()

    async def apply(self, wanted: dict[Frontend, Rule]) -> None:
        """Listen on exactly these frontends. Connections of frontends that stay, or go, are not cut."""
        for frontend in [frontend for frontend in self._listeners if frontend not in wanted]:
            self._retire(self._listeners.pop(frontend))
        self._told &= wanted.keys()
        for frontend, rule in wanted.items():
            listener = self._listeners.get(frontend)
            if listener is None:
                await self._listen(frontend, rule)
            elif listener.balancer.rule != rule:
                listener.balancer.update(rule)
                listener.endpoints_changed()

    def close(self) -> None:
        """Stop listening and break off every connection."""
        for listener in (*self._listeners.values(), *self._retired):
            listener.abort()
        self._listeners.clear()
        self._retired.clear()

    async def _listen(self, frontend: Frontend, rule: Rule) -> None:
        kind: type[Listener] = TcpListener if frontend.protocol == "TCP" else UdpListener
        listener = kind(Balancer(rule))
        try:
            await listener.listen(frontend.ip, frontend.port)
        except OSError as error:
            # In use: somebody serves it himself. Not available: the loopback network has no service addresses.
            expected = error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
            if frontend not in self._told:
                self._told.add(frontend)
                _log.log(logging.DEBUG if expected else logging.WARNING, "%s: %s: %s", rule.service, frontend, error)
            return
        self._told.discard(frontend)
        self._listeners[frontend] = listener

    def _retire(self, listener: Listener) -> None:
        listener.close()
        if isinstance(listener, TcpListener):
            self._retired = [known for known in self._retired if known.busy]
            self._retired.append(listener)
