"""The store: appends samples, finds series, and deletes old samples to stay within its limits.

New samples are in the head: two arrays for each series. When the head has half an hour of samples, it becomes a block,
which is compressed and, if there is a directory, written to a file. A block that cannot be written (a full disk) is
kept in memory, and its samples stay in the journal; later compactions try again to write it. The oldest block is
dropped when the store is too large or the block is too old.

One thread appends; other threads may select. A selection takes references to arrays and blocks under a lock, for some
series at a time; it reads samples without the lock.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatchway.addons.monitoring.tsdb.block import BlockFile, SampleBlock, places_of
from hatchway.addons.monitoring.tsdb.chunks import LONGEST, encode
from hatchway.addons.monitoring.tsdb.diskfiles import StoreFiles
from hatchway.addons.monitoring.tsdb.index import LabelIndex
from hatchway.addons.monitoring.tsdb.labels import Labels, value_of
from hatchway.addons.monitoring.tsdb.matchers import Matcher

log = logging.getLogger(__name__)

# Bytes: the measured memory of a series without its samples (index, labels, arrays), and the memory of a sample.
_SERIES_BYTES = 1_200
_SAMPLE_BYTES = 16
# How many series are looked up while the lock is held.
_AT_ONCE = 1000


def _no_tick() -> None:
    """Do nothing between two slices of work."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """The bounds of a store.

    size: the maximum number of bytes of all samples and series, in memory and in files.
    age: how long samples are kept, in milliseconds.
    series: the maximum number of series. A series with more than 1 KiB of labels counts as several. At most half of
        them may have the same label `namespace`.
    period: the time of the samples in one block, in milliseconds.
    """

    size: int = 192 << 20
    age: int = 24 * 3600 * 1000
    series: int = 100_000
    period: int = 1800 * 1000


class TimeSeries:
    """A series: its labels and its newest samples.

    times, values: the samples in the head. A value is appended before its time, so `times` may be shorter for a moment.
    frozen: the samples of a head that is being compressed; None when there is no such head.
    last: the time of the newest sample, in milliseconds; a very early time without samples.
    blocks: how many blocks have samples of this series.
    """

    __slots__ = ("blocks", "frozen", "labels", "last", "number", "times", "values")

    def __init__(self, number: int, labels: Labels) -> None:
        self.number = number
        self.labels = labels
        self.times: array[int] = array("q")
        self.values: array[float] = array("d")
        self.frozen: tuple[array[int], array[float]] | None = None
        self.last = -(1 << 62)
        self.blocks = 0


@dataclass(frozen=True, slots=True)
class Selected:
    """A selected series and its samples. parts: its blocks, the oldest first. live: its arrays in the head."""

    labels: Labels
    number: int
    parts: tuple[SampleBlock, ...]
    live: tuple[tuple[array[int], array[float]], ...]

    def pieces(self) -> Iterator[tuple[array[int], array[float]]]:
        """Yield (times, values) of each block and of the head, the oldest first. A damaged block is logged."""
        for block in self.parts:
            try:
                found = block.samples(self.number)
            except ValueError as error:
                log.warning("samples of %s are lost: %s", block.path or "a block", error)
                continue
            if found is not None:
                yield found
        for times, values in self.live:
            count = len(times)
            if count:
                yield times[:count], values[:count]


class TimeSeriesStore:
    """A bounded store of time series.

    Args:
        limits: the limits of the store.
        directory: stores the samples, so that they are found after a restart; None for memory only.

    Attributes:
        dropped_series: how many new series were refused because there were too many.
        out_of_order: how many samples were refused because they were too old.

    Raises:
        OSError: the directory cannot be used.
    """

    def __init__(self, limits: StoreLimits | None = None, directory: Path | None = None) -> None:
        self.limits = limits or StoreLimits()
        self.index = LabelIndex()
        self.blocks: list[SampleBlock] = []
        self.dropped_series = 0
        self.out_of_order = 0
        self._by_labels: dict[Labels, TimeSeries] = {}
        # The number of all series, and the number for each namespace; a series with long labels counts as several.
        self._units = 0
        self._held: Counter[str] = Counter()
        self._series: dict[int, TimeSeries] = {}
        self._next = 1
        self._head: dict[int, TimeSeries] = {}
        self._head_begin = 0
        self._head_samples = 0
        self._lock = threading.Lock()
        self._files = StoreFiles(directory) if directory is not None else None
        if self._files is not None:
            self._files.load(self)
            self._enforce()

    # Appending

    def series(self, labels: Labels) -> TimeSeries | None:
        """Return the series with these labels. It is created if it does not exist; None when there are too many."""
        found = self._by_labels.get(labels)
        if found is None:
            if not self._has_room(labels):
                self.dropped_series += 1
                return None
            found = TimeSeries(self._next, labels)
            self._next += 1
            self._register(found)
        return found

    def _has_room(self, labels: Labels) -> bool:
        if self._units >= self.limits.series:
            return False
        namespace = value_of(labels, "namespace")
        return not namespace or self._held[namespace] < self.limits.series // 2

    def _count(self, labels: Labels, sign: int) -> None:
        """Update the counts after a series was made (sign 1) or forgotten (sign -1)."""
        units = sign * (1 + (sum(len(name) + len(value) for name, value in labels) >> 10))
        self._units += units
        namespace = value_of(labels, "namespace")
        if namespace:
            self._held[namespace] += units
            if not self._held[namespace]:
                del self._held[namespace]

    def append(self, batch: Iterable[tuple[TimeSeries, int, float]]) -> int:
        """Append samples (series, time in milliseconds, value); return how many were appended.

        A sample must be newer than the newest sample of its series. Refused samples are counted in `out_of_order`,
        unless time and value are equal to those of the newest sample.
        """
        numbers, times, values = array("I"), array("q"), array("d")
        for series, time, value in batch:
            if time <= series.last:
                if time < series.last or not series.values or series.values[-1] != value == value:
                    self.out_of_order += 1
                continue
            if not series.values and series.number not in self._series:
                # The store forgot the series with its last block. A new series may have the same labels now.
                if series.labels in self._by_labels:
                    series = self._by_labels[series.labels]
                else:
                    self._register(series)
            numbers.append(series.number)
            times.append(time)
            values.append(value)
            series.values.append(value)
            series.times.append(time)
            series.last = time
            self._head[series.number] = series
        if numbers:
            if not self._head_samples:
                # Use the newest time: a target may send samples with old times, which must not make the head older.
                self._head_begin = max(times)
            self._head_samples += len(numbers)
            if self._files is not None:
                self._files.journal.append(numbers, times, values, self._labels_of)
        return len(numbers)

    def _labels_of(self, number: int) -> Labels:
        return self._series[number].labels

    def _register(self, series: TimeSeries) -> None:
        with self._lock:
            series.labels = self.index.add(series.number, series.labels)
            self._by_labels[series.labels] = series
            self._series[series.number] = series
            self._count(series.labels, 1)

    # Reading

    def select(
        self, matchers: Sequence[Matcher], begin: int, end: int, tick: Callable[[], None] = _no_tick
    ) -> list[Selected]:
        """Return the series that match and may have samples from `begin` to `end` (milliseconds), sorted by labels.

        tick: called at intervals; it may raise an exception to stop.
        """
        found: list[Selected] = []
        numbers = list(self.index.select(matchers, tick))
        for place in range(0, len(numbers), _AT_ONCE):
            tick()
            with self._lock:
                # Read the list of blocks again each time: samples may have moved from the head to a new block.
                blocks = [block for block in self.blocks if block.begin <= end and block.end >= begin]
                for number in numbers[place : place + _AT_ONCE]:
                    series = self._series.get(number)
                    if series is not None:
                        self._find(series, blocks, begin, end, found)
        found.sort(key=lambda selected: selected.labels)
        return found

    def _find(self, series: TimeSeries, blocks: list[SampleBlock], begin: int, end: int, found: list[Selected]) -> None:
        """Add a series to `found` when it may have samples from `begin` to `end`. Called under the lock."""
        parts = tuple([block for block in blocks if series.number in block.places])
        live = [(series.times, series.values)]
        if series.frozen is not None:
            live.insert(0, series.frozen)
        live = [part for part in live if part[0] and part[0][0] <= end and part[0][-1] >= begin]
        if parts or live:
            found.append(Selected(series.labels, series.number, parts, tuple(live)))

    def label_names(self) -> list[str]:
        """Return the names of all labels."""
        return self.index.names()

    def label_values(self, name: str) -> list[str]:
        """Return the values of a label."""
        return self.index.values(name)

    @property
    def size(self) -> int:
        """Return the bytes of all samples and series. For data in memory, this is an estimate."""
        blocks = sum(block.size for block in self.blocks)
        return blocks + self._units * _SERIES_BYTES + self._head_samples * _SAMPLE_BYTES

    @property
    def head_samples(self) -> int:
        """Return the number of samples that are not in a block yet."""
        return self._head_samples

    @property
    def head_begin(self) -> int:
        """Return the time of the first samples that are not in a block yet; 0 without samples."""
        return self._head_begin if self._head_samples else 0

    @property
    def begin(self) -> int | None:
        """Return the time of the oldest sample, milliseconds; None without samples."""
        begins = [block.begin for block in self.blocks]
        if self._head_samples:
            begins.append(self._head_begin)
        return min(begins, default=None)

    # Blocks

    def is_due(self, now: int) -> bool:
        """Return True when the head should become a block: it is old enough, or large."""
        if not self._head_samples:
            return False
        return (
            now - self._head_begin >= self.limits.period or self._head_samples * _SAMPLE_BYTES > self.limits.size // 4
        )

    def compact(self, series_at_once: int = 50) -> Iterator[None]:
        """Make a block from the head, and drop blocks beyond the limits. The caller must run the iterator to its end.

        Blocks that could not be written before are written first.

        It yields after each `series_at_once` series, so that the caller can do other work and append samples.
        """
        with self._lock:
            frozen = list(self._head.values())
            for series in frozen:
                series.frozen = (series.times, series.values)
                series.times, series.values = array("q"), array("d")
            self._head = {}
            count, self._head_samples = self._head_samples, 0
        file = self._files.next_journal() if self._files is not None else None
        chunks: list[bytes] = []
        kept: list[TimeSeries] = []
        begin, end = 1 << 62, -(1 << 62)
        for number, series in enumerate(frozen, 1):
            if series.frozen is not None and series.frozen[0]:
                times, values = series.frozen
                begin, end = min(begin, times[0]), max(end, times[-1])
                chunks.append(encode(times[-LONGEST:], values[-LONGEST:]))
                kept.append(series)
            if number % series_at_once == 0:
                yield
        if kept:
            self._add_block(begin, end, kept, chunks, file)
            log.debug("%d samples of %d series are a block now", count, len(kept))
        elif self._files is not None and file is not None:
            self._files.remove(file.journals)
        yield from self._write_blocks()
        self._enforce()

    def _write_blocks(self) -> Iterator[None]:
        """Write the blocks that are not in files, the oldest first, up to the first that cannot be written."""
        if self._files is None:
            return
        for block in self.blocks:
            if block.unwritten is not None:
                if not self._files.write_block(block, [self._series[number].labels for number in block.places]):
                    return
                yield

    def _add_block(
        self, begin: int, end: int, kept: list[TimeSeries], chunks: list[bytes], file: BlockFile | None
    ) -> None:
        places, data = places_of(chunks), b"".join(chunks)
        numbers = dict(zip([series.number for series in kept], places, strict=True))
        block = SampleBlock(begin, end, numbers, data, len(data), unwritten=file)
        if self._files is not None and file is not None:
            block.size += self._files.size_of(file)
        with self._lock:
            for series in kept:
                series.blocks += 1
                # This happens under the same lock as adding the block, so that no query finds the samples twice.
                series.frozen = None
            self.blocks.append(block)

    def _enforce(self) -> None:
        """Drop the oldest blocks while the store is too large, or the blocks are too old."""
        newest = max((block.end for block in self.blocks), default=0)
        while self.blocks and (self.size > self.limits.size or self.blocks[0].end < newest - self.limits.age):
            with self._lock:
                block = self.blocks.pop(0)
                for number in block.places:
                    series = self._series[number]
                    series.blocks -= 1
                    self._forget_empty(series)
            if self._files is not None:
                self._files.remove_block(block)
        with self._lock:
            for series in [series for series in self._series.values() if not series.blocks]:
                self._forget_empty(series)

    def _forget_empty(self, series: TimeSeries) -> None:
        """Forget a series if it has no samples any more. Called under the lock."""
        if series.blocks or series.times or series.frozen is not None or series.number not in self._series:
            return
        del self._series[series.number]
        del self._by_labels[series.labels]
        self._count(series.labels, -1)
        self._head.pop(series.number, None)
        self.index.remove(series.number, series.labels)

    # Loading (called by StoreFiles)

    def adopt_block(self, block: SampleBlock, labels: Sequence[Labels]) -> None:
        """Add a block that was read from a file. The keys of its `places` are indices into `labels`."""
        places = {}
        for position, one in enumerate(labels):
            series = self.series(one)
            if series is not None:
                places[series.number] = block.places[position]
                series.blocks += 1
                series.last = max(series.last, block.end)
        block.places = places
        self.blocks.append(block)

    def replay(self, labels: dict[int, Labels], samples: tuple[array[int], array[int], array[float]]) -> None:
        """Add the samples of a journal's record. labels: the labels of series, by their numbers in the journal."""
        by_number: dict[int, TimeSeries | None] = {}
        if not self._head_samples:
            self._head_begin = max(samples[1], default=0)
        for number, time, value in zip(*samples, strict=True):
            if number not in by_number:
                by_number[number] = self.series(labels[number]) if number in labels else None
            series = by_number[number]
            if series is None or time <= series.last:
                continue
            self._head_samples += 1
            series.values.append(value)
            series.times.append(time)
            series.last = time
            self._head[series.number] = series

    def close(self) -> None:
        """Close the files. Samples that are not in a block are in the journal."""
        if self._files is not None:
            self._files.journal.close()
