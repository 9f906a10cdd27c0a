"""The work queue, the caches and the supervision of controllers."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from hatchway.cluster.controllers import controller as controller_module
from hatchway.cluster.controllers import workqueue
from hatchway.cluster.controllers.controller import Controller, supervise
from hatchway.cluster.controllers.ensure import ensure, merge
from hatchway.cluster.controllers.objectcache import ObjectCache
from hatchway.cluster.controllers.workqueue import WorkQueue
from hatchway.errors import ApiError, conflict
from hatchway.kube.api import Object
from tests.unit.controllers.world import World
from tests.unit.fake_client import FakeClient


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_a_key_is_queued_once_and_has_one_worker_at_a_time() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    queue.add("a")
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done(), "a is still with its worker"
    queue.done("a")
    assert await waiting == "a"
    queue.done("a")
    queue.done("b")
    assert queue.idle


async def test_the_earliest_time_counts_and_the_back_off_grows() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.001)
    queue.add_after("a", 1000)
    assert await queue.get() == "a"
    queue.done("a")
    assert [queue.retry("b") for _ in range(3)] == [0.005, 0.01, 0.02]
    assert [queue.retry("c") for _ in range(40)][-1] == 30.0
    queue.forget("b")
    assert queue.retry("b") == 0.005
    queue.add("b")
    assert await queue.get() == "b"
    queue.close()


class Failing(Controller):
    name = "failing"

    def __init__(self, context: controller_module.ControllerContext) -> None:
        super().__init__(context)
        self.cache = context.cache("configmaps")
        self.cache.subscribe(self.enqueue_changed)
        self.errors: list[Exception] = []
        self.seen: list[Any] = []

    async def reconcile(self, key: Any) -> float | None:
        self.seen.append(key)
        if self.errors:
            raise self.errors.pop()
        return None


async def test_reconcile_is_retried_after_any_exception(caplog: pytest.LogCaptureFixture) -> None:
    world = World(Failing)
    controller = world.controller(Failing)
    controller.errors = [ValueError("broken"), conflict("configmaps", "x", "changed"), ApiError(500, "", "away")]
    await world.client.create("configmaps", config_map("x"), "d")
    with caplog.at_level(logging.INFO):
        async with world.running():
            assert controller.seen == [("d", "x")] * 4
    said = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 2, "a conflict is not logged as a warning"
    assert "away" in said[0]
    assert "broken" in caplog.text


async def test_supervised_coroutines_that_end_are_restarted_and_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = 0
    waits: list[float] = []
    sleep = asyncio.sleep

    async def no_wait(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(controller_module.asyncio, "sleep", no_wait)

    async def run() -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise ApiError(403, "Forbidden", "no")
        if starts == 2:
            return
        await asyncio.Event().wait()

    task = asyncio.create_task(supervise("thing", run))
    while starts < 3:
        await sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert waits == [0.1, 0.2]
    assert "thing has failed" in caplog.text
    assert "thing has ended" in caplog.text


async def test_waiting_until_a_cache_has_caught_up() -> None:
    client = FakeClient()
    cache = ObjectCache(client, "configmaps")
    seen: list[tuple[str, str, bool]] = []
    cache.subscribe(lambda kind, obj, before: seen.append((kind, obj["metadata"]["name"], before is not None)))
    task = asyncio.create_task(cache.run())
    await cache.synced()
    made = await client.create("configmaps", config_map("a"), "d")
    assert cache.get(("d", "a")) is None
    await cache.wait_for_write(made)
    assert cache.get(("d", "a")) is not None
    changed = await client.patch("configmaps", "a", {"data": {"x": "y"}}, "d")
    await client.delete("configmaps", "a", "d")
    await cache.wait_for_deletion(made)
    await cache.wait_for_write(changed)
    assert list(cache) == [] == cache.in_namespace("d")
    assert seen == [("ADDED", "a", False), ("MODIFIED", "a", True), ("DELETED", "a", True)]
    task.cancel()
    await asyncio.wait([task])


async def test_a_failing_subscriber_does_not_prevent_later_events(caplog: pytest.LogCaptureFixture) -> None:
    client = FakeClient()
    cache = ObjectCache(client, "configmaps")
    seen: list[str] = []

    def fails(_kind: str, obj: Object, _before: Object | None) -> None:
        if obj["metadata"]["name"] == "odd":
            raise KeyError("spec")

    cache.subscribe(fails)
    cache.subscribe(lambda _kind, obj, _before: seen.append(obj["metadata"]["name"]))
    task = asyncio.create_task(cache.run())
    await cache.synced()
    await client.create("configmaps", config_map("odd"), "d")
    await cache.wait_for_write(await client.create("configmaps", config_map("next"), "d"))
    assert seen == ["odd", "next"]
    assert "a subscriber to configmaps failed on d/odd" in caplog.text
    task.cancel()
    await asyncio.wait([task])


async def test_ensure_creates_and_updates_and_writes_no_more_than_needed() -> None:
    client = FakeClient()
    wanted = config_map("a", x="1")
    wanted["metadata"] |= {"namespace": "d", "labels": {"own": "1"}}
    await ensure(client, [("configmaps", wanted)])
    await client.patch("configmaps", "a", {"metadata": {"labels": {"mine": "2", "own": "0"}}, "data": {"y": "2"}}, "d")
    await ensure(client, [("configmaps", wanted)])
    found = client.objects["configmaps", "d", "a"]
    assert found["metadata"]["labels"] == {"own": "1", "mine": "2"}
    assert found["data"] == {"x": "1", "y": "2"}
    writes = client.writes
    await ensure(client, [("configmaps", wanted)])
    assert client.writes == writes


async def test_ensure_retries_after_conflicts() -> None:
    client = FakeClient()
    wanted = config_map("a", x="1")
    wanted["metadata"]["namespace"] = "d"
    await client.create("configmaps", config_map("a"), "d")
    refusals = [conflict("configmaps", "a", "changed")]
    client.refuse = lambda verb, _resource, _obj: refusals.pop() if refusals and verb == "update" else None
    await ensure(client, [("configmaps", wanted)])
    assert client.objects["configmaps", "d", "a"]["data"] == {"x": "1"}


def test_merge_keeps_defaults_inside_lists_of_equal_length() -> None:
    current = {"metadata": {}, "spec": {"ports": [{"port": 1, "protocol": "TCP"}], "extra": 1}}
    wanted = {"metadata": {}, "spec": {"ports": [{"port": 2}]}}
    assert merge(current, wanted)["spec"] == {"ports": [{"port": 2, "protocol": "TCP"}], "extra": 1}
    wanted["spec"]["ports"].append({"port": 3})
    assert merge(current, wanted)["spec"]["ports"] == [{"port": 2}, {"port": 3}]


async def test_a_key_that_is_always_added_again_is_slowed_down(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workqueue, "_WINDOW_RUNS", 50)

    class Restless(Controller):
        name = "restless"
        runs = 0

        async def reconcile(self, key: str) -> float | None:
            self.runs += 1
            self.queue.add(key)
            return None

    controller = Restless(World().context)
    controller.queue.add("a")
    task = asyncio.create_task(controller._work())
    turns = 0
    while "is slowed down" not in caplog.text:
        await asyncio.sleep(0)
        turns += 1
    for _ in range(100):
        await asyncio.sleep(0)
    assert controller.runs <= 52
    assert turns >= 50
    # After its delay, the key is handled.
    controller.queue._timers["a"].cancel()
    controller.queue._due("a", slowed=True)
    before = controller.runs
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert controller.runs == before + 1
    task.cancel()
    controller.queue.close()


async def test_a_key_whose_work_took_long_is_delayed_but_other_keys_are_not() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("long")
    assert await queue.get() == "long"
    queue.add("long")
    queue.done("long", 0.1)
    queue.add("other")
    assert await queue.get() == "other"
    queue.done("other", 0.001)
    queue.add("other")
    assert await queue.get() == "other"
    async with asyncio.timeout(10):
        assert await queue.get() == "long"
    queue.done("long", 1000.0)
    queue.add("long")
    queue.close()
