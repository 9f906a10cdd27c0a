"""Garbage collections of Python do not delay requests, and all garbage is collected in the end."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from hatchway.cluster import gcschedule
from hatchway.cluster.gcschedule import GcSchedule


class _Circle:
    def __init__(self) -> None:
        self.self = self


async def _running(made: GcSchedule) -> asyncio.Task[None]:
    task = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    return task


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_the_end_of_the_schedule_restores_the_collector() -> None:
    threshold = gc.get_threshold()
    task = await _running(GcSchedule(lambda: False))
    assert gc.get_threshold()[2] > 1000
    assert gc.get_freeze_count() > 1000
    await _end(task)
    assert gc.get_threshold() == threshold
    assert gc.get_freeze_count() == 0


async def test_frozen_cycles_are_collected_when_the_process_is_idle() -> None:
    circle = _Circle()
    gone = weakref.ref(circle)
    made = GcSchedule(lambda: False)
    task = await _running(made)
    del circle
    gc.collect()
    assert gone() is not None
    made._everything_at = 0.0
    made._collect_if_due(True)
    assert gone() is None
    await _end(task)


async def test_a_collection_waits_a_limited_time_for_a_large_request() -> None:
    busy = True
    made = GcSchedule(lambda: busy)
    task = await _running(made)
    before = gc.get_freeze_count()
    kept = [_Circle() for _ in range((gcschedule._YOUNG + 1) * (gcschedule._MIDDLE + 1) * (gcschedule._DUE + 2))]
    made._collect_if_due(False)
    assert gc.get_freeze_count() - before < len(kept)
    busy = False
    made._collect_if_due(False)
    assert gc.get_freeze_count() - before >= len(kept)
    await _end(task)


@pytest.mark.parametrize(("idle", "more"), [(True, gcschedule._MORE), (False, gcschedule._MOST)])
async def test_many_frozen_objects_are_examined_again(idle: bool, more: float) -> None:
    circle = _Circle()
    gone = weakref.ref(circle)
    made = GcSchedule(lambda: False)
    task = await _running(made)
    del circle
    kept = [_Circle() for _ in range(int(made._left * more) + 1000)]
    gc.collect()
    gc.freeze()
    made._aside = made._left + int(made._left * more) - 1
    made._collect_if_due(idle)
    assert gone() is not None
    made._aside = made._left + len(kept)
    made._collect_if_due(idle)
    assert gone() is None
    await _end(task)
