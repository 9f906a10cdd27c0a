"""Binds pending pods to nodes (kube-scheduler's `schedule_one.go`); `placement.py` decides which node.

A decision is made without an await, and later decisions take it into account at once. The binding is written
afterwards. Several workers write bindings at the same time, so that one commit of the store includes many bindings. A
decision that would take long is made on another thread, with a copy of the cluster's state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from time import thread_time

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.indexes import by_labels, by_plain_selector
from hatchway.cluster.controllers.objectfields import controller_of, is_deleting, labels_of, set_condition, uid_of
from hatchway.cluster.controllers.placement import Decision, choose, work_of
from hatchway.cluster.controllers.poddevices import ClaimsChanged, DevicesOfPod, PodDevices
from hatchway.cluster.controllers.podvolumes import ClaimsOfPod, PodVolumes
from hatchway.cluster.controllers.scheduling.clusterstate import AbandonedError, ClusterState
from hatchway.cluster.controllers.scheduling.filters import NodeRefusal, node_refusal
from hatchway.cluster.controllers.scheduling.podinfo import PodInfo
from hatchway.cluster.controllers.scheduling.preemption import PREEMPTED, Preemption
from hatchway.cluster.controllers.scheduling.waiting import NODE_FILTERS, POD_FILTERS, WaitingPods
from hatchway.cluster.controllers.workqueue import WorkQueue
from hatchway.cluster.controllers.writes import delete_unless_gone
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, get_condition, is_finished, is_ready, key_of
from hatchway.kube.selectors import subset_matches

NAME = "default-scheduler"
# A pod that fits on no node is tried again after this time (seconds), even without a change in the cluster
# (`podMaxInUnschedulablePodsDuration`).
_AGAIN = 300.0
# A decision with more comparisons than this is made on another thread. A comparison takes about 4 µs.
_MUCH_WORK = 5_000
# If a long decision is out of date when it ends, it is repeated after the longer of two times: `_SOON` seconds, or
# `_REST` times its cost.
_SOON = 0.1
_REST = 4
_WORKLOADS = ("replicasets.apps", "statefulsets.apps", "replicationcontrollers")
_NOTHING: frozenset[str] = frozenset()
_VOLUMES = frozenset(("VolumeBinding",))


class Scheduler(Controller):
    """Binds every pending pod that names this scheduler to a node. Pods with the highest priority come first."""

    name = NAME
    workers = 16

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.queue = WorkQueue(self.name, self._rank)
        self.pods = context.cache("pods")
        self.nodes = context.cache("nodes")
        self.namespaces = context.cache("namespaces")
        self.services = context.cache("services")
        self.budgets = context.cache("poddisruptionbudgets.policy")
        self.workloads = [context.cache(resource) for resource in _WORKLOADS]
        self.events = context.recorder(NAME)
        self._cluster = ClusterState((), self._namespace_labels)
        # Pods that are bound, but not yet in the cache: key → uid.
        self._assumed: dict[Key, str] = {}
        self._waiting = WaitingPods()
        self.devices = PodDevices(context, self._claims_changed)
        self.volumes = PodVolumes(context, self._claims_changed, self._has_node)
        # Counts the changes of the cluster that can change the decision about a waiting pod.
        self._changes = 0
        # Only one long decision is made at a time.
        self._long_decision = asyncio.Lock()
        self.nodes.subscribe(self._node_changed)
        self.pods.subscribe(self._pod_changed)
        self.namespaces.subscribe(self._namespace_changed)

    def _rank(self, key: Key) -> int:
        pod = self.pods.get(key)
        return -int(pod["spec"].get("priority") or 0) if pod is not None else 0

    def _namespace_labels(self, namespace: str) -> dict[str, str]:
        found = self.namespaces.get(("", namespace))
        return labels_of(found) if found is not None else {}

    # --- changes -----------------------------------------------------------------------------------------------

    def _namespace_changed(self, _kind: str, obj: Object, before: Object | None) -> None:
        if before is None or labels_of(obj) != labels_of(before):
            self._retry(POD_FILTERS)

    def _node_changed(self, kind: str, node: Object, before: Object | None) -> None:
        if kind == "DELETED" or is_deleting(node):
            self._cluster.remove_node(node["metadata"]["name"])
        else:
            self._cluster.set_node(node)
        # Most changes of nodes are heartbeats, which cannot make room for a pod.
        if kind == "DELETED" or before is None or _schedulable_facts(node) != _schedulable_facts(before):
            self._retry(_NOTHING, others=True)

    def _pod_changed(self, kind: str, pod: Object, before: Object | None) -> None:
        key, uid = key_of(pod), uid_of(pod)
        if before is not None and uid_of(before) != uid:
            self._forget(key)
        if kind == "DELETED" or is_finished(pod):
            self._forget(key)
            return
        if pod["spec"].get("nodeName"):
            self._place(key, pod)
            return
        if self._assumed.get(key) == uid:
            return
        if before is None or _pending_facts(pod) != _pending_facts(before):
            self._waiting.start(key)
            self.queue.add(key)
        nominated = (pod.get("status") or {}).get("nominatedNodeName") or ""
        if nominated and _to_schedule(pod) and nominated != self._cluster.nominated_node(key):
            # The nomination was made before a restart of this process, or by another client.
            self._cluster.nominate(PodInfo.of(pod), nominated)
        elif not nominated and before is not None and (before.get("status") or {}).get("nominatedNodeName"):
            self._cluster.forget_nomination(key)

    def _place(self, key: Key, pod: Object) -> None:
        """Count a bound pod on its node."""
        node, info = pod["spec"]["nodeName"], PodInfo.of(pod)
        known = self._cluster.place_of(key)
        self._assumed.pop(key, None)
        self._waiting.forget(key)
        self._cluster.forget_nomination(info.key)
        self._cluster.place(info, node)
        if known is None or known[0] != node or known[1].labels != info.labels:
            self._retry(POD_FILTERS)
        elif known[1].requests != info.requests or known[1].terminating != info.terminating:
            self._retry(NODE_FILTERS, others=True)

    def _forget(self, key: Key) -> None:
        """Stop counting a pod that is deleted or has ended, and retry pods that may fit now."""
        mattered = self._cluster.place_of(key) is not None or self._cluster.nominated_node(key)
        self._assumed.pop(key, None)
        self._waiting.forget(key)
        self._cluster.remove(key)
        self._cluster.forget_nomination(key)
        if mattered:
            self._retry(NODE_FILTERS, others=True)

    def _retry(self, plugins: frozenset[str], *, others: bool = False) -> None:
        """Queue the pods that these filters have refused.

        others: True to queue, instead, the pods that any other filter has refused.
        """
        self._changes += 1
        if len(self._waiting):
            now = asyncio.get_running_loop().time()
            for key, seconds in list(self._waiting.affected(plugins, now, others=others)):
                self.queue.add_after(key, seconds)

    def _claims_changed(self, pods: Iterable[Object]) -> None:
        """Decide again about pods whose claims, or the volumes for them, have changed."""
        for pod in pods:
            if not self._has_node(pod):
                self.queue.add(key_of(pod))

    def _has_node(self, pod: Object) -> bool:
        return bool(pod["spec"].get("nodeName")) or self._assumed.get(key_of(pod)) == uid_of(pod)

    # --- one pod -----------------------------------------------------------------------------------------------

    async def reconcile(self, key: Key) -> float | None:
        """Bind the pod `key`, or write into its status why no node fits."""
        pod = self.pods.get(key)
        if pod is None or not _to_schedule(pod) or self._assumed.get(key) == uid_of(pod):
            return None
        self._waiting.start(key)
        info = PodInfo.of(pod)
        changes = self._changes
        volumes = self.volumes.claims_of(pod)
        devices = self.devices.devices_of(pod)
        if devices.is_early:
            return None
        decision, cost = await self._decide(info, volumes, devices)
        if decision is None or self.pods.get(key) is not pod:
            # The cluster or the pod has changed during a long decision, so the decision must be made again.
            return max(_SOON, cost * _REST) if self.pods.get(key) is not None else None
        if decision.node and volumes.unbound:
            # The pod is bound after its claims. Changes of the claims queue the pod again.
            self._waiting.add(key, _VOLUMES, asyncio.get_running_loop().time(), cost)
            return await self.volumes.bind(volumes, self._cluster.nodes[decision.node].node)
        if decision.node:
            return await self._bind(info, decision.node, devices)
        now = asyncio.get_running_loop().time()
        self._waiting.add(key, decision.plugins, now, cost)
        if changes != self._changes:
            # The cluster changed during the decision. The decision does not include these changes. The changes did not
            # queue the pod, because it was not yet in `_waiting`. Only this pod is queued: if each such decision also
            # queued other pods, the decisions would repeat each other forever.
            self.queue.add_after(key, self._waiting.left(key, now))
        await self._refuse(info, decision)
        await self.devices.free_unavailable(devices, pod)
        return _AGAIN

    async def _decide(
        self, info: PodInfo, volumes: ClaimsOfPod, devices: DevicesOfPod
    ) -> tuple[Decision | None, float]:
        """Return (the decision about a pod, or None if it took long and is out of date; its cost).

        The cost is in seconds of processor time, not of real time, so a busy machine does not make a pod wait longer.
        """

        def refusal(_pod: Object, node: Object) -> NodeRefusal | None:
            reasons = volumes.refusals(node)
            if reasons:
                return NodeRefusal("VolumeBinding", tuple(reasons), False)
            reasons = devices.refusals(node)
            return NodeRefusal("DynamicResources", tuple(reasons), False) if reasons else None

        choose_node = partial(
            choose,
            info,
            default_selector=self._default_selector(info.pod),
            budgets=list(self.budgets),
            problem=volumes.problem or devices.problem,
            further=(refusal,),
        )

        def decide(cluster: ClusterState) -> tuple[Decision, float]:
            began = thread_time()
            decision = choose_node(cluster=cluster)
            return decision, thread_time() - began

        # A pod with unallocated devices is always decided on a thread: the expressions that select devices may take
        # long.
        if work_of(info, self._cluster) <= _MUCH_WORK and not devices.unallocated:
            return decide(self._cluster)
        async with self._long_decision:
            self.devices.refresh(devices)
            cluster = self._cluster.snapshot()
            try:
                decision, cost = await asyncio.to_thread(decide, cluster)
            except AbandonedError:
                raise asyncio.CancelledError from None
            finally:
                # A thread cannot be cancelled, so it reads this flag.
                cluster.abandoned = True
        return (decision if self._is_current(info, decision) else None), cost

    def _is_current(self, info: PodInfo, decision: Decision) -> bool:
        """Return True when a decision that took long can still be carried out."""
        if decision.node:
            state = self._cluster.nodes.get(decision.node)
            claims = self.volumes.claims_of(info.pod)
            return (
                state is not None
                and node_refusal(info, state) is None
                and not claims.problem
                and not claims.refusals(state.node)
            )
        state = self._cluster.nodes.get(decision.preemption.node)
        victims = decision.preemption.victims
        return not victims or (state is not None and all(one.key in state.pods for one in victims))

    def _default_selector(self, pod: Object) -> Object | None:
        """Return the combined selector of the pod's Services and controller (`helper.DefaultSelector`), or None."""
        if pod["spec"].get("topologySpreadConstraints"):
            return None
        wanted: dict[str, str] = {}
        for service in self.services.index(by_plain_selector).get(*by_labels(pod)):
            if subset_matches(service["spec"]["selector"], labels_of(pod)):
                wanted |= service["spec"]["selector"]
        expressions: list[Object] = []
        owner = controller_of(pod)
        for cache in self.workloads if owner is not None else ():
            found = cache.get((key_of(pod)[0], (owner or {})["name"]))
            if found is None or uid_of(found) != (owner or {})["uid"]:
                continue
            selector = found["spec"].get("selector") or {}
            if cache.resource == "replicationcontrollers":
                wanted |= selector
                continue
            labels = selector.get("matchLabels") or {}
            expressions += [{"key": key, "operator": "In", "values": [value]} for key, value in labels.items()]
            expressions += selector.get("matchExpressions") or ()
        return {"matchLabels": wanted, "matchExpressions": expressions} if wanted or expressions else None

    async def _bind(self, info: PodInfo, node: str, devices: DevicesOfPod) -> float | None:
        """Write the binding. The pod is counted on the node before the cache shows the binding."""
        namespace, name = info.key
        self._cluster.forget_nomination(info.key)
        self._cluster.place(info, node)
        self._assumed[info.key] = info.uid
        self._retry(POD_FILTERS)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": info.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self.devices.reserve(devices, info.pod, node)
            await self.client.create("pods", binding, namespace, subresource="binding", name=name)
        except BaseException as error:
            if self._assumed.get(info.key) == info.uid:
                self._forget(info.key)
            if isinstance(error, ApiError) and error.code == 404:
                # The pod was deleted meanwhile.
                return None
            if isinstance(error, ApiError) and not isinstance(error, ClaimsChanged):
                self.events.event(info.pod, "Warning", "FailedScheduling", f"binding rejected: {error.message}")
            raise
        self.events.event(info.pod, "Normal", "Scheduled", f"Successfully assigned {namespace}/{name} to {node}")
        return None

    async def _refuse(self, info: PodInfo, decision: Decision) -> None:
        """Write why no node fits, and preempt other pods if that helps."""
        pod, preemption = info.pod, decision.preemption
        if preemption.node:
            self._cluster.nominate(info, preemption.node)
        elif preemption.clear:
            self._cluster.forget_nomination(info.key)
        wanted = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": decision.message,
        }
        old, status = get_condition(pod, "PodScheduled") or {}, pod.get("status") or {}
        nominated = self._cluster.nominated_node(info.key)
        if any(old.get(field) != value for field, value in wanted.items()):
            self.events.event(pod, "Warning", "FailedScheduling", decision.message)
            conditions = set_condition(status.get("conditions") or (), wanted, self.context.now())
            await self._patch_status(pod, {"conditions": conditions, "nominatedNodeName": nominated or None})
        elif nominated != (status.get("nominatedNodeName") or ""):
            await self._patch_status(pod, {"nominatedNodeName": nominated or None})
        if preemption.node:
            await self._preempt(info, preemption)

    async def _preempt(self, info: PodInfo, preemption: Preemption) -> None:
        """Delete the victims, and remove the nominations of pods with lower priority (`prepareCandidate`)."""
        state = self._cluster.nodes.get(preemption.node)
        for other in list(state.nominated.values()) if state is not None else ():
            if other.priority < info.priority:
                self._cluster.forget_nomination(other.key)
                pod = self.pods.get(other.key)
                if pod is not None and (pod.get("status") or {}).get("nominatedNodeName"):
                    await self._patch_status(pod, {"nominatedNodeName": None})
                self.queue.add(other.key)
        for victim in preemption.victims:
            if not victim.terminating:
                await self._evict(victim, info, preemption.node)

    async def _evict(self, victim: PodInfo, info: PodInfo, node: str) -> None:
        pod = self.pods.get(victim.key)
        if pod is None or uid_of(pod) != victim.uid or is_deleting(pod):
            return
        scheduler = info.pod["spec"].get("schedulerName") or NAME
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": PREEMPTED,
            "message": f"{scheduler}: preempting to accommodate a higher priority pod",
        }
        conditions = set_condition((pod.get("status") or {}).get("conditions") or (), condition, self.context.now())
        try:
            await self._patch_status(pod, {"conditions": conditions})
            await delete_unless_gone(self.client, "pods", pod)
        except ApiError as error:
            if error.code == 404:
                return
            raise
        self.events.event(pod, "Normal", "Preempted", f"Preempted by pod {info.uid} on node {node}")

    async def _patch_status(self, pod: Object, status: Object) -> None:
        namespace, name = key_of(pod)
        patch = {
            "metadata": {"uid": uid_of(pod), "resourceVersion": pod["metadata"]["resourceVersion"]},
            "status": status,
        }
        written = await self.client.patch("pods", name, patch, namespace, subresource="status")
        await self.pods.wait_for_write(written)


def _to_schedule(pod: Object) -> bool:
    spec = pod["spec"]
    return (
        not spec.get("nodeName")
        and not is_deleting(pod)
        and not is_finished(pod)
        and not spec.get("schedulingGates")
        and spec.get("schedulerName", NAME) == NAME
    )


def _pending_facts(pod: Object) -> tuple[object, ...]:
    """Return the parts of an unbound pod that can change the decision. Of its status, only the claims matter."""
    claims = (pod.get("status") or {}).get("resourceClaimStatuses")
    return uid_of(pod), pod["spec"], labels_of(pod), is_deleting(pod), claims


def _schedulable_facts(node: Object) -> tuple[object, ...]:
    status = node.get("status") or {}
    return (
        labels_of(node),
        node["spec"].get("taints"),
        node["spec"].get("unschedulable"),
        is_ready(node),
        status.get("allocatable") or status.get("capacity"),
        is_deleting(node),
    )
