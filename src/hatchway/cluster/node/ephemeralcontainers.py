"""Runs the ephemeral containers of a pod (`kubectl debug`): they are added while the pod runs, and never restarted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hatchway.cluster.node.container import ContainerWorker
from hatchway.cluster.node.podcontext import PodContext
from hatchway.cluster.node.podstatus import ContainerState
from hatchway.cluster.runtime import ContainerProcess
from hatchway.kube.api import Object


class EphemeralContainers:
    """The ephemeral containers of one pod.

    known: their statuses in the API.
    others: the pod's other containers, whose processes an ephemeral container may see.
    states: their part of the pod's status, in the spec's order.
    """

    def __init__(self, context: PodContext, known: Sequence[Object], others: Sequence[ContainerWorker]) -> None:
        self._context = context
        self._known = {status["name"]: status for status in known}
        self._others = others
        self._added = asyncio.Event()
        self.containers: list[ContainerWorker] = []
        self.states: list[ContainerState] = []
        self.update(context.pod)

    def update(self, pod: Object) -> None:
        """Add the containers that were added to the spec. Existing containers are never changed or removed."""
        names = {container.name for container in self.containers}
        for spec in pod["spec"].get("ephemeralContainers") or ():
            if spec["name"] not in names:
                container = ContainerWorker(
                    self._context, spec, "ephemeral", self._known.get(spec["name"]), find_process=self._find_process
                )
                self.containers.append(container)
                self.states.append(container.state)
                self._added.set()

    async def run(self) -> None:
        """Run each container as soon as it is added, until cancelled."""
        async with asyncio.TaskGroup() as group:
            begun = 0
            while True:
                self._added.clear()
                for container in self.containers[begun:]:
                    if not container.is_finished():
                        group.create_task(container.run())
                begun = len(self.containers)
                await self._added.wait()

    def _find_process(self, name: str) -> ContainerProcess | None:
        return next((container.process for container in self._others if container.name == name), None)
