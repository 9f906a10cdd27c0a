"""PromQL gives the answers that real Prometheus gives to the same queries on the same samples."""

from __future__ import annotations

import functools

import pytest

from hatchway.addons.monitoring.tsdb.store import TimeSeriesStore
from tests.unit.addons.monitoring import answers, dataset
from tests.unit.addons.monitoring.queries import QUERIES


@functools.cache
def _store() -> TimeSeriesStore:
    return dataset.filled(TimeSeriesStore())


@pytest.mark.parametrize("kind", ["instant", "range", "errors"])
def test_answers_are_equal_to_those_of_prometheus(kind: str) -> None:
    theirs = answers.recorded()[kind]
    assert len(theirs) >= 200
    assert answers.differences(_store(), kind, theirs) == []


def test_every_query_has_a_recorded_answer() -> None:
    assert set(QUERIES) <= set(answers.recorded()["range"])
    succeeded = [one for one in answers.recorded()["instant"].values() if one["status"] == "success"]
    assert len([one for one in succeeded if one["data"]["result"]]) > 350
