"""Chooses the endpoint for a client's next connection or UDP flow."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

from hatchway.cluster.services.endpointpools import ServiceEndpoint
from hatchway.cluster.services.nodeplaces import NodePlaces
from hatchway.cluster.services.servicerules import CLIENTS_NODE, ServiceRule

# The maximum number of clients whose endpoints a table remembers.
_MAX_CLIENTS = 10_000


class AffinityTable:
    """The endpoint of each client, for session affinity. All frontends of a Service's port share one table."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, tuple[ServiceEndpoint, float]] = OrderedDict()

    def find(self, client: str, now: float, seconds: int) -> ServiceEndpoint | None:
        """Return the endpoint that has served a client within the last `seconds`; None if there is none.

        now: monotonic seconds.
        """
        known = self._clients.get(client)
        return known[0] if known is not None and now - known[1] < seconds else None

    def remember(self, client: str, endpoint: ServiceEndpoint, now: float) -> None:
        """Remember the endpoint that serves a client. now: monotonic seconds."""
        self._clients[client] = endpoint, now
        self._clients.move_to_end(client)
        if len(self._clients) > _MAX_CLIENTS:
            self._clients.popitem(last=False)


class Balancer:
    """Chooses endpoints at random, like kube-proxy's iptables mode. With session affinity, a client keeps its endpoint.

    nodes: the cluster's nodes.
    affinity: the endpoints of clients; None to make a new table.
    leads_back: returns True when a connection to this endpoint of the rule would lead back to the proxy.
    allows: returns True when network policies allow a client (its address) to connect to an endpoint.
    """

    def __init__(
        self,
        rule: ServiceRule,
        nodes: NodePlaces | None = None,
        affinity: AffinityTable | None = None,
        leads_back: Callable[[ServiceRule, ServiceEndpoint], bool] = lambda rule, endpoint: False,
        allows: Callable[[str, ServiceEndpoint], bool] = lambda client, endpoint: True,
    ) -> None:
        self.allows = allows
        self.rule = rule
        self._leads_back = leads_back
        self._nodes = nodes if nodes is not None else NodePlaces()
        self._affinity = affinity if affinity is not None else AffinityTable()

    def update(self, rule: ServiceRule) -> None:
        """Replace the rule. Clients whose endpoint was removed get another endpoint for their next connection."""
        self.rule = rule

    def permits(self, client: str) -> bool:
        """Return False for a client outside the rule's source ranges. client: its address."""
        sources = self.rule.sources
        return sources is None or any(IPv4Address(client) in network for network in sources)

    def choose(self, client: str, now: float) -> ServiceEndpoint | None:
        """Return the first of `candidates`; None when there is none."""
        rule = self.rule
        if not rule.affinity:
            found = rule.endpoints.choose(self._scope(client) if rule.scope is not None else None)
            if found is None or not self._leads_back(rule, found):
                return found
        return next(self.candidates(client, now), None)

    def candidates(self, client: str, now: float) -> Iterator[ServiceEndpoint]:
        """Yield endpoints in the order in which to try them.

        client: the client's address. now: monotonic seconds.
        """
        rule = self.rule
        node = self._scope(client) if rule.scope is not None else None
        found = rule.endpoints.in_random_order(node)
        known = self._affinity.find(client, now, rule.affinity) if rule.affinity else None
        if known is not None and rule.endpoints.contains(known, node):
            found = _beginning_with(known, found)
        return (endpoint for endpoint in found if not self._leads_back(rule, endpoint))

    def offers(self, endpoint: ServiceEndpoint, client: str) -> bool:
        """Return True while the client may use this endpoint."""
        found = self.rule.endpoints.contains(endpoint, self._scope(client)) and self.permits(client)
        return found and self.allows(client, endpoint)

    def remember(self, client: str, endpoint: ServiceEndpoint, now: float) -> None:
        """Remember the endpoint that served a client, if the rule has session affinity."""
        if self.rule.affinity:
            self._affinity.remember(client, endpoint, now)

    def _scope(self, client: str) -> str | None:
        """Return the node whose endpoints a client may use; None when it may use all endpoints."""
        scope = self.rule.scope
        if scope is None:
            return None
        at = self._nodes.node_of(client)
        if scope == CLIENTS_NODE:
            return at
        # For the node itself and its pods, kube-proxy uses all endpoints, because their traffic is not external.
        return None if at == scope else scope


def _beginning_with(first: ServiceEndpoint, others: Iterator[ServiceEndpoint]) -> Iterator[ServiceEndpoint]:
    yield first
    for endpoint in others:
        if endpoint != first:
            yield endpoint
