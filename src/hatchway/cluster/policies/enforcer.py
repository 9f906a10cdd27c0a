"""Enforces the cluster's NetworkPolicies: follows the API, and keeps the packet filter up to date."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address

from hatchway.cluster import plan
from hatchway.cluster.packetrules import FilterChange, PacketFilter
from hatchway.cluster.policies.policytable import PolicyTable
from hatchway.kube.api import Client, Object
from hatchway.kube.events import EventRecorder
from hatchway.kube.informer import Informer, running
from hatchway.kube.objects import Key

_log = logging.getLogger(__name__)

NETWORK_POLICIES = "networkpolicies.networking.k8s.io"

# Seconds of work in one turn of the event loop. The kubelets use the same loop.
_SLICE = 0.005
# After an error, the filter is made again after a pause: the first and the longest pause, in seconds.
_RETRY_SECONDS, _RETRY_AT_MOST = 1.0, 30.0
# Seconds for which a new pod waits until the watch has reported all current policies, at most; seconds between two
# checks.
_FRESH_SECONDS = 20.0
_ASK_AGAIN_SECONDS = 0.02
# The maximum number of new pods for which policies are listed at the same time.
_ASK_AT_ONCE = 4
_TOO_MANY = (
    "There is no room for this policy: the policies of its namespace, or of the cluster, have too many rules. Its pods "
    "are isolated, and the policy allows nothing."
)


class PolicyEnforcer:
    """Enforces network policies until `run` is cancelled.

    This class implements the `PodAdmission` of the kubelets and the `ConnectionPolicy` of the service proxy.

    Args:
        client: reads NetworkPolicies and Namespaces.
        packets: the packet filter of the network.
        nodes: the nodes' addresses, by their index in the address plan.

    Attributes:
        on_change: called when the allowed connections may have changed.
    """

    def __init__(
        self,
        client: Client,
        packets: PacketFilter,
        nodes: Sequence[str],
    ) -> None:
        self._client = client
        self._packets = packets
        self.on_change: Callable[[], None] = lambda: None
        self._policies = Informer(client, NETWORK_POLICIES)
        self._namespaces = Informer(client, "namespaces")
        self._events = EventRecorder(client, "network-policies")
        self._nodes = frozenset(nodes)
        self._node_of_prefix = {_prefix(str(plan.pod_cidr(index)[0])): ip for index, ip in enumerate(nodes)}
        self._table = PolicyTable(
            is_beside_api=lambda ip: self._node_of_prefix.get(_prefix(ip)) == nodes[0],
            api=(nodes[0], plan.DEFAULT_API_PORT),
            on_cut=self._report_cut,
        )
        self._changed = asyncio.Event()
        self._asking = asyncio.Semaphore(_ASK_AT_ONCE)
        self._waiting: list[asyncio.Future[None]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="packet filter")

    async def run(self, pods: Sequence[Informer]) -> None:
        """Follow the API until cancelled. Raises ApiError in an exception group, like `Informer.run`.

        pods: informers of all nodes' pods, which the caller runs.
        """

        def follow(note: Callable[[str, Object], None]) -> Callable[[str, Object], None]:
            def changed(kind: str, obj: Object) -> None:
                note(kind, obj)
                if self._table.has_changes:
                    self._changed.set()

            return changed

        self._namespaces.subscribe(follow(self._table.namespace_changed))
        self._policies.subscribe(follow(self._table.policy_changed))
        for of_node in pods:
            of_node.subscribe(follow(self._table.pod_changed))
        try:
            async with running(self._policies, self._namespaces):
                await self._apply_changes()
        finally:
            self._fail(OSError(errno.ECANCELED, "the node agent ends"))
            await self._events.aclose()
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _apply_changes(self) -> None:
        pause, anew = _RETRY_SECONDS, True
        while True:
            waiting, self._waiting = self._waiting, []
            self._changed.clear()
            await self._update()
            if self._table.has_changes:
                self._changed.set()
            changes = self._table.take_changes()
            if anew:
                changes = self._table.changes_from_empty()
            try:
                if anew or changes:
                    await self._in_thread(partial(self._apply, changes, anew=anew))
            except OSError as error:
                _log.error("network policies are not in effect, and will be tried again: %s", error)
                self._waiting += waiting
                self._fail(OSError(error.errno, f"network policies are not in effect: {error.strerror}"))
                anew = True
                await asyncio.sleep(pause)
                pause = min(2 * pause, _RETRY_AT_MOST)
                continue
            pause, anew = _RETRY_SECONDS, False
            if changes:
                self.on_change()
            for one in waiting:
                if not one.done():
                    one.set_result(None)
            await self._changed.wait()

    async def _update(self) -> None:
        until = time.perf_counter() + _SLICE
        for _ in self._table.update():
            if time.perf_counter() >= until:
                await asyncio.sleep(0)
                until = time.perf_counter() + _SLICE

    async def _in_thread(self, work: Callable[[], None]) -> None:
        # The work must end even when this task is cancelled, because the filter's owner then closes the filter.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    def _apply(self, changes: list[FilterChange], *, anew: bool) -> None:
        if anew:
            self._packets.reset()
        self._packets.apply(changes)
        if anew:
            self._packets.release()

    def _fail(self, error: OSError) -> None:
        for one in self._waiting:
            if not one.done():
                one.set_exception(error)
        self._waiting = []

    def _report_cut(self, key: Key, cut: bool) -> None:
        policy = self._policies.get(key[1], key[0])
        if not cut or policy is None:
            return
        _log.warning("network policy %s/%s: %s", *key, _TOO_MANY)
        involved = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", **policy}
        self._events.event(involved, "Warning", "TooManyRules", _TOO_MANY)

    # --- PodAdmission ----------------------------------------------------------------------------------------------

    async def admit(self, uid: str, ip: str) -> None:
        """Wait until the policies that select the pod with this uid are in effect for its address.

        All policies that were in the API when the pod got its address count, even if their events have not arrived yet.

        Raises:
            OSError: the kernel refuses the rules, the API does not answer, or the pod does not exist.
        """
        pod = self._table.pods.get(uid)
        if pod is None:
            raise OSError(errno.ESRCH, "the pod is gone")
        if pod.host_network:
            return
        try:
            async with asyncio.timeout(_FRESH_SECONDS):
                await self._policies.synced()
                await self._namespaces.synced()
                await self._follow_policies(pod.namespace)
        except TimeoutError as error:
            raise OSError(errno.ETIMEDOUT, "the network policies of its namespace are not known") from error
        self._table.address_known(uid, ip)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._changed.set()
        await done

    async def _follow_policies(self, namespace: str) -> None:
        """Wait until the watch has reported the current policies of a namespace, or later versions of them."""
        while True:
            # Limit the simultaneous lists, because policies may be large, and many pods may start at once.
            async with self._asking:
                if all(map(self._knows, await self._client.list(NETWORK_POLICIES, namespace))):
                    return
            await asyncio.sleep(_ASK_AGAIN_SECONDS)

    def _knows(self, policy: Object) -> bool:
        """Return True when the watch has reported a listed policy, or a later version of it."""
        metadata = policy["metadata"]
        known = self._policies.get(metadata["name"], metadata.get("namespace", ""))
        return known is not None and int(known["metadata"]["resourceVersion"]) >= int(metadata["resourceVersion"])

    def forget(self, uid: str) -> None:
        """Record that the pod has no address any more. Idempotent."""
        self._table.address_gone(uid)
        if self._table.has_changes:
            self._changed.set()

    # --- ConnectionPolicy ------------------------------------------------------------------------------------------

    def allows(self, client: str, address: str, port: int, protocol: str, *, via: str = "") -> bool:
        """Return True when a client may connect to an address (`ConnectionPolicy.allows`).

        A pod always reaches itself and its own node, and the node always reaches the pod. When `via` is another node (a
        node port), the packet filter has decided about egress already.
        """
        if client == address:
            return True
        own_node = self._node_of_prefix.get(_prefix(client))
        decided = via != own_node and via in self._nodes
        group = None if decided or address == own_node else self._table.group("egress", client)
        if group is not None and not group.allows(address, address, port, protocol):
            return False
        group = self._table.group("ingress", address)
        if group is None or client == self._node_of_prefix.get(_prefix(address)) or _is_router(client):
            return True
        return group.allows(client, address, port, protocol)


def _prefix(ip: str) -> str:
    return ip[: ip.rfind(".")]


def _is_router(ip: str) -> bool:
    """Return True for an address of the network's router, from which only the cluster itself connects."""
    address = IPv4Address(ip)
    return address in plan.SERVICE_CIDR or (address in plan.POD_CIDR and ip.endswith(".1"))
