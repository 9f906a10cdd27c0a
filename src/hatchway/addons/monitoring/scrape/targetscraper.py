"""Scrapes one target: fetches, parses and appends samples, and marks series that have ended (`scrape/scrape.go`)."""

from __future__ import annotations

import asyncio
import codecs
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from hatchway.addons.monitoring.scrape.target import ScrapeError, ScrapeTarget
from hatchway.addons.monitoring.scrape.textformat import ExpositionError, ExpositionParser, MetricFacts, parse_series
from hatchway.addons.monitoring.tsdb.labels import METRIC_NAME, STALE, make_labels
from hatchway.addons.monitoring.tsdb.store import TimeSeries, TimeSeriesStore

# After this many lines, other tasks of the event loop may run.
_SLICE = 1000
# Milliseconds. Samples that are further in the future (`maxAheadTime`) or in the past (`tsdb/head.go`: half a block)
# than this are refused.
_AHEAD = 10 * 60 * 1000
_BEHIND = 60 * 60 * 1000
# The longest line, characters.
_LONGEST_LINE = 512 * 1024
_REPORTS = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
)


@dataclass(slots=True)
class SeriesTexts:
    """The memory for the texts of series. With these texts, scrapers find series without parsing the labels again.

    left: the characters that are still free.
    """

    left: int = 64 << 20


@dataclass(frozen=True, slots=True)
class ScrapeLimits:
    """The limits of a scrape.

    interval: seconds between two scrapes.
    timeout: the longest time for one scrape in seconds; at most `interval`.
    body: the maximum number of bytes of the metrics.
    samples: the maximum number of samples of a target.
    state_body, state_samples: the same for kube-state-metrics, which has several series for each object of the cluster.
    labels: the maximum number of labels of a series.
    value: the maximum number of characters of a label's value.
    """

    interval: float = 15.0
    timeout: float = 10.0
    body: int = 16 << 20
    samples: int = 20_000
    state_body: int = 48 << 20
    state_samples: int = 100_000
    labels: int = 64
    value: int = 4096

    def of_target(self, target: ScrapeTarget) -> ScrapeLimits:
        """Return the limits of one target. Only kube-state-metrics, which has larger limits, has `honor_labels`."""
        if not target.honor_labels:
            return self
        return replace(self, body=self.state_body, samples=self.state_samples)


class TargetScraper:
    """Scrapes one target.

    Args:
        target: the target.
        store: gets the samples.
        limits: the limits of a scrape.
        texts: the memory for the texts of series; shared with the other targets.
        clock: returns the time in seconds since the epoch.

    Attributes:
        health: `unknown`, `up` or `down`.
        error: why the last scrape has failed; "" when it has not.
        last: the time of the last scrape, in seconds since the epoch; 0 before the first.
        duration: how long it took, in seconds.
    """

    def __init__(
        self,
        target: ScrapeTarget,
        store: TimeSeriesStore,
        limits: ScrapeLimits,
        texts: SeriesTexts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.target = target
        self.health = "unknown"
        self.error = ""
        self.last = 0.0
        self.duration = 0.0
        self._store = store
        self._limits = limits.of_target(target)
        self._clock = clock
        self._texts = texts if texts is not None else SeriesTexts()
        self._parser = ExpositionParser()
        # The series of each text; None for a series that cannot be stored.
        self._known: dict[str, TimeSeries | None] = {}
        self._known_text = 0
        # The series of the last scrape whose samples had no time in the text.
        self._current: set[TimeSeries] = set()
        self._reports: list[TimeSeries] = []
        # How many samples the present or the last scrape has read, even if it failed.
        self._scraped = 0

    @property
    def facts(self) -> dict[str, MetricFacts]:
        """Return the type, help and unit of the target's metrics."""
        return self._parser.facts

    async def scrape(self, at: int) -> None:
        """Scrape once. at: the time of the samples, in milliseconds. An error is stored in `error`."""
        started = self._clock()
        batch: list[tuple[TimeSeries, int, float]] = []
        current: set[TimeSeries] = set()
        self._scraped = 0
        try:
            async with asyncio.timeout(self._limits.timeout):
                await self._read(at, batch, current)
            self.health, self.error = "up", ""
        except (ScrapeError, ExpositionError) as error:
            self._fail(str(error))
        except TimeoutError:
            self._fail(f"no complete answer in {self._limits.timeout:g} s")
        if self.health != "up":
            batch.clear()
            current.clear()
        self.last, self.duration = started, self._clock() - started
        batch += [(series, at, STALE) for series in self._current - current]
        scraped = float(self._scraped)
        values = (float(self.health == "up"), self.duration, scraped, scraped, float(len(current - self._current)))
        self._current = current
        batch += [(series, at, value) for series, value in zip(self._own(), values, strict=False)]
        self._store.append(batch)
        if len(self._known) > 2 * self._limits.samples:
            # Drop all texts, because texts of ended series are not dropped one by one.
            self._forget_texts()

    def _fail(self, why: str) -> None:
        self.health, self.error = "down", why

    def end(self, at: int) -> None:
        """Mark all series as stale, because the target does not exist any more. at: milliseconds."""
        self._store.append([(series, at, STALE) for series in (*self._current, *self._reports)])
        self._current.clear()
        self._forget_texts()

    def _forget_texts(self) -> None:
        self._texts.left += self._known_text
        self._known_text = 0
        self._known.clear()

    async def _read(self, at: int, batch: list[tuple[TimeSeries, int, float]], current: set[TimeSeries]) -> None:
        """Fetch the metrics, and add their samples to `batch`.

        Only the incomplete last line of the text is kept in memory.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        size, rest = 0, ""
        self._parser.begin()
        async with aclosing(self.target.source.fetch(self._limits.timeout)) as fetched:
            async for kind, piece in fetched:
                size += len(piece)
                if size > self._limits.body:
                    raise ScrapeError(f"body size limit exceeded: more than {self._limits.body} bytes")
                self._parser.openmetrics = kind.startswith("application/openmetrics-text")
                *lines, rest = (rest + decoder.decode(piece)).split("\n")
                if len(rest) > _LONGEST_LINE:
                    raise ScrapeError(f"a line is longer than {_LONGEST_LINE} characters")
                await self._parse(lines, at, batch, current)
        await self._parse([rest + decoder.decode(b"", final=True)], at, batch, current)
        self._parser.finish()

    async def _parse(
        self, lines: list[str], at: int, batch: list[tuple[TimeSeries, int, float]], current: set[TimeSeries]
    ) -> None:
        """Add the samples of lines to `batch`."""
        known = self._known
        for sample in self._parser.parse(lines):
            if self._scraped >= self._limits.samples:
                raise ScrapeError(f"sample limit exceeded: more than {self._limits.samples} samples")
            if sample.series in known:
                series = known[sample.series]
            else:
                series = self._series(sample.series)
                if self._texts.left >= len(sample.series):
                    known[sample.series] = series
                    self._texts.left -= len(sample.series)
                    self._known_text += len(sample.series)
            self._scraped += 1
            if not self._scraped % _SLICE:
                await asyncio.sleep(0)
            if series is None:
                continue
            if sample.time is None:
                if series not in current:
                    current.add(series)
                    batch.append((series, at, sample.value))
            elif at - _BEHIND <= sample.time <= at + _AHEAD:
                batch.append((series, sample.time, sample.value))

    def _series(self, text: str) -> TimeSeries | None:
        """Return the series of a text, with the target's labels added; None when the store has too many series."""
        pairs = parse_series(text)
        if len(pairs) > self._limits.labels:
            raise ScrapeError(f"label_limit exceeded: a series has {len(pairs)} labels: {text[:80]!r}")
        own = dict(self.target.labels)
        labels: dict[str, str] = {}
        for name, value in pairs:
            if len(value) > self._limits.value:
                raise ScrapeError(f"label_value_length_limit exceeded: {name} of {text[:80]!r}")
            labels[name] = value
        if self.target.honor_labels:
            return self._store.series(make_labels({**own, **labels}.items()))
        for name in sorted(set(labels) & set(own)):
            # The target's labels take precedence (`honor_labels: false`).
            renamed = f"exported_{name}"
            while renamed in own or renamed in labels:
                renamed = f"exported_{renamed}"
            labels[renamed] = labels.pop(name)
        return self._store.series(make_labels({**labels, **own}.items()))

    def _own(self) -> list[TimeSeries]:
        if not self._reports:
            names = [make_labels([(METRIC_NAME, name), *self.target.labels]) for name in _REPORTS]
            found = [self._store.series(labels) for labels in names]
            self._reports = [series for series in found if series is not None]
            if len(self._reports) != len(_REPORTS):
                self._reports = []
        return self._reports
