"""Records a container's changes of state, in its status and as events.

The states, reasons and events come from `pkg/kubelet/kuberuntime` (`kuberuntime_manager.go`,
`kuberuntime_container.go`).
"""

from __future__ import annotations

import uuid

from hatchway.cluster.node import clock
from hatchway.cluster.node.hostprograms import HOST_PROGRAMS_ID
from hatchway.cluster.node.imagemanager import ImageError
from hatchway.cluster.node.logfiles import ContainerLog
from hatchway.cluster.node.logreader import last_lines
from hatchway.cluster.node.podcontext import PodContext
from hatchway.cluster.node.podstatus import ContainerState
from hatchway.cluster.node.programs import ContainerProgram
from hatchway.cluster.node.restartpolicy import ContainerKind
from hatchway.cluster.runtime import Exit, StartError
from hatchway.kube.api import Object

START_FAILED = 128
_UNKNOWN = 255


class ContainerRecord:
    """Keeps a container's state up to date, and reports events about the container.

    known: the containerStatus in the API; None when it has none.
    state: the container's part of the pod's status.
    """

    def __init__(self, context: PodContext, spec: Object, kind: ContainerKind, known: Object | None) -> None:
        self._context = context
        self._name: str = spec["name"]
        self._kind = kind
        self.state = ContainerState.restore(spec, known)
        if self.state.running:
            # The process has ended together with an earlier agent.
            began = self.state.state["running"].get("startedAt")
            ended = self._end(_UNKNOWN, "Unknown", began)
            self.state.state = {"terminated": {key: value for key, value in ended.items() if value}}
        self._started_once = bool(self.state.state.get("terminated") or self.state.last)

    def begin_attempt(self, spec: Object, program: ContainerProgram) -> str:
        """Record that an attempt begins with this spec and program. Return the new container's ID, without scheme."""
        state = self.state
        if terminated := state.state.get("terminated"):
            state.last = {"terminated": terminated}
        if self._started_once:
            state.restarts += 1
        self._started_once = True
        state.spec = spec
        state.image, state.image_id = program.image, program.image_id
        identifier = f"{uuid.uuid4().hex}{uuid.uuid4().hex}"
        state.container_id = f"hatchway://{identifier}"
        state.ready = state.started = False
        return identifier

    def report_started(self, user: Object) -> None:
        """Record the user of the started process, a core/v1 ContainerUser, and report the start as events."""
        self.state.user = user
        self._context.event("Normal", "Created", "Container created", self._name)
        self._context.event("Normal", "Started", "Container started", self._name)

    def record_running(self, began_at: str) -> None:
        """Record that the container runs since `began_at`, an RFC 3339 time."""
        self.state.state = {"running": {"startedAt": began_at}}
        self._context.mark_changed()

    def record_missing_image(self, error: ImageError) -> None:
        """Record that the image cannot be used now."""
        self._wait(error.reason, str(error))
        if error.is_new:
            self._context.event("Warning", "Failed", f"Error: {error.reason}", self._name)
            if error.reason == "ErrImagePull" and self.state.image_id == HOST_PROGRAMS_ID:
                # An earlier release, or --host-programs, ran the command as a program of this machine.
                message = (
                    "The container ran with this machine's programs before. Now only containers of the image "
                    "hatchway/host do so; `hatchway up --host-programs` allows it for every image with a command"
                )
                self._context.event("Warning", "HostProgramsOff", message, self._name)

    def record_config_error(self, reason: str, message: str) -> None:
        """Record that the container cannot be created with its configuration."""
        self._wait(reason, message)
        self._context.event("Warning", "Failed", f"Error: {message}", self._name)

    def record_back_off(self, delay: float) -> None:
        """Record that the container is started again in `delay` seconds."""
        text = f"{int(delay // 60)}m{int(delay % 60)}s" if delay >= 60 else f"{int(delay)}s"
        pod = self._context.full_name
        self._wait("CrashLoopBackOff", f"back-off {text} restarting failed container={self._name} pod={pod}")
        message = f"Back-off restarting failed container {self._name} in pod {pod}"
        self._context.event("Warning", "BackOff", message, self._name)

    def record_start_failure(self, error: StartError, began_at: str, *, is_restarted: bool) -> None:
        """Record that no process could be started. began_at: the attempt's start, an RFC 3339 time."""
        message = f'failed to start container "{self._name}": {error}'
        ended = self._end(START_FAILED, "StartError", began_at, message)
        self._context.event("Warning", "Failed", f"Error: {message}", self._name)
        if is_restarted:
            self.state.last = {"terminated": ended}
            self._wait("RunContainerError", message)
        else:
            self._terminate(ended)

    async def record_end(self, end: Exit, reason: str, began_at: str, spec: Object, file: ContainerLog) -> None:
        """Record that the process has ended.

        began_at: its start, an RFC 3339 time. file: its log, which can be its termination message.
        """
        message = self._context.volumes.read_termination_log(self._name)
        if not message and end.code and spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            message = await last_lines(file.path)
        self._terminate(self._end(end.code, reason, began_at, message))

    def _end(self, code: int, reason: str, began_at: str | None, message: str = "") -> Object:
        """Return a core/v1 ContainerStateTerminated."""
        return {
            "exitCode": code,
            "reason": reason,
            **({"message": message} if message else {}),
            "startedAt": began_at,
            "finishedAt": clock.rfc3339(clock.now()),
            "containerID": self.state.container_id,
        }

    def _wait(self, reason: str, message: str) -> None:
        self.state.wait(reason, message)
        self._settle()

    def _terminate(self, ended: Object) -> None:
        self.state.state = {"terminated": ended}
        self._settle()

    def _settle(self) -> None:
        self.state.started = False
        self.state.ready = self._kind == "init" and self.state.exit_code == 0
        self._context.mark_changed()
