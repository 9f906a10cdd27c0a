"""Monitors nodes. When a kubelet sends no heartbeats, its node becomes NotReady and tainted, and pods are evicted.

It behaves like `nodelifecycle/node_lifecycle_controller.go` and `tainteviction/taint_eviction.go`.

The time without heartbeats is measured with this process's own clock. It begins when this process receives a change of
the node's Lease. So neither a restart of the control plane nor a wrong clock makes nodes NotReady.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import clone, is_deleting, parse_time, set_condition, timestamp, uid_of
from hatchway.cluster.controllers.scheduling.tolerations import tolerates
from hatchway.cluster.controllers.writes import delete_unless_gone
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, get_condition, is_finished, is_ready, key_of
from hatchway.kube.wellknown import NOT_READY, UNREACHABLE, UNSCHEDULABLE

LEASES = "leases.coordination.k8s.io"
LEASE_NAMESPACE = "kube-node-lease"
# The types of conditions that a kubelet posts. They are set to Unknown while it sends no heartbeats.
_POSTED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


class NodeLifecycleController(Controller):
    """Updates the conditions and taints of nodes, and the readiness of pods on nodes that are not ready."""

    name = "node-controller"

    def __init__(self, context: ControllerContext, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(context)
        self.monotonic = monotonic
        self.nodes = context.cache("nodes")
        self.leases = context.cache(LEASES)
        self.pods = context.cache("pods")
        self.events = context.recorder(self.name)
        # For each node, when this process received its last heartbeat (monotonic seconds).
        self._heard: dict[str, float] = {}
        # For each pod on a tainted node, by its uid: when its time of toleration began.
        self._evictions: dict[str, datetime] = {}
        self.nodes.subscribe(self._node_changed)
        self.leases.subscribe(self._lease_changed)
        self.pods.subscribe(self._pod_changed)

    def _node_changed(self, kind: str, node: Object, before: Object | None) -> None:
        name = node["metadata"]["name"]
        if kind == "DELETED":
            self._heard.pop(name, None)
        elif before is None or _heartbeat(node) != _heartbeat(before):
            self._heard[name] = self.monotonic()
        self.queue.add(("", name))

    def _lease_changed(self, kind: str, lease: Object, before: Object | None) -> None:
        namespace, name = key_of(lease)
        if namespace != LEASE_NAMESPACE or kind == "DELETED":
            return
        if before is None or _renewed(lease) != _renewed(before):
            silent = name in self._heard and self._seconds_silent(name) >= self.context.config.node_monitor_grace
            self._heard[name] = self.monotonic()
            if silent:
                self.queue.add(("", name))

    def _pod_changed(self, kind: str, pod: Object, before: Object | None) -> None:
        node = pod["spec"].get("nodeName")
        if kind == "DELETED":
            self._evictions.pop(uid_of(pod), None)
        elif node:
            former = before["spec"] if before is not None else {}
            if not former.get("nodeName") or pod["spec"].get("tolerations") != former.get("tolerations"):
                self.queue.add(("", node))

    def _seconds_silent(self, name: str) -> float:
        return self.monotonic() - self._heard[name]

    async def reconcile(self, key: Key) -> float | None:
        """Check the node `key`. Return the seconds until its heartbeat is overdue, or until the next eviction."""
        node = self.nodes.get(key)
        if node is None or is_deleting(node):
            return None
        name = key[1]
        self._heard.setdefault(name, self.monotonic())
        left = self.context.config.node_monitor_grace - self._seconds_silent(name)
        if left <= 0:
            node = await self._mark_unknown(node)
        node = await self._update_taints(node)
        again = await self._update_pods(node)
        due = [seconds for seconds in (left if left > 0 else None, again) if seconds is not None]
        return min(due) + 0.01 if due else None

    async def _mark_unknown(self, node: Object) -> Object:
        """Set every posted condition to Unknown (`NodeStatusUnknown`)."""
        conditions = (node.get("status") or {}).get("conditions") or []
        moment = self.context.now()
        changed = list(conditions)
        for kind in _POSTED:
            old = get_condition(node, kind)
            if old is not None and old.get("status") == "Unknown":
                continue
            never = old is None
            wanted = {
                "type": kind,
                "status": "Unknown",
                "reason": "NodeStatusNeverUpdated" if never else "NodeStatusUnknown",
                "message": "Kubelet never posted node status." if never else "Kubelet stopped posting node status.",
                "lastHeartbeatTime": (old or {}).get("lastHeartbeatTime") or timestamp(moment),
            }
            changed = set_condition(changed, wanted, moment)
        if changed == conditions:
            return node
        updated = {**node, "status": {**(node.get("status") or {}), "conditions": changed}}
        written = await self.client.update("nodes", updated, subresource="status")
        self.events.event(
            node, "Normal", "NodeNotReady", f"Node {node['metadata']['name']} status is now: NodeNotReady"
        )
        await self.nodes.wait_for_write(written)
        return written

    async def _update_taints(self, node: Object) -> Object:
        """Update the taints that show the node's condition and spec.unschedulable."""
        # A node that has just registered has not posted a condition. It keeps the taint that it was created with.
        ready = (get_condition(node, "Ready") or {}).get("status")
        taints: list[Object] = node["spec"].get("taints") or []
        new = ready is None and any((taint["key"], taint["effect"]) == (NOT_READY, "NoSchedule") for taint in taints)
        wanted = {
            (NOT_READY, "NoSchedule"): ready == "False" or new,
            (NOT_READY, "NoExecute"): ready == "False",
            (UNREACHABLE, "NoSchedule"): ready == "Unknown",
            (UNREACHABLE, "NoExecute"): ready == "Unknown",
            (UNSCHEDULABLE, "NoSchedule"): bool(node["spec"].get("unschedulable")),
        }
        kept = [taint for taint in taints if wanted.get((taint["key"], taint["effect"]), True)]
        have = {(taint["key"], taint["effect"]) for taint in kept}
        for (key, effect), present in wanted.items():
            if present and (key, effect) not in have:
                kept.append({"key": key, "effect": effect, "timeAdded": timestamp(self.context.now())})
        if kept == taints:
            return node
        changed = clone(node)
        changed["spec"]["taints"] = kept
        if not kept:
            del changed["spec"]["taints"]
        written = await self.client.update("nodes", changed)
        await self.nodes.wait_for_write(written)
        return written

    async def _update_pods(self, node: Object) -> float | None:
        """If the node is not ready, mark its pods as not ready. Evict pods that no longer tolerate the node's taints.

        Returns the seconds until the next eviction, or None.
        """
        taints = [taint for taint in node["spec"].get("taints") or () if taint["effect"] == "NoExecute"]
        ready = (get_condition(node, "Ready") or {}).get("status", "True") == "True"
        if ready and not taints and not self._evictions:
            return None
        due: list[float] = []
        for pod in list(self.pods):
            if pod["spec"].get("nodeName") != node["metadata"]["name"] or is_finished(pod) or is_deleting(pod):
                continue
            if not ready and is_ready(pod):
                await self._mark_not_ready(pod)
            seconds = self._evict_in(pod, taints)
            if seconds is None:
                self._cancel_eviction(pod)
                continue
            if seconds > 0:
                due.append(seconds)
                continue
            await self._evict(pod)
        return min(due, default=None)

    def _evict_in(self, pod: Object, taints: list[Object]) -> float | None:
        """Return the seconds until these NoExecute taints evict the pod; None when it may stay (`processPodOnNode`).

        The time of toleration begins when the taint was added. If the taint does not say when it was added, this time
        begins when this method is first called for the pod.
        """
        limits: list[float] = []
        for taint in taints:
            matching = [one for one in pod["spec"].get("tolerations") or () if tolerates(one, taint)]
            if not matching:
                if taint["key"] not in (NOT_READY, UNREACHABLE):
                    return 0.0
                # This is the toleration that the admission plugin DefaultTolerationSeconds adds to every pod.
                limits.append(self.context.config.eviction_after)
            limits += [one["tolerationSeconds"] for one in matching if one.get("tolerationSeconds") is not None]
        if not limits:
            return None
        moment = self.context.now()
        added = [parse_time(taint.get("timeAdded")) for taint in taints]
        known = self._evictions.setdefault(uid_of(pod), max((one for one in added if one is not None), default=moment))
        return (known + timedelta(seconds=max(0.0, min(limits))) - moment).total_seconds()

    def _cancel_eviction(self, pod: Object) -> None:
        """Cancel the eviction of a pod."""
        if self._evictions.pop(uid_of(pod), None) is not None:
            namespace, name = key_of(pod)
            text = f"Cancelling deletion of Pod {namespace}/{name}"
            self.events.event(pod, "Normal", "TaintManagerEviction", text)

    async def _mark_not_ready(self, pod: Object) -> None:
        condition = {"type": "Ready", "status": "False", "reason": "NodeNotReady", "message": "Node is not ready"}
        if await self._patch_conditions(pod, condition):
            self.events.event(pod, "Warning", "NodeNotReady", "Node is not ready")

    async def _evict(self, pod: Object) -> None:
        namespace, name = key_of(pod)
        self.events.event(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {namespace}/{name}")
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
        }
        if await self._patch_conditions(pod, condition):
            await delete_unless_gone(self.client, "pods", pod)
            await self.pods.wait_for_deletion(pod)

    async def _patch_conditions(self, pod: Object, condition: Object) -> bool:
        """Write one condition of a pod. Return False when the pod is gone."""
        namespace, name = key_of(pod)
        conditions = (pod.get("status") or {}).get("conditions") or ()
        patch = {
            "metadata": {"uid": uid_of(pod), "resourceVersion": pod["metadata"]["resourceVersion"]},
            "status": {"conditions": set_condition(conditions, condition, self.context.now())},
        }
        try:
            written = await self.client.patch("pods", name, patch, namespace, subresource="status")
        except ApiError as error:
            if error.code != 404:
                raise
            return False
        await self.pods.wait_for_write(written)
        return True


def _heartbeat(node: Object) -> str:
    return str((get_condition(node, "Ready") or {}).get("lastHeartbeatTime", ""))


def _renewed(lease: Object) -> str:
    return str((lease.get("spec") or {}).get("renewTime", ""))
