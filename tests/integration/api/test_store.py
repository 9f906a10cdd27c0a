"""The store: acknowledged writes are on disk, versions never repeat, failed writes change nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.api.connect.endpointslices import IndexedObjects
from hatchway.cluster.api.storage.store import HISTORY, Store
from hatchway.errors import ApiError, HatchwayError


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "namespace": "ns"}, "data": data}


def version(obj: dict[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])


async def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    one = await store.create("configmaps", config_map("one", a="1"))
    two = await store.create("configmaps", config_map("two"))
    changed = await store.update("configmaps", config_map("one", a="2"), one)
    last = await store.delete("configmaps", two)
    await store.close()

    again = Store.open(tmp_path / "s")
    assert again.list("configmaps") == [changed]
    assert again.revision == version(last)
    three = await again.create("configmaps", config_map("three"))
    assert version(three) > version(last)
    await again.close()
    assert (tmp_path / "s").stat().st_mode & 0o077 == 0


async def test_a_count_of_changes_leaves_out_some_resources() -> None:
    store = Store.open(None)
    count = store.count_changes(frozenset(("configmaps",)))
    one = await store.create("configmaps", config_map("one"))
    await store.delete("configmaps", one)
    assert count.value == 0
    secret = await store.create("secrets", config_map("one"))
    await store.delete("secrets", secret)
    assert count.value == 2
    await store.close()


async def test_readers_see_only_what_is_committed() -> None:
    store = Store.open(None)
    heard: list[tuple[str, Any, Any]] = []
    stop = store.subscribe("configmaps", lambda *event: heard.append(event))
    writing = asyncio.ensure_future(store.create("configmaps", config_map("one")))
    await asyncio.sleep(0)  # The write has begun; its thread cannot have reported its end yet.
    assert store.get("configmaps", "ns", "one") is None
    assert store.latest("configmaps", "ns", "one") is not None
    assert not heard
    obj = await writing
    assert store.get("configmaps", "ns", "one") is obj
    new = await store.update("configmaps", config_map("one", a="1"), obj)
    await store.delete("configmaps", new)
    assert heard == [("ADDED", None, obj), ("MODIFIED", obj, new), ("DELETED", new, None)]
    stop()
    await store.create("configmaps", config_map("two"))
    assert len(heard) == 3
    await store.close()


async def test_conflicts_are_seen_before_they_are_committed() -> None:
    store = Store.open(None)
    first, second = await asyncio.gather(
        store.create("configmaps", config_map("one")), store.create("configmaps", config_map("one")), return_exceptions=True
    )  # fmt: skip
    assert isinstance(first, dict)
    assert isinstance(second, ApiError)
    assert (second.code, second.reason) == (409, "AlreadyExists")
    results = await asyncio.gather(
        *(store.update("configmaps", config_map("one", a=str(number)), first) for number in range(5)),
        return_exceptions=True,
    )
    assert [isinstance(one, dict) for one in results] == [True, False, False, False, False]
    assert store.get("configmaps", "ns", "one") == results[0]
    with pytest.raises(ApiError) as caught:
        await store.delete("configmaps", first)
    assert caught.value.reason == "Conflict"
    await store.close()


async def test_an_object_is_deleted_and_created_again_in_one_turn() -> None:
    store = Store.open(None)
    obj = await store.create("configmaps", config_map("one"))
    steps = [asyncio.ensure_future(store.delete("configmaps", obj))]
    for number in range(3):
        await asyncio.sleep(0)
        assert store.latest("configmaps", "ns", "one") is None
        steps.append(asyncio.ensure_future(store.create("configmaps", config_map("one", n=str(number)))))
        await asyncio.sleep(0)
        made = store.latest("configmaps", "ns", "one")
        assert made is not None
        steps.append(asyncio.ensure_future(store.delete("configmaps", made)))
    await asyncio.gather(*steps)
    assert store.get("configmaps", "ns", "one") is None
    versions = [event.revision for event in store.history("configmaps").cursor(version(obj)).read()]
    assert versions == sorted(set(versions))
    assert len(versions) == 7
    await store.close()


async def test_a_full_disk_only_fails_writes(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    kept = await store.create("configmaps", config_map("kept"))
    store._connection.execute("pragma max_page_count = 8")
    heard: list[Any] = []
    store.subscribe("configmaps", lambda *event: heard.append(event))
    results = await asyncio.gather(
        store.create("configmaps", config_map("big", a="x" * 100_000)),
        store.update("configmaps", config_map("kept", a="1"), kept),
        return_exceptions=True,
    )
    assert all(isinstance(one, ApiError) and one.code == 500 and "disk is full" in one.message for one in results)
    assert store.list("configmaps") == [kept]
    assert store.latest("configmaps", "ns", "kept") is kept
    assert store.revision == version(kept)
    assert not heard
    assert store.problem
    store._connection.execute("pragma max_page_count = 100000")
    assert version(await store.create("configmaps", config_map("big", a="x" * 100_000))) > version(kept)
    assert not store.problem
    await store.close()
    again = Store.open(tmp_path / "s")
    assert {obj["metadata"]["name"] for obj in again.list("configmaps")} == {"kept", "big"}
    await again.close()


async def test_text_that_json_cannot_contain_fails_only_its_own_write() -> None:
    store = Store.open(None)
    bad, good = await asyncio.gather(
        store.create("configmaps", config_map("bad", a="\ud800")),
        store.create("configmaps", config_map("good")),
        return_exceptions=True,
    )
    assert isinstance(bad, ApiError)
    assert bad.code == 400
    assert store.list("configmaps") == [good]
    await store.close()


async def test_a_failing_subscriber_does_not_keep_others_from_events() -> None:
    store = Store.open(None)
    heard: list[str] = []

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    store.subscribe("configmaps", broken)
    store.subscribe("configmaps", lambda type, *_: heard.append(type))
    await store.create("configmaps", config_map("one"))
    assert heard == ["ADDED"]
    await store.close()


async def test_endpoint_slices_by_service(tmp_path: Path) -> None:
    resource = "endpointslices.discovery.k8s.io"

    def endpoint_slice(name: str, service: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "namespace": "ns", "labels": {"kubernetes.io/service-name": service}}}

    store = Store.open(tmp_path / "s")
    objects = IndexedObjects(store)
    one = await store.create(resource, endpoint_slice("one", "web"))
    two = await store.create(resource, endpoint_slice("two", "web"))
    assert objects.endpoint_slices("ns", "web") == [one, two]
    moved = await store.update(resource, endpoint_slice("one", "other"), one)
    await store.delete(resource, two)
    assert (objects.endpoint_slices("ns", "web"), objects.endpoint_slices("ns", "other")) == ([], [moved])
    await store.close()
    again = Store.open(tmp_path / "s")
    assert IndexedObjects(again).endpoint_slices("ns", "other") == [moved]
    await again.close()


async def test_old_versions_expire(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    obj = await store.create("configmaps", config_map("one"))
    start = version(obj)
    slow = store.history("configmaps").cursor(start)
    for _ in range(2 * HISTORY + 1):
        # The writes are not awaited one by one, so that one group commit contains all of them.
        latest = store.latest("configmaps", "ns", "one")
        assert latest is not None
        last = asyncio.ensure_future(store.update("configmaps", config_map("one"), latest))
        await asyncio.sleep(0)
    await last
    for attempt in (lambda: store.history("configmaps").cursor(start), slow.read):
        with pytest.raises(ApiError) as caught:
            attempt()
        assert (caught.value.code, caught.value.reason) == (410, "Expired")
    assert len(store.history("configmaps").cursor(store.revision - 1).read()) == 1
    revision = store.revision
    await store.close()
    again = Store.open(tmp_path / "s")
    with pytest.raises(ApiError):
        again.history("configmaps").cursor(revision - 1)
    assert again.history("configmaps").cursor(revision).read() == []
    await again.close()


async def test_close_finishes_running_writes_and_refuses_new_ones(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s")
    writes = [asyncio.ensure_future(store.create("configmaps", config_map(str(number)))) for number in range(20)]
    await asyncio.sleep(0)
    await store.close()
    assert all(isinstance(one, dict) for one in await asyncio.gather(*writes))
    with pytest.raises(ApiError):
        await store.create("configmaps", config_map("late"))
    again = Store.open(tmp_path / "s")
    assert len(again.list("configmaps")) == 20
    await again.close()


@pytest.mark.parametrize("content", [b"this is no database, but long enough to be read as one" * 40, None])
def test_files_that_are_not_a_store_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "s"
    if content is None:
        connection = sqlite3.connect(path)
        connection.execute("create table objects (x)")
        connection.commit()
        connection.close()
    else:
        path.write_bytes(content)
    with pytest.raises(HatchwayError):
        Store.open(path)
