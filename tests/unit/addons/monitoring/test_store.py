"""The store: compression and restarts lose no samples, and limits are obeyed."""

from __future__ import annotations

import errno
import math
import os
import struct
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.addons.monitoring.tsdb.chunks import decode, encode
from hatchway.addons.monitoring.tsdb.labels import STALE, Labels, is_stale, make_labels
from hatchway.addons.monitoring.tsdb.matchers import Matcher
from hatchway.addons.monitoring.tsdb.store import StoreLimits, TimeSeriesStore

_FIRST, _LAST = -(1 << 53), 1 << 53
_any_float = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])


def _compact(store: TimeSeriesStore) -> None:
    for _ in store.compact(series_at_once=3):
        pass


def _labels(name: str, **more: str) -> Labels:
    return make_labels({"__name__": name, **more}.items())


def _append(store: TimeSeriesStore, labels: Labels, samples: list[tuple[int, float]]) -> None:
    series = store.series(labels)
    assert series is not None
    store.append([(series, time, value) for time, value in samples])


def _content(store: TimeSeriesStore) -> dict[Labels, list[tuple[int, bytes]]]:
    """Return all samples. Values are bytes, because NaN has several representations."""
    found = {}
    for one in store.select([], _FIRST, _LAST):
        found[one.labels] = [
            (time, struct.pack("<d", value))
            for times, values in one.pieces()
            for time, value in zip(times, values, strict=True)
        ]
    return found


@given(st.lists(st.tuples(st.integers(0, 10**7), _any_float), min_size=1, max_size=200), st.integers(0, 2**41))
def test_chunks_are_read_as_they_were_written(steps: list[tuple[int, float]], start: int) -> None:
    times = array("q")
    for step, _ in steps:
        start += step
        times.append(start)
    values = array("d", [value for _, value in steps])
    again = decode(encode(times, values))
    assert again[0] == times
    assert again[1].tobytes() == values.tobytes()


@given(st.binary(max_size=200))
def test_a_damaged_chunk_is_decoded_or_raises_value_error(data: bytes) -> None:
    try:
        times, values = decode(data)
    except ValueError:
        return
    assert len(times) == len(values)


def test_a_regular_counter_takes_few_bytes() -> None:
    times = array("q", range(0, 120 * 15_000, 15_000))
    assert len(encode(times, array("d", [5.0] * 120))) < 32
    assert len(encode(times, array("d", [float(10 * place) for place in range(120)]))) < 4 * 120


_names = st.sampled_from(["a", "b", "c"])
_values = st.sampled_from(["", "x", "y", "xy"])
_matchers = st.builds(
    Matcher, st.sampled_from(["=", "!=", "=~", "!~"]), _names, st.sampled_from(["", "x", "y", "x.*", ".+", ".*"])
)


@given(st.lists(st.dictionaries(_names, _values), max_size=12), st.lists(_matchers, max_size=4))
def test_the_index_finds_what_the_matchers_match(rows: list[dict[str, str]], matchers: list[Matcher]) -> None:
    store = TimeSeriesStore()
    for row in rows:
        _append(store, _labels("m", **row), [(1, 1.0)])
    everything = {_labels("m", **row) for row in rows}
    expected = {labels for labels in everything if all(one.matches(dict(labels).get(one.name, "")) for one in matchers)}
    assert {one.labels for one in store.select(matchers, 0, 2)} == expected


def test_samples_survive_a_restart_in_blocks_and_in_the_journal(tmp_path: Path) -> None:
    store = TimeSeriesStore(directory=tmp_path)
    for begin in (0, 100, 200):
        for number in range(7):
            samples = [(begin + place, place * 1.5) for place in range(10)]
            _append(store, _labels("m", number=str(number)), [*samples, (begin + 10, math.nan), (begin + 11, STALE)])
        if begin < 200:
            _compact(store)
    before = _content(store)
    store.close()
    again = TimeSeriesStore(directory=tmp_path)
    assert _content(again) == before
    assert len(again.blocks) == 2 and again.head_samples == 7 * 12
    # New samples follow the old ones; older samples are refused.
    _append(again, _labels("m", number="0"), [(205, 1.0), (300, 2.0)])
    assert len(_content(again)[_labels("m", number="0")]) == 37
    assert again.out_of_order == 1


@settings(max_examples=60)
@given(st.integers(0, 2000), st.booleans())
def test_a_torn_or_damaged_journal_loses_only_its_end(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: bool
) -> None:
    directory = tmp_path_factory.mktemp("store")
    store = TimeSeriesStore(directory=directory)
    for time in range(20):
        _append(store, _labels("m", number=str(time % 3)), [(time, float(time))])
    before = _content(store)
    store.close()
    path = next(directory.glob("*.journal"))
    data = bytearray(path.read_bytes())
    if flip and cut < len(data):
        data[cut] ^= 0x55
    else:
        del data[len(data) - min(cut, len(data)) :]
    path.write_bytes(data)
    again = TimeSeriesStore(directory=directory)
    for labels, samples in _content(again).items():
        assert before[labels][: len(samples)] == samples
    again.close()


def test_a_damaged_block_is_left_out_and_the_others_are_read(tmp_path: Path) -> None:
    store = TimeSeriesStore(directory=tmp_path)
    for begin in (0, 100):
        _append(store, _labels("m"), [(begin, 1.0)])
        _compact(store)
    store.close()
    first = sorted(tmp_path.glob("*.block"))[0]
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    assert [time for time, _ in _content(TimeSeriesStore(directory=tmp_path))[_labels("m")]] == [100]
    assert not first.exists()


def test_samples_in_a_block_and_in_its_journal_are_found_once(tmp_path: Path) -> None:
    store = TimeSeriesStore(directory=tmp_path)
    _append(store, _labels("m"), [(1, 1.0), (2, 2.0)])
    kept = next(tmp_path.glob("*.journal"))
    journal = kept.read_bytes()
    _compact(store)
    store.close()
    # The process was killed after it wrote the block and before it removed the journal.
    kept.write_bytes(journal)
    assert [time for time, _ in _content(TimeSeriesStore(directory=tmp_path))[_labels("m")]] == [1, 2]


def test_the_oldest_samples_are_dropped_when_the_store_is_full(tmp_path: Path) -> None:
    store = TimeSeriesStore(StoreLimits(size=400_000), tmp_path)
    for block in range(30):
        for number in range(50):
            samples = [(block * 1000 + place, math.sin(block * number * place)) for place in range(40)]
            _append(store, _labels("m", number=str(number)), samples)
        _compact(store)
    assert store.size <= 400_000
    assert 0 < len(store.blocks) < 30
    newest = [samples[-1][0] for samples in _content(store).values()]
    assert newest == [29_039] * 50
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 400_000


def test_series_without_samples_are_removed() -> None:
    store = TimeSeriesStore(StoreLimits(age=5000))
    for block in range(20):
        _append(store, _labels("m", pod=f"web-{block}"), [(block * 1000, 1.0)])
        _compact(store)
    assert len(store.index) <= 7
    assert store.label_values("pod") == [f"web-{block}" for block in range(14, 20)]


def test_a_removed_series_that_gets_a_new_sample_is_found() -> None:
    store = TimeSeriesStore(StoreLimits(age=1000))
    series = store.series(_labels("m"))
    assert series is not None
    store.append([(series, 0, 1.0)])
    _compact(store)
    _append(store, _labels("other"), [(10_000, 1.0)])
    _compact(store)
    assert [one.labels for one in store.select([], _FIRST, _LAST)] == [_labels("other")]
    store.append([(series, 11_000, 2.0)])
    assert len(_content(store)[_labels("m")]) == 1


def test_the_number_of_series_is_limited() -> None:
    store = TimeSeriesStore(StoreLimits(series=10))
    made = [store.series(_labels("m", number=str(number))) for number in range(50)]
    assert sum(series is not None for series in made) == 10
    assert store.dropped_series == 40
    assert store.series(_labels("m", number="3")) is made[3]


def test_one_namespace_may_have_half_of_the_series_and_long_labels_count_more() -> None:
    store = TimeSeriesStore(StoreLimits(series=10))
    made = [store.series(make_labels({"namespace": "evil", "x": str(i)}.items())) for i in range(9)]
    assert [series is not None for series in made] == [True] * 5 + [False] * 4
    assert store.series(make_labels({"namespace": "shop", "x": "y" * 4096}.items())) is not None
    assert store.series(make_labels({"namespace": "other"}.items())) is None


def test_a_sample_with_an_old_time_does_not_cause_early_compactions() -> None:
    store = TimeSeriesStore(StoreLimits(period=1000))
    one, two = (store.series(make_labels({"x": x}.items())) for x in "ab")
    assert one is not None and two is not None
    store.append([(one, 10_000, 1.0), (two, 9_000_000, 1.0)])
    assert not store.is_due(9_000_999)
    assert store.is_due(9_001_000)


def test_a_full_disk_does_not_stop_the_store(tmp_path: Path) -> None:
    store = TimeSeriesStore(directory=tmp_path)
    store.close()
    _append(store, _labels("m"), [(1, 1.0)])
    for path in tmp_path.iterdir():
        path.unlink()
    tmp_path.rmdir()
    _compact(store)
    _append(store, _labels("m"), [(2, 2.0)])
    assert [time for time, _ in _content(store)[_labels("m")]] == [1, 2]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return a function that lets `os.fsync` fail, as on a full disk (True), or work again (False)."""
    synchronize = os.fsync

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda full: monkeypatch.setattr(os, "fsync", fail if full else synchronize)


def _fill(store: TimeSeriesStore, block: int, samples: int = 40) -> None:
    for number in range(50):
        _append(
            store,
            _labels("m", number=str(number)),
            [(block * 1000 + place, math.sin(block * number * place)) for place in range(samples)],
        )


def test_samples_of_a_block_that_could_not_be_written_survive_a_restart(
    tmp_path: Path, full_disk: Callable[[bool], None]
) -> None:
    store = TimeSeriesStore(directory=tmp_path)
    _fill(store, 0)
    _compact(store)
    full_disk(True)
    for block in (1, 2):
        _fill(store, block)
        _compact(store)
    before = _content(store)
    store.close()
    again = TimeSeriesStore(directory=tmp_path)
    assert _content(again) == before
    # Test the same after the disk has space again.
    full_disk(False)
    _compact(again)
    again.close()
    assert _content(TimeSeriesStore(directory=tmp_path)) == before


def test_a_block_that_could_not_be_written_is_written_by_a_later_compaction(
    tmp_path: Path, full_disk: Callable[[bool], None]
) -> None:
    store = TimeSeriesStore(directory=tmp_path)
    full_disk(True)
    for block in (1, 2):
        _fill(store, block)
        _compact(store)
    assert not list(tmp_path.glob("*.block"))
    full_disk(False)
    _fill(store, 3)
    _compact(store)
    assert len(list(tmp_path.glob("*.block"))) == 3
    assert [path.stat().st_size for path in tmp_path.glob("*.journal")] == [0]
    before = _content(store)
    assert all(len(samples) == 120 for samples in before.values())
    store.close()
    assert _content(TimeSeriesStore(directory=tmp_path)) == before


def test_journals_of_blocks_that_cannot_be_written_count_in_the_size_of_the_store(
    tmp_path: Path, full_disk: Callable[[bool], None]
) -> None:
    limit = 400_000
    store = TimeSeriesStore(StoreLimits(size=limit), tmp_path)
    full_disk(True)
    for block in range(30):
        _fill(store, block)
        _compact(store)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limit
    assert store.size <= limit
    assert 0 < len(store.blocks) < 30
    before = _content(store)
    store.close()
    again = TimeSeriesStore(directory=tmp_path)
    assert _content(again) == before
    assert [samples[-1][0] for samples in before.values()] == [29_039] * 50


def test_other_nans_are_not_the_staleness_marker() -> None:
    assert is_stale(STALE)
    assert not is_stale(math.nan) and not is_stale(float("nan")) and not is_stale(1.0)
    assert is_stale(array("d", [STALE]).tolist()[0])
