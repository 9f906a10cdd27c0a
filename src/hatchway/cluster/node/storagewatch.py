"""Measures periodically the disk use of a pod with limits (`pkg/kubelet/eviction`, `pkg/kubelet/server/stats`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from hatchway.cluster.node import eviction
from hatchway.cluster.node.container import ContainerWorker
from hatchway.cluster.node.eviction import StorageUse
from hatchway.cluster.node.logfiles import log_bytes
from hatchway.cluster.node.podcontext import PodContext

log = logging.getLogger(__name__)

# The pause between two measurements: at least INTERVAL_SECONDS (the kubelet's monitoringInterval), and at least a
# multiple of the last measurement's duration, so that a pod with many files does not use too much time.
INTERVAL_SECONDS = 10.0
_TIMES_LONGER = 20.0


class StorageWatch:
    """Measures one pod while it runs. containers: all containers of the pod."""

    def __init__(self, context: PodContext, containers: Sequence[ContainerWorker]) -> None:
        self._context = context
        self._containers = containers
        self._limited = eviction.limited_volumes(context.pod)
        self._has_limit = eviction.has_storage_limit(context.pod)

    @property
    def is_needed(self) -> bool:
        """Return True when the pod has limits, and may be evicted."""
        return bool(self._limited or self._has_limit) and not eviction.is_critical(self._context.pod)

    async def until_exceeded(self) -> str:
        """Measure until the pod exceeds a limit. Return the kubelet's message about it."""
        loop = asyncio.get_running_loop()
        wait = INTERVAL_SECONDS
        while True:
            await asyncio.sleep(wait)
            async with self._context.node.measuring:
                began = loop.time()
                try:
                    use = await asyncio.to_thread(self._measure)
                except OSError as error:
                    log.warning("files of pod %s cannot be measured: %s", self._context.full_name, error)
                    use = StorageUse()
                wait = max(INTERVAL_SECONDS, _TIMES_LONGER * (loop.time() - began))
            if message := eviction.exceeded_limit(self._context.pod, use):
                return message

    def _measure(self) -> StorageUse:
        """Measure the pod's current disk use. Raises OSError."""
        volumes = {
            volume["name"]: volume["emptyDir"] or {}
            for volume in self._context.pod["spec"].get("volumes") or ()
            if "emptyDir" in volume
        }
        use = StorageUse(
            in_memory=frozenset(name for name, source in volumes.items() if source.get("medium") == "Memory")
        )
        for name in volumes:
            if name in self._limited or (self._has_limit and name not in use.in_memory):
                use.volumes[name] = self._context.volumes.measure(name)
        if not self._has_limit:
            return use
        use.other = self._context.volumes.measure_termination_logs()
        for container in self._containers:
            logs = log_bytes(self._context.log_directory / container.name)
            if (process := container.process) is None:
                use.other += logs
            else:
                use.containers[container.name] = logs + process.written_bytes()
        return use
