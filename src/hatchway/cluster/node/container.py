"""One container's life: started, watched by its probes, ended, started again or not.

The states, reasons and events are those of `pkg/kubelet/kuberuntime` (`kuberuntime_manager.go`,
`kuberuntime_container.go`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import uuid
from typing import Literal

from hatchway.cluster.node import clock, images
from hatchway.cluster.node.attempt import Attempt, EndOrder
from hatchway.cluster.node.backoff import BackOff
from hatchway.cluster.node.env import ConfigError, expand
from hatchway.cluster.node.logreader import LogOptions, read_log
from hatchway.cluster.node.logs import LogFile, Output
from hatchway.cluster.node.runtime import ContainerConfig, Exit, Mount, Process, StartError
from hatchway.cluster.node.status import ContainerState
from hatchway.cluster.node.surroundings import Surroundings
from hatchway.errors import ApiError
from hatchway.kube.api import Object

log = logging.getLogger(__name__)

Kind = Literal["init", "sidecar", "main"]

_CONFIG_RETRY = 10.0
_UNKNOWN = 255
_START_FAILED = 128
_LAST_LINES, _LAST_BYTES = 80, 2048


class Container:
    """One container of a pod. `run` returns when it has ended for good.

    state: what the pod's status says of it. live_log: the log of the running or last attempt of this process.
    """

    def __init__(self, around: Surroundings, spec: Object, kind: Kind, known: Object | None) -> None:
        self._around = around
        self.spec = spec
        self.kind = kind
        self.name: str = spec["name"]
        self.state = ContainerState.restore(spec, known)
        self.live_log: LogFile | None = None
        self._attempt: Attempt | None = None
        self._backoff = BackOff()
        self._image_backoff = BackOff()
        self._spec_changed = asyncio.Event()
        self._stop_by: float | None = None
        self._ended = asyncio.Event()
        self._ended.set()
        self._delay_until = 0.0
        self._started_once = False
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
        if self._attempt is not None:
            message = f"Container {self.name} definition changed, will be restarted"
            self._attempt.end(EndOrder(message, self._around.grace(), restart=True))

    @property
    def deaf(self) -> bool:
        """Whether it runs and nothing but SIGKILL would end it."""
        return self._attempt is not None and self._attempt.deaf

    async def stop(self, grace: float) -> None:
        """End it within `grace` seconds and do not start it again; waits until it has ended."""
        self.hurry(grace)
        await self._ended.wait()

    def hurry(self, grace: float) -> None:
        """End it within `grace` seconds from now, or sooner when that was asked for before."""
        by = asyncio.get_running_loop().time() + grace
        self._stop_by = by if self._stop_by is None else min(by, self._stop_by)
        self._spec_changed.set()
        if self._attempt is not None:
            self._attempt.end(self._stop_order(grace))

    @property
    def _stopping(self) -> bool:
        return self._stop_by is not None

    def _stop_order(self, grace: float) -> EndOrder:
        return EndOrder(f"Stopping container {self.name}", grace)

    # --- the life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start it, and again as often as its restart policy says. Cancelled: it is killed at once."""
        while not self._stopping:
            ended = await self._try()
            if ended is None:
                continue
            code, ran_for, forced = ended
            if self._stopping or not (forced or self._restarts(code)):
                return
            self._await_restart(0.0 if forced else self._backoff.ended(ran_for))

    def _restarts(self, code: int) -> bool:
        policy = self._around.pod["spec"].get("restartPolicy") or "Always"
        if self.kind == "sidecar":
            return True
        if self.kind == "init":
            return code != 0 and policy != "Never"
        return policy == "Always" or (policy == "OnFailure" and code != 0)

    def _await_restart(self, delay: float) -> None:
        """Note that the next attempt may begin in `delay` seconds, and say so in the status when that is not at once."""
        self._delay_until = asyncio.get_running_loop().time() + delay
        if delay <= 0:
            return
        text = f"{int(delay // 60)}m{int(delay % 60)}s" if delay >= 60 else f"{int(delay)}s"
        self._waiting(
            "CrashLoopBackOff",
            f"back-off {text} restarting failed container={self.name} pod={self._around.full_name}",
        )
        self._around.event(
            "Warning",
            "BackOff",
            f"Back-off restarting failed container {self.name} in pod {self._around.full_name}",
            self.name,
        )

    async def _try(self) -> tuple[int, float, bool] | None:
        """One attempt: (exit code, seconds it ran, restart in any case); None when it could not be configured yet."""
        await self._pause(self._delay_until - asyncio.get_running_loop().time())
        if self._stopping:
            return None
        resolved = await self._image()
        if resolved is None:
            return None
        try:
            environment = await self._around.environment(self.spec)
            mounts = self._around.mounts(self.spec, environment)
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
                image, self.spec.get("command") or (), self.spec.get("args") or (), self._around.node.config.images
            )
        except images.ImageError as error:
            self._waiting(error.reason, str(error))
            self._around.event("Warning", "Failed", str(error), self.name)
            self._around.event("Warning", "Failed", f"Error: {error.reason}", self.name)
            delay = self._image_backoff.ended(0.0)
            if delay and error.reason == "ErrImagePull":
                self._around.event("Normal", "BackOff", f'Back-off pulling image "{image}"', self.name)
                self._around.event("Warning", "Failed", "Error: ImagePullBackOff", self.name)
                self._waiting("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {error}')
            await self._pause(delay or 1.0)
            return None

    async def _not_configured(self, message: str) -> None:
        changed = self._around.sources_changed
        self._waiting("CreateContainerConfigError", message)
        self._around.event("Warning", "Failed", f"Error: {message}", self.name)
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
        state = self.state
        if terminated := state.state.get("terminated"):
            state.last = {"terminated": terminated}
        if self._started_once:
            state.restarts += 1
        self._started_once = True
        state.image_id = resolved.image_id
        state.container_id = f"hatchway://{uuid.uuid4().hex}{uuid.uuid4().hex}"
        state.ready = state.started = False
        self._around.event("Normal", "Pulled", resolved.note, self.name)
        began, began_at = loop.time(), clock.rfc3339(clock.now())
        file = self.live_log = self._around.log_file(self.name, state.restarts)
        self._ended.clear()
        output: Output | None = None
        try:
            output = await self._open_output(file)
            argv = [expand(part, environment) for part in resolved.argv]
            process = await self._around.sandbox.start(self._config(argv, environment, mounts, output))
            output.started()
            self._around.event("Normal", "Created", f"Created container: {self.name}", self.name)
            self._around.event("Normal", "Started", f"Started container {self.name}", self.name)
            state.state = {"running": {"startedAt": began_at}}
            self._around.changed()
            end, forced = await self._accompany(process, environment)
            await output.drain()
            await self._record_end(end, began_at)
        except StartError as error:
            self._start_failed(error, began_at)
            return _START_FAILED, 0.0, False
        finally:
            if output is not None:
                output.abandon()
            self._ended.set()
        return end.code, loop.time() - began, forced

    async def _accompany(self, process: Process, environment: dict[str, str]) -> tuple[Exit, bool]:
        self._attempt = attempt = Attempt(
            self._around,
            self.spec,
            self.state,
            environment,
            process,
            may_be_ready=self.kind != "init",
            started=self.initialized.set,
        )
        if self._stop_by is not None:
            attempt.end(self._stop_order(max(0.0, self._stop_by - asyncio.get_running_loop().time())))
        try:
            return await attempt.run()
        finally:
            self._attempt = None
            # It has ended already, unless the worker was cut off.
            process.kill(signal.SIGKILL)

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
        self._around.event("Warning", "Failed", f"Error: {message}", self.name)
        if self._restarts(_START_FAILED):
            self.state.last = {"terminated": ended}
            self._waiting("RunContainerError", message)
        else:
            self._terminated(ended)

    async def _record_end(self, end: Exit, began_at: str) -> None:
        message = self._around.volumes.last_words(self.name)
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
        self._terminated(ended)

    async def _last_lines(self) -> str:
        assert self.live_log is not None
        chunks = []
        try:
            async for chunk in read_log(self.live_log.path, LogOptions(tail_lines=_LAST_LINES)):
                chunks.append(chunk)
        except OSError as error:
            log.debug("no last lines of %s: %s", self.name, error)
        return b"".join(chunks)[-_LAST_BYTES:].decode("utf-8", "replace")

    def _waiting(self, reason: str, message: str) -> None:
        self.state.wait(reason, message)
        self._settle()

    def _terminated(self, ended: Object) -> None:
        self.state.state = {"terminated": ended}
        self._settle()

    def _settle(self) -> None:
        self.state.started = False
        self.state.ready = self.kind == "init" and self.state.exit_code == 0
        self._around.changed()
