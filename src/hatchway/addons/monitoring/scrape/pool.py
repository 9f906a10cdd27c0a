"""The pool of targets: scrapes each target at its interval, and starts and ends scrapers when targets change."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from hatchway.addons.monitoring.scrape.target import ScrapeTarget
from hatchway.addons.monitoring.scrape.targetscraper import ScrapeLimits, SeriesTexts, TargetScraper
from hatchway.addons.monitoring.scrape.textformat import MetricFacts
from hatchway.addons.monitoring.tsdb.labels import Labels
from hatchway.addons.monitoring.tsdb.store import TimeSeriesStore

log = logging.getLogger(__name__)

_MOST_TARGETS = 1000
_MOST_METRICS = 10_000
# A scrape that is at most this many milliseconds late gets the time at which it was due: regular times compress well.
_TOLERANCE = 50

Key = tuple[str, str, Labels, bool]


class ScrapePool:
    """Scrapes targets until it is closed.

    Args:
        store: stores the samples.
        limits: the limits of each scrape.

    Attributes:
        metadata: the type, help and unit of each metric, as targets give them, for the API.
    """

    def __init__(self, store: TimeSeriesStore, limits: ScrapeLimits | None = None) -> None:
        self.limits = limits or ScrapeLimits()
        self.metadata: dict[str, list[dict[str, str]]] = {}
        self._store = store
        self._texts = SeriesTexts()
        self._scrapers: dict[Key, TargetScraper] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    def update(self, targets: Iterable[ScrapeTarget]) -> None:
        """Replace the set of targets."""
        wanted: dict[Key, ScrapeTarget] = {}
        for target in targets:
            if len(wanted) >= _MOST_TARGETS:
                log.warning("there are more than %d targets; the others are not scraped", _MOST_TARGETS)
                break
            wanted[target.key] = target
        for key in [key for key in self._tasks if key not in wanted]:
            self._end(key)
        for key, target in wanted.items():
            if key not in self._tasks:
                scraper = TargetScraper(target, self._store, self.limits, self._texts)
                self._scrapers[key] = scraper
                self._tasks[key] = asyncio.create_task(self._run(scraper), name=f"scrape {target.url}")

    def _end(self, key: Key) -> None:
        self._tasks.pop(key).cancel()
        self._scrapers.pop(key).end(round(time.time() * 1000))

    async def _run(self, scraper: TargetScraper) -> None:
        interval = round(self.limits.interval * 1000)
        # Targets are spread over the interval. A target always has the same offset in it.
        offset = zlib.crc32(repr(scraper.target.key).encode()) % interval
        now = round(time.time() * 1000)
        due = now - (now - offset) % interval
        if now - due > _TOLERANCE:
            due = now
        while True:
            await asyncio.sleep(max(due - time.time() * 1000, 0) / 1000)
            now = round(time.time() * 1000)
            at = due if 0 <= now - due <= _TOLERANCE else now
            try:
                await scraper.scrape(at)
            except Exception:
                # An error of one target must not end the other scrapers. The target is scraped again.
                log.exception("scraping %s failed", scraper.target.url)
            self._note(scraper.facts)
            now = round(time.time() * 1000)
            due = now - (now - offset) % interval + interval

    def _note(self, facts: dict[str, MetricFacts]) -> None:
        for name, fact in facts.items():
            shown = {"type": fact.type, "help": fact.help, "unit": fact.unit}
            known = self.metadata.setdefault(name, []) if len(self.metadata) < _MOST_METRICS else []
            if shown not in known and len(known) < 4:
                known.append(shown)

    def reports(self) -> list[dict[str, Any]]:
        """Return the targets in the form of /api/v1/targets."""
        found = []
        for scraper in self._scrapers.values():
            target = scraper.target
            last = datetime.fromtimestamp(scraper.last, UTC).isoformat().replace("+00:00", "Z")
            found.append(
                {
                    "discoveredLabels": dict(target.discovered),
                    "labels": dict(target.labels),
                    "scrapePool": target.job,
                    "scrapeUrl": target.url,
                    "globalUrl": target.url,
                    "lastError": scraper.error,
                    "lastScrape": last if scraper.last else "0001-01-01T00:00:00Z",
                    "lastScrapeDuration": scraper.duration,
                    "health": scraper.health,
                    "scrapeInterval": f"{self.limits.interval:g}s",
                    "scrapeTimeout": f"{self.limits.timeout:g}s",
                }
            )
        return sorted(found, key=lambda one: (str(one["scrapePool"]), str(one["scrapeUrl"])))

    async def close(self) -> None:
        """End all scrapers. The series are not marked as stale."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        self._scrapers.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
