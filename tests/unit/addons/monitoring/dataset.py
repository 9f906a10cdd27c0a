"""The samples for comparing the answers of real Prometheus and of this project's store.

90 minutes, a sample every 15 s: counters with resets, gauges, a histogram, gaps, staleness markers, NaN and infinities,
samples at irregular times, labels that need quoting. Everything is computed, so that the data are the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from hatchway.addons.monitoring.tsdb.labels import STALE, Labels, make_labels
from hatchway.addons.monitoring.tsdb.store import TimeSeriesStore

START = 1_700_000_000_000
STEP = 15_000
COUNT = 360
END = START + (COUNT - 1) * STEP

Sample = tuple[int, float]
INF, NAN = math.inf, math.nan


def _noise(seed: int) -> Iterator[float]:
    """Yield pseudorandom numbers from 0 to 1, the same on every machine (a linear congruential generator)."""
    state = seed * 7919 + 12345
    while True:
        state = (state * 1_103_515_245 + 12_345) & 0x7FFF_FFFF
        yield state / 0x7FFF_FFFF


def _times() -> range:
    return range(START, END + 1, STEP)


def series() -> list[tuple[Labels, list[Sample]]]:
    """Return all series with their samples, in the order of time."""
    found: list[tuple[Labels, list[Sample]]] = []

    def add(name: str, samples: list[Sample], **labels: str) -> None:
        found.append((make_labels({"__name__": name, **labels}.items()), samples))

    seed = 0
    for job in ("api", "web"):
        for instance in ("a:80", "b:80", "c:81"):
            seed += 1
            noise = _noise(seed)
            down = [time for time in _times() if instance == "b:80" and 100 < (time - START) // STEP < 130]
            add("up", [(time, 0.0 if time in down else 1.0) for time in _times()], job=job, instance=instance)
            for method in ("GET", "POST"):
                for code in ("200", "404", "500"):
                    value, samples = 0.0, []
                    for place, time in enumerate(_times()):
                        value += math.floor(next(noise) * {"200": 50, "404": 5, "500": 2}[code])
                        if instance == "a:80" and place in (97, 98, 211):
                            value = math.floor(next(noise) * 3)
                        if time not in down:
                            samples.append((time, value))
                    labels = {"job": job, "instance": instance, "method": method, "code": code}
                    add("http_requests_total", samples, **labels)
            gauge = [
                (time, 1e9 * (1 + math.sin(place / 20 + seed)) + next(noise)) for place, time in enumerate(_times())
            ]
            add("memory_bytes", gauge, job=job, instance=instance)
            add("memory_limit_bytes", [(time, 2.5e9) for time in _times()], job=job, instance=instance)
            counts = [0.0] * 6
            buckets: list[list[Sample]] = [[] for _ in counts]
            sums: list[Sample] = []
            total = 0.0
            for time in _times():
                for _ in range(5):
                    seconds = next(noise) ** 2 * 3
                    total += seconds
                    for place, bound in enumerate((0.05, 0.1, 0.5, 1.0, 2.5, INF)):
                        counts[place] += seconds <= bound
                for place, count in enumerate(counts):
                    buckets[place].append((time, count))
                sums.append((time, total))
            for bound, samples in zip(("0.05", "0.1", "0.5", "1", "2.5", "+Inf"), buckets, strict=True):
                add("latency_seconds_bucket", samples, job=job, instance=instance, le=bound)
            add("latency_seconds_sum", sums, job=job, instance=instance)
            add("latency_seconds_count", buckets[-1], job=job, instance=instance)
            version = "1.2.3" if instance != "c:81" else "1.3.0-rc.1"
            add("build_info", [(time, 1.0) for time in _times()], job=job, instance=instance, version=version)
    specials = {
        "nan": [NAN], "inf": [INF], "minus_inf": [-INF], "mixed": [1.0, NAN, 3.0], "infs": [1.0, INF, 2.0],
        "both": [INF, -INF, 1.0], "zero": [0.0], "minus_zero": [-0.0], "negative": [-5.0, -7.25], "huge": [1.7e308],
        "tiny": [5e-324], "large": [1e21, 123456789012345680000.0], "small": [1e-7, 1.5e-6], "third": [1 / 3],
    }  # fmt: skip
    for kind, values in specials.items():
        add("special", [(time, values[place % len(values)]) for place, time in enumerate(_times())], kind=kind)
    gaps = [(time, float(place)) for place, time in enumerate(_times()) if place % 60 < 30]
    add("gappy", gaps, kind="gap")
    stale = []
    for place, time in enumerate(_times()):
        if place % 40 < 20:
            stale.append((time, place * 1.5))
        elif place % 40 == 20:
            stale.append((time, STALE))
    add("gappy", stale, kind="stale")
    noise = _noise(99)
    odd = [(time + math.floor(next(noise) * 9000), 20 + 5 * next(noise)) for time in _times()]
    add("temperature", odd, room="hall")
    add("temperature", [(time + 7, 18.5) for time in _times()][::3], room="cellar")
    add("once", [(START + 200 * STEP + 1, 42.0)], kind="single")
    add("once", [(START + 200 * STEP + 1, 1.0), (START + 202 * STEP, 5.0)], kind="twice")
    add("quoted", [(time, 1.0) for time in _times()], path='C:\\dir "x"\n', word="ü→日本", job="api")
    for le, count in (("0.1", 5.0), ("0.2", 3.0), ("0.20", 1.0), ("1", 9.0), ("+Inf", 10.0)):
        add("odd_bucket", [(time, count) for time in _times()], le=le, kind="not_monotonic")
    for le, count in (("0.1", 5.0), ("0.2", 8.0)):
        add("odd_bucket", [(time, count) for time in _times()], le=le, kind="no_inf")
    for le, count in (("x", 5.0), ("-1", 3.0), ("0", 5.0), ("+Inf", 8.0)):
        add("odd_bucket", [(time, count) for time in _times()], le=le, kind="below_zero")
    for le, count in (("0.1", 0.0), ("+Inf", 0.0)):
        add("odd_bucket", [(time, count) for time in _times()], le=le, kind="empty")
    add("odd_bucket", [(time, 7.0) for time in _times()], le="+Inf", kind="lonely")
    add("odd_bucket", [(time, NAN) for time in _times()], le="0.1", kind="nan")
    add("odd_bucket", [(time, 4.0) for time in _times()], le="+Inf", kind="nan")
    add("clock_seconds", [(time, time / 1000 + 86_400 * 37 * (place - 180)) for place, time in enumerate(_times())])
    changed = [("left", "1"), ("right", "2")]
    for place, (side, value) in enumerate(changed):
        samples = [(time, float(value)) for time in _times() if (time - START) // STEP // 180 == place]
        add("moved", samples, side=side, job="api")
    return found


def filled(store: TimeSeriesStore) -> TimeSeriesStore:
    """Return a store with all samples, half of them in a block."""
    rows = series()
    known = [(store.series(labels), samples) for labels, samples in rows]
    for first, last in ((START, START + 180 * STEP), (START + 180 * STEP, END + STEP)):
        store.append(
            (one, time, value)
            for one, samples in known
            if one is not None
            for time, value in samples
            if first <= time < last
        )
        if first == START:
            for _ in store.compact():
                pass
    return store
