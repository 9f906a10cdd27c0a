"""A history is bounded by number and by weight, and is handed out in pieces."""

from __future__ import annotations

import pytest

from hatchway.cluster.api.storage.history import Event, History
from hatchway.errors import ApiError


def filled(count: int, size: int, *, limit: int = 1000, weight: int = 1000) -> History:
    history = History(0, limit, weight)
    for revision in range(1, count + 1):
        history.append(Event("ADDED", revision, None, {}, size))
    return history


def test_heavy_events_are_forgotten_sooner() -> None:
    history = filled(100, 100)
    kept = history.read(history._base)
    assert 500 <= sum(event.size for event in kept) <= 1000
    assert kept[-1].revision == 100
    assert history.floor == kept[0].revision - 1
    with pytest.raises(ApiError) as caught:
        history.cursor(1)
    assert caught.value.code == 410


def test_the_latest_event_stays_whatever_it_weighs() -> None:
    history = filled(3, 5000)
    cursor = history.cursor(2)
    assert [event.revision for event in cursor.read()] == [3]


def test_light_events_are_bounded_by_number() -> None:
    history = filled(100, 0, limit=10)
    assert 10 <= len(history.read(history._base)) < 20


def test_reads_are_pieces_that_lose_nothing() -> None:
    history = filled(100, 100_000, weight=2**30)
    cursor = history.cursor(0)
    seen = []
    while piece := cursor.read():
        assert len(piece) <= 3
        seen += [event.revision for event in piece]
    assert seen == list(range(1, 101))
