"""Removes pods that no kubelet will ever end (`podgc/gc_controller.go`): those of nodes that are gone, and those that
were deleted before they had a node."""

from __future__ import annotations

from hatchway.cluster.controllers.base import Context, Controller
from hatchway.cluster.controllers.objects import Key, is_deleting, is_finished, key_of, uid_of
from hatchway.errors import ApiError
from hatchway.kube.api import Object


class PodGarbageCollector(Controller):
    name = "pod-garbage-collector"

    def __init__(self, context: Context) -> None:
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
            # A node that registers anew gets the time to do so.
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
        """Whoever watches learns that the pod has ended, not only that it is gone."""
        namespace, name = key_of(pod)
        patch = {"metadata": {"uid": uid_of(pod)}, "status": {"phase": "Failed", "reason": "NodeLost"}}
        try:
            await self.client.patch("pods", name, patch, namespace, subresource="status")
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def _remove(self, pod: Object) -> None:
        namespace, name = key_of(pod)
        try:
            await self.client.delete("pods", name, namespace, grace_period=0, uid=uid_of(pod))
        except ApiError as error:
            if error.code not in (404, 409):
                raise
