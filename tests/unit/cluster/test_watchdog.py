"""A controller's step that does not return is detected, logged and ended; other steps continue."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator

import pytest
import uvloop

from hatchway.cluster import watchdog
from hatchway.cluster.controllers.controller import Controller
from hatchway.cluster.watchdog import HeldLoop, Watchdog, guarded, section
from tests.unit.controllers.world import World, pod


@contextlib.contextmanager
def watching(log_after: float = 0.2, cut_after: float = 0.3) -> Iterator[None]:
    dog = Watchdog(log_after, cut_after)
    dog.start()
    try:
        yield
    finally:
        dog.stop()


def spin() -> None:
    while True:
        pass


def test_an_endless_step_is_interrupted(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        spin()

    async def main() -> None:
        with watching():
            with pytest.raises(HeldLoop, match="the work has held the event loop"):
                await guarded(work(), "the work")
            with pytest.raises(HeldLoop), section("a block"):
                spin()

    uvloop.run(main())
    assert "held for 0.2 s by the work" in caplog.text
    assert "in spin" in caplog.text


def test_work_that_is_not_guarded_is_logged_and_not_interrupted(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with watching():
            until = time.monotonic() + 0.8
            while time.monotonic() < until:
                pass

    uvloop.run(main())
    assert "held for 0.2 s by this" in caplog.text


def test_code_that_may_not_be_interrupted_is_completed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_UNINTERRUPTIBLE", (__name__,))
    left = False

    async def work() -> None:
        nonlocal left
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            pass
        left = True

    async def main() -> None:
        with watching():
            await guarded(work(), "the work")

    uvloop.run(main())
    assert left


async def test_guarded_work_can_be_awaited_and_cancelled() -> None:
    async def work(value: int) -> int:
        await asyncio.sleep(0)
        return value

    assert await guarded(work(7), "x") == 7
    ended = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await guarded(wait(), "x")
    assert ended.is_set()


class Spinning(Controller):
    name = "spinning"

    def __init__(self, context: object) -> None:
        super().__init__(context)  # type: ignore[arg-type]
        self.pods = self.context.cache("pods")
        self.pods.subscribe(self.enqueue_changed)
        self.seen: list[str] = []
        self.reached = asyncio.Event()

    async def reconcile(self, key: tuple[str, str]) -> float | None:
        if key[1] == "bad" and "bad" not in self.seen:
            self.seen.append("bad")
            spin()
        if key[1] == "endless":
            await asyncio.Event().wait()
        self.seen.append(key[1])
        if key[1] == "good":
            self.reached.set()
        return None


async def test_one_bad_object_does_not_delay_other_objects(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    world = World(Spinning)
    controller = world.controller(Spinning)
    controller.workers = 1
    with watching():
        async with world.running():
            await world.client.create("pods", pod("bad"), "d")
            await world.client.create("pods", pod("good"), "d")
            await world.settle()
            assert {"good", "bad"} <= set(controller.seen)
    assert "spinning: ('d', 'bad') failed" in caplog.text


async def test_a_reconcile_that_waits_for_ever_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    world = World(Spinning)
    controller = world.controller(Spinning)
    controller.workers, controller.deadline = 1, 0.05
    controller.queue.add(("d", "endless"))
    controller.queue.add(("d", "good"))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task = group.create_task(controller._work())
        await controller.reached.wait()
        task.cancel()
    controller.queue.close()
    assert "took longer than 0 s and was ended" in caplog.text
