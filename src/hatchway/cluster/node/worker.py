"""A pod's worker, which runs the pod until it is removed (`pkg/kubelet/pod_workers.go`, `kubelet.go` SyncPod).

A worker sets up volumes and a sandbox, runs the init containers in order and then the other containers, and writes the
pod's status whenever it changes. It ends the pod when the pod is deleted or exceeds its deadline, or the agent ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hatchway.cluster.hostports import host_ports
from hatchway.cluster.node import admission, clock, eviction, podstatus, sources, unsupported
from hatchway.cluster.node.attempt import LEAST_GRACE
from hatchway.cluster.node.container import ContainerKind, ContainerWorker
from hatchway.cluster.node.deviceclaims import unprepared
from hatchway.cluster.node.ephemeralcontainers import EphemeralContainers
from hatchway.cluster.node.imagevolumes import ImageVolumes
from hatchway.cluster.node.logfiles import ContainerLog
from hatchway.cluster.node.podcontext import NodeServices, PodContext
from hatchway.cluster.node.podobject import PodObjectWriter, version_of
from hatchway.cluster.node.podresizes import PodResizes
from hatchway.cluster.node.programs import runs_host_program
from hatchway.cluster.node.storagewatch import StorageWatch
from hatchway.cluster.node.volumes import MountError
from hatchway.errors import ApiError
from hatchway.kube.api import Object

log = logging.getLogger(__name__)

_FIRST_RETRY, _LAST_RETRY = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class _Stop:
    """An order to end the pod.

    grace: the grace period of its containers, in seconds.

    deleted: True to delete its object in the API when it has ended.
    gone: True when it is no longer in the API.
    leaving: True when the whole cluster goes down.
    """

    grace: float
    deleted: bool = False
    gone: bool = False
    leaving: bool = False

    def grace_of(self, container: ContainerWorker) -> float:
        """Return the container's grace period in seconds.

        It is 0 for a program that ignores the stop signal when the cluster goes down.
        """
        return 0.0 if self.leaving and container.ignores_stop_signal else self.grace


class PodWorker:
    """Runs one pod. `run` returns when nothing is left to do."""

    def __init__(self, shared: NodeServices, pod: Object) -> None:
        self._context = PodContext(shared, pod)
        self.uid = self._context.uid
        self.references = sources.references(pod)
        self._refresh = asyncio.Event()
        self._stop: _Stop | None = None
        self._stopped = asyncio.Event()
        self._deadline_changed = asyncio.Event()
        known = pod.get("status") or {}
        self._resizes = PodResizes(self._context)
        self._refusal: tuple[str, str] | None = None
        self.init = self._containers("initContainers", known.get("initContainerStatuses"))
        self.main = self._containers("containers", known.get("containerStatuses"))
        self._ephemeral = EphemeralContainers(
            self._context, known.get("ephemeralContainerStatuses") or (), [*self.init, *self.main]
        )
        self._state = podstatus.PodState(
            init=[container.state for container in self.init],
            containers=[container.state for container in self.main],
            ephemeral=self._ephemeral.states,
            host_ip=shared.node.ip,
            start_time=known.get("startTime") or clock.rfc3339(clock.now()),
            sidecars=frozenset(container.name for container in self.init if container.kind == "sidecar"),
            granted=self._resizes.grant.pod,
            resizes=self._resizes.conditions,
        )
        self._image_volumes = ImageVolumes(self._context)
        self._object = PodObjectWriter(self._context, self._state, self._follow_resize)
        if known.get("phase") == "Failed" and known.get("reason"):
            self._state.reason, self._state.message = known["reason"], known.get("message", "")

    def _containers(self, key: str, known: list[Object] | None) -> list[ContainerWorker]:
        remembered = {item["name"]: item for item in known or ()}
        found = []
        for spec in self.pod["spec"].get(key) or ():
            kind: ContainerKind = "main"
            if key == "initContainers":
                kind = "sidecar" if spec.get("restartPolicy") == "Always" else "init"
            granted = self._resizes.grant.apply(spec)
            found.append(ContainerWorker(self._context, granted, kind, remembered.get(spec["name"])))
        return found

    @property
    def pod(self) -> Object:
        """Return the pod's last known object."""
        return self._context.pod

    @property
    def status_written(self) -> asyncio.Event:
        """Return an event that is set when the pod's status has been written for the first time."""
        return self._object.status_written

    # --- called by the kubelet -------------------------------------------------------------------------------------

    def update(self, pod: Object) -> None:
        """Apply a change of the pod's object. An object that is older than the known one is ignored."""
        if version_of(pod) < version_of(self.pod):
            return
        old, self._context.pod = self.pod, pod
        if old["metadata"].get("labels") != pod["metadata"].get("labels") or old["metadata"].get("annotations") != pod[
            "metadata"
        ].get("annotations"):
            self._refresh.set()
        if old["spec"].get("activeDeadlineSeconds") != pod["spec"].get("activeDeadlineSeconds"):
            self._deadline_changed.set()
        self._resizes.review(self._retry_resize)
        self._state.granted = self._resizes.grant.pod
        specs = {
            spec["name"]: self._resizes.grant.apply(spec)
            for spec in [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]
        }
        self._context.groups.widen(self._granted_pod())
        for container in self.all:
            if container.name in specs:
                container.update(specs[container.name])
        self._ephemeral.update(pod)
        self._follow_resize()
        self._context.dirty.set()
        if pod["metadata"].get("deletionTimestamp"):
            self._end(_Stop(self._context.grace(), deleted=True))

    def _granted_pod(self) -> Object:
        """Return the pod with the resources that its node has granted."""
        return self._resizes.grant.applied(self.pod)

    def _retry_resize(self) -> None:
        """Ask again for the resources for which the pod waits."""
        if self._stop is None:
            self.update(self.pod)

    def _follow_resize(self) -> None:
        """End a resize when all containers have what they were granted."""
        is_resizing = any(one.is_resizing for one in self.all)
        if not is_resizing:
            # Sooner, a container that still uses more than it will be granted would be ended.
            self._context.groups.narrow(self._granted_pod())
        self._resizes.follow(is_resizing)

    def handle_removal(self) -> None:
        """Kill the processes of a pod that is no longer in the API. Release its ports and resources at once."""
        self._context.node.ledger.release(self.uid)
        self._end(_Stop(0.0, gone=True))

    def shut_down(self, longest: float) -> None:
        """End the containers within `longest` seconds, because the agent ends. The pod stays in the API."""
        self._end(_Stop(min(self._context.grace(), longest), leaving=True))

    def handle_source_change(self, resource: str, name: str) -> None:
        """Update the pod's volumes after a change of a ConfigMap or Secret of its namespace, if the pod uses it."""
        if (resource, name) in self.references:
            self._context.sources_changed.set()
            self._context.sources_changed = asyncio.Event()
            self._refresh.set()

    def _end(self, stop: _Stop) -> None:
        """End the pod. After several calls the shortest grace period counts."""
        first = self._stop
        if first is None:
            self._stop = stop
            self._stopped.set()
        else:
            self._stop = _Stop(
                min(first.grace, stop.grace),
                first.deleted or stop.deleted,
                first.gone or stop.gone,
                first.leaving or stop.leaving,
            )
            for container in self.all:
                if (grace := stop.grace_of(container)) < first.grace:
                    container.hurry(grace)

    def live_log(self, container: str) -> ContainerLog | None:
        """Return the log of the container's current attempt; None when this agent has not started it."""
        for found in self.all:
            if found.name == container:
                return found.live_log
        return None

    def is_waiting(self, container: str) -> bool:
        """Return True when the container waits to be started again."""
        return any(found.name == container and "waiting" in found.state.state for found in self.all)

    @property
    def all(self) -> list[ContainerWorker]:
        """Return the containers in the order of their start, then the ephemeral containers."""
        return [*self.init, *self.main, *self._ephemeral.containers]

    @property
    def name(self) -> str:
        """Return the pod's name."""
        return self._context.name

    async def dial(self, port: int) -> socket.socket:
        """Return a socket that is connected to a port on the pod's loopback interface. Raises OSError."""
        if not self._context.has_sandbox:
            raise OSError(errno.ENETDOWN, "the pod's network is gone")
        return await self._context.sandbox.dial(port)

    @property
    def has_sandbox(self) -> bool:
        """Return True while the pod has a sandbox."""
        return self._context.has_sandbox

    @property
    def running_containers(self) -> int:
        """Return the number of running containers."""
        return sum(container.state.running for container in self.all)

    # --- running ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the pod until its end. When cancelled, kill all its processes at once."""
        ledger, requests = self._context.node.ledger, self._resizes.grant.requests(self.pod)
        self._refusal = admission.refusal(self.pod, requests, ledger)
        if self._refusal is None:
            ledger.admit(self.uid, requests, host_ports(self.pod))
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [group.create_task(self._object.run()), group.create_task(self._keep_volumes_fresh())]
                living = group.create_task(self._live())
                asked = group.create_task(self._stopped.wait())
                await asyncio.wait([living, asked], return_when=asyncio.FIRST_COMPLETED)
                if not asked.done():
                    # The pod has ended without an order. Its status and logs are kept until it is deleted; its files
                    # are removed now (syncTerminatedPod).
                    self._context.node.ledger.release(self.uid)
                    helpers[1].cancel()
                    await asyncio.wait([helpers[1]])
                    await self._context.remove_sandbox()
                    await self._remove_files()
                    await asked
                assert self._stop is not None
                if not self._stop.deleted:
                    # No last status is written when the pod is no longer in the API, or when the next agent will run it
                    # again.
                    helpers[0].cancel()
                await self._stop_containers(self._stop.grace_of)
                living.cancel()
                await asyncio.wait([living])
                await self._context.remove_sandbox()
                for helper in helpers:
                    helper.cancel()
            await self._finish()
        finally:
            self._context.node.ledger.release(self.uid)
            self._image_volumes.close()
            await self._context.remove_sandbox()

    async def _live(self) -> None:
        """Set up the pod, and run it until its last container ends. Do nothing for a pod that has already ended."""
        known = (self.pod.get("status") or {}).get("phase")
        if known in ("Succeeded", "Failed") or self.pod["metadata"].get("deletionTimestamp"):
            self._state.initialized = True
            self._object.status_written.set()
            return
        if self._reject():
            return
        if self.init:
            for container in [*self._state.init, *self._state.containers]:
                if "waiting" in container.state and not container.last:
                    container.wait("PodInitializing")
        self._context.mark_changed()
        if self._ended_already():
            return
        for message in unsupported.messages(
            self.pod,
            loopback=self._context.node.config.loopback,
            is_host=lambda container: runs_host_program(self._context, container),
        ):
            self._context.event("Warning", "Unsupported", message)
        async with asyncio.TaskGroup() as group:
            working = group.create_task(self._work())
            limits = [
                group.create_task(self._keep_deadline(working)),
                group.create_task(self._keep_storage_limits(working)),
            ]
            await asyncio.wait([working])
            for limit in limits:
                limit.cancel()
        self._context.mark_changed()

    def _reject(self) -> bool:
        """Reject the pod if this node must not run it (rejectPod). Return True when it was rejected."""
        if self._refusal is None:
            return False
        reason, message = self._refusal
        self._state.reason, self._state.message = reason, f"Pod was rejected: {message}"
        self._state.rejected = True
        self._context.event("Warning", reason, message)
        self._context.mark_changed()
        return True

    def _ended_already(self) -> bool:
        """Return True when the pod has ended under an earlier agent, so that no container must run again.

        Such a pod counts as initialized.
        """
        never = self.pod["spec"].get("restartPolicy") == "Never"
        if never and any(c.kind == "init" and c.state.exit_code not in (None, 0) for c in self.init):
            return True
        if not all(container.is_finished() for container in self.main):
            return False
        self._state.initialized = True
        return True

    async def _work(self) -> None:
        await self._retry(self._prepare_devices)
        await self._retry(self._get_image_volumes)
        await self._retry(self._set_up_volumes)
        await self._retry(self._make_sandbox)
        async with asyncio.TaskGroup() as beside:
            ephemeral = beside.create_task(self._ephemeral.run())
            if await self._initialize(beside):
                self._state.initialized = True
                self._context.mark_changed()
                async with asyncio.TaskGroup() as containers:
                    for container in self.main:
                        if not container.is_finished():
                            containers.create_task(container.run())
            await asyncio.gather(*(one.stop(self._context.grace()) for one in self._ephemeral.containers))
            ephemeral.cancel()
            await self._end_sidecars(self._grace_of)

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
        if why := unprepared(self.pod):
            self._context.event("Warning", "FailedPrepareDynamicResources", why)
        return not why

    async def _get_image_volumes(self) -> bool:
        return await self._image_volumes.prepare([*self._state.init, *self._state.containers])

    async def _set_up_volumes(self) -> bool:
        try:
            await self._context.volumes.set_up(self.pod, self._context.facts())
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
        self._state.ip = self._context.sandbox.ip
        if sources.wants_address(self.pod):
            # The downward API's files were written before the address was known.
            self._refresh.set()
        return True

    async def _initialize(self, group: asyncio.TaskGroup) -> bool:
        """Run the init containers in order.

        After a sidecar has started, the next one runs. Return True when the other containers may start.
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

    def _grace_of(self, _: ContainerWorker) -> float:
        return self._context.grace()

    async def _end_sidecars(self, grace_of: Callable[[ContainerWorker], float], waited: float = 0.0) -> None:
        """End the sidecars in reverse order. waited: the used seconds of the grace period."""
        loop = asyncio.get_running_loop()
        began = loop.time() - waited
        for container in reversed(self.init):
            if container.kind == "sidecar":
                grace = grace_of(container)
                left = grace - (loop.time() - began)
                await container.stop(max(left, min(grace, LEAST_GRACE)))

    async def _keep_deadline(self, working: asyncio.Task[None]) -> None:
        """End the pod at its deadline, which may be set, or become earlier, while the pod runs."""
        began = clock.parse(self._state.start_time)
        while True:
            self._deadline_changed.clear()
            seconds = self.pod["spec"].get("activeDeadlineSeconds")
            left = None if seconds is None else max(0.0, float(seconds) - (clock.now() - began).total_seconds())
            try:
                async with asyncio.timeout(left):
                    await self._deadline_changed.wait()
            except TimeoutError:
                break
        message = "Pod was active on the node longer than the specified deadline"
        self._context.event("Normal", "DeadlineExceeded", message)
        await self._fail("DeadlineExceeded", message, self._context.grace(), working)

    async def _keep_storage_limits(self, working: asyncio.Task[None]) -> None:
        """Evict the pod when it exceeds its limits of disk use."""
        watch = StorageWatch(self._context, self.all)
        if not watch.is_needed:
            return
        message = await watch.until_exceeded()
        self._context.event("Warning", eviction.REASON, message)
        await self._fail(eviction.REASON, message, eviction.GRACE_SECONDS, working)

    async def _fail(self, reason: str, message: str, grace: float, working: asyncio.Task[None]) -> None:
        """End the pod as failed. grace: the grace period of its containers, in seconds."""
        self._state.reason, self._state.message = reason, message
        await self._stop_containers(lambda _: grace)
        working.cancel()

    def _is_gone(self) -> bool:
        return self._stop is not None and self._stop.gone

    async def _stop_containers(self, grace_of: Callable[[ContainerWorker], float]) -> None:
        """End all containers; the sidecars after the other containers."""
        ordinary = [container for container in self.all if container.kind != "sidecar"]
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(container.stop(grace_of(container)) for container in ordinary))
        await self._end_sidecars(grace_of, asyncio.get_running_loop().time() - began)

    async def _finish(self) -> None:
        """Delete a deleted pod's object and files after its last process has ended."""
        assert self._stop is not None
        if self._stop.deleted or self._stop.gone:
            await self._object.delete(self._is_gone)
            await self._remove_files()

    async def _remove_files(self) -> None:
        try:
            await asyncio.to_thread(self._context.volumes.remove)
        except OSError as error:
            log.warning("files of pod %s cannot be removed yet: %s", self.pod["metadata"]["name"], error)

    # --- background tasks -----------------------------------------------------------------------------------------

    async def _keep_volumes_fresh(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._context.volumes.next_refresh()):
                    await self._refresh.wait()
            self._refresh.clear()
            try:
                await self._context.volumes.refresh(self.pod, self._context.facts())
            except MountError as error:
                # The volume keeps its old files, for example when the Secret was deleted.
                self._context.event("Warning", "FailedMount", str(error))
                await asyncio.sleep(_FIRST_RETRY)
