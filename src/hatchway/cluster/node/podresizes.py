"""The resizes of one pod: the resources that its node has granted, whether a resize waits, and the Events about it.

From `pkg/kubelet/allocation/allocation_manager.go`; `resizing.py` has the node's side.
"""

from __future__ import annotations

from collections.abc import Callable

from hatchway.cluster.node.podcontext import PodContext
from hatchway.cluster.node.podstatus import RESIZE_IN_PROGRESS, RESIZE_PENDING
from hatchway.cluster.node.resizing import Grant, resize_message

__all__ = ["PodResizes"]


class PodResizes:
    """Grants a pod the requested resources when its node has them.

    Attributes:
        grant: the resources that the node has granted the pod.
        conditions: the conditions about its resize, by their types: (reason, message, generation of the pod).
    """

    def __init__(self, context: PodContext) -> None:
        self._context = context
        self.grant = Grant.restore(context.pod)
        self.conditions: dict[str, tuple[str, str, int]] = {}

    def review(self, retry: Callable[[], None]) -> None:
        """Grant the pod the requested resources if the node has them; else let the pod wait.

        retry: called when there may be room for a pod that waits.
        """
        context, ledger = self._context, self._context.node.ledger
        pod = context.pod
        generation = pod["metadata"].get("generation", 0)
        if self.grant.covers(pod):
            ledger.give_up(context.uid)
            self.conditions.pop(RESIZE_PENDING, None)
            return
        wanted = Grant.of(pod)
        requests = wanted.requests(pod)
        if found := ledger.shortage(context.uid, requests):
            reported = self.conditions.get(RESIZE_PENDING)
            self.conditions[RESIZE_PENDING] = ("Deferred", found.message, generation)
            ledger.wait(context.uid, pod, retry)
            if reported is None or reported[2] != generation:
                context.event("Warning", "ResizeDeferred", resize_message("Pod resize Deferred", pod, found.message))
            return
        self.grant = wanted
        self.conditions.pop(RESIZE_PENDING, None)
        self.conditions[RESIZE_IN_PROGRESS] = ("", "", generation)
        context.event("Normal", "ResizeStarted", resize_message("Pod resize started", pod))
        ledger.reserve(context.uid, requests)

    def follow(self, is_resizing: bool) -> None:
        """End the resize, unless a container still runs with other resources than it was granted (`is_resizing`)."""
        if RESIZE_IN_PROGRESS in self.conditions and not is_resizing:
            del self.conditions[RESIZE_IN_PROGRESS]
            self._context.event("Normal", "ResizeCompleted", resize_message("Pod resize completed", self._context.pod))
