"""The evaluator: a range query is an instant query at each step; each query gives a result or an error."""

from __future__ import annotations

import functools
import math
import threading

import pytest
from hypothesis import given, settings

from hatchway.addons.monitoring.promql.errors import PromqlError, QueryCanceled, QueryTimeout, TooManySamples
from hatchway.addons.monitoring.promql.grid import QueryBudget
from hatchway.addons.monitoring.promql.parser import parse
from hatchway.addons.monitoring.promql.query import QueryResult, instant, over_range
from hatchway.addons.monitoring.tsdb.labels import Labels, make_labels
from hatchway.addons.monitoring.tsdb.matchers import Matcher
from hatchway.addons.monitoring.tsdb.store import TimeSeriesStore
from tests.unit.addons.monitoring import dataset
from tests.unit.addons.monitoring.randomqueries import QUERIES

_BEGIN, _STEP, _COUNT = dataset.START + 2_000_000, 333_000, 4


@functools.cache
def _store() -> TimeSeriesStore:
    return dataset.filled(TimeSeriesStore())


def _budget(samples: int = 3_000_000, seconds: float = 60) -> QueryBudget:
    return QueryBudget(samples, seconds)


def _points(result: QueryResult) -> dict[tuple[Labels, int], float]:
    return {
        (labels, time): value
        for labels, times, values in result.series
        for time, value in zip(times, values, strict=True)
        if value is not None
    }


@settings(max_examples=250, deadline=None)
@given(QUERIES)
def test_a_range_query_is_an_instant_query_at_each_step(query: str) -> None:
    node = parse(query)
    steps: dict[tuple[Labels, int], float] = {}
    failed = ""
    for place in range(_COUNT):
        try:
            steps.update(_points(instant(_store(), node, _BEGIN + place * _STEP, _budget())))
        except PromqlError as error:
            failed = str(error)
    end = _BEGIN + (_COUNT - 1) * _STEP
    try:
        whole = _points(over_range(_store(), node, _BEGIN, end, _STEP, _budget()))
    except PromqlError:
        # An error at any step fails the whole query. A subquery may also evaluate times between the steps.
        assert failed or "[" in query
        return
    assert not failed
    assert set(whole) == set(steps)
    for key, value in whole.items():
        same = value == steps[key] or (math.isnan(value) and math.isnan(steps[key]))
        assert same or math.isclose(value, steps[key], rel_tol=1e-9), key


@pytest.mark.parametrize(
    "query",
    [
        "abs(" * 90 + "up" + ")" * 90,
        "sum(" * 90 + "up" + ")" * 90,
        " + ".join(["up"] * 140),
        " or ".join(["up"] * 140),
        "-" * 90 + "up",
        "max_over_time(" * 40 + "up" + "[1m:30s])" * 40,
        "(" * 90 + "1" + ")" * 90,
        "2 ^ " * 90 + "1",
    ],
)
def test_nested_queries_within_the_limit_are_answered(query: str) -> None:
    found: list[object] = []
    # Run in a thread, as in production, because a thread's stack is smaller than the main thread's.
    worker = threading.Thread(target=lambda: found.append(instant(_store(), parse(query), dataset.END, _budget())))
    worker.start()
    worker.join()
    assert len(found) == 1


def test_the_budget_limits_samples_and_time_and_a_disconnected_client_cancels() -> None:
    for query in ("up[100y:1ms]", "sum_over_time(vector(1)[1y:1s])", "http_requests_total[1h]"):
        with pytest.raises(TooManySamples):
            instant(_store(), parse(query), dataset.END, _budget(samples=5000))
    with pytest.raises(TooManySamples):
        over_range(_store(), parse("{job=~'.+'}"), dataset.START, dataset.END, 1000, _budget(samples=50_000))
    with pytest.raises(QueryTimeout):
        instant(_store(), parse("up"), dataset.END, _budget(seconds=-1))
    gone = threading.Event()
    gone.set()
    with pytest.raises(QueryCanceled):
        instant(_store(), parse("up"), dataset.END, QueryBudget(10**6, 60, gone))


def test_queries_during_scrapes_and_compactions_find_each_sample_once() -> None:
    store = TimeSeriesStore()
    series = [store.series(make_labels([("__name__", "m"), ("n", str(n))])) for n in range(50)]
    stop = threading.Event()
    problems: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            for one in store.select([Matcher("=", "__name__", "m")], 0, 1 << 52):
                times = [time for some, _ in one.pieces() for time in some]
                values = [value for _, some in one.pieces() for value in some]
                if times != sorted(set(times)) or any(value != int(value) for value in values):
                    problems.append(f"{one.labels}: {times[:5]} ... {len(times)}")

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for time in range(300):
        store.append([(one, time, float(time)) for one in series if one is not None])
        if time % 20 == 19:
            for _ in store.compact(series_at_once=5):
                pass
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert all(len([time for some, _ in one.pieces() for time in some]) == 300 for one in store.select([], 0, 1 << 52))


@pytest.mark.parametrize(
    "call",
    [
        'label_join({}, "job", "", "job", "job")',
        'label_replace({}, "job", "$1$1", "job", "(.*)")',
    ],
)
def test_labels_that_grow_exponentially_are_an_error(call: str) -> None:
    query = "up"
    for _ in range(30):
        query = call.format(query)
    with pytest.raises(PromqlError, match="longer than 65536 characters"):
        instant(_store(), parse(query), _BEGIN, _budget())


def test_the_text_of_labels_counts_against_the_limit_of_samples() -> None:
    query = 'label_join(up, "a", "' + "x" * 60_000 + '", "job", "job")'
    with pytest.raises(TooManySamples):
        instant(_store(), parse(query), _BEGIN, _budget(samples=2000))
