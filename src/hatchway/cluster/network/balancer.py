"""Which endpoint the next connection or datagram flow of a client gets."""

from __future__ import annotations

import random
from collections import OrderedDict

from hatchway.cluster.network.servicerules import Endpoint, Rule

_MAX_CLIENTS = 10_000


class Balancer:
    """Random choice, as kube-proxy's iptables mode does; with session affinity the endpoint a client had before."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._clients: OrderedDict[str, tuple[Endpoint, float]] = OrderedDict()

    def update(self, rule: Rule) -> None:
        """Follow a change; clients whose endpoint is gone choose anew."""
        self.rule = rule
        kept = set(rule.endpoints) if rule.affinity else set()
        for client in [client for client, (endpoint, _) in self._clients.items() if endpoint not in kept]:
            del self._clients[client]

    def candidates(self, client: str, now: float) -> list[Endpoint]:
        """All endpoints in the order in which to try them. now: monotonic seconds."""
        endpoints = list(self.rule.endpoints)
        random.shuffle(endpoints)
        if self.rule.affinity:
            known = self._clients.get(client)
            if known is not None and now - known[1] < self.rule.affinity:
                endpoints.remove(known[0])
                endpoints.insert(0, known[0])
        return endpoints

    def chosen(self, client: str, endpoint: Endpoint, now: float) -> None:
        """Remember that this client was served by this endpoint."""
        if not self.rule.affinity or endpoint not in self.rule.endpoints:
            return
        self._clients[client] = endpoint, now
        self._clients.move_to_end(client)
        if len(self._clients) > _MAX_CLIENTS:
            self._clients.popitem(last=False)
