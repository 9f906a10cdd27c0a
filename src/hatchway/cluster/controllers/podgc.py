"""Deletes pods that no kubelet will ever delete (`podgc/gc_controller.go`).

These are pods of nodes that no longer exist, and pods that were deleted before they had a node.
"""

from __future__ import annotations

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import is_deleting, uid_of
from hatchway.cluster.controllers.writes import delete_unless_gone
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, is_finished, key_of


class PodGarbageCollector(Controller):
    """Deletes orphaned pods when their node has been missing for `orphan_grace` seconds."""

    name = "pod-garbage-collector"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.pods = context.cache("pods")
        self.nodes = context.cache("nodes")
        self.pods.subscribe(self._pod_changed)
        self.nodes.subscribe(self._node_changed)

    def _pod_changed(self, kind: str, pod: Object, _before: Object | None) -> None:
        if kind == "DELETED":
            return
        if not pod["spec"].get("nodeName"):
            if is_deleting(pod):
                self.enqueue(pod)
        elif self._orphaned(pod):
            # The pod is deleted later, because the node may register again.
            self.queue.add_after(key_of(pod), self.context.config.orphan_grace)

    def _node_changed(self, kind: str, node: Object, _before: Object | None) -> None:
        if kind != "DELETED":
            return
        for pod in self.pods:
            if pod["spec"].get("nodeName") == node["metadata"]["name"]:
                self.queue.add_after(key_of(pod), self.context.config.orphan_grace)

    def _orphaned(self, pod: Object) -> bool:
        return self.nodes.get(("", pod["spec"]["nodeName"])) is None

    async def reconcile(self, key: Key) -> float | None:
        """Delete the pod `key` if no kubelet can do it."""
        pod = self.pods.get(key)
        if pod is None:
            return None
        node = pod["spec"].get("nodeName")
        if not node:
            if is_deleting(pod):
                await self._remove(pod)
            return None
        if not self._orphaned(pod) or await self._exists(node):
            return None
        if not is_finished(pod):
            await self._fail(pod)
        await self._remove(pod)
        return None

    async def _exists(self, node: str) -> bool:
        try:
            await self.client.get("nodes", node)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    async def _fail(self, pod: Object) -> None:
        """Mark the pod as failed, so that watchers see that it has ended before it is deleted."""
        namespace, name = key_of(pod)
        patch = {"metadata": {"uid": uid_of(pod)}, "status": {"phase": "Failed", "reason": "NodeLost"}}
        try:
            await self.client.patch("pods", name, patch, namespace, subresource="status")
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def _remove(self, pod: Object) -> None:
        await delete_unless_gone(self.client, "pods", pod, grace_period=0)
