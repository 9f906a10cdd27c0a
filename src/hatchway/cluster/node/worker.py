"""A pod's worker: from its first sight to its removal (`pkg/kubelet/pod_workers.go`, `kubelet.go` SyncPod).

A worker sets up volumes and a sandbox, runs the init containers in order and then the others, writes the pod's status
whenever it changes, and ends the pod when it is deleted, has outlived its deadline or the agent goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hatchway.cluster.node import clock, sources, status
from hatchway.cluster.node.container import Container, Kind
from hatchway.cluster.node.logs import LogFile
from hatchway.cluster.node.surroundings import NodeServices, Surroundings
from hatchway.cluster.node.volumes import MountError
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.numerals import parse_int

log = logging.getLogger(__name__)

_FIRST_RETRY, _LAST_RETRY = 0.5, 30.0
_STATUS_RETRY = 1.0


@dataclass(frozen=True, slots=True)
class _Stop:
    """Why the pod ends. deleted: it is deleted in the API when done. gone: it is not in the API any more. leaving: the
    whole cluster goes down."""

    grace: float
    deleted: bool = False
    gone: bool = False
    leaving: bool = False

    def grace_of(self, container: Container) -> float:
        """A cluster that goes down does not wait for programs that do not listen."""
        return 0.0 if self.leaving and container.deaf else self.grace


class PodWorker:
    """Runs one pod. `run` returns when nothing of it is left to do.

    told: set when the pod's status has been brought up to date for the first time.
    """

    def __init__(self, shared: NodeServices, pod: Object) -> None:
        self._around = Surroundings(shared, pod)
        self.uid = self._around.uid
        self.references = sources.references(pod)
        self._refresh = asyncio.Event()
        self._stop: _Stop | None = None
        self._stopped = asyncio.Event()
        self.told = asyncio.Event()
        known = pod.get("status") or {}
        self.init = self._containers("initContainers", known.get("initContainerStatuses"))
        self.main = self._containers("containers", known.get("containerStatuses"))
        self._state = status.PodState(
            init=[container.state for container in self.init],
            containers=[container.state for container in self.main],
            host_ip=shared.node.ip,
            start_time=known.get("startTime") or clock.rfc3339(clock.now()),
            sidecars=frozenset(container.name for container in self.init if container.kind == "sidecar"),
        )
        if known.get("phase") == "Failed" and known.get("reason"):
            self._state.reason, self._state.message = known["reason"], known.get("message", "")

    def _containers(self, key: str, known: list[Object] | None) -> list[Container]:
        remembered = {item["name"]: item for item in known or ()}
        found = []
        for spec in self.pod["spec"].get(key) or ():
            kind: Kind = "main"
            if key == "initContainers":
                kind = "sidecar" if spec.get("restartPolicy") == "Always" else "init"
            found.append(Container(self._around, spec, kind, remembered.get(spec["name"])))
        return found

    @property
    def pod(self) -> Object:
        """The object as it is known now."""
        return self._around.pod

    # --- what the node asks ----------------------------------------------------------------------------------------

    def update(self, pod: Object) -> None:
        """The pod as the API has it now. One that is older than what is known is ignored."""
        if _version(pod) < _version(self.pod):
            return
        old, self._around.pod = self.pod, pod
        if old["metadata"].get("labels") != pod["metadata"].get("labels") or old["metadata"].get("annotations") != pod[
            "metadata"
        ].get("annotations"):
            self._refresh.set()
        specs = {
            spec["name"]: spec
            for spec in [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]
        }
        for container in [*self.init, *self.main]:
            if container.name in specs:
                container.update(specs[container.name])
        self._around.dirty.set()
        if pod["metadata"].get("deletionTimestamp"):
            self._end(_Stop(self._around.grace(), deleted=True))

    def removed(self) -> None:
        """The pod is not in the API any more: kill what is left of it."""
        self._end(_Stop(0.0, gone=True))

    def shut_down(self, longest: float) -> None:
        """The agent ends: end the containers within `longest` seconds; the pod stays in the API."""
        self._end(_Stop(min(self._around.grace(), longest), leaving=True))

    def source_changed(self, resource: str, name: str) -> None:
        """A ConfigMap or Secret in the pod's namespace has changed."""
        if (resource, name) in self.references:
            self._around.sources_changed.set()
            self._around.sources_changed = asyncio.Event()
            self._refresh.set()

    def _end(self, stop: _Stop) -> None:
        """End the pod. Asked again, the more impatient wish counts."""
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
            for container in [*self.init, *self.main]:
                if (grace := stop.grace_of(container)) < first.grace:
                    container.hurry(grace)

    def live_log(self, container: str) -> LogFile | None:
        """The log of the container's current attempt in this agent's life."""
        for found in [*self.init, *self.main]:
            if found.name == container:
                return found.live_log
        return None

    @property
    def running_containers(self) -> int:
        return sum(container.state.running for container in [*self.init, *self.main])

    # --- the life --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the pod to its end. Cancelled: everything of it is killed at once."""
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [group.create_task(self._write_status()), group.create_task(self._keep_volumes_fresh())]
                living = group.create_task(self._live())
                asked = group.create_task(self._stopped.wait())
                await asyncio.wait([living, asked], return_when=asyncio.FIRST_COMPLETED)
                if not asked.done():
                    # It has come to its end by itself; its status stays until somebody deletes it.
                    await self._around.remove_sandbox()
                    await asked
                assert self._stop is not None
                if not self._stop.deleted:
                    # Of a pod that the API does not have any more, or that runs again when the agent does, the
                    # last moments are nobody's business.
                    helpers[0].cancel()
                await self._stop_containers(self._stop.grace_of)
                living.cancel()
                await asyncio.wait([living])
                await self._around.remove_sandbox()
                for helper in helpers:
                    helper.cancel()
            await self._finish()
        finally:
            await self._around.remove_sandbox()

    async def _live(self) -> None:
        """Everything from set-up to the last container's end. A pod that has ended already does nothing."""
        known = (self.pod.get("status") or {}).get("phase")
        if known in ("Succeeded", "Failed") or self.pod["metadata"].get("deletionTimestamp"):
            self._state.initialized = True
            self.told.set()
            return
        self._around.changed()
        if self._ended_already():
            return
        self._warn_of_unsupported()
        async with asyncio.TaskGroup() as group:
            working = group.create_task(self._work())
            deadline = group.create_task(self._keep_deadline(working))
            await asyncio.wait([working])
            deadline.cancel()
        self._around.changed()

    def _ended_already(self) -> bool:
        """Whether what ended with an earlier agent was all, or all that the restart policy allows."""
        never = self.pod["spec"].get("restartPolicy") == "Never"
        if never and any(c.kind == "init" and c.state.exit_code not in (None, 0) for c in self.init):
            return True
        if not all(container.finished() for container in self.main):
            return False
        self._state.initialized = True
        return True

    async def _work(self) -> None:
        await self._retry(self._set_up_volumes)
        await self._retry(self._make_sandbox)
        async with asyncio.TaskGroup() as sidecars:
            if await self._initialize(sidecars):
                self._state.initialized = True
                self._around.changed()
                async with asyncio.TaskGroup() as containers:
                    for container in self.main:
                        if not container.finished():
                            containers.create_task(container.run())
            await self._end_sidecars(self._grace_of)

    def _warn_of_unsupported(self) -> None:
        spec = self.pod["spec"]
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(field):
                message = f"{field} is not supported by Hatchway: the pod has namespaces of its own"
                self._around.event("Warning", "Unsupported", message)
        contexts = [found for c in self.main if (found := c.spec.get("securityContext"))]
        if any(context.get("privileged") for context in contexts):
            message = (
                "privileged is not supported by Hatchway: capabilities hold in the container's own namespaces only"
            )
            self._around.event("Warning", "Unsupported", message)
        if any(
            context.get("runAsUser") or context.get("runAsNonRoot")
            for context in (spec.get("securityContext") or {}, *contexts)
        ):
            message = "runAsUser and runAsNonRoot are not supported by Hatchway: containers have one user, called root"
            self._around.event("Warning", "Unsupported", message)

    async def _retry(self, step: Callable[[], Awaitable[bool]]) -> None:
        """Call `step` until it returns True, with back-off, at once when a ConfigMap or Secret has changed."""
        wait = _FIRST_RETRY
        while True:
            changed = self._around.sources_changed
            if await step():
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await changed.wait()
            wait = min(wait * 2, _LAST_RETRY)

    async def _set_up_volumes(self) -> bool:
        try:
            await self._around.volumes.set_up(self.pod, self._around.facts())
        except MountError as error:
            for container in self._state.containers:
                container.wait("ContainerCreating")
            self._around.event("Warning", "FailedMount", str(error))
            self._around.changed()
            return False
        return True

    async def _make_sandbox(self) -> bool:
        try:
            await self._around.make_sandbox()
        except OSError as error:
            self._around.event("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            return False
        self._state.ip = self._around.sandbox.ip
        if sources.wants_address(self.pod):
            # Its files were written before the address was known.
            self._refresh.set()
        return True

    async def _initialize(self, group: asyncio.TaskGroup) -> bool:
        """Run the init containers in order; a sidecar only has to be started. Returns whether the others may start."""
        reason = "PodInitializing" if self.init else "ContainerCreating"
        for container in self.main:
            if "waiting" in container.state.state and not container.state.last:
                container.state.wait(reason)
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
                # A new sandbox needs its init containers to run again, as after a reboot of a node.
                await container.run()
                if container.state.exit_code != 0:
                    return False
        return True

    def _grace_of(self, _: Container) -> float:
        return self._around.grace()

    async def _end_sidecars(self, grace_of: Callable[[Container], float]) -> None:
        """In the reverse order of their start."""
        for container in reversed(self.init):
            if container.kind == "sidecar":
                await container.stop(grace_of(container))

    async def _keep_deadline(self, working: asyncio.Task[None]) -> None:
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is None:
            return
        began = clock.parse(self._state.start_time)
        await asyncio.sleep(max(0.0, float(seconds) - (clock.now() - began).total_seconds()))
        self._state.reason = "DeadlineExceeded"
        self._state.message = "Pod was active on the node longer than the specified deadline"
        self._around.event("Normal", "DeadlineExceeded", self._state.message)
        await self._stop_containers(self._grace_of)
        working.cancel()

    async def _stop_containers(self, grace_of: Callable[[Container], float]) -> None:
        """End all containers: sidecars when the others have ended."""
        ordinary = [container for container in [*self.init, *self.main] if container.kind != "sidecar"]
        await asyncio.gather(*(container.stop(grace_of(container)) for container in ordinary))
        await self._end_sidecars(grace_of)

    async def _finish(self) -> None:
        """After the last process: the last status, the object, the files."""
        assert self._stop is not None
        if self._stop.deleted or self._stop.gone:
            await self._delete()
            await asyncio.to_thread(self._around.volumes.remove)

    async def _delete(self) -> None:
        assert self._stop is not None
        metadata = self.pod["metadata"]
        wait = _FIRST_RETRY
        try:
            if not self._stop.gone:
                await self._patch_status()
        except (ApiError, OSError) as error:
            # Its last words are of less use than its end.
            log.info("last status of pod %s is not written: %s", metadata["name"], error)
        while not self._stop.gone:
            try:
                await self._around.node.client.delete(
                    "pods", metadata["name"], metadata.get("namespace"), grace_period=0, uid=self.uid
                )
                return
            except (ApiError, OSError) as error:
                # 404 and 409: it is gone, or another pod has its name by now.
                if isinstance(error, ApiError) and error.code in (404, 409):
                    return
                log.warning("pod %s cannot be deleted yet: %s", metadata["name"], error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LAST_RETRY)

    # --- helpers that run beside it -----------------------------------------------------------------------------

    async def _keep_volumes_fresh(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._around.volumes.next_refresh()):
                    await self._refresh.wait()
            self._refresh.clear()
            try:
                await self._around.volumes.refresh(self.pod, self._around.facts())
            except MountError as error:
                # What the volume shows stays as it is: a Secret that was deleted does not take its files along.
                self._around.event("Warning", "FailedMount", str(error))
                await asyncio.sleep(_FIRST_RETRY)

    async def _write_status(self) -> None:
        while True:
            await self._around.dirty.wait()
            self._around.dirty.clear()
            try:
                await self._patch_status()
                self.told.set()
            except (ApiError, OSError) as error:
                if isinstance(error, ApiError) and error.code == 404:
                    # The watch will say so too.
                    self.told.set()
                    continue
                log.warning("status of pod %s cannot be written yet: %s", self.pod["metadata"]["name"], error)
                await asyncio.sleep(_STATUS_RETRY)
                self._around.dirty.set()

    async def _patch_status(self) -> None:
        self._state.has_sandbox = self._around.has_sandbox
        wanted = status.build(self.pod, self._state, clock.rfc3339(clock.now()))
        changes = status.patch(self.pod.get("status") or {}, wanted)
        if not changes:
            return
        metadata = self.pod["metadata"]
        about: Object = {"uid": self.uid}
        if "conditions" in changes and self.pod["spec"].get("readinessGates"):
            # Others write conditions too, which a patch of the whole list must not undo.
            about["resourceVersion"] = metadata["resourceVersion"]
        written = await self._around.node.client.patch(
            "pods",
            metadata["name"],
            {"metadata": about, "status": changes},
            metadata.get("namespace"),
            subresource="status",
        )
        if _version(written) > _version(self.pod):
            self._around.pod = {"apiVersion": "v1", "kind": "Pod", **written}


def _version(obj: Object) -> int:
    """Hatchway's API numbers versions; one that does not counts as newest."""
    found = parse_int(obj["metadata"].get("resourceVersion"))
    return 1 << 62 if found is None else found
