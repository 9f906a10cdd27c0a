"""Runs one container: starts it, and restarts it according to its restart policy.

Behaviour: `pkg/kubelet/kuberuntime/kuberuntime_manager.go`. `containerrecord.py` records states and events.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable

from hatchway.cluster.node import clock, probes
from hatchway.cluster.node.attempt import Attempt, EndOrder
from hatchway.cluster.node.backoff import BackOff
from hatchway.cluster.node.containerrecord import START_FAILED, ContainerRecord
from hatchway.cluster.node.containersecurity import CreateError
from hatchway.cluster.node.containerstreams import ContainerStreams
from hatchway.cluster.node.containeruser import container_user
from hatchway.cluster.node.env import ConfigError
from hatchway.cluster.node.followeduser import followed_user
from hatchway.cluster.node.imagemanager import LOOK_SECONDS, ImageError
from hatchway.cluster.node.logfiles import ContainerLog
from hatchway.cluster.node.podcontext import PodContext
from hatchway.cluster.node.podgroups import ContainerGroup
from hatchway.cluster.node.preparedstart import PreparedStart, prepare_start
from hatchway.cluster.node.resizing import needs_restart, same_resources
from hatchway.cluster.node.restartpolicy import ContainerKind, is_restarted
from hatchway.cluster.runtime import ContainerConfig, ContainerProcess, Exit, StartError
from hatchway.errors import ApiError
from hatchway.kube.api import Object

_CONFIG_RETRY = 10.0
_RESIZE_RETRY = 2.0


class ContainerWorker:
    """One container of a pod. An attempt is one run of its process; `run` returns after the last attempt.

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
        self._record = ContainerRecord(context, spec, kind, known)
        self.state = self._record.state
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
        self.initialized = asyncio.Event()

    # --- called by the pod worker -----------------------------------------------------------------------------------

    def is_finished(self) -> bool:
        """Return True when the container has ended and its restart policy allows no restart. Call it before `run`."""
        return self.state.exit_code is not None and not self._is_restarted(self.state.exit_code)

    def update(self, spec: Object) -> None:
        """Apply a changed spec.

        A new image restarts the container. New resources restart it only if its resize policy says so.
        """
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
        """Return True while the container runs with other resources than its node has granted."""
        return self.state.running and not same_resources(self.state.spec.get("resources"), self.state.granted)

    @property
    def ignores_stop_signal(self) -> bool:
        """Return True while the container runs and only SIGKILL can end it."""
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
        self.begin_stop(grace)
        await self._ended.wait()

    def begin_stop(self, grace: float) -> None:
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
            ended = await self._make_attempt()
            if ended is None:
                continue
            code, ran_for, order = ended
            if self._stopping or not ((order and order.restart) or self._is_restarted(code)):
                return
            self._schedule_restart(self._next_delay(ran_for, order))

    def _is_restarted(self, code: int) -> bool:
        return is_restarted(self._context.pod, self.kind, code)

    def _next_delay(self, ran_for: float, order: EndOrder | None) -> float:
        """Count an end of the container. Return the seconds before the next attempt (doBackOff).

        When a probe has ended the container, the kubelet counts the delay from the container's previous end. So the
        container waits only if its last run was shorter than the delay.
        """
        if order is not None and order.at_once:
            return 0.0
        delay = self._backoff.record_end(ran_for)
        return 0.0 if order is not None and order.restart and ran_for >= delay else delay

    def _schedule_restart(self, delay: float) -> None:
        """Record that the next attempt may begin in `delay` seconds.

        With a delay, also record and report the back-off.
        """
        self._delay_until = asyncio.get_running_loop().time() + delay
        if delay > 0:
            self._record.record_back_off(delay)

    async def _make_attempt(self) -> tuple[int, float, EndOrder | None] | None:
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
                self._record.record_missing_image(error)
                # Look for the image again soon, because it may be loaded at any time.
                self._delay_until = asyncio.get_running_loop().time() + LOOK_SECONDS
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
                    # While an image was pulled, the pod may have been deleted, or its image changed.
                    if self._stopping or start.image != self.spec.get("image", ""):
                        return None
                    return await self._start(start, end_turn)
                finally:
                    start.program.close()
        await self._not_configured(reason, message, changed)
        return None

    async def _prepare(self) -> PreparedStart:
        """Get everything that the next attempt needs. Raises ImageError, CreateError, ConfigError, ApiError."""
        start = await prepare_start(self._context, self.spec)
        # An ephemeral container joins the PID namespace of its target.
        target = self.spec.get("targetContainerName")
        if target and self._find_process(target) is None:
            start.program.close()
            raise ConfigError(f"unable to find target container {target}")
        return start

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

    async def _not_configured(self, reason: str, message: str, changed: asyncio.Event) -> None:
        self._record.record_config_error(reason, message)
        waiting = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(self._spec_changed.wait())]
        try:
            await asyncio.wait(waiting, timeout=_CONFIG_RETRY, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def _start(self, start: PreparedStart, end_turn: Callable[[], None]) -> tuple[int, float, EndOrder | None]:
        loop = asyncio.get_running_loop()
        program, users = start.program, self._context.node.runtime.users
        self._user = followed_user(self._user, self.state, program.image_id, program.privileges.user, users)
        identifier = self._record.begin_attempt(self.spec, start.program)
        began, began_at = loop.time(), clock.rfc3339(clock.now())
        file = self.live_log = self._context.log_file(self.name, self.state.restarts)
        self._ended.clear()
        streams: ContainerStreams | None = None
        try:
            streams = self._open_streams(file)
            self.group.make(self.spec, identifier)
            config = start.config(
                self._context,
                self.spec,
                streams,
                group=self.group.path,
                user=self._user,
                processes_of=self._find_process(self.spec.get("targetContainerName") or ""),
            )
            process = await self._context.sandbox.start(config)
            streams.started(process)
            self._record.report_started(container_user(process.pid, config.privileges.user))

            def on_post_start() -> None:
                # As in Kubernetes, a container counts as running only after the postStart hook. Then the pod's next
                # container starts.
                self._record.record_running(began_at)
                end_turn()

            end, order = await self._follow_process(process, start, config, streams, on_post_start)
            await streams.drain()
            await self._record.record_end(end, self.group.end_reason(end), began_at, self.spec, file)
        except StartError as error:
            self._record.record_start_failure(error, began_at, is_restarted=self._is_restarted(START_FAILED))
            return START_FAILED, 0.0, None
        finally:
            if streams is not None:
                streams.abandon()
            await self.group.end()
            self._ended.set()
        return end.code, loop.time() - began, order

    async def _follow_process(
        self,
        process: ContainerProcess,
        start: PreparedStart,
        config: ContainerConfig,
        streams: ContainerStreams,
        on_post_start: Callable[[], None],
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
            on_post_start=on_post_start,
            on_started=self.initialized.set,
            on_check=self._count,
        )
        if self._stop_by is not None:
            attempt.end(self._stop_order(max(0.0, self._stop_by - asyncio.get_running_loop().time())))
        process.new_user.add_done_callback(lambda done: self._restart_as(done, attempt))
        try:
            return await attempt.run()
        finally:
            self._attempt = self.process = self.streams = None
            # The process has already ended, unless the worker was cancelled.
            process.kill(signal.SIGKILL)

    def _restart_as(self, found: asyncio.Future[str], attempt: Attempt) -> None:
        """Restart the container as the user to which its start script has changed (`ContainerProcess.new_user`)."""
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
