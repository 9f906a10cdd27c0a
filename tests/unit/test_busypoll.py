"""When the loop is kept awake for the next message, and when it is left to sleep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from hatchway.proxy import busypoll
from hatchway.proxy.busypoll import BusyPoll


class Loop:
    """A loop whose turns and clock the test controls."""

    def __init__(self) -> None:
        self.now = 1.0
        self.soon: list[Callable[[], None]] = []
        self.later: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None], *args: Any) -> None:
        self.soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.later.append(callback)

    def turn(self) -> None:
        due, self.soon = self.soon, []
        for callback in due:
            callback()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr(busypoll, "perf_counter", lambda: loop.now)
    return loop


def after(loop: Loop, poll: BusyPoll, *microseconds: float) -> None:
    """Messages, each so long after the one before; the loop turns after each."""
    for pause in microseconds:
        loop.now += pause * 1e-6
        seen(poll)
        loop.turn()


def seen(poll: BusyPoll) -> None:
    """As a message tells it (`proxy/splice.py`)."""
    poll.new += 1
    if not poll.awake:
        poll.begin()


def make(loop: Loop) -> BusyPoll:
    return BusyPoll(cast(asyncio.AbstractEventLoop, loop))


def test_messages_that_follow_each_other_slowly_cost_nothing(loop: Loop) -> None:
    after(loop, make(loop), 0, 60, 1000, 51)
    assert not loop.soon


def test_it_stays_awake_while_they_come_quickly_and_goes_to_sleep_after_the_last(loop: Loop) -> None:
    poll = make(loop)
    after(loop, poll, 0, 30, 30, 40)
    assert loop.soon
    for _ in range(4):
        loop.now += 10e-6
        loop.turn()
        assert loop.soon
    loop.now += 11e-6
    loop.turn()
    assert not loop.soon


def test_a_turn_that_brings_several_ends_it_for_a_while(loop: Loop) -> None:
    poll = make(loop)
    after(loop, poll, 0, 10)
    assert loop.soon
    for _ in range(3):
        seen(poll)
    loop.turn()
    after(loop, poll, 10, 10)
    assert not loop.soon
    loop.later.pop()()
    after(loop, poll, 10, 10)
    assert loop.soon
