"""Writes a pod's status to the API whenever it changes, and deletes the pod's object at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hatchway.cluster.node import clock, podstatus
from hatchway.cluster.node.podcontext import PodContext
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.numerals import parse_int

log = logging.getLogger(__name__)

_FIRST_RETRY, _LAST_RETRY = 0.5, 30.0
_STATUS_RETRY = 1.0


class PodObjectWriter:
    """Writes the status of one pod to the API, and deletes the pod at its end.

    state: the state from which each status is made; the pod's worker changes it.
    before_write: called before each status is made; brings `state` up to date.
    status_written: an event that is set when the pod's status has been written for the first time.
    """

    def __init__(
        self, context: PodContext, state: podstatus.PodState, before_write: Callable[[], None] = lambda: None
    ) -> None:
        self._context = context
        self._state = state
        self._before_write = before_write
        self.status_written = asyncio.Event()

    async def run(self) -> None:
        """Write the status whenever the context is dirty, until cancelled."""
        while True:
            await self._context.dirty.wait()
            self._context.dirty.clear()
            try:
                await self.write_status()
                self.status_written.set()
            except (ApiError, OSError) as error:
                if isinstance(error, ApiError) and error.code == 404:
                    # The pod was deleted. The watch will report that, too.
                    self.status_written.set()
                    continue
                log.warning("status of pod %s cannot be written yet: %s", self._context.pod["metadata"]["name"], error)
                await asyncio.sleep(_STATUS_RETRY)
                self._context.dirty.set()

    async def write_status(self) -> None:
        """Write the status if it differs from the status in the API. Raises ApiError, OSError."""
        self._before_write()
        self._state.has_sandbox = self._context.has_sandbox
        wanted = podstatus.build(self._context.pod, self._state, clock.rfc3339(clock.now()))
        changes = podstatus.patch(self._context.pod.get("status") or {}, wanted)
        if not changes:
            return
        if wanted.get("phase") in ("Succeeded", "Failed"):
            # As soon as the API shows the pod's end, the scheduler may bind another pod, which needs the resources.
            self._context.node.ledger.release(self._context.uid)
        metadata = self._context.pod["metadata"]
        about: Object = {"uid": self._context.uid}
        if "conditions" in changes and self._context.pod["spec"].get("readinessGates"):
            # The patch replaces the whole list of conditions, which also has other clients' conditions. With the
            # resourceVersion, the patch fails if another client has changed the list.
            about["resourceVersion"] = metadata["resourceVersion"]
        written = await self._context.node.client.patch(
            "pods",
            metadata["name"],
            {"metadata": about, "status": changes},
            metadata.get("namespace"),
            subresource="status",
        )
        if version_of(written) > version_of(self._context.pod):
            self._context.pod = {"apiVersion": "v1", "kind": "Pod", **written}

    async def delete(self, is_gone: Callable[[], bool]) -> None:
        """Write the last status, then delete the pod. is_gone: returns True when the API no longer has the pod."""
        metadata = self._context.pod["metadata"]
        wait = _FIRST_RETRY
        try:
            if not is_gone():
                self._state.terminal = True
                await self.write_status()
        except (ApiError, OSError) as error:
            # The deletion of the pod is more important than its last status.
            log.info("last status of pod %s is not written: %s", metadata["name"], error)
        while not is_gone():
            try:
                await self._context.node.client.delete(
                    "pods", metadata["name"], metadata.get("namespace"), grace_period=0, uid=self._context.uid
                )
                return
            except (ApiError, OSError) as error:
                # 404: the pod is deleted already. 409: another pod has its name now.
                if isinstance(error, ApiError) and error.code in (404, 409):
                    return
                log.warning("pod %s cannot be deleted yet: %s", metadata["name"], error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LAST_RETRY)


def version_of(obj: Object) -> int:
    """Return the resourceVersion as a number; the largest possible number if it is not a number."""
    found = parse_int(obj["metadata"].get("resourceVersion"))
    return 1 << 62 if found is None else found
