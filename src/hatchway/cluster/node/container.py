"""Runs one container: starts it, and restarts it according to its restart policy.

The states, reasons and events are those of `pkg/kubelet/kuberuntime` (`kuberuntime_manager.go`,
`kuberuntime_container.go`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from hatchway.cluster.node import clock, probes
from hatchway.cluster.node.attempt import TERMINAL_ENVIRONMENT, Attempt, EndOrder
from hatchway.cluster.node.backoff import BackOff
from hatchway.cluster.node.containersecurity import CreateError
from hatchway.cluster.node.containerstreams import ContainerStreams
from hatchway.cluster.node.containeruser import container_user
from hatchway.cluster.node.env import ConfigError
from hatchway.cluster.node.followeduser import followed_user
from hatchway.cluster.node.imagemanager import LOOK_SECONDS, ImageError
from hatchway.cluster.node.images import HOST_PROGRAMS_ID
from hatchway.cluster.node.logfiles import ContainerLog
from hatchway.cluster.node.logreader import last_lines
from hatchway.cluster.node.oomscore import oom_score
from hatchway.cluster.node.podcontext import PodContext
from hatchway.cluster.node.podgroups import ContainerGroup
from hatchway.cluster.node.podstatus import ContainerState
from hatchway.cluster.node.programs import PreparedStart, prepare_program
from hatchway.cluster.node.resizing import needs_restart, same_resources
from hatchway.cluster.runtime import ContainerConfig, ContainerProcess, Exit, StartError
from hatchway.errors import ApiError
from hatchway.kube.api import Object

log = logging.getLogger(__name__)

ContainerKind = Literal["init", "sidecar", "main", "ephemeral"]

_CONFIG_RETRY = 10.0
_RESIZE_RETRY = 2.0
_UNKNOWN = 255
_START_FAILED = 128


class ContainerWorker:
    """One container of a pod. An attempt is one run of its process; `run` returns after the last one.

    state: the container's part of the pod's status.
    live_log: the log of the current or last attempt of this agent.
    process: the running process. group: its control group.
    streams: its standard streams.
    probed: the number of results of checks, by kind of probe and result.
    find_process: returns the process of a running container of the pod by its name (targetContainerName).
    """

    def __init__(
        self,
        context: PodContext,
        spec: Object,
        kind: ContainerKind,
        known: Object | None,
        *,
        find_process: Callable[[str], ContainerProcess | None] = lambda _: None,
    ) -> None:
        self._context = context
        self._find_process = find_process
        self.spec = spec
        self.kind = kind
        self.name: str = spec["name"]
        self.state = ContainerState.restore(spec, known)
        self.live_log: ContainerLog | None = None
        self.process: ContainerProcess | None = None
        self.streams: ContainerStreams | None = None
        self.probed: Counter[tuple[probes.ProbeKind, str]] = Counter()
        self._attempt: Attempt | None = None
        self._user = ""
        self.group = ContainerGroup(context.groups)
        self._backoff = BackOff()
        self._spec_changed = asyncio.Event()
        self._stop_by: float | None = None
        self._ended = asyncio.Event()
        self._ended.set()
        self._delay_until = 0.0
        self._started_once = False
        self.initialized = asyncio.Event()
        self._restore()

    def _restore(self) -> None:
        """If the status says that the process runs, record its end: it has ended together with an earlier agent."""
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

    # --- called by the pod worker -----------------------------------------------------------------------------------

    def is_finished(self) -> bool:
        """Return True before `run` when it has ended and its restart policy does not start it again."""
        return self.state.exit_code is not None and not self._restarts(self.state.exit_code)

    def update(self, spec: Object) -> None:
        """Apply a changed spec. A new image restarts the container; new resources do if its resize policy says so."""
        self.state.granted = spec.get("resources") or {}
        if spec.get("image") == self.spec.get("image"):
            self.spec = spec
            self._resize()
            return
        self.spec = self.state.spec = spec
        self.state.image = spec.get("image", "")
        self._spec_changed.set()
        if self._attempt is not None:
            message = f"Container {self.name} definition changed, will be restarted"
            self._attempt.end(EndOrder(message, self._context.grace(), restart=True, at_once=True))

    def _resize(self) -> None:
        """Let changed resources take effect: at once, or by a restart."""
        former = self.state.spec.get("resources")
        if same_resources(former, self.spec.get("resources")):
            return
        if self._attempt is None or not needs_restart(self.spec, former):
            if self.group.resize(self.spec):
                self.state.spec = self.spec
            else:
                asyncio.get_running_loop().call_later(_RESIZE_RETRY, self._resize_later)
            return
        message = f"Container {self.name} resize requires restart"
        self._attempt.end(EndOrder(message, self._context.grace(), restart=True, at_once=True))

    def _resize_later(self) -> None:
        if self._attempt is not None:
            self._resize()
            self._context.mark_changed()

    @property
    def is_resizing(self) -> bool:
        """Return True while it runs with other resources than it was granted."""
        return self.state.running and not same_resources(self.state.spec.get("resources"), self.state.granted)

    @property
    def ignores_stop_signal(self) -> bool:
        """Return True while it runs and only SIGKILL can end it."""
        return self._attempt is not None and self._attempt.ignores_stop_signal

    async def execute(
        self,
        argv: list[str],
        *,
        stdin: int = -1,
        stdout: int = -1,
        stderr: int = -1,
        terminal: bool = False,
        size: tuple[int, int] | None = None,
    ) -> ContainerProcess:
        """Start another process in the container, with its environment and directory. Raises StartError.

        stdin, stdout, stderr: descriptors.
        terminal: True to use a terminal in place of the descriptors.
        size: the terminal's size, if known.
        """
        attempt = self._attempt
        if attempt is None:
            raise StartError("the container is not running")
        return await attempt.execute(argv, stdin=stdin, stdout=stdout, stderr=stderr, terminal=terminal, size=size)

    async def stop(self, grace: float) -> None:
        """End the container within `grace` seconds, do not start it again, and wait until it has ended."""
        self.hurry(grace)
        await self._ended.wait()

    def hurry(self, grace: float) -> None:
        """End the container within `grace` seconds, or sooner if that was ordered before, and do not start it again."""
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

    # --- attempts ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start the container, and restart it according to its restart policy. When cancelled, kill it at once."""
        while not self._stopping:
            ended = await self._try()
            if ended is None:
                continue
            code, ran_for, order = ended
            if self._stopping or not ((order and order.restart) or self._restarts(code)):
                return
            self._await_restart(self._delay(ran_for, order))

    def _restarts(self, code: int) -> bool:
        policy = self._context.pod["spec"].get("restartPolicy") or "Always"
        if self.kind == "sidecar":
            return True
        if self.kind == "init":
            return code != 0 and policy != "Never"
        if self.kind == "ephemeral":
            return False
        return policy == "Always" or (policy == "OnFailure" and code != 0)

    def _delay(self, ran_for: float, order: EndOrder | None) -> float:
        """Return the seconds before the next attempt (doBackOff).

        The kubelet counts the delay from the container's previous end. So a container that was ended by a probe waits
        only if it has run for a short time.
        """
        if order is not None and order.at_once:
            return 0.0
        delay = self._backoff.ended(ran_for)
        return 0.0 if order is not None and order.restart and ran_for >= delay else delay

    def _await_restart(self, delay: float) -> None:
        """Record that the next attempt may begin in `delay` seconds. If that is not 0, set the status and report it."""
        self._delay_until = asyncio.get_running_loop().time() + delay
        if delay <= 0:
            return
        text = f"{int(delay // 60)}m{int(delay % 60)}s" if delay >= 60 else f"{int(delay)}s"
        self._waiting(
            "CrashLoopBackOff",
            f"back-off {text} restarting failed container={self.name} pod={self._context.full_name}",
        )
        self._context.event(
            "Warning",
            "BackOff",
            f"Back-off restarting failed container {self.name} in pod {self._context.full_name}",
            self.name,
        )

    async def _try(self) -> tuple[int, float, EndOrder | None] | None:
        """Make one attempt.

        Returns (exit code, seconds it ran, the order that ended it); None when the container cannot be started yet.
        """
        await self._pause(self._delay_until - asyncio.get_running_loop().time())
        changed = self._context.sources_changed
        async with self._context.turn() as end_turn:
            if self._stopping:
                return None
            try:
                start = await self._prepare()
            except ImageError as error:
                self._no_image(error)
                return None
            except CreateError as error:
                reason, message = "CreateContainerError", str(error)
            except (ConfigError, ApiError) as error:
                reason, message = (
                    "CreateContainerConfigError",
                    error.message if isinstance(error, ApiError) else str(error),
                )
            else:
                try:
                    # While an image was pulled, the pod may have been deleted, or given another image.
                    if self._stopping or start.image != self.spec.get("image", ""):
                        return None
                    return await self._start(start, end_turn)
                finally:
                    start.program.close()
        await self._not_configured(reason, message, changed)
        return None

    async def _prepare(self) -> PreparedStart:
        """Get everything that the next attempt needs. Raises ImageError, CreateError, ConfigError, ApiError."""
        spec = self.spec
        program = await prepare_program(self._context, spec)
        try:
            own = await self._context.environment(spec)
            mounts = self._context.prepare_mounts(spec, program.variables(own))
            self._target()
            return PreparedStart(spec.get("image", ""), program, program.argv(own), {**program.base, **own}, mounts)
        except BaseException:
            program.close()
            raise

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

    def _target(self) -> ContainerProcess | None:
        """Return the process whose PID namespace an ephemeral container joins. Raises ConfigError."""
        name = self.spec.get("targetContainerName")
        process = self._find_process(name) if name else None
        if name and process is None:
            raise ConfigError(f"unable to find target container {name}")
        return process

    def _no_image(self, error: ImageError) -> None:
        """Record that the image cannot be used now. It is looked for again soon, since it may be loaded at any time."""
        self._waiting(error.reason, str(error))
        if error.is_new:
            self._context.event("Warning", "Failed", f"Error: {error.reason}", self.name)
            if error.reason == "ErrImagePull" and self.state.image_id == HOST_PROGRAMS_ID:
                # Clusters of earlier releases, and those with --host-programs, ran it.
                message = (
                    "It ran with this machine's programs before. Now the image hatchway/host does so; after "
                    "`hatchway up --host-programs` every image with a command"
                )
                self._context.event("Warning", "HostProgramsOff", message, self.name)
        self._delay_until = asyncio.get_running_loop().time() + LOOK_SECONDS

    async def _not_configured(self, reason: str, message: str, changed: asyncio.Event) -> None:
        self._waiting(reason, message)
        self._context.event("Warning", "Failed", f"Error: {message}", self.name)
        waiting = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(self._spec_changed.wait())]
        try:
            await asyncio.wait(waiting, timeout=_CONFIG_RETRY, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def _start(self, start: PreparedStart, end_turn: Callable[[], None]) -> tuple[int, float, EndOrder | None]:
        loop = asyncio.get_running_loop()
        state = self.state
        if terminated := state.state.get("terminated"):
            state.last = {"terminated": terminated}
        if self._started_once:
            state.restarts += 1
        self._started_once = True
        state.spec = self.spec
        found, users = start.program, self._context.node.runtime.users
        self._user = followed_user(self._user, state, found.image_id, found.privileges.user, users)
        state.image, state.image_id = start.program.image, start.program.image_id
        state.container_id = f"hatchway://{uuid.uuid4().hex}{uuid.uuid4().hex}"
        state.ready = state.started = False
        began, began_at = loop.time(), clock.rfc3339(clock.now())
        file = self.live_log = self._context.log_file(self.name, state.restarts)
        self._ended.clear()
        streams: ContainerStreams | None = None
        try:
            streams = self._open_streams(file)
            self.group.make(self.spec, state.container_id.removeprefix("hatchway://"))
            config = self._config(start, streams)
            process = await self._context.sandbox.start(config)
            state.user = container_user(process.pid, config.privileges.user)
            streams.started(process)
            self._context.event("Normal", "Created", "Container created", self.name)
            self._context.event("Normal", "Started", "Container started", self.name)

            def posted() -> None:
                # As in Kubernetes, a container counts as running, and the next one starts, after its postStart hook.
                state.state = {"running": {"startedAt": began_at}}
                self._context.mark_changed()
                end_turn()

            end, order = await self._accompany(process, start, config, streams, posted)
            await streams.drain()
            await self._record_end(end, began_at)
        except StartError as error:
            self._start_failed(error, began_at)
            return _START_FAILED, 0.0, None
        finally:
            if streams is not None:
                streams.abandon()
            await self.group.end()
            self._ended.set()
        return end.code, loop.time() - began, order

    async def _accompany(
        self,
        process: ContainerProcess,
        start: PreparedStart,
        config: ContainerConfig,
        streams: ContainerStreams,
        posted: Callable[[], None],
    ) -> tuple[Exit, EndOrder | None]:
        self.process, self.streams = process, streams
        self._attempt = attempt = Attempt(
            self._context,
            self.spec,
            self.state,
            config,
            process,
            environment=start.environment,
            stop_signal=start.program.stop_signal,
            may_be_ready=self.kind not in ("init", "ephemeral"),
            posted=posted,
            started=self.initialized.set,
            counted=self._count,
        )
        if self._stop_by is not None:
            attempt.end(self._stop_order(max(0.0, self._stop_by - asyncio.get_running_loop().time())))
        process.new_user.add_done_callback(lambda done: self._begin_as(done, attempt))
        try:
            return await attempt.run()
        finally:
            self._attempt = self.process = self.streams = None
            # The process has already ended, unless the worker was cancelled.
            process.kill(signal.SIGKILL)

    def _begin_as(self, found: asyncio.Future[str], attempt: Attempt) -> None:
        """Start the container again as the user that its image wants to be (`ContainerProcess.new_user`)."""
        if self._attempt is attempt and not self._stopping:
            self._user = found.result()
            message = f"Container {self.name} goes on as user {self._user}, will be restarted as this user"
            attempt.end(EndOrder(message, 0.0, restart=True, at_once=True))

    def _count(self, kind: probes.ProbeKind, result: probes.Result) -> None:
        self.probed[kind, "unknown" if result.errored else "successful" if result.success else "failed"] += 1

    def _open_streams(self, file: ContainerLog) -> ContainerStreams:
        try:
            return ContainerStreams(
                file, has_input=bool(self.spec.get("stdin")), has_terminal=bool(self.spec.get("tty"))
            )
        except OSError as error:
            raise StartError(f"cannot make the container's pipes: {error.strerror}") from error

    def _config(self, start: PreparedStart, streams: ContainerStreams) -> ContainerConfig:
        security = self.spec.get("securityContext") or {}
        return ContainerConfig(
            name=self.name,
            argv=start.argv,
            env={**start.environment, **TERMINAL_ENVIRONMENT} if streams.has_terminal else start.environment,
            stdout=streams.stdout,
            stderr=streams.stderr,
            stdin=streams.stdin,
            terminal=streams.has_terminal,
            cwd=start.program.cwd or None,
            mounts=start.mounts,
            read_only_root=bool(security.get("readOnlyRootFilesystem")),
            oom_score=oom_score(self._context.pod, self.spec, self._context.node.allocatable),
            processes_of=self._find_process(self.spec.get("targetContainerName") or ""),
            root=start.program.root,
            privileges=replace(start.program.privileges, user=self._user or start.program.privileges.user),
            group=self.group.path,
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
        self._context.event("Warning", "Failed", f"Error: {message}", self.name)
        if self._restarts(_START_FAILED):
            self.state.last = {"terminated": ended}
            self._waiting("RunContainerError", message)
        else:
            self._terminated(ended)

    async def _record_end(self, end: Exit, began_at: str) -> None:
        message = self._context.volumes.read_termination_log(self.name)
        if not message and end.code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            assert self.live_log is not None
            message = await last_lines(self.live_log.path)
        ended = {
            "exitCode": end.code,
            "reason": self.group.end_reason(end),
            "message": message,
            "startedAt": began_at,
            "finishedAt": clock.rfc3339(clock.now()),
            "containerID": self.state.container_id,
        }
        if not message:
            del ended["message"]
        self._terminated(ended)

    def _waiting(self, reason: str, message: str) -> None:
        self.state.wait(reason, message)
        self._settle()

    def _terminated(self, ended: Object) -> None:
        self.state.state = {"terminated": ended}
        self._settle()

    def _settle(self) -> None:
        self.state.started = False
        self.state.ready = self.kind == "init" and self.state.exit_code == 0
        self._context.mark_changed()
