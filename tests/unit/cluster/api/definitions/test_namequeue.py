"""The queue of names: one attempt at a time for a name, retries with growing pauses, and log lines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from hatchway.cluster.api.definitions.namequeue import NameQueue
from hatchway.errors import ApiError


class Work:
    """Handles names. outcomes: for a name, the results of its calls: an exception, or seconds until the next call."""

    def __init__(self, **outcomes: list[BaseException | float | None]) -> None:
        self.outcomes = outcomes
        self.handled: list[str] = []
        self.running: list[str] = []
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._changed = asyncio.Condition()

    async def handle(self, name: str) -> float | None:
        assert name not in self.running
        self.running.append(name)
        self.most = max(self.most, len(self.running))
        await self._notify()
        try:
            await self.gate.wait()
            left = self.outcomes.get(name)
            outcome = left.pop(0) if left else None
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome
        finally:
            self.running.remove(name)
            self.handled.append(name)
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(condition)


@pytest.fixture
async def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Shorten the event loop's timers to 0; return a list that collects their intended delays, in seconds."""
    loop, found = asyncio.get_running_loop(), list[float]()

    def call_later(delay: float, callback: Callable[..., object], *args: object) -> asyncio.Handle:
        found.append(delay)
        return loop.call_soon(callback, *args)

    monkeypatch.setattr(loop, "call_later", call_later)
    return found


@asynccontextmanager
async def started(queue: NameQueue) -> AsyncIterator[NameQueue]:
    queue.start()
    try:
        yield queue
    finally:
        await queue.aclose()


async def test_names_are_handled_in_their_order_without_duplicates() -> None:
    work = Work()
    queue = NameQueue("things", work.handle)
    for name in ("b", "a", "b", "c"):
        queue.add(name)
    async with started(queue):
        await work.until(lambda: len(work.handled) == 3)
    assert work.handled == ["b", "a", "c"]
    assert work.most == 1


async def test_a_name_that_is_added_while_it_is_handled_is_handled_once_more() -> None:
    work = Work()
    work.gate.clear()
    async with started(NameQueue("things", work.handle, at_once=3)) as queue:
        queue.add("a")
        await work.until(lambda: work.running == ["a"])
        for _ in range(3):
            queue.add("a")
        work.gate.set()
        await work.until(lambda: len(work.handled) == 2)
        queue.add("b")
        await work.until(lambda: "b" in work.handled)
    assert work.handled == ["a", "a", "b"]


async def test_several_names_are_handled_at_once_up_to_the_limit() -> None:
    work = Work()
    work.gate.clear()
    async with started(NameQueue("things", work.handle, at_once=2)) as queue:
        for name in ("a", "b", "c"):
            queue.add(name)
        await work.until(lambda: len(work.running) == 2)
        work.gate.set()
        await work.until(lambda: len(work.handled) == 3)
    assert work.most == 2


async def test_every_failure_is_retried_after_a_longer_pause_and_does_not_stop_other_names(
    pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(a=[RuntimeError("broken"), ApiError(500, "InternalError", "no disk"), asyncio.CancelledError()])
    with caplog.at_level(logging.WARNING):
        async with started(NameQueue("things", work.handle)) as queue:
            queue.add("a")
            queue.add("b")
            await work.until(lambda: len(work.handled) == 5)
    assert work.handled == ["a", "b", "a", "a", "a"]
    assert pauses == [0.5, 1, 2]
    assert [one.getMessage() for one in caplog.records] == ["things a", "things a: no disk", "things a: cancelled"]
    assert "RuntimeError: broken" in caplog.text


async def test_the_pause_has_a_limit_and_a_success_ends_it(pauses: list[float]) -> None:
    fault = RuntimeError("broken")
    work = Work(a=[fault, fault, fault, None, fault])
    async with started(NameQueue("things", work.handle, first_pause=2, longest_pause=3)) as queue:
        queue.add("a")
        await work.until(lambda: len(work.handled) == 4)
        queue.add("a")
        await work.until(lambda: len(work.handled) == 6)
    assert pauses == [2, 3, 3, 2]


async def test_conflicts_and_missing_objects_are_retried_without_a_log_line(
    pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(a=[ApiError(409, "Conflict", "changed"), ApiError(404, "NotFound", "gone")])
    with caplog.at_level(logging.WARNING):
        async with started(NameQueue("things", work.handle)) as queue:
            queue.add("a")
            await work.until(lambda: len(work.handled) == 3)
    assert pauses == [0.5, 1]
    assert not caplog.records


async def test_an_unfinished_name_is_handled_again_after_its_delay_or_when_it_is_added() -> None:
    work = Work(a=[0.001, 3600.0])
    async with started(NameQueue("things", work.handle)) as queue:
        queue.add("a")
        await work.until(lambda: len(work.handled) == 2)
        queue.add("a")
        await work.until(lambda: len(work.handled) == 3)
    assert work.handled == ["a", "a", "a"]


async def test_closing_ends_the_work_under_way_and_the_retries() -> None:
    work = Work(a=[RuntimeError("broken")])
    queue = NameQueue("things", work.handle, first_pause=3600)
    queue.start()
    queue.add("a")
    await work.until(lambda: work.handled == ["a"])
    work.gate.clear()
    queue.add("b")
    await work.until(lambda: work.running == ["b"])
    await queue.aclose()
    assert not work.running
    assert work.handled == ["a", "b"]


async def test_other_tasks_run_between_the_names_of_a_full_queue() -> None:
    seen: list[str] = []

    async def handle(name: str) -> None:
        seen.append(name)

    async def other() -> None:
        while len(seen) < 4:
            seen.append("other")
            await asyncio.sleep(0)

    queue = NameQueue("things", handle)
    for name in ("a", "b", "c"):
        queue.add(name)
    queue.start()
    try:
        await asyncio.wait_for(other(), 20)
    finally:
        await queue.aclose()
    assert "other" in seen[seen.index("a") : seen.index("b")]
