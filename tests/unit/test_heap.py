"""Freed memory is given back when the process comes to rest after work, and once later."""

from __future__ import annotations

from hatchway.proxy import heap
from hatchway.proxy.heap import IdleTrim


def observed(*moments: tuple[float, float]) -> list[bool]:
    """For each observation, at (seconds, processor seconds): True if memory must be given back."""
    trim = IdleTrim(0.0, 0.0)
    found = []
    for now, used in moments:
        trim.observe(now, used)
        found.append(trim.is_due)
    return found


def test_after_work_when_at_rest() -> None:
    assert observed((1, 0.9), (2, 1.8), (3, 1.81), (4, 1.82)) == [False, False, True, False]


def test_once_more_when_time_outs_have_passed() -> None:
    found = observed((1, 0.9), *((second, 0.9) for second in range(2, 200)))
    assert [second for second, due in enumerate(found, 1) if due] == [2, 2 + heap._LATER]


def test_not_while_it_works() -> None:
    assert observed(*((second, second * 0.5) for second in range(1, 30))) == [False] * 29


def test_little_work_is_not_worth_it_but_adds_up() -> None:
    found = observed(*((second, second * 0.05) for second in range(1, 25)))
    assert [second for second, due in enumerate(found, 1) if due] == [10, 20]


def test_several_listeners_of_one_process_look_as_one() -> None:
    assert observed((1, 0.9), (1.1, 0.9), (2, 0.91), (2.01, 0.91)) == [False, False, True, False]
