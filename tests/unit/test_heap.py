"""Freed memory is returned to the system when the process becomes idle after work, and once more later."""

from __future__ import annotations

from hatchway.proxy import heap
from hatchway.proxy.heap import IdleTrim


def observed(*moments: tuple[float, float]) -> list[bool]:
    """Make observations at these moments (seconds, processor seconds); return for each if memory must be returned."""
    trim = IdleTrim(0.0, 0.0)
    found = []
    for now, used in moments:
        trim.observe(now, used)
        found.append(trim.is_due)
    return found


def test_memory_is_returned_after_work_when_the_process_is_idle() -> None:
    assert observed((1, 0.9), (2, 1.8), (3, 1.81), (4, 1.82)) == [False, False, True, False]


def test_memory_is_returned_once_more_after_time_outs() -> None:
    found = observed((1, 0.9), *((second, 0.9) for second in range(2, 200)))
    assert [second for second, due in enumerate(found, 1) if due] == [2, 2 + heap._LATER]


def test_memory_is_not_returned_during_work() -> None:
    assert observed(*((second, second * 0.5) for second in range(1, 30))) == [False] * 29


def test_small_amounts_of_work_are_added_up() -> None:
    found = observed(*((second, second * 0.05) for second in range(1, 25)))
    assert [second for second, due in enumerate(found, 1) if due] == [10, 20]


def test_observations_of_several_listeners_count_as_one() -> None:
    assert observed((1, 0.9), (1.1, 0.9), (2, 0.91), (2.01, 0.91)) == [False, False, True, False]
