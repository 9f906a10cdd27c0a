"""Scrapes: samples and labels, staleness as in Prometheus, failures, and hostile targets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from hatchway.addons.monitoring.promql.grid import QueryBudget
from hatchway.addons.monitoring.promql.parser import parse
from hatchway.addons.monitoring.promql.query import instant
from hatchway.addons.monitoring.scrape.pool import ScrapePool
from hatchway.addons.monitoring.scrape.target import ScrapeError, ScrapeTarget
from hatchway.addons.monitoring.scrape.targetscraper import ScrapeLimits, SeriesTexts, TargetScraper
from hatchway.addons.monitoring.tsdb.labels import make_labels
from hatchway.addons.monitoring.tsdb.matchers import Matcher
from hatchway.addons.monitoring.tsdb.store import StoreLimits, TimeSeriesStore

_START = 1_700_000_000_000


class _Source:
    """A target that answers with `pieces`; an exception among them is raised."""

    def __init__(self, *pieces: str | Exception, kind: str = "text/plain") -> None:
        self.pieces = pieces
        self.kind = kind

    async def fetch(self, seconds: float) -> AsyncGenerator[tuple[str, bytes], None]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield self.kind, piece.encode()


def _scraper(
    source: object, store: TimeSeriesStore | None = None, **limits: float
) -> tuple[TargetScraper, TimeSeriesStore]:
    store = store or TimeSeriesStore()
    target = ScrapeTarget("app", "http://a:1/metrics", make_labels([("job", "app"), ("instance", "a:1")]), source)  # type: ignore[arg-type]
    return TargetScraper(target, store, ScrapeLimits(**limits)), store  # type: ignore[arg-type]


def _ask(store: TimeSeriesStore, query: str, at: int) -> dict[tuple[tuple[str, str], ...], float]:
    found = instant(store, parse(query), at, QueryBudget(10**6, 60))
    return {labels: values[0] for labels, _, values in found.series if values[0] is not None}


def _one(store: TimeSeriesStore, query: str, at: int) -> float:
    (value,) = _ask(store, query, at).values()
    return value


async def test_samples_get_the_targets_labels_and_scrape_reports_are_stored() -> None:
    scraper, store = _scraper(_Source('m{instance="mine",', 'x="1"} 5\nn 7\n'))
    await scraper.scrape(_START)
    (labels,) = _ask(store, "m", _START)
    assert dict(labels) == {"__name__": "m", "job": "app", "instance": "a:1", "exported_instance": "mine", "x": "1"}
    assert _one(store, "up", _START) == 1
    assert _one(store, "scrape_samples_scraped", _START) == 2
    assert _one(store, "scrape_series_added", _START) == 2
    await scraper.scrape(_START + 15_000)
    assert _one(store, "scrape_series_added", _START + 15_000) == 0


async def test_honor_labels_keeps_the_labels_of_the_exposed_samples() -> None:
    store = TimeSeriesStore()
    labels = make_labels([("job", "app"), ("instance", "a:1"), ("pod", "exporter")])
    source = _Source('m{pod="web-0",instance=""} 5\nn 7\n')
    target = ScrapeTarget("app", "http://a:1/metrics", labels, source, honor_labels=True)
    await TargetScraper(target, store, ScrapeLimits()).scrape(_START)
    (found,) = _ask(store, "m", _START)
    assert dict(found) == {"__name__": "m", "job": "app", "pod": "web-0"}
    (found,) = _ask(store, "n", _START)
    assert dict(found) == {"__name__": "n", "job": "app", "instance": "a:1", "pod": "exporter"}


async def test_the_state_of_a_large_cluster_is_read() -> None:
    """kube-state-metrics may have more samples than other targets."""
    store = TimeSeriesStore()
    labels = make_labels([("job", "kube-state-metrics"), ("instance", "a:1")])
    source = _Source("".join(f'kube_pod_info{{n="{n}"}} 1\n' for n in range(50)))
    target = ScrapeTarget("kube-state-metrics", "http://a:1/metrics", labels, source, honor_labels=True)
    scraper = TargetScraper(target, store, ScrapeLimits(samples=20, state_samples=50))
    await scraper.scrape(_START)
    assert (scraper.health, scraper.error) == ("up", "")
    assert _one(store, "count(kube_pod_info)", _START) == 50
    other, _ = _scraper(source, samples=20)
    await other.scrape(_START)
    assert "more than 20 samples" in other.error


async def test_a_missing_series_is_stale_at_once_and_can_return() -> None:
    source = _Source("a 1\nb 2\n")
    scraper, store = _scraper(source)
    await scraper.scrape(_START)
    source.pieces = ("a 1\n",)
    await scraper.scrape(_START + 15_000)
    assert _ask(store, "b", _START + 14_999) and not _ask(store, "b", _START + 15_000)
    assert _ask(store, "a", _START + 15_000)
    source.pieces = ("b 3\n",)
    await scraper.scrape(_START + 30_000)
    assert _one(store, "b", _START + 30_000) == 3 and not _ask(store, "a", _START + 30_000)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (_Source(ScrapeError("connection refused")), "connection refused"),
        (_Source("a 1\n", ScrapeError("broken off")), "broken off"),
        (_Source("<html>\n"), "line 1"),
        (_Source("a 1\n", kind="application/openmetrics-text; version=1.0.0"), "EOF"),
        (_Source("x" * 1000, "x" * 1000), "body size limit"),
        (_Source("".join(f"a{{n=\"{n}\"}} 1\n" for n in range(30))), "sample limit"),
        (_Source("a{" + ",".join(f'l{n}="x"' for n in range(20)) + "} 1\n"), "label_limit"),
        (_Source('a{l="' + "x" * 200 + '"} 1\n'), "label_value_length_limit"),
        (_Source('a{l="x",l="y"} 1\n'), "twice"),
    ],
)  # fmt: skip
async def test_a_failed_scrape_has_a_reason_and_ends_the_series(source: _Source, why: str) -> None:
    good = _Source("a 1\n")
    scraper, store = _scraper(good, body=1500, samples=20, labels=10, value=100)
    await scraper.scrape(_START)
    scraper.target.source.pieces, scraper.target.source.kind = source.pieces, source.kind  # type: ignore[attr-defined]
    await scraper.scrape(_START + 15_000)
    assert scraper.health == "down" and why in scraper.error and len(scraper.error) < 300
    assert _one(store, "up", _START + 15_000) == 0
    assert not _ask(store, "a", _START + 15_000)


async def test_a_scrape_of_an_endless_answer_is_given_up() -> None:
    class Endless:
        async def fetch(self, seconds: float) -> AsyncGenerator[tuple[str, bytes], None]:
            while True:
                yield "text/plain", b"#"
                await asyncio.sleep(0.001)

    scraper, store = _scraper(Endless(), timeout=0.1)
    await scraper.scrape(_START)
    assert scraper.health == "down" and "no complete answer in 0.1 s" in scraper.error
    assert _one(store, "up", _START) == 0


async def test_millions_of_series_stop_at_the_stores_limit() -> None:
    store = TimeSeriesStore(StoreLimits(series=100))
    source = _Source("".join(f'a{{n="{n}"}} 1\n' for n in range(5000)))
    scraper, _ = _scraper(source, store)
    await scraper.scrape(_START)
    assert len(store.index) == 100 and store.dropped_series > 4000
    source.pieces = ("".join(f'a{{n="{n}"}} 1\n' for n in range(5000, 10_000)),)
    await scraper.scrape(_START + 15_000)
    assert len(store.index) == 100
    # Series that exist already still get new samples.
    source.pieces = ('a{n="3"} 8\n',)
    await scraper.scrape(_START + 30_000)
    assert _one(store, 'a{n="3"}', _START + 30_000) == 8


async def test_samples_may_have_times_but_not_in_the_far_future() -> None:
    scraper, store = _scraper(_Source(f"a 1 {_START - 60_000}\nb 2 {_START + 3_600_000}\n"))
    await scraper.scrape(_START)
    assert _ask(store, "a", _START - 60_000) and not _ask(store, "a", _START - 60_001)
    assert not _ask(store, "b", _START + 3_600_000)
    # If samples have times of their own, their series get no staleness marker.
    scraper.target.source.pieces = ("c 1\n",)  # type: ignore[attr-defined]
    await scraper.scrape(_START + 15_000)
    assert _ask(store, "a", _START + 15_000)


async def test_samples_with_old_times_are_refused() -> None:
    scraper, store = _scraper(_Source(f"old 1 {_START - 3_600_001}\nnew 1 {_START - 3_599_000}\n"))
    await scraper.scrape(_START)
    assert scraper.health == "up"
    assert not store.select([Matcher("=", "__name__", "old")], 0, _START)
    assert store.select([Matcher("=", "__name__", "new")], 0, _START)


async def test_pieces_may_end_anywhere_and_lines_have_a_maximum_length() -> None:
    text = 'm{x="ä"} 1\n# HELP n é\nn 2'.encode()
    source = _Source()
    source.fetch = lambda seconds: _bytes(text)  # type: ignore[method-assign]
    scraper, store = _scraper(source)
    await scraper.scrape(_START)
    assert (scraper.error, _one(store, 'm{x="ä"}', _START), _one(store, "n", _START)) == ("", 1, 2)
    scraper, _ = _scraper(_Source(*["m" * 100_000] * 6))
    await scraper.scrape(_START)
    assert scraper.error == "a line is longer than 524288 characters"


async def _bytes(text: bytes) -> AsyncGenerator[tuple[str, bytes], None]:
    for at in range(len(text)):
        yield "text/plain", text[at : at + 1]


async def test_cached_texts_have_one_limit_for_all_targets() -> None:
    texts = SeriesTexts(left=1000)
    scrapers = [_scraper(_Source(f'm{{x="{"y" * 600}"}} 1\n'))[0] for _ in range(3)]
    for scraper in scrapers:
        scraper._texts = texts
        await scraper.scrape(_START)
        assert scraper.health == "up"
    assert 0 < texts.left < 1000
    for scraper in scrapers:
        scraper.end(_START + 1)
    assert texts.left == 1000


async def test_the_pool_scrapes_new_targets_and_stops_those_that_are_gone() -> None:
    store = TimeSeriesStore()
    pool = ScrapePool(store, ScrapeLimits(interval=0.05, timeout=0.05))
    source = _Source("# TYPE a counter\n# HELP a What it is.\na 1\n")
    targets = [
        ScrapeTarget("app", f"http://{name}/", make_labels([("job", "app"), ("instance", name)]), source)
        for name in ("x", "y")
    ]
    pool.update(targets)
    for _ in range(1000):
        if len(store.select(parse("a").matchers, 0, 1 << 52)) == 2:  # type: ignore[union-attr]
            break
        await asyncio.sleep(0.01)
    assert pool.metadata["a"] == [{"type": "counter", "help": "What it is.", "unit": ""}]
    pool.update(targets[:1])
    assert [report["labels"]["instance"] for report in pool.reports()] == ["x"]
    (gone,) = store.select(parse('a{instance="y"}').matchers, 0, 1 << 52)  # type: ignore[union-attr]
    assert _ask(store, 'a{instance="y"}', gone.live[-1][0][-1]) == {}
    await pool.close()


async def test_labels_that_the_target_overrides_are_renamed() -> None:
    scraper, store = _scraper(_Source('m{instance="mine",job="yours",exported_job="third"} 5\n'))
    await scraper.scrape(_START)
    (labels,) = _ask(store, "m", _START)
    assert dict(labels) == {
        "__name__": "m", "job": "app", "instance": "a:1",
        "exported_instance": "mine", "exported_job": "third", "exported_exported_job": "yours",
    }  # fmt: skip
