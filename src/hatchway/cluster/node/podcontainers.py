"""The containers of one pod: starts them in order, and ends them in order (`kuberuntime_manager.go`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hatchway.cluster.node.attempt import LEAST_GRACE
from hatchway.cluster.node.container import ContainerWorker
from hatchway.cluster.node.ephemeralcontainers import EphemeralContainers
from hatchway.cluster.node.logfiles import ContainerLog
from hatchway.cluster.node.podcontext import PodContext
from hatchway.cluster.node.podstatus import ContainerState
from hatchway.cluster.node.resizing import Grant
from hatchway.cluster.node.restartpolicy import ContainerKind
from hatchway.kube.api import Object

# Returns the grace period of a container, in seconds.
GraceOf = Callable[[ContainerWorker], float]


class PodContainers:
    """Runs the containers of one pod.

    grant: the resources that the node has granted the pod.
    init: the init containers and sidecars, in the spec's order. main: the containers.
    """

    def __init__(self, context: PodContext, grant: Grant) -> None:
        self._context = context
        known = context.pod.get("status") or {}
        self.init = self._make("initContainers", known.get("initContainerStatuses"), grant)
        self.main = self._make("containers", known.get("containerStatuses"), grant)
        self._ephemeral = EphemeralContainers(
            context, known.get("ephemeralContainerStatuses") or (), [*self.init, *self.main]
        )

    def _make(self, key: str, known: list[Object] | None, grant: Grant) -> list[ContainerWorker]:
        remembered = {item["name"]: item for item in known or ()}
        found = []
        for spec in self._context.pod["spec"].get(key) or ():
            kind: ContainerKind = "main"
            if key == "initContainers":
                kind = "sidecar" if spec.get("restartPolicy") == "Always" else "init"
            found.append(ContainerWorker(self._context, grant.apply(spec), kind, remembered.get(spec["name"])))
        return found

    @property
    def all(self) -> list[ContainerWorker]:
        """Return the containers in the order of their start, then the ephemeral containers."""
        return [*self.init, *self.main, *self._ephemeral.containers]

    @property
    def ephemeral_states(self) -> list[ContainerState]:
        """Return the states of the ephemeral containers. The list grows when a container is added."""
        return self._ephemeral.states

    @property
    def ordinary_states(self) -> list[ContainerState]:
        """Return the states of all containers that are not ephemeral."""
        return [container.state for container in [*self.init, *self.main]]

    @property
    def running_count(self) -> int:
        """Return the number of running containers."""
        return sum(container.state.running for container in self.all)

    @property
    def is_resizing(self) -> bool:
        """Return True while a container runs with other resources than it was granted."""
        return any(container.is_resizing for container in self.all)

    def live_log(self, name: str) -> ContainerLog | None:
        """Return the log of a container's current attempt; None when this agent has not started the container."""
        for found in self.all:
            if found.name == name:
                return found.live_log
        return None

    def is_waiting(self, name: str) -> bool:
        """Return True when the container waits to be started again."""
        return any(found.name == name and "waiting" in found.state.state for found in self.all)

    def update(self, pod: Object, grant: Grant) -> None:
        """Apply a change of the pod's spec or of its granted resources."""
        specs = {
            spec["name"]: grant.apply(spec)
            for spec in [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]
        }
        for container in self.all:
            if container.name in specs:
                container.update(specs[container.name])
        self._ephemeral.update(pod)

    def await_init(self) -> None:
        """Record that new containers wait for the init containers, if the pod has any."""
        if self.init:
            for state in self.ordinary_states:
                if "waiting" in state.state and not state.last:
                    state.wait("PodInitializing")

    @property
    def has_failed_init(self) -> bool:
        """Return True when an init container has failed and is not started again, because of the restart policy."""
        never = self._context.pod["spec"].get("restartPolicy") == "Never"
        return never and any(one.kind == "init" and one.state.exit_code not in (None, 0) for one in self.init)

    @property
    def are_finished(self) -> bool:
        """Return True when all containers ended under an earlier agent, and none starts again. Call it before `run`."""
        return all(container.is_finished() for container in self.main)

    async def run(self, initialized: Callable[[], None]) -> None:
        """Run the containers until the last one ends. initialized: called when the init containers are done."""
        async with asyncio.TaskGroup() as beside:
            ephemeral = beside.create_task(self._ephemeral.run())
            if await self._initialize(beside):
                initialized()
                async with asyncio.TaskGroup() as containers:
                    for container in self.main:
                        if not container.is_finished():
                            containers.create_task(container.run())
            await asyncio.gather(*(one.stop(self._context.grace()) for one in self._ephemeral.containers))
            ephemeral.cancel()
            await self._stop_sidecars(lambda _: self._context.grace())

    async def _initialize(self, group: asyncio.TaskGroup) -> bool:
        """Run the init containers in order. Return True when the other containers may start.

        A sidecar only has to start before the next init container runs.
        """
        for container in self.init:
            if container.kind == "sidecar":
                running = group.create_task(container.run())
                started = asyncio.ensure_future(container.initialized.wait())
                try:
                    await asyncio.wait([running, started], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    started.cancel()
                if not container.initialized.is_set():
                    return False
            else:
                # In a new sandbox the init containers must run again, as after a reboot of a node.
                await container.run()
                if container.state.exit_code != 0:
                    return False
        return True

    async def stop(self, grace_of: GraceOf) -> None:
        """End all containers; the sidecars after the other containers."""
        ordinary = [container for container in self.all if container.kind != "sidecar"]
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(container.stop(grace_of(container)) for container in ordinary))
        await self._stop_sidecars(grace_of, asyncio.get_running_loop().time() - began)

    async def _stop_sidecars(self, grace_of: GraceOf, waited: float = 0.0) -> None:
        """End the sidecars in reverse order. waited: the seconds of the grace period that have already passed."""
        loop = asyncio.get_running_loop()
        began = loop.time() - waited
        for container in reversed(self.init):
            if container.kind == "sidecar":
                grace = grace_of(container)
                left = grace - (loop.time() - began)
                await container.stop(max(left, min(grace, LEAST_GRACE)))
