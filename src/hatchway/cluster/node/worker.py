"""A pod's worker, which runs the pod until it is removed (`pkg/kubelet/pod_workers.go`, `kubelet.go` SyncPod).

A worker sets the pod up (`podsetup.py`), runs its containers (`podcontainers.py`), and writes its status whenever it
changes (`podobject.py`). It ends the pod when the pod is deleted or exceeds its deadline, or the agent ends.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket

from hatchway.cluster.hostports import host_ports
from hatchway.cluster.node import admission, clock, eviction, podstatus, sources, unsupported
from hatchway.cluster.node.container import ContainerWorker
from hatchway.cluster.node.podcontainers import PodContainers
from hatchway.cluster.node.podcontext import NodeServices, PodContext
from hatchway.cluster.node.podobject import PodObjectWriter, version_of
from hatchway.cluster.node.podresizes import PodResizes
from hatchway.cluster.node.podsetup import PodSetup
from hatchway.cluster.node.programs import runs_host_program
from hatchway.cluster.node.stoporder import StopOrder
from hatchway.cluster.node.storagewatch import StorageWatch
from hatchway.kube.api import Object

log = logging.getLogger(__name__)


class PodWorker:
    """Runs one pod. `run` returns when nothing is left to do."""

    def __init__(self, shared: NodeServices, pod: Object) -> None:
        self._context = PodContext(shared, pod)
        self.uid = self._context.uid
        self.references = sources.references(pod)
        self._stop: StopOrder | None = None
        self._stopped = asyncio.Event()
        self._deadline_changed = asyncio.Event()
        known = pod.get("status") or {}
        self._resizes = PodResizes(self._context)
        self._refusal: tuple[str, str] | None = None
        self.containers = PodContainers(self._context, self._resizes.grant)
        self._state = podstatus.PodState(
            init=[container.state for container in self.containers.init],
            containers=[container.state for container in self.containers.main],
            ephemeral=self.containers.ephemeral_states,
            host_ip=shared.node.ip,
            start_time=known.get("startTime") or clock.rfc3339(clock.now()),
            sidecars=frozenset(one.name for one in self.containers.init if one.kind == "sidecar"),
            granted=self._resizes.grant.pod,
            resizes=self._resizes.conditions,
        )
        self._setup = PodSetup(self._context, self.containers.ordinary_states, self._granted_pod)
        self._object = PodObjectWriter(self._context, self._state, self._follow_resize)
        if known.get("phase") == "Failed" and known.get("reason"):
            self._state.reason, self._state.message = known["reason"], known.get("message", "")

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
        """Apply a change of the pod's object. An object that is older than the current one is ignored."""
        if version_of(pod) < version_of(self.pod):
            return
        old, self._context.pod = self.pod, pod
        if old["metadata"].get("labels") != pod["metadata"].get("labels") or old["metadata"].get("annotations") != pod[
            "metadata"
        ].get("annotations"):
            self._setup.request_refresh()
        if old["spec"].get("activeDeadlineSeconds") != pod["spec"].get("activeDeadlineSeconds"):
            self._deadline_changed.set()
        self._resizes.review(self._retry_resize)
        self._state.granted = self._resizes.grant.pod
        self._context.groups.widen(self._granted_pod())
        self.containers.update(pod, self._resizes.grant)
        self._follow_resize()
        self._context.dirty.set()
        if pod["metadata"].get("deletionTimestamp"):
            self._end(StopOrder(self._context.grace(), deleted=True))

    def _granted_pod(self) -> Object:
        """Return the pod with the resources that its node has granted."""
        return self._resizes.grant.applied(self.pod)

    def _retry_resize(self) -> None:
        """Ask again for the resources for which the pod waits."""
        if self._stop is None:
            self.update(self.pod)

    def _follow_resize(self) -> None:
        """End a resize when all containers have the granted resources."""
        is_resizing = self.containers.is_resizing
        if not is_resizing:
            # Lower the limits only now: earlier, the kernel would kill a container that still uses more.
            self._context.groups.narrow(self._granted_pod())
        self._resizes.follow(is_resizing)

    def handle_removal(self) -> None:
        """Kill the processes of a pod that is no longer in the API. Release its ports and resources at once."""
        self._context.node.ledger.release(self.uid)
        self._end(StopOrder(0.0, gone=True))

    def shut_down(self, longest: float) -> None:
        """End the containers within `longest` seconds, because the agent ends. The pod stays in the API."""
        self._end(StopOrder(min(self._context.grace(), longest), leaving=True))

    def handle_source_change(self, resource: str, name: str) -> None:
        """Update the pod's volumes after a change of a ConfigMap or Secret of its namespace, if the pod uses it."""
        if (resource, name) in self.references:
            self._context.sources_changed.set()
            self._context.sources_changed = asyncio.Event()
            self._setup.request_refresh()

    def _end(self, stop: StopOrder) -> None:
        """End the pod. After several calls the shortest grace period counts."""
        first = self._stop
        if first is None:
            self._stop = stop
            self._stopped.set()
        else:
            self._stop = first.combined(stop)
            for container in self.containers.all:
                if (grace := _grace(stop, container)) < first.grace:
                    container.begin_stop(grace)

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

    # --- running ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the pod until its end. When cancelled, kill all its processes at once."""
        ledger, requests = self._context.node.ledger, self._resizes.grant.requests(self.pod)
        self._refusal = admission.refusal(self.pod, requests, ledger)
        if self._refusal is None:
            ledger.admit(self.uid, requests, host_ports(self.pod))
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [group.create_task(self._object.run()), group.create_task(self._setup.keep_volumes_fresh())]
                running = group.create_task(self._run_to_end())
                stop_ordered = group.create_task(self._stopped.wait())
                await asyncio.wait([running, stop_ordered], return_when=asyncio.FIRST_COMPLETED)
                if not stop_ordered.done():
                    # The pod has ended without an order. Its status and logs are kept until it is deleted; its files
                    # are removed now (syncTerminatedPod).
                    self._context.node.ledger.release(self.uid)
                    helpers[1].cancel()
                    await asyncio.wait([helpers[1]])
                    await self._context.remove_sandbox()
                    await self._remove_files()
                    await stop_ordered
                assert self._stop is not None
                if not self._stop.deleted:
                    # No last status is written when the pod is no longer in the API, or when the next agent will run it
                    # again.
                    helpers[0].cancel()
                stop = self._stop
                await self.containers.stop(lambda one: _grace(stop, one))
                running.cancel()
                await asyncio.wait([running])
                await self._context.remove_sandbox()
                for helper in helpers:
                    helper.cancel()
            await self._finish()
        finally:
            self._context.node.ledger.release(self.uid)
            self._setup.close()
            await self._context.remove_sandbox()

    async def _run_to_end(self) -> None:
        """Set up the pod, and run it until its last container ends. Do nothing for a pod that has already ended."""
        known = (self.pod.get("status") or {}).get("phase")
        if known in ("Succeeded", "Failed") or self.pod["metadata"].get("deletionTimestamp"):
            self._state.initialized = True
            self._object.status_written.set()
            return
        if self._reject():
            return
        self.containers.await_init()
        self._context.mark_changed()
        if self.containers.has_failed_init:
            return
        if self.containers.are_finished:
            self._state.initialized = True
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

    async def _work(self) -> None:
        await self._setup.run()
        self._state.ip = self._context.sandbox.ip
        await self.containers.run(self._record_initialized)

    def _record_initialized(self) -> None:
        self._state.initialized = True
        self._context.mark_changed()

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
        watch = StorageWatch(self._context, self.containers.all)
        if not watch.is_needed:
            return
        message = await watch.until_exceeded()
        self._context.event("Warning", eviction.REASON, message)
        await self._fail(eviction.REASON, message, eviction.GRACE_SECONDS, working)

    async def _fail(self, reason: str, message: str, grace: float, working: asyncio.Task[None]) -> None:
        """End the pod as failed. grace: the grace period of its containers, in seconds."""
        self._state.reason, self._state.message = reason, message
        await self.containers.stop(lambda _: grace)
        working.cancel()

    def _is_gone(self) -> bool:
        return self._stop is not None and self._stop.gone

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


def _grace(stop: StopOrder, container: ContainerWorker) -> float:
    """Return the grace period of a container, in seconds."""
    return stop.grace_for(ignores_stop_signal=container.ignores_stop_signal)
