"""Sets up a pod before its containers start: its devices, volumes and sandbox (`pkg/kubelet/kubelet.go`, SyncPod)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from hatchway.cluster.node.deviceclaims import why_not_prepared
from hatchway.cluster.node.imagevolumes import ImageVolumes
from hatchway.cluster.node.podcontext import PodContext
from hatchway.cluster.node.podstatus import ContainerState
from hatchway.cluster.node.volumes import MountError
from hatchway.errors import ApiError
from hatchway.kube.api import Object

_FIRST_RETRY, _LAST_RETRY = 0.5, 30.0


class PodSetup:
    """Sets up one pod, and keeps the files of its volumes up to date.

    states: the states of its containers, which wait for the volumes.
    granted_pod: returns the pod with the resources that its node has granted.
    """

    def __init__(
        self, context: PodContext, states: Sequence[ContainerState], granted_pod: Callable[[], Object]
    ) -> None:
        self._context = context
        self._states = states
        self._granted_pod = granted_pod
        self._image_volumes = ImageVolumes(context)
        self._refresh = asyncio.Event()

    async def run(self) -> None:
        """Set up the pod. Each step is repeated until it succeeds."""
        for step in (self._prepare_devices, self._get_image_volumes, self._set_up_volumes, self._make_sandbox):
            await self._retry(step)

    async def _retry(self, step: Callable[[], Awaitable[bool]]) -> None:
        """Call `step` until it returns True: with back-off, or at once when a ConfigMap or Secret has changed."""
        wait = _FIRST_RETRY
        while True:
            changed = self._context.sources_changed
            if await step():
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await changed.wait()
            wait = min(wait * 2, _LAST_RETRY)

    async def _prepare_devices(self) -> bool:
        if why := why_not_prepared(self._context.pod):
            self._context.event("Warning", "FailedPrepareDynamicResources", why)
        return not why

    async def _get_image_volumes(self) -> bool:
        return await self._image_volumes.prepare(self._states)

    async def _set_up_volumes(self) -> bool:
        try:
            await self._context.volumes.set_up(self._context.pod, self._context.facts())
        except MountError as error:
            self._context.event("Warning", "FailedMount", str(error))
            self._context.mark_changed()
            return False
        return True

    async def _make_sandbox(self) -> bool:
        try:
            self._context.groups.open(self._granted_pod())
            await self._context.make_sandbox()
        except (OSError, ApiError) as error:
            why = error.message if isinstance(error, ApiError) else error.strerror or str(error)
            self._context.event("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {why}")
            return False
        return True

    def request_refresh(self) -> None:
        """Let `keep_volumes_fresh` write the volumes' files again at once."""
        self._refresh.set()

    async def keep_volumes_fresh(self) -> None:
        """Write the volumes' files again when a token must be renewed or a refresh is requested, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._context.volumes.next_refresh()):
                    await self._refresh.wait()
            self._refresh.clear()
            try:
                await self._context.volumes.refresh(self._context.pod, self._context.facts())
            except MountError as error:
                # The volume keeps its old files, for example when the Secret was deleted.
                self._context.event("Warning", "FailedMount", str(error))
                await asyncio.sleep(_FIRST_RETRY)

    def close(self) -> None:
        """Allow the removal of the images of the pod's volumes from the store, after the pod's end."""
        self._image_volumes.close()
