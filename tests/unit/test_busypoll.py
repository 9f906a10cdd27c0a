"""Busy polling: the loop stays awake for the next message if messages follow each other quickly."""

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
    """Receive messages at these intervals, and run one turn of the loop after each message."""
    for pause in microseconds:
        loop.now += pause * 1e-6
        seen(poll)
        loop.turn()


def seen(poll: BusyPoll) -> None:
    """Do what `proxy/splice.py` does when it receives a message."""
    poll.new += 1
    if not poll.awake:
        poll.begin()


def make(loop: Loop) -> BusyPoll:
    return BusyPoll(cast(asyncio.AbstractEventLoop, loop))


def test_slow_messages_do_not_keep_the_loop_awake(loop: Loop) -> None:
    after(loop, make(loop), 0, 60, 1000, 51)
    assert not loop.soon


def test_quick_messages_keep_the_loop_awake_until_a_pause(loop: Loop) -> None:
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


def test_several_messages_in_one_turn_end_busy_polling_for_a_while(loop: Loop) -> None:
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
