"""One container's life: started, watched by its probes, ended, started again or not.

The states, reasons and events are those of `pkg/kubelet/kuberuntime` (`kuberuntime_manager.go`,
`kuberuntime_container.go`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from hatchway.cluster.node import clock, images, probes
from hatchway.cluster.node.backoff import BackOff
from hatchway.cluster.node.env import ConfigError, expand
from hatchway.cluster.node.logreader import LogOptions, read_log
from hatchway.cluster.node.logs import LogFile, Output
from hatchway.cluster.node.runtime import ContainerConfig, Exit, Mount, Process, Sandbox, StartError
from hatchway.cluster.node.status import ContainerState
from hatchway.errors import ApiError
from hatchway.kube.api import Object

log = logging.getLogger(__name__)

Kind = Literal["init", "sidecar", "main"]

_CONFIG_RETRY = 10.0
_UNKNOWN = 255
_START_FAILED = 128
# After SIGTERM a container has at least this long, even when its preStop hook has used up the pod's grace.
_LEAST_GRACE = 2.0
_LAST_LINES, _LAST_BYTES = 80, 2048


class Surroundings(Protocol):
    """What a container needs of its pod (`worker.py`)."""

    @property
    def pod(self) -> Object: ...

    @property
    def sandbox(self) -> Sandbox: ...

    @property
    def extra_images(self) -> Mapping[str, list[str]]: ...

    @property
    def dial(self) -> probes.Dial: ...

    @property
    def sources_changed(self) -> asyncio.Event:
        """Set (and replaced) when a ConfigMap or Secret that the pod refers to has changed."""
        ...

    def changed(self) -> None:
        """The container's state is another one now."""
        ...

    def event(self, type: Literal["Normal", "Warning"], reason: str, message: str, container: str = "") -> None: ...

    async def environment(self, container: Object) -> dict[str, str]:
        """Raises ConfigError, ApiError."""
        ...

    def mounts(self, container: Object, environment: Mapping[str, str]) -> list[Mount]:
        """Volumes and the termination log. Raises ConfigError."""
        ...

    def last_words(self, container: str) -> str: ...

    def log_file(self, container: str, attempt: int) -> LogFile:
        """The file for a new attempt; older attempts than the previous one are deleted."""
        ...


@dataclass(slots=True)
class _KillOrder:
    reason: str
    message: str
    grace: float
    restart: bool = False


class Container:
    """One container of a pod. `run` returns when it has ended for good.

    state: what the pod's status says of it. live_log: the log of the running or last attempt of this process.
    """

    def __init__(self, pod: Surroundings, spec: Object, kind: Kind, known: Object | None) -> None:
        self._pod = pod
        self.spec = spec
        self.kind = kind
        self.name: str = spec["name"]
        self.state = ContainerState.restore(spec, known)
        self.live_log: LogFile | None = None
        self._process: Process | None = None
        self._backoff = BackOff()
        self._image_backoff = BackOff()
        self._spec_changed = asyncio.Event()
        self._order: asyncio.Future[_KillOrder] | None = None
        self._grace: asyncio.Timeout | None = None
        self._deadline = float("inf")
        self._stopping = False
        self._ended = asyncio.Event()
        self._ended.set()
        self._delay_until = 0.0
        self._started_once = False
        self._environment: dict[str, str] = {}
        self.done = asyncio.Event()
        self.initialized = asyncio.Event()
        self._restore()

    def _restore(self) -> None:
        """Whatever ran when the agent ended has ended with it."""
        state = self.state
        if state.running:
            began = state.state["running"].get("startedAt")
            ended = {
                "exitCode": _UNKNOWN,
                "reason": "Unknown",
                "startedAt": began,
                "finishedAt": clock.rfc3339(clock.now()),
                "containerID": state.container_id,
            }
            state.state = {"terminated": {key: value for key, value in ended.items() if value}}
        self._started_once = bool(state.state.get("terminated") or state.last)

    # --- what the pod worker asks ----------------------------------------------------------------------------------

    @property
    def process(self) -> Process | None:
        """The running process, if any."""
        return self._process

    def finished(self) -> bool:
        """Whether it has ended and its restart policy does not start it again (asked before `run`)."""
        return self.state.exit_code is not None and not self._restarts(self.state.exit_code)

    def update(self, spec: Object) -> None:
        """The pod's spec has changed. Only another image concerns a container; it is then started anew."""
        if spec.get("image") == self.spec.get("image"):
            self.spec = spec
            return
        self.spec = spec
        self.state.image = spec.get("image", "")
        self._spec_changed.set()
        message = f"Container {self.name} definition changed, will be restarted"
        self._ask_to_end(_KillOrder("Killing", message, self._pod_grace(), restart=True))

    async def stop(self, grace: float) -> None:
        """End it within `grace` seconds and do not start it again; waits until it has ended."""
        self._stopping = True
        self._spec_changed.set()
        self._ask_to_end(_KillOrder("Killing", f"Stopping container {self.name}", grace))
        self.hurry(grace)
        await self._ended.wait()

    def hurry(self, grace: float) -> None:
        """When it is being ended, or about to be: leave it `grace` seconds from now, unless it has less already."""
        self._deadline = min(self._deadline, asyncio.get_running_loop().time() + grace)
        if self._grace is not None and not self._grace.expired():
            self._grace.reschedule(min(self._deadline, self._grace.when() or self._deadline))

    # --- the life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start it, and again as often as its restart policy says. Cancelled: it is killed at once."""
        try:
            while not self._stopping:
                ended = await self._attempt()
                if ended is None:
                    continue
                code, ran_for, forced = ended
                if self._stopping or not (forced or self._restarts(code)):
                    return
                self._await_restart(0.0 if forced else self._backoff.ended(ran_for))
        finally:
            self.done.set()

    def _restarts(self, code: int) -> bool:
        policy = self._pod.pod["spec"].get("restartPolicy") or "Always"
        if self.kind == "sidecar":
            return True
        if self.kind == "init":
            return code != 0 and policy != "Never"
        return policy == "Always" or (policy == "OnFailure" and code != 0)

    def _await_restart(self, delay: float) -> None:
        """Note that the next attempt may begin in `delay` seconds, and say so in the status when that is not at once."""
        self._delay_until = asyncio.get_running_loop().time() + delay
        terminated = self.state.state.get("terminated")
        if delay <= 0:
            return
        if terminated:
            self.state.last = {"terminated": terminated}
        text = f"{int(delay // 60)}m{int(delay % 60)}s" if delay >= 60 else f"{int(delay)}s"
        self._waiting(
            "CrashLoopBackOff",
            f"back-off {text} restarting failed container={self.name} pod={self._pod_name()}",
        )
        self._pod.event(
            "Warning",
            "BackOff",
            f"Back-off restarting failed container {self.name} in pod {self._pod_name()}",
            self.name,
        )

    async def _attempt(self) -> tuple[int, float, bool] | None:
        """One attempt: (exit code, seconds it ran, restart in any case); None when it could not be configured yet."""
        await self._pause(self._delay_until - asyncio.get_running_loop().time())
        if self._stopping:
            return None
        resolved = await self._image()
        if resolved is None:
            return None
        try:
            environment = await self._pod.environment(self.spec)
            mounts = self._pod.mounts(self.spec, environment)
        except (ConfigError, ApiError) as error:
            await self._not_configured(error.message if isinstance(error, ApiError) else str(error))
            return None
        return await self._start(resolved, environment, mounts)

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless the spec changes or the container is stopped."""
        self._spec_changed.clear()
        if seconds <= 0 or self._stopping:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._spec_changed.wait()
        except TimeoutError:
            return

    async def _image(self) -> images.Resolved | None:
        """What to run; None after the wait that follows a failure."""
        image = self.spec.get("image", "")
        try:
            return images.resolve(
                image, self.spec.get("command") or (), self.spec.get("args") or (), self._pod.extra_images
            )
        except images.ImageError as error:
            self._waiting(error.reason, str(error))
            self._pod.event("Warning", "Failed", str(error), self.name)
            self._pod.event("Warning", "Failed", f"Error: {error.reason}", self.name)
            delay = self._image_backoff.ended(0.0)
            if delay and error.reason == "ErrImagePull":
                self._pod.event("Normal", "BackOff", f'Back-off pulling image "{image}"', self.name)
                self._pod.event("Warning", "Failed", "Error: ImagePullBackOff", self.name)
                self._waiting("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {error}')
            await self._pause(delay or 1.0)
            return None

    async def _not_configured(self, message: str) -> None:
        changed = self._pod.sources_changed
        self._waiting("CreateContainerConfigError", message)
        self._pod.event("Warning", "Failed", f"Error: {message}", self.name)
        waiting = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(self._spec_changed.wait())]
        try:
            await asyncio.wait(waiting, timeout=_CONFIG_RETRY, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def _start(
        self, resolved: images.Resolved, environment: dict[str, str], mounts: list[Mount]
    ) -> tuple[int, float, bool]:
        loop = asyncio.get_running_loop()
        self._environment = environment
        state = self.state
        if terminated := state.state.get("terminated"):
            state.last = {"terminated": terminated}
        if self._started_once:
            state.restarts += 1
        self._started_once = True
        state.image_id = resolved.image_id
        state.container_id = f"hatchway://{uuid.uuid4().hex}{uuid.uuid4().hex}"
        state.ready = state.started = False
        self._pod.event("Normal", "Pulled", resolved.note, self.name)
        began, began_at = loop.time(), clock.rfc3339(clock.now())
        file = self.live_log = self._pod.log_file(self.name, state.restarts)
        self._ended.clear()
        output: Output | None = None
        try:
            output = await self._open_output(file)
            argv = [expand(part, environment) for part in resolved.argv]
            self._process = await self._pod.sandbox.start(self._config(argv, environment, mounts, output))
            output.started()
            self._pod.event("Normal", "Created", f"Created container: {self.name}", self.name)
            self._pod.event("Normal", "Started", f"Started container {self.name}", self.name)
            state.state = {"running": {"startedAt": began_at}}
            self._pod.changed()
            end, order = await self._accompany(self._process)
            self._process = None
            await output.drain()
        except StartError as error:
            self._start_failed(error, began_at)
            return _START_FAILED, 0.0, False
        finally:
            if self._process is not None:
                self._process.kill(signal.SIGKILL)
                self._process = None
            if output is not None:
                output.abandon()
            self._ended.set()
        await self._record_end(end, began_at)
        return end.code, loop.time() - began, order is not None and order.restart

    async def _open_output(self, file: LogFile) -> Output:
        try:
            return await Output.open(file)
        except OSError as error:
            raise StartError(f"cannot make the container's pipes: {error.strerror}") from error

    def _config(
        self, argv: list[str], environment: dict[str, str], mounts: list[Mount], output: Output
    ) -> ContainerConfig:
        security = self.spec.get("securityContext") or {}
        return ContainerConfig(
            name=self.name,
            argv=argv,
            env=environment,
            stdout=output.stdout,
            stderr=output.stderr,
            cwd=self.spec.get("workingDir") or None,
            mounts=mounts,
            read_only_root=bool(security.get("readOnlyRootFilesystem")),
        )

    def _start_failed(self, error: StartError, began_at: str) -> None:
        message = f'failed to start container "{self.name}": {error}'
        ended = {
            "exitCode": _START_FAILED,
            "reason": "StartError",
            "message": message,
            "startedAt": began_at,
            "finishedAt": clock.rfc3339(clock.now()),
            "containerID": self.state.container_id,
        }
        self._pod.event("Warning", "Failed", f"Error: {message}", self.name)
        if self._restarts(_START_FAILED):
            self.state.last = {"terminated": ended}
            self._waiting("RunContainerError", message)
        else:
            self._set({"terminated": ended})

    async def _record_end(self, end: Exit, began_at: str) -> None:
        message = self._pod.last_words(self.name)
        if not message and end.code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            message = await self._last_lines()
        ended = {
            "exitCode": end.code,
            "reason": "Completed" if end.code == 0 else "Error",
            "message": message,
            "startedAt": began_at,
            "finishedAt": clock.rfc3339(clock.now()),
            "containerID": self.state.container_id,
        }
        if not message:
            del ended["message"]
        self._set({"terminated": ended})

    async def _last_lines(self) -> str:
        assert self.live_log is not None
        chunks = []
        try:
            async for chunk in read_log(self.live_log.path, LogOptions(tail_lines=_LAST_LINES)):
                chunks.append(chunk)
        except OSError as error:
            log.debug("no last lines of %s: %s", self.name, error)
        return b"".join(chunks)[-_LAST_BYTES:].decode("utf-8", "replace")

    # --- while it runs -------------------------------------------------------------------------------------------

    async def _accompany(self, process: Process) -> tuple[Exit, _KillOrder | None]:
        """Run hooks and probes until the process ends; end it when that is asked for."""
        self._order = asyncio.get_running_loop().create_future()
        order: _KillOrder | None = None
        if self._stopping:
            self._order.set_result(_KillOrder("Killing", f"Stopping container {self.name}", self._pod_grace()))
        try:
            async with asyncio.TaskGroup() as group:
                exiting = group.create_task(process.wait())
                attending = group.create_task(self._attend(process))
                either: list[asyncio.Future[Any]] = [exiting, self._order]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                attending.cancel()
                if not exiting.done():
                    order = self._order.result()
                    self._pod.event("Normal", order.reason, order.message, self.name)
                    self.state.ready = False
                    self._pod.changed()
                    await self._end(process, exiting, order.grace)
                end = await exiting
        finally:
            self._order = None
        return end, order

    async def _end(self, process: Process, exiting: asyncio.Task[Exit], grace: float) -> None:
        """preStop hook, SIGTERM, and SIGKILL when the grace is over."""
        deadline = min(self._deadline, asyncio.get_running_loop().time() + grace)
        if deadline > asyncio.get_running_loop().time():
            hook = (self.spec.get("lifecycle") or {}).get("preStop")
            signalled = False
            try:
                async with asyncio.timeout_at(deadline) as self._grace:
                    if hook:
                        await self._pre_stop(hook, process, grace)
                    process.kill(self._stop_signal())
                    signalled = True
                    await asyncio.shield(exiting)
                    return
            except TimeoutError:
                if not signalled:
                    # The hook has used up all of the grace; the process still gets its signal and a moment.
                    process.kill(self._stop_signal())
                    await asyncio.wait([exiting], timeout=_LEAST_GRACE)
            finally:
                self._grace = None
        process.kill(signal.SIGKILL)
        await exiting

    def _stop_signal(self) -> int:
        wanted = (self.spec.get("lifecycle") or {}).get("stopSignal") or "SIGTERM"
        return getattr(signal, str(wanted), signal.SIGTERM)

    async def _pre_stop(self, hook: Object, process: Process, grace: float) -> None:
        result = await self._checker(process).run_hook(hook, grace)
        if not result.success:
            self._pod.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {result.message}", self.name)

    async def _attend(self, process: Process) -> None:
        """The postStart hook, then the probes, for as long as the process runs."""
        checker = self._checker(process)
        hook = (self.spec.get("lifecycle") or {}).get("postStart")
        if hook:
            result = await checker.run_hook(hook, float("inf"))
            if not result.success:
                self._pod.event("Warning", "FailedPostStartHook", f"PostStartHook failed: {result.message}", self.name)
                self._ask_to_end(_KillOrder("Killing", "FailedPostStartHook", self._pod_grace()))
                return
        self._tell_of_grpc()
        startup, liveness, readiness = (self.spec.get(f"{kind}Probe") for kind in ("startup", "liveness", "readiness"))
        if startup:
            await self._watch("startup", startup, checker)
            if not self.state.started:
                return
        self.state.started = True
        self.state.ready = not readiness and self.kind != "init"
        self.initialized.set()
        self._pod.changed()
        async with asyncio.TaskGroup() as group:
            if liveness:
                group.create_task(self._watch("liveness", liveness, checker))
            if readiness:
                group.create_task(self._watch("readiness", readiness, checker))

    async def _watch(self, kind: probes.Kind, probe: Object, checker: probes.Checker) -> None:
        def observed(result: probes.Result) -> None:
            if not result.success:
                message = f"{kind.capitalize()} probe failed: {result.message}"
                self._pod.event("Warning", "Unhealthy", message, self.name)

        def verdict(success: bool, _: probes.Result) -> bool:
            if kind == "readiness":
                self.state.ready = success
                self._pod.changed()
                return False
            if success:
                self.state.started = self.state.started or kind == "startup"
                return kind == "startup"
            grace = probes.Settings.of(probe).grace
            message = f"Container {self.name} failed {kind} probe, will be restarted"
            self._ask_to_end(_KillOrder("Killing", message, self._pod_grace() if grace is None else grace))
            return True

        await probes.watch(probe, checker.check, observed, verdict)

    def _tell_of_grpc(self) -> None:
        for kind in ("startup", "liveness", "readiness"):
            if "grpc" in (self.spec.get(f"{kind}Probe") or {}):
                message = (
                    f"The gRPC {kind} probe only checks that its port accepts connections: Hatchway speaks no gRPC"
                )
                self._pod.event("Warning", "UnsupportedProbe", message, self.name)

    def _checker(self, process: Process) -> probes.Checker:
        ports = {port["name"]: port["containerPort"] for port in self.spec.get("ports") or () if port.get("name")}
        sandbox = self._pod.sandbox

        async def execute(config: ContainerConfig) -> Process:
            return await sandbox.exec(process, config)

        def config(argv: list[str], output: int) -> ContainerConfig:
            return ContainerConfig(
                name=self.name,
                argv=argv,
                env=self._environment,
                stdout=output,
                stderr=output,
                cwd=self.spec.get("workingDir") or None,
            )

        return probes.Checker(pod_ip=sandbox.ip, ports=ports, dial=self._pod.dial, execute=execute, config=config)

    # --- small things --------------------------------------------------------------------------------------------

    def _ask_to_end(self, order: _KillOrder) -> None:
        if self._order is not None and not self._order.done():
            self._order.set_result(order)

    def _pod_grace(self) -> float:
        pod = self._pod.pod
        grace = pod["metadata"].get("deletionGracePeriodSeconds")
        if grace is None:
            grace = pod["spec"].get("terminationGracePeriodSeconds")
        return 30.0 if grace is None else float(grace)

    def _pod_name(self) -> str:
        metadata = self._pod.pod["metadata"]
        return f"{metadata['name']}_{metadata.get('namespace', '')}({metadata.get('uid', '')})"

    def _waiting(self, reason: str, message: str) -> None:
        if terminated := self.state.state.get("terminated"):
            self.state.last = {"terminated": terminated}
        self._set({"waiting": {"reason": reason, "message": message}})

    def _set(self, state: Object) -> None:
        self.state.state = state
        self.state.started = False
        self.state.ready = self.kind == "init" and self.state.exit_code == 0
        self._pod.changed()


def log_path(directory: Path, container: str, attempt: int) -> Path:
    """The log of a container's attempt below its pod's log directory."""
    return directory / container / f"{attempt}.log"
