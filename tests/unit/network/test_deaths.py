"""The decision whether a node agent that has ended is started again."""

from __future__ import annotations

from hatchway.cluster.network.deaths import MOST, WITHIN, Deaths


def test_an_agent_is_started_again_unless_it_dies_repeatedly() -> None:
    now = 0.0
    deaths = Deaths(lambda: now)
    for _ in range(10):
        now += WITHIN / MOST + 1
        assert deaths.record(-9)
    now += WITHIN
    assert [deaths.record(1) for _ in range(MOST + 1)] == [True] * MOST + [False]
    now += WITHIN
    assert deaths.record(1)


def test_an_agent_that_was_told_to_end_is_not_started_again() -> None:
    assert not Deaths(lambda: 0.0).record(0)
