"""Binds pending pods to nodes (kube-scheduler's `schedule_one.go`); `placement.py` decides which node.

A decision is made without an await, and later decisions take it into account at once. The binding is written
afterwards, by several workers at the same time, so that many pods share the store's commits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import perf_counter

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import is_deleting, set_condition, uid_of
from hatchway.cluster.controllers.placement import NodeFit, NodeState, choose, fit, has_many_terms
from hatchway.cluster.controllers.podvolumes import PodVolumes
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, get_condition, is_finished, is_ready, key_of

NAME = "default-scheduler"
# A decision about a pod is repeated only after this many times the time that it took. So a pod with slow decisions
# leaves most of the event loop to others, even when other pods end all the time.
_COST_SHARE = 20
_AGAIN = 1.0
# A shorter wait (in seconds) is left out.
_AT_ONCE = 0.05


class Scheduler(Controller):
    """Bind every pending pod that names this scheduler to a node."""

    name = NAME
    workers = 16

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.pods = context.cache("pods")
        self.nodes = context.cache("nodes")
        self.events = context.recorder(NAME)
        self._states: dict[str, NodeState] | None = None
        # Pods with a node that the cache does not show yet: key → (uid, node).
        self._assumed: dict[Key, tuple[str, str]] = {}
        self._unschedulable: set[Key] = set()
        self._node_changes = 0
        # Seconds that the last decision about a pod took.
        self._cost: dict[Key, float] = {}
        self.volumes = PodVolumes(context, self._claims_changed, self._has_node)
        self.nodes.subscribe(self._node_changed)
        self.pods.subscribe(self._pod_changed)

    def _node_changed(self, _kind: str, node: Object, before: Object | None) -> None:
        if before is not None and _schedulable_facts(node) == _schedulable_facts(before):
            # A heartbeat: the object is replaced, the counts stay.
            if self._states is not None and node["metadata"]["name"] in self._states:
                self._states[node["metadata"]["name"]].node = node
            return
        self._states = None
        self._node_changes += 1
        self._retry_waiting()

    def _pod_changed(self, kind: str, pod: Object, before: Object | None) -> None:
        key = key_of(pod)
        bound = bool(pod["spec"].get("nodeName"))
        assumed = self._assumed.get(key)
        if assumed is not None and (bound or kind == "DELETED" or assumed[0] != uid_of(pod)):
            del self._assumed[key]
            if kind == "DELETED" or not bound or pod["spec"]["nodeName"] != assumed[1]:
                self._states = None
        elif bound and (before is None or not before["spec"].get("nodeName")):
            self._states = None
        if kind == "DELETED" or is_finished(pod):
            self._unschedulable.discard(key)
            self._cost.pop(key, None)
            if bound:
                self._states = None
                # Its resources are free now.
                self._retry_waiting()
        elif not bound:
            self._unschedulable.discard(key)
            self.queue.add(key)

    def _has_node(self, pod: Object) -> bool:
        return bool(pod["spec"].get("nodeName")) or self._assumed.get(key_of(pod), ("",))[0] == uid_of(pod)

    def _claims_changed(self, pods: Iterable[Object]) -> None:
        """Decide again about waiting pods whose claims, or the volumes for them, have changed."""
        for pod in pods:
            if key_of(pod) in self._unschedulable:
                self._unschedulable.discard(key_of(pod))
                self.queue.add(key_of(pod))

    def _retry_waiting(self) -> None:
        """Decide again about pods that fitted nowhere; where the last decision took long, only after a wait."""
        for key in self._unschedulable:
            wait = self._cost.get(key, 0.0) * _COST_SHARE
            if wait > _AT_ONCE:
                self.queue.add_after(key, wait)
            else:
                self.queue.add(key)
        self._unschedulable.clear()

    async def reconcile(self, key: Key) -> float | None:
        """Bind the pod `key`, or write into its status why no node fits."""
        pod = self.pods.get(key)
        if pod is None or not _to_schedule(pod) or self._assumed.get(key, ("",))[0] == uid_of(pod):
            return None
        known, node_changes = None, self._node_changes
        if has_many_terms(pod):
            known = await self._fits(pod)
            if self.pods.get(key) is not pod or key in self._assumed:
                # The pod has changed meanwhile; the change has queued it again.
                return None
        began = perf_counter()
        states = self._current_states()
        volumes = self.volumes.claims_of(pod)
        if volumes.problem:
            chosen, message = None, f"0/{len(states)} nodes are available: {volumes.problem}."
        else:
            chosen, message = choose(pod, list(states.values()), known, volumes.refusals)
        self._cost[key] = perf_counter() - began
        if chosen is None:
            self._unschedulable.add(key)
            await self._refuse(pod, message)
            # If a node has changed during the decision, decide again soon.
            return None if node_changes == self._node_changes else _AGAIN
        if volumes.unbound:
            # The pod is bound when its claims are: their changes queue it again.
            self._unschedulable.add(key)
            return await self.volumes.bind(volumes, chosen.node)
        chosen.add(pod)
        self._assumed[key] = (uid_of(pod), chosen.name)
        try:
            await self._bind(pod, chosen.name)
        except BaseException:
            if self._assumed.get(key, ("",))[0] == uid_of(pod):
                del self._assumed[key]
            self._states = None
            raise
        return None

    async def _fits(self, pod: Object) -> dict[str, NodeFit]:
        """Return how each node fits a pod with many terms; compare one node in each turn of the event loop."""
        found = {}
        for node in list(self.nodes):
            found[node["metadata"]["name"]] = fit(pod, node)
            await asyncio.sleep(0)
        return found

    async def _bind(self, pod: Object, node: str) -> None:
        namespace, name = key_of(pod)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": uid_of(pod)},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self.client.create("pods", binding, namespace, subresource="binding", name=name)
        except ApiError as error:
            if error.code == 404:
                # Deleted meanwhile: nothing is left to schedule.
                self._assumed.pop((namespace, name), None)
                self._states = None
                return
            self.events.event(pod, "Warning", "FailedScheduling", f"binding rejected: {error.message}")
            raise
        self.events.event(pod, "Normal", "Scheduled", f"Successfully assigned {namespace}/{name} to {node}")

    async def _refuse(self, pod: Object, message: str) -> None:
        namespace, name = key_of(pod)
        wanted = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        old = get_condition(pod, "PodScheduled") or {}
        if all(old.get(field) == value for field, value in wanted.items()):
            return
        self.events.event(pod, "Warning", "FailedScheduling", message)
        conditions = set_condition((pod.get("status") or {}).get("conditions") or (), wanted, self.context.now())
        patch = {
            "metadata": {"uid": uid_of(pod), "resourceVersion": pod["metadata"]["resourceVersion"]},
            "status": {"conditions": conditions},
        }
        written = await self.client.patch("pods", name, patch, namespace, subresource="status")
        await self.pods.wait_for_write(written)

    def _current_states(self) -> dict[str, NodeState]:
        if self._states is not None:
            return self._states
        states = {node["metadata"]["name"]: NodeState(node) for node in self.nodes if not is_deleting(node)}
        for pod in self.pods:
            assumed = self._assumed.get(key_of(pod))
            node = pod["spec"].get("nodeName") or (assumed[1] if assumed and assumed[0] == uid_of(pod) else "")
            if node in states and not is_finished(pod):
                states[node].add(pod)
        self._states = states
        return states


def _to_schedule(pod: Object) -> bool:
    spec = pod["spec"]
    return (
        not spec.get("nodeName")
        and not is_deleting(pod)
        and not is_finished(pod)
        and not spec.get("schedulingGates")
        and spec.get("schedulerName", NAME) == NAME
    )


def _schedulable_facts(node: Object) -> tuple[object, ...]:
    status = node.get("status") or {}
    return (
        node["metadata"].get("labels"),
        node["spec"].get("taints"),
        node["spec"].get("unschedulable"),
        is_ready(node),
        status.get("allocatable") or status.get("capacity"),
        is_deleting(node),
    )
