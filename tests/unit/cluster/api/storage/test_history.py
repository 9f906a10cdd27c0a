"""A history has a maximum number and a maximum size of events, and is read in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from hatchway.cluster.api.storage.history import Cursor, Event, History
from hatchway.errors import ApiError


def filled(count: int, size: int, *, limit: int = 1000, weight: int = 1000) -> History:
    history = History(0, limit, weight)
    for revision in range(1, count + 1):
        history.append(Event("ADDED", revision, None, {}, size))
    return history


def test_fewer_large_events_are_kept() -> None:
    history = filled(100, 100)
    kept = history.read(history._base)
    assert 500 <= sum(event.size for event in kept) <= 1000
    assert kept[-1].revision == 100
    assert history.floor == kept[0].revision - 1
    with pytest.raises(ApiError) as caught:
        history.cursor(1)
    assert caught.value.code == 410


def test_the_latest_event_is_kept_whatever_its_size() -> None:
    history = filled(3, 5000)
    cursor = history.cursor(2)
    assert [event.revision for event in cursor.read()] == [3]


def test_small_events_have_a_maximum_number() -> None:
    history = filled(100, 0, limit=10)
    assert 10 <= len(history.read(history._base)) < 20


def test_all_events_are_read_in_pieces() -> None:
    history = filled(100, 100_000, weight=2**30)
    cursor = history.cursor(0)
    seen = []
    while piece := cursor.read():
        assert len(piece) <= 3
        seen += [event.revision for event in piece]
    assert seen == list(range(1, 101))


async def test_other_watches_get_their_events_when_one_watch_fails() -> None:
    history = History(0, 1000)
    cursors = [history.cursor(0) for _ in range(3)]
    seen: list[int] = []

    def fail() -> bool:
        raise ValueError("broken")

    def read(cursor: Cursor) -> Callable[[], bool]:
        def pass_on() -> bool:
            seen.extend(event.revision for event in cursor.read())
            return len(seen) < 4

        return pass_on

    waits = [asyncio.create_task(cursors[0].wait(fail)), asyncio.create_task(cursors[1].wait(read(cursors[1])))]
    plain = asyncio.create_task(cursors[2].wait())
    await asyncio.sleep(0)
    history.append(Event("ADDED", 1, None, {}, 0))
    history.append(Event("ADDED", 2, None, {}, 0))
    await plain
    with pytest.raises(ValueError, match="broken"):
        await waits[0]
    assert (seen, waits[1].done()) == ([1, 2], False)
    history.append(Event("ADDED", 3, None, {}, 0))
    history.append(Event("ADDED", 4, None, {}, 0))
    await waits[1]
    assert seen == [1, 2, 3, 4]


async def test_waiting_watches_end_when_the_history_is_closed() -> None:
    history = History(0, 1000)
    cursor = history.cursor(0)
    waiting = asyncio.create_task(cursor.wait(lambda: True))
    await asyncio.sleep(0)
    history.close()
    await waiting
    assert cursor.closed
    cancelled = asyncio.create_task(History(0, 1000).cursor(0).wait(lambda: True))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait({cancelled})
