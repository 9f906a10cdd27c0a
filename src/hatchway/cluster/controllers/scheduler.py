"""Binds pending pods to nodes (kube-scheduler's `schedule_one.go`); `placement.py` decides which node.

A decision takes no await, and counts at once in everything that is decided after it; the binding is written after
that, by as many workers as there are, so that many pods share the store's commits.
"""

from __future__ import annotations

from hatchway.cluster.controllers.base import Context, Controller
from hatchway.cluster.controllers.objects import (
    Key,
    get_condition,
    is_deleting,
    is_finished,
    key_of,
    set_condition,
    uid_of,
)
from hatchway.cluster.controllers.placement import NodeState, choose, is_ready_node
from hatchway.errors import ApiError
from hatchway.kube.api import Object

NAME = "default-scheduler"


class Scheduler(Controller):
    name = NAME
    workers = 16

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pods = context.cache("pods")
        self.nodes = context.cache("nodes")
        self.events = context.recorder(NAME)
        self._states: dict[str, NodeState] | None = None
        # Pods with a node that the cache does not show yet: key → (uid, node).
        self._assumed: dict[Key, tuple[str, str]] = {}
        self._unschedulable: set[Key] = set()
        self.nodes.subscribe(self._node_changed)
        self.pods.subscribe(self._pod_changed)

    def _node_changed(self, _kind: str, node: Object, before: Object | None) -> None:
        if before is not None and _schedulable_facts(node) == _schedulable_facts(before):
            # A heartbeat; the counts are kept, only the object is newer.
            if self._states is not None and node["metadata"]["name"] in self._states:
                self._states[node["metadata"]["name"]].node = node
            return
        self._states = None
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
            if bound:
                self._states = None
                # Its room is free now.
                self._retry_waiting()
        elif not bound:
            self._unschedulable.discard(key)
            self.queue.add(key)

    def _retry_waiting(self) -> None:
        for key in self._unschedulable:
            self.queue.add(key)
        self._unschedulable.clear()

    async def reconcile(self, key: Key) -> float | None:
        pod = self.pods.get(key)
        if pod is None or not _to_schedule(pod) or self._assumed.get(key, ("",))[0] == uid_of(pod):
            return None
        states = self._current_states()
        chosen, message = choose(pod, list(states.values()))
        if chosen is None:
            self._unschedulable.add(key)
            await self._refuse(pod, message)
            return None
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
        await self.pods.shows(written)

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
        is_ready_node(node),
        status.get("allocatable") or status.get("capacity"),
        is_deleting(node),
    )
