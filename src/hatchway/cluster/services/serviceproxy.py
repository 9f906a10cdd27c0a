"""Serves Services as kube-proxy does, inside the cluster's network and on this machine.

Each ClusterIP and port with endpoints has a listening socket in the network namespace that all nodes share. There, the
default range of cluster addresses is local (`network/topology.py`), and addresses of added ServiceCIDRs are made local.
Each node port has a listening socket in each node's namespace. Node ports and load balancers also have listening
sockets on addresses of this machine. For a Service without endpoints there is no listening socket, so clients are
refused at once, as with kube-proxy. Services that start on first use always have a listening socket. If another program
listens on an address, the proxy tries again later.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address
from weakref import WeakValueDictionary

from hatchway.cluster import plan
from hatchway.cluster.descriptors import ClientQuota, listening_sockets
from hatchway.cluster.packetrules import ConnectionPolicy
from hatchway.cluster.runtime import ServiceSockets
from hatchway.cluster.services import refusals, tcp, udp
from hatchway.cluster.services.balancer import AffinityTable, Balancer
from hatchway.cluster.services.endpointpools import ServiceEndpoint
from hatchway.cluster.services.healthcheck import HealthListener, open_engine
from hatchway.cluster.services.heldclients import HeldClients
from hatchway.cluster.services.nodeplaces import NodePlaces
from hatchway.cluster.services.ruletable import MOST, RuleTable
from hatchway.cluster.services.servicerules import OUTSIDE, POD, Frontend, RuleMaker, ServiceRule
from hatchway.cluster.services.socketpoll import open_poll
from hatchway.cluster.services.tcp import TcpListener
from hatchway.cluster.services.udp import UdpListener
from hatchway.kube.api import Client, Object
from hatchway.kube.events import EventRecorder
from hatchway.kube.informer import Informer, running
from hatchway.kube.objects import Key
from hatchway.kube.wellknown import ENDPOINT_SLICES

_log = logging.getLogger(__name__)

# The share of this process's file descriptors for listening sockets; one namespace's share of these.
_SHARE = 0.3
_OF_NAMESPACE = 0.5
# The maximum number of frontends that are opened in one turn of the event loop. The kubelets use the same loop.
_AT_ONCE = 50
# After a change of network policies, other tasks may run after this many UDP flows have been checked.
_FLOWS_AT_ONCE = 500
# The first and the longest pause, in seconds, until frontends that could not be opened are tried again.
_RETRY_SECONDS, _RETRY_AT_MOST = 1.0, 30.0

Listener = TcpListener | UdpListener | HealthListener


class ServiceProxy:
    """Serves all Services of a cluster until `run` is cancelled.

    Args:
        client: reads Services and EndpointSlices.
        nodes: the nodes; node ports are served on their addresses.
        sockets: opens the sockets of frontends.
        host_ips: addresses of this machine on which node ports are published.
        cluster_ips: False in a network without cluster addresses.
        pods: informers of the nodes' pods, for host ports.
        report_use: called with a Deployment's name when a client uses a Service that starts on first use.
        policy: tells which connections network policies allow; None to allow all.

    Attributes:
        quotas: limits of connections ("TCP") and flows ("UDP").
        most: the maximum number of frontends.
    """

    def __init__(
        self,
        client: Client,
        *,
        nodes: NodePlaces,
        sockets: ServiceSockets,
        host_ips: Sequence[str] = (),
        cluster_ips: bool = True,
        pods: Sequence[Informer] = (),
        report_use: Callable[[str], None] = lambda _deployment: None,
        policy: ConnectionPolicy | None = None,
    ) -> None:
        self._policy = policy
        self._nodes = nodes
        self._sockets = sockets
        self._maker = RuleMaker(nodes, host_ips, cluster_ips=cluster_ips)
        self._events = EventRecorder(client, "service-proxy")
        self.most = listening_sockets(_SHARE)
        self.quotas = {"TCP": ClientQuota.of_process(tcp.SHARE), "UDP": ClientQuota.of_process(udp.SHARE)}
        self._held = HeldClients(report_use)
        self._services = Informer(client, "services")
        self._slices = Informer(client, ENDPOINT_SLICES)
        self._pods = pods
        self._changed = asyncio.Event()
        # Whether network policies have changed since the UDP flows were checked.
        self._recheck = False
        self._listeners: dict[Frontend, Listener] = {}
        self._retired: list[TcpListener] = []
        self._wanted: dict[Frontend, ServiceRule] = {}
        self._refused: dict[Frontend, ServiceRule] = {}
        self._reported: dict[Frontend, str] = {}
        self._affinity: WeakValueDictionary[str, AffinityTable] = WeakValueDictionary()
        self._checks = open_engine()
        self._poll = open_poll()
        self._retry_after = _RETRY_SECONDS
        self._full = False

    async def run(self) -> None:
        """Apply changes in the API until cancelled; then reset every connection.

        Raises ApiError (in an exception group) like `Informer.run`.
        """
        most = MOST._replace(frontends=int(self.most * _OF_NAMESPACE))
        table = RuleTable(self._maker, most=most, on_cut=self._report_cut)

        def follow(note: Callable[[str, Object], None]) -> Callable[[str, Object], None]:
            def changed(kind: str, obj: Object) -> None:
                note(kind, obj)
                if table.has_changes:
                    self._changed.set()

            return changed

        self._services.subscribe(follow(table.service_changed))
        self._slices.subscribe(follow(table.slice_changed))
        for pods in self._pods:
            pods.subscribe(follow(table.pod_changed))
        try:
            async with running(self._services, self._slices):
                while True:
                    self._changed.clear()
                    while table.has_changes or self._wanted:
                        # Apply all known changes before opening more addresses, so that removed endpoints get no more
                        # connections.
                        self._update(table.take_changes())
                        await self._open_some()
                        await asyncio.sleep(0)
                    if self._recheck:
                        await self._check_flows()
                    await self._wait()
        finally:
            self.close()
            self._poll.close()
            await self._checks.close()
            await self._events.aclose()

    async def apply(self, changes: Mapping[Frontend, ServiceRule | None]) -> None:
        """Listen on the frontends that have rules, and stop listening on the others.

        Connections continue, even if their frontend is closed.
        """
        self._update(changes)
        while self._wanted:
            await self._open_some()

    def policy_changed(self) -> None:
        """Soon end the UDP flows that network policies no longer allow. TCP connections continue, as with conntrack."""
        self._recheck = True
        self._changed.set()

    async def _check_flows(self) -> None:
        self._recheck = False
        for listener in [one for one in self._listeners.values() if isinstance(one, UdpListener)]:
            clients = listener.clients
            for first in range(0, len(clients), _FLOWS_AT_ONCE):
                listener.check_flows(clients[first : first + _FLOWS_AT_ONCE])
                await asyncio.sleep(0)

    def close(self) -> None:
        """Stop listening and reset every connection."""
        for listener in (*self._listeners.values(), *self._retired):
            listener.abort()
        self._listeners.clear()
        self._retired.clear()

    async def _wait(self) -> None:
        """Wait for a change. If none comes in time, mark the refused frontends to be tried again."""
        if not self._refused:
            await self._changed.wait()
            return
        try:
            async with asyncio.timeout(self._retry_after):
                await self._changed.wait()
        except TimeoutError:
            self._retry_after = min(2 * self._retry_after, _RETRY_AT_MOST)
            self._wanted, self._refused = {**self._refused, **self._wanted}, {}

    def _update(self, changes: Mapping[Frontend, ServiceRule | None]) -> None:
        """Update and close listeners, and mark the frontends that must be opened."""
        for frontend, rule in changes.items():
            listener = self._listeners.get(frontend)
            if rule is None or (listener is not None and rule.place != listener.balancer.rule.place):
                self._wanted.pop(frontend, None)
                self._refused.pop(frontend, None)
                self._reported.pop(frontend, None)
                if listener is not None:
                    self._retire(frontend, self._listeners.pop(frontend))
            if rule is None:
                continue
            if listener is None or frontend not in self._listeners:
                self._wanted[frontend] = rule
                refused = self._refused.pop(frontend, None)
                if refused is not None and refused.key != rule.key:
                    # The frontend belongs to another Service now, so the message must be reported again.
                    self._reported.pop(frontend, None)
            elif listener.balancer.rule != rule:
                listener.balancer.update(rule)
                listener.endpoints_changed()

    async def _open_some(self) -> None:
        """Open some of the marked frontends. Frontends of kube-system come first."""
        chosen = list(self._next_ones())
        for frontend in chosen:
            rule = self._wanted.pop(frontend)
            await self._listen(frontend, rule)

    def _next_ones(self) -> Iterator[Frontend]:
        first = [frontend for frontend, rule in self._wanted.items() if rule.key[0] == "kube-system"]
        others = (frontend for frontend, rule in self._wanted.items() if rule.key[0] != "kube-system")
        for number, frontend in enumerate((*first, *others)):
            if number == _AT_ONCE:
                return
            yield frontend

    def _report_cut(self, key: Key, count: int) -> None:
        namespace, name = key
        if not count:
            _log.info("%s/%s: all of its ports are served again", namespace, name)
            return
        message = f"{count} addresses are not served: the Services of this namespace have too many ports or endpoints"
        _log.warning("%s/%s: %s", namespace, name, message)
        self._report(key, "Warning", "TooManyPorts", message)

    def _report(self, key: Key, kind: refusals.EventType, reason: str, message: str) -> None:
        """Report an Event about a Service, or about a pod if the name in `key` begins with POD."""
        name = key[1].removeprefix(POD)
        informers, owner = ((self._services,), "Service") if name == key[1] else (self._pods, "Pod")
        for informer in informers:
            found = informer.get(name, key[0])
            if found is not None:
                self._events.event({"apiVersion": "v1", "kind": owner, **found}, kind, reason, message)

    async def _listen(self, frontend: Frontend, rule: ServiceRule) -> None:
        if len(self._listeners) >= self.most:
            if not self._full:
                _log.warning("%s is not served: this process serves its limit of %d addresses", rule.service, self.most)
            self._full = True
            self._refused[frontend] = rule
            return
        self._full = False
        try:
            sock = await self._open(frontend, rule)
        except OSError as error:
            self._refuse(frontend, rule, error)
            return
        if self._reported.pop(frontend, ""):
            self._report(rule.key, "Normal", refusals.OPENED, refusals.opened(frontend, rule))
        self._listeners[frontend] = self._make_listener(frontend, rule, sock)
        self._retry_after = _RETRY_SECONDS

    async def _open(self, frontend: Frontend, rule: ServiceRule) -> socket.socket:
        if rule.place in OUTSIDE:
            return await self._sockets.publish(frontend.protocol, frontend.ip, frontend.port)
        if _is_added(frontend, rule):
            self._sockets.add_address(frontend.ip)
        try:
            if frontend.protocol == "UDP":
                return self._sockets.datagram(frontend.ip, frontend.port, frontend.node_ip)
            return self._sockets.listen(frontend.ip, frontend.port, frontend.node_ip)
        except OSError:
            if _is_added(frontend, rule):
                self._sockets.remove_address(frontend.ip)
            raise

    def _make_listener(self, frontend: Frontend, rule: ServiceRule, sock: socket.socket) -> Listener:
        # The cluster address, the node ports and the load balancer of one port share a table.
        table = self._affinity.setdefault(f"{rule.service}/{frontend.protocol}", AffinityTable())
        balancer = Balancer(
            rule, self._nodes, table, partial(self._leads_back, frontend.protocol), partial(self._allows, frontend)
        )
        if rule.place == "health":
            return HealthListener(balancer, sock, self._checks)
        if frontend.protocol == "UDP":
            return UdpListener(balancer, sock, self.quotas["UDP"])
        return TcpListener(balancer, sock, self._poll, self.quotas["TCP"], self._held)

    def _allows(self, frontend: Frontend, client: str, endpoint: ServiceEndpoint) -> bool:
        """Return True when network policies allow a client of a frontend to connect to an endpoint."""
        policy = self._policy
        return policy is None or policy.allows(client, endpoint.ip, endpoint.port, frontend.protocol, via=frontend.ip)

    def _leads_back(self, protocol: str, rule: ServiceRule, endpoint: ServiceEndpoint) -> bool:
        """Return True for an endpoint that is a frontend of this proxy, so that connections could loop.

        A pod's host port is allowed as an endpoint, because it leads only to the pod. (kube-proxy does not translate
        the address of an endpoint a second time, either.)
        """
        listener = self._listeners.get(Frontend(protocol, endpoint.ip, endpoint.port))
        return listener is not None and not (listener.balancer.rule.place == "pod" != rule.place)

    def _refuse(self, frontend: Frontend, rule: ServiceRule, error: OSError) -> None:
        """Record that a frontend could not be opened. Report the reason, unless the last report had the same reason."""
        self._refused[frontend] = rule
        message = refusals.explain(frontend, rule, error)
        if self._reported.get(frontend) == message:
            return
        self._reported[frontend] = message
        if message:
            _log.warning("%s: %s", rule.service, message)
            self._report(rule.key, "Warning", refusals.REFUSED, message)
        else:
            _log.debug("%s: %s: %s", rule.service, frontend, error)

    def _retire(self, frontend: Frontend, listener: Listener) -> None:
        listener.close()
        if _is_added(frontend, listener.balancer.rule):
            self._sockets.remove_address(frontend.ip)
        if isinstance(listener, TcpListener):
            self._retired = [known for known in self._retired if known.busy]
            self._retired.append(listener)


def _is_added(frontend: Frontend, rule: ServiceRule) -> bool:
    """Return True for an address inside the cluster that is not local from the start.

    These are external addresses, and cluster addresses of ServiceCIDRs that were added.
    """
    if rule.place == "external":
        return True
    return rule.place == "cluster" and IPv4Address(frontend.ip) not in plan.SERVICE_CIDR
