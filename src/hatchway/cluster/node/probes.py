"""The state machine of startup, readiness and liveness probes (`pkg/kubelet/prober/worker.go`).

It does no I/O itself: the caller passes the function that performs a check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from hatchway.kube.api import Object

ProbeKind = Literal["startup", "readiness", "liveness"]

# The number of attempts when a check cannot be performed (maxProbeRetries).
_TRIES = 3


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """The fields of a core/v1 Probe without its handler; times in seconds."""

    initial_delay: float = 0
    period: float = 10
    timeout: float = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    grace: int | None = None

    @classmethod
    def of(cls, probe: Object) -> ProbeSettings:
        """Return the settings of a probe. Fields that are missing or 0 get their defaults."""
        return cls(
            initial_delay=probe.get("initialDelaySeconds") or 0,
            period=probe.get("periodSeconds") or 10,
            timeout=probe.get("timeoutSeconds") or 1,
            success_threshold=probe.get("successThreshold") or 1,
            failure_threshold=probe.get("failureThreshold") or 3,
            grace=probe.get("terminationGracePeriodSeconds"),
        )


class Threshold:
    """Counts equal results in a row, and changes the verdict when a threshold is reached.

    verdict: True for success, False for failure; None until a threshold is reached for the first time.
    """

    def __init__(self, settings: ProbeSettings) -> None:
        self._settings = settings
        self._last: bool | None = None
        self._run = 0
        self.verdict: bool | None = None

    def observe(self, success: bool) -> bool | None:
        """Count one result and return the verdict."""
        self._run = self._run + 1 if success == self._last else 1
        self._last = success
        settings = self._settings
        if self._run >= (settings.success_threshold if success else settings.failure_threshold):
            self.verdict = success
        return self.verdict


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check.

    message: the text of the event.
    warning: True for a success that is reported as an event.
    errored: True when the check could not be performed, so that it is neither success nor failure.
    """

    success: bool
    message: str = ""
    warning: bool = False
    errored: bool = False


async def run_probe(
    probe: Object,
    check: Callable[[Object, float], Awaitable[Result]],
    on_result: Callable[[Result], None],
    on_verdict: Callable[[bool, Result], bool],
) -> None:
    """Run the checks of a probe until `on_verdict` returns True.

    on_result: called with each result.
    on_verdict: called with the first verdict and after each change of the verdict; returns True to stop the probe.
    """
    settings = ProbeSettings.of(probe)
    threshold = Threshold(settings)
    loop = asyncio.get_running_loop()
    await asyncio.sleep(settings.initial_delay)
    due = loop.time()
    before: bool | None = None
    while True:
        result = await _check(probe, check, settings.timeout)
        on_result(result)
        now = before if result.errored else threshold.observe(result.success)
        if now is not None and now != before:
            before = now
            if on_verdict(now, result):
                return
        due = max(due + settings.period, loop.time())
        await asyncio.sleep(due - loop.time())


async def _check(probe: Object, check: Callable[[Object, float], Awaitable[Result]], timeout: float) -> Result:
    for _ in range(_TRIES - 1):
        result = await check(probe, timeout)
        if not result.errored:
            return result
    return await check(probe, timeout)
