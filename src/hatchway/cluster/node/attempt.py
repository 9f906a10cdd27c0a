"""One attempt of a container: a single run of its process, with hooks and probes.

Behaviour: `kuberuntime_container.go`, `pkg/kubelet/prober`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hatchway.cluster.node import probes
from hatchway.cluster.node.checks import Checker
from hatchway.cluster.node.podcontext import PodContext
from hatchway.cluster.node.podstatus import ContainerState
from hatchway.cluster.runtime import ContainerConfig, ContainerProcess, Exit
from hatchway.kube.api import Object

log = logging.getLogger(__name__)

# The least number of seconds between SIGTERM and SIGKILL, when a preStop hook has used up the pod's grace period.
LEAST_GRACE = 2.0
# The environment that containerd sets for a process with a terminal (`pkg/oci/spec_opts.go`, WithTTY).
TERMINAL_ENVIRONMENT = {"TERM": "xterm"}
_PROBES: tuple[probes.ProbeKind, ...] = ("startup", "liveness", "readiness")


@dataclass(frozen=True, slots=True)
class EndOrder:
    """An order to end a process.

    message: the reason, for the event.
    grace: seconds until SIGKILL.
    restart: True to start the container again, whatever the exit code is.
    at_once: True to restart it without back-off.
    """

    message: str
    grace: float
    restart: bool = False
    at_once: bool = False


class Attempt:
    """A started process of a container. It keeps `state.ready` and `state.started` up to date.

    config: the settings with which it was started. environment: its variables, without the variables for a terminal.
    stop_signal: the number of the signal that asks it to end.
    on_post_start: called after the postStart hook, or at once if there is none.
    on_started: called when the container counts as started, after its startup probe.
    on_check: called with the kind and the result of each check of a probe.
    """

    def __init__(
        self,
        context: PodContext,
        spec: Object,
        state: ContainerState,
        config: ContainerConfig,
        process: ContainerProcess,
        *,
        environment: Mapping[str, str],
        stop_signal: int,
        may_be_ready: bool,
        on_post_start: Callable[[], None],
        on_started: Callable[[], None],
        on_check: Callable[[probes.ProbeKind, probes.Result], None],
    ) -> None:
        self._context = context
        self._spec = spec
        self._state = state
        self._config = config
        self._environment = dict(environment)
        self._stop_signal = stop_signal
        self._process = process
        self._may_be_ready = may_be_ready
        self._is_sidecar = spec.get("restartPolicy") == "Always"
        self._on_post_start = on_post_start
        self._on_started = on_started
        self._on_check = on_check
        self._group: asyncio.TaskGroup | None = None
        self._readiness: asyncio.Task[None] | None = None
        self._order: asyncio.Future[EndOrder] = asyncio.get_running_loop().create_future()
        self._scope: asyncio.Timeout | None = None
        self._deadline = float("inf")

    def end(self, order: EndOrder) -> None:
        """Order the end of the process. After the first order, further orders can only shorten the grace period."""
        if not self._order.done():
            self._order.set_result(order)
        self._shorten_deadline(order.grace)

    @property
    def ignores_stop_signal(self) -> bool:
        """Return True when the stop signal has no effect on the process and no preStop hook runs."""
        return not (self._spec.get("lifecycle") or {}).get("preStop") and not self._process.handles_signal(
            self._stop_signal
        )

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
        config = replace(
            self._config,
            argv=argv,
            env={**self._environment, **TERMINAL_ENVIRONMENT} if terminal else self._environment,
            stdout=stdout,
            stderr=stderr,
            stdin=stdin,
            terminal=terminal,
            size=size,
            mounts=[],
            processes_of=None,
        )
        return await self._context.sandbox.exec(self._process, config)

    def _shorten_deadline(self, grace: float) -> None:
        self._deadline = min(self._deadline, asyncio.get_running_loop().time() + grace)
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(min(self._deadline, self._scope.when() or self._deadline))

    async def run(self) -> tuple[Exit, EndOrder | None]:
        """Run hooks and probes until the process has ended.

        Return (exit, order). `order` is the order that ended the process; None when the process ended without one.
        """
        order = None
        async with asyncio.TaskGroup() as self._group:
            exiting = self._group.create_task(self._process.wait())
            attending = self._group.create_task(self._run_hook_and_probes())
            either: list[asyncio.Future[Any]] = [exiting, self._order]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            # Stop this task, but not the readiness probe: the process may serve requests until it ends.
            attending.cancel()
            if not exiting.done():
                order = self._order.result()
                self._event("Normal", "Killing", order.message)
                await self._end(exiting)
            if self._readiness is not None:
                self._readiness.cancel()
            end = await exiting
        return end, order

    async def _end(self, exiting: asyncio.Task[Exit]) -> None:
        """Run the preStop hook, then send the stop signal, then SIGKILL when the grace period is over."""
        process, loop = self._process, asyncio.get_running_loop()
        if self._deadline > loop.time():
            hook = (self._spec.get("lifecycle") or {}).get("preStop")
            signalled = False
            try:
                async with asyncio.timeout_at(self._deadline) as self._scope:
                    if hook:
                        await self._pre_stop(hook, self._deadline - loop.time())
                    process.kill(self._stop_signal)
                    signalled = True
                    await asyncio.shield(exiting)
                    return
            except TimeoutError:
                if not signalled:
                    # The hook has used up the grace period. The process still gets its signal and `LEAST_GRACE`
                    # seconds.
                    process.kill(self._stop_signal)
                    await asyncio.wait([exiting], timeout=LEAST_GRACE)
            finally:
                self._scope = None
        process.kill(signal.SIGKILL)
        await exiting

    async def _pre_stop(self, hook: Object, grace: float) -> None:
        result = await self._checker().run_hook(hook, grace)
        if not result.success:
            log.info("preStop hook of %s of pod %s: %s", self._spec["name"], self._context.full_name, result.message)
            self._event("Warning", "FailedPreStopHook", "PreStopHook failed")

    async def _run_hook_and_probes(self) -> None:
        """Run the postStart hook, then the probes, while the process runs."""
        checker = self._checker()
        hook = (self._spec.get("lifecycle") or {}).get("postStart")
        if hook:
            result = await checker.run_hook(hook, float("inf"))
            if not result.success:
                # The output is not put into the event: it may be secret, and more users may read events than logs.
                log.info(
                    "postStart hook of %s of pod %s: %s", self._spec["name"], self._context.full_name, result.message
                )
                self._event("Warning", "FailedPostStartHook", "PostStartHook failed")
                self.end(EndOrder("FailedPostStartHook", self._context.grace()))
                return
        self._on_post_start()
        startup, liveness, readiness = (self._spec.get(f"{kind}Probe") for kind in _PROBES)
        if startup:
            await self._watch("startup", startup, checker)
            if self._order.done():
                return
        self._state.started = True
        self._state.ready = not readiness and self._may_be_ready
        self._on_started()
        self._context.mark_changed()
        if readiness and self._group is not None:
            self._readiness = self._group.create_task(self._watch("readiness", readiness, checker))
        if liveness:
            await self._watch("liveness", liveness, checker)

    async def _watch(self, kind: probes.ProbeKind, probe: Object, checker: Checker) -> None:
        def on_result(result: probes.Result) -> None:
            self._on_check(kind, result)
            name = f"{kind.capitalize()} probe"
            if result.errored:
                why = f"{name} errored and resulted in unknown state: {result.message}"
                self._event("Warning", "Unhealthy", why)
            elif not result.success:
                self._event("Warning", "Unhealthy", f"{name} failed: {result.message}")
            elif result.warning:
                self._event("Warning", "ProbeWarning", f"{name} warning: {result.message}")

        def on_verdict(success: bool, _: probes.Result) -> bool:
            if kind == "readiness":
                self._state.ready = success
                self._context.mark_changed()
                return False
            if success:
                return kind == "startup"
            grace = probes.ProbeSettings.of(probe).grace
            restart = self._context.pod["spec"].get("restartPolicy") != "Never" or self._is_sidecar
            message = f"Container {self._spec['name']} failed {kind} probe{', will be restarted' if restart else ''}"
            self.end(EndOrder(message, self._context.grace() if grace is None else grace, restart))
            return True

        await probes.run_probe(probe, checker.check, on_result, on_verdict)

    def _checker(self) -> Checker:
        spec, sandbox = self._spec, self._context.sandbox
        ports = {port["name"]: port["containerPort"] for port in spec.get("ports") or () if port.get("name")}

        async def execute(argv: list[str], output: int) -> ContainerProcess:
            return await self.execute(argv, stdout=output, stderr=output)

        return Checker(pod_ip=sandbox.ip, ports=ports, dial=self._context.dial, execute=execute)

    def _event(self, type: Any, reason: str, message: str) -> None:
        self._context.event(type, reason, message, self._spec["name"])
