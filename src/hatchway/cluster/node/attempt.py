"""One run of a container's process: its hooks, its probes, its end (`kuberuntime_container.go`, `pkg/kubelet/prober`)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.node import probes
from hatchway.cluster.node.runtime import ContainerConfig, Exit, Process
from hatchway.cluster.node.status import ContainerState
from hatchway.cluster.node.surroundings import Surroundings
from hatchway.kube.api import Object

# A process has at least this long after SIGTERM, even when its preStop hook has used up the pod's grace.
_LEAST_GRACE = 2.0
_PROBES: tuple[probes.Kind, ...] = ("startup", "liveness", "readiness")


@dataclass(frozen=True, slots=True)
class EndOrder:
    """Why a process is to end (the message of its event) and within how many seconds. restart: whatever the policy."""

    message: str
    grace: float
    restart: bool = False


class Attempt:
    """A started process. It keeps `state.ready` and `state.started` true and calls `started` when it counts as such."""

    def __init__(
        self,
        around: Surroundings,
        spec: Object,
        state: ContainerState,
        environment: Mapping[str, str],
        process: Process,
        *,
        may_be_ready: bool,
        started: Callable[[], None],
    ) -> None:
        self._around = around
        self._spec = spec
        self._state = state
        self._environment = dict(environment)
        self._process = process
        self._may_be_ready = may_be_ready
        self._started = started
        self._order: asyncio.Future[EndOrder] = asyncio.get_running_loop().create_future()
        self._scope: asyncio.Timeout | None = None
        self._deadline = float("inf")

    def end(self, order: EndOrder) -> None:
        """Ask for its end; the first order stands, though later ones can shorten its grace."""
        if not self._order.done():
            self._order.set_result(order)
        self._hurry(order.grace)

    @property
    def deaf(self) -> bool:
        """Whether its process would take no notice of being asked to end."""
        return not (self._spec.get("lifecycle") or {}).get("preStop") and not self._process.hears(self._stop_signal())

    def _hurry(self, grace: float) -> None:
        self._deadline = min(self._deadline, asyncio.get_running_loop().time() + grace)
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(min(self._deadline, self._scope.when() or self._deadline))

    async def run(self) -> tuple[Exit, bool]:
        """Attend to the process until it has ended: its exit, and whether it must start again in any case."""
        restart = False
        async with asyncio.TaskGroup() as group:
            exiting = group.create_task(self._process.wait())
            attending = group.create_task(self._attend())
            either: list[asyncio.Future[Any]] = [exiting, self._order]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            attending.cancel()
            if not exiting.done():
                order = self._order.result()
                restart = order.restart
                self._event("Normal", "Killing", order.message)
                self._state.ready = False
                self._around.changed()
                await self._end(exiting)
            end = await exiting
        return end, restart

    async def _end(self, exiting: asyncio.Task[Exit]) -> None:
        """preStop hook, SIGTERM, and SIGKILL when the grace is over."""
        process, loop = self._process, asyncio.get_running_loop()
        if self._deadline > loop.time():
            hook = (self._spec.get("lifecycle") or {}).get("preStop")
            signalled = False
            try:
                async with asyncio.timeout_at(self._deadline) as self._scope:
                    if hook:
                        await self._pre_stop(hook, self._deadline - loop.time())
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
                self._scope = None
        process.kill(signal.SIGKILL)
        await exiting

    def _stop_signal(self) -> int:
        wanted = (self._spec.get("lifecycle") or {}).get("stopSignal") or "SIGTERM"
        return getattr(signal, str(wanted), signal.SIGTERM)

    async def _pre_stop(self, hook: Object, grace: float) -> None:
        result = await self._checker().run_hook(hook, grace)
        if not result.success:
            self._event("Warning", "FailedPreStopHook", f"PreStopHook failed: {result.message}")

    async def _attend(self) -> None:
        """The postStart hook, then the probes, for as long as the process runs."""
        checker = self._checker()
        hook = (self._spec.get("lifecycle") or {}).get("postStart")
        if hook:
            result = await checker.run_hook(hook, float("inf"))
            if not result.success:
                self._event("Warning", "FailedPostStartHook", f"PostStartHook failed: {result.message}")
                self.end(EndOrder("FailedPostStartHook", self._around.grace()))
                return
        self._tell_of_grpc()
        startup, liveness, readiness = (self._spec.get(f"{kind}Probe") for kind in _PROBES)
        if startup:
            await self._watch("startup", startup, checker)
            if self._order.done():
                return
        self._state.started = True
        self._state.ready = not readiness and self._may_be_ready
        self._started()
        self._around.changed()
        async with asyncio.TaskGroup() as group:
            if liveness:
                group.create_task(self._watch("liveness", liveness, checker))
            if readiness:
                group.create_task(self._watch("readiness", readiness, checker))

    async def _watch(self, kind: probes.Kind, probe: Object, checker: probes.Checker) -> None:
        def observed(result: probes.Result) -> None:
            if not result.success:
                self._event("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {result.message}")

        def verdict(success: bool, _: probes.Result) -> bool:
            if kind == "readiness":
                self._state.ready = success
                self._around.changed()
                return False
            if success:
                return kind == "startup"
            grace = probes.Settings.of(probe).grace
            message = f"Container {self._spec['name']} failed {kind} probe, will be restarted"
            self.end(EndOrder(message, self._around.grace() if grace is None else grace))
            return True

        await probes.watch(probe, checker.check, observed, verdict)

    def _tell_of_grpc(self) -> None:
        for kind in _PROBES:
            if "grpc" in (self._spec.get(f"{kind}Probe") or {}):
                message = (
                    f"The gRPC {kind} probe only checks that its port accepts connections: Hatchway speaks no gRPC"
                )
                self._event("Warning", "UnsupportedProbe", message)

    def _checker(self) -> probes.Checker:
        spec, sandbox = self._spec, self._around.sandbox
        ports = {port["name"]: port["containerPort"] for port in spec.get("ports") or () if port.get("name")}

        async def execute(config: ContainerConfig) -> Process:
            return await sandbox.exec(self._process, config)

        def config(argv: list[str], output: int) -> ContainerConfig:
            return ContainerConfig(
                name=spec["name"],
                argv=argv,
                env=self._environment,
                stdout=output,
                stderr=output,
                cwd=spec.get("workingDir") or None,
            )

        return probes.Checker(pod_ip=sandbox.ip, ports=ports, dial=self._around.dial, execute=execute, config=config)

    def _event(self, type: Any, reason: str, message: str) -> None:
        self._around.event(type, reason, message, self._spec["name"])
