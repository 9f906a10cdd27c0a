"""Probes: their thresholds, and the events and statuses that they cause."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.node import probes
from hatchway.cluster.node.probes import ProbeSettings, Result, Threshold


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_a_verdict_needs_a_number_of_equal_results(results: list[bool], successes: int, failures: int) -> None:
    threshold = Threshold(ProbeSettings(success_threshold=successes, failure_threshold=failures))
    wanted: bool | None = None
    for index, result in enumerate(results):
        need = successes if result else failures
        if index + 1 >= need and all(other == result for other in results[index + 1 - need : index + 1]):
            wanted = result
        assert threshold.observe(result) == wanted


def test_missing_settings_have_the_defaults_of_kubernetes() -> None:
    assert ProbeSettings.of({}) == ProbeSettings(0, 10, 1, 1, 3, None)
    given_all = {
        "initialDelaySeconds": 1,
        "periodSeconds": 2,
        "timeoutSeconds": 3,
        "successThreshold": 4,
        "failureThreshold": 5,
        "terminationGracePeriodSeconds": 6,
    }
    assert ProbeSettings.of(given_all) == ProbeSettings(1, 2, 3, 4, 5, 6)


async def test_watch_reports_each_verdict_once_and_ends_on_request() -> None:
    results = iter([False, True, True, False, False, False])
    verdicts: list[bool] = []
    observed: list[bool] = []

    async def check(_: object, timeout: float) -> Result:
        assert timeout == 1
        return Result(next(results))

    def verdict(success: bool, _: Result) -> bool:
        verdicts.append(success)
        return verdicts == [True, False]

    probe = {"periodSeconds": 0.001, "failureThreshold": 2}
    async with asyncio.timeout(60):
        await probes.run_probe(probe, check, lambda result: observed.append(result.success), verdict)
    assert verdicts == [True, False]
    assert observed == [False, True, True, False, False]


async def test_a_check_that_could_not_run_is_neither_a_success_nor_a_failure() -> None:
    errored = Result(False, "no such command", errored=True)
    # If a probe cannot be run, it is tried three times.
    results = iter([errored, errored, errored, errored, Result(True), errored, errored, errored, Result(False)])
    observed: list[Result] = []
    verdicts: list[bool] = []

    async def check(_: object, timeout: float) -> Result:
        return next(results)

    def verdict(success: bool, _: Result) -> bool:
        verdicts.append(success)
        return not success

    async with asyncio.timeout(60):
        await probes.run_probe({"periodSeconds": 0.001, "failureThreshold": 1}, check, observed.append, verdict)
    assert verdicts == [True, False]
    assert [result.errored for result in observed] == [True, False, True, False]
