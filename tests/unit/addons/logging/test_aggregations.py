"""Aggregations over real indices, compared with values computed by hand and with a simple implementation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.addons.logging import search
from hatchway.addons.logging.documentstore import LoggingStore
from hatchway.addons.logging.problems import EsProblem
from hatchway.addons.logging.searchrequest import parse_request

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LEVELS = ("info", "info", "warn", "error", None)


def lines() -> list[dict[str, Any]]:
    """Return about 60 log lines of two days, with 40 minutes between them."""
    found = []
    for number in range(60):
        level = LEVELS[number % 5]
        found.append(
            {
                "@timestamp": (BEGIN + timedelta(minutes=40 * number)).isoformat().replace("+00:00", "Z"),
                "log": f"line {number}",
                **({"level": level} if level else {}),
                "kubernetes": {"namespace_name": f"ns-{number % 3}", "pod_name": f"pod-{number % 7}"},
                "ms": number / 2,
                "ok": number % 2 == 0,
            }
        )
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggingStore]:
    made = LoggingStore(tmp_path_factory.mktemp("store"), 10**9)
    for number, line in enumerate(lines()):
        made.write(f"logs-{line['@timestamp'][:10]}", str(number), json.dumps(line).encode())
    made.write("other", "1", b'{"log": "no time", "when": "2026-01-01", "level": "info"}')
    made.write("other", "2", b'{"log": "no time", "level": "2026-01-01T00:00:00Z"}')
    yield made
    made.close()


def ask(store: LoggingStore, aggs: Any, indices: str = "logs-*", **body: Any) -> dict[str, Any]:
    wanted = parse_request({"size": 0, "aggs": aggs, **body}, {})
    answer: dict[str, Any] = search.run(store.resolve(indices), wanted)["aggregations"]
    return answer


def counted(result: dict[str, Any]) -> dict[Any, int]:
    return {bucket["key"]: bucket["doc_count"] for bucket in result["buckets"]}


def test_counts_of_terms_are_summed_over_indices(store: LoggingStore) -> None:
    found = ask(store, {"n": {"terms": {"field": "kubernetes.namespace_name.keyword"}}})["n"]
    assert counted(found) == {"ns-0": 20, "ns-1": 20, "ns-2": 20}
    assert (found["sum_other_doc_count"], found["doc_count_error_upper_bound"]) == (0, 0)
    assert list(counted(ask(store, {"n": {"terms": {"field": "level.keyword"}}})["n"])) == ["info", "error", "warn"]
    fewer = ask(store, {"n": {"terms": {"field": "level.keyword", "size": 1, "missing": "none"}}})["n"]
    assert (counted(fewer), fewer["sum_other_doc_count"]) == ({"info": 24}, 36)
    by_key = ask(store, {"n": {"terms": {"field": "level.keyword", "order": {"_key": "desc"}}}})["n"]
    assert list(counted(by_key)) == ["warn", "info", "error"]


def test_terms_of_other_types(store: LoggingStore) -> None:
    found = ask(
        store, {"ok": {"terms": {"field": "ok"}}, "ms": {"terms": {"field": "ms", "size": 2, "order": {"_key": "asc"}}}}
    )
    assert {bucket["key_as_string"]: bucket["doc_count"] for bucket in found["ok"]["buckets"]} == {
        "true": 30,
        "false": 30,
    }
    assert counted(found["ms"]) == {0: 1, 0.5: 1}
    texts = ask(store, {"l": {"terms": {"field": "level.keyword"}}}, "other")
    assert counted(texts["l"]) == {"2026-01-01T00:00:00Z": 1, "info": 1}, "a text that spells a date stays a text"


def test_a_histogram_of_dates_with_terms(store: LoggingStore) -> None:
    wanted = {
        "h": {
            "date_histogram": {"field": "@timestamp", "fixed_interval": "6h"},
            "aggs": {"l": {"terms": {"field": "level.keyword", "missing": "none"}}},
        }
    }
    buckets = ask(store, wanted, indices="")["h"]["buckets"]
    assert buckets[0]["key_as_string"] == "2026-01-01T00:00:00.000Z"
    assert buckets[0]["key"] == int(BEGIN.timestamp() * 1000)
    assert [bucket["doc_count"] for bucket in buckets] == [9, 9, 9, 9, 9, 9, 6]
    assert all(sum(counted(bucket["l"]).values()) == bucket["doc_count"] for bucket in buckets)
    assert counted(buckets[0]["l"]) == {"info": 4, "none": 1, "warn": 2, "error": 2}


def test_empty_intervals(store: LoggingStore) -> None:
    shape = {"field": "@timestamp", "fixed_interval": "1m"}
    query = {"range": {"@timestamp": {"lt": "2026-01-01T00:41:00Z"}}}
    found = ask(store, {"h": {"date_histogram": shape}}, query=query)["h"]["buckets"]
    assert [bucket["doc_count"] for bucket in found] == [1, *[0] * 39, 1]
    found = ask(store, {"h": {"date_histogram": {**shape, "min_doc_count": 1}}}, query=query)["h"]["buckets"]
    assert [bucket["doc_count"] for bucket in found] == [1, 1]
    bounds = {"min": "2025-12-31T23:59:00Z", "max": "2026-01-01T00:00:59Z"}
    found = ask(store, {"h": {"date_histogram": {**shape, "extended_bounds": bounds}}}, query={"match_none": {}})
    assert [bucket["key_as_string"][11:16] for bucket in found["h"]["buckets"]] == ["23:59", "00:00"]


@pytest.mark.parametrize(
    ("more", "first"),
    [
        ({"calendar_interval": "day"}, "2026-01-01T00:00"),
        ({"calendar_interval": "week"}, "2025-12-29T00:00"),  # a Monday
        ({"fixed_interval": "1d", "time_zone": "+02:00"}, "2025-12-31T22:00"),
        ({"fixed_interval": "1d", "time_zone": "Asia/Tokyo"}, "2025-12-31T15:00"),
        ({"fixed_interval": "1d", "offset": "+6h"}, "2025-12-31T06:00"),
    ],
)
def test_where_intervals_begin(store: LoggingStore, more: dict[str, str], first: str) -> None:
    found = ask(store, {"h": {"date_histogram": {"field": "@timestamp", **more}}})["h"]["buckets"]
    assert found[0]["key_as_string"].startswith(first)


def test_numbers(store: LoggingStore) -> None:
    wanted = {
        "by": {"terms": {"field": "ok"}, "aggs": {"a": {"avg": {"field": "ms"}}, "m": {"max": {"field": "ms"}}}},
        "s": {"stats": {"field": "ms"}},
        "c": {"value_count": {"field": "level.keyword"}},
        "first": {"min": {"field": "@timestamp"}},
        "h": {"histogram": {"field": "ms", "interval": 10}},
    }
    found = ask(store, wanted, indices="")
    assert {bucket["key"]: (bucket["a"]["value"], bucket["m"]["value"]) for bucket in found["by"]["buckets"]} == {
        1: (14.5, 29.0),
        0: (15.0, 29.5),
    }
    assert found["s"] == {"count": 60, "min": 0.0, "max": 29.5, "avg": 14.75, "sum": 885.0}
    assert found["c"] == {"value": 50}
    assert found["first"] == {"value": BEGIN.timestamp() * 1000, "value_as_string": "2026-01-01T00:00:00.000Z"}
    assert counted(found["h"]) == {0: 20, 10: 20, 20: 20}


def test_filters(store: LoggingStore) -> None:
    wanted = {
        "f": {"filters": {"filters": {"bad": {"term": {"level.keyword": "error"}}, "none": {"match_none": {}}}},
              "aggs": {"n": {"terms": {"field": "kubernetes.namespace_name.keyword", "size": 1}}}},
        "one": {"filter": {"range": {"ms": {"gte": 10}}}},
        "m": {"missing": {"field": "level"}},
    }  # fmt: skip
    found = ask(store, wanted, query={"term": {"ok": True}})
    assert found["f"]["buckets"]["bad"]["doc_count"] == 6
    assert found["f"]["buckets"]["bad"]["n"]["buckets"][0]["doc_count"] == 2
    assert found["f"]["buckets"]["none"] == {
        "doc_count": 0,
        "n": {"doc_count_error_upper_bound": 0, "sum_other_doc_count": 0, "buckets": []},
    }
    assert (found["one"], found["m"]) == ({"doc_count": 20}, {"doc_count": 6})


def test_unknown_fields_have_no_buckets(store: LoggingStore) -> None:
    found = ask(store, {"a": {"terms": {"field": "nope"}}, "b": {"avg": {"field": "nope"}}})
    assert (found["a"]["buckets"], found["b"]) == ([], {"value": None})


@pytest.mark.parametrize(
    ("aggs", "kind"),
    [
        ([], "parsing_exception"),
        ({"a": {}}, "parsing_exception"),
        ({"a": {"terms": {}}}, "illegal_argument_exception"),
        ({"a": {"terms": {"field": "level.keyword"}, "avg": {"field": "ms"}}}, "parsing_exception"),
        ({"a": {"terms": {"field": "level"}}}, "search_phase_execution_exception"),
        ({"a": {"terms": {"field": "log.keyword"}}}, "search_phase_execution_exception"),
        ({"a": {"avg": {"field": "level.keyword"}}}, "search_phase_execution_exception"),
        ({"a": {"terms": {"field": "level.keyword", "size": 10**6}}}, "illegal_argument_exception"),
        ({"a": {"terms": {"field": "level.keyword", "order": {"x": "asc"}}}}, "illegal_argument_exception"),
        ({"a": {"date_histogram": {"field": "@timestamp"}}}, "illegal_argument_exception"),
        ({"a": {"date_histogram": {"field": "@timestamp", "calendar_interval": "1M"}}}, "illegal_argument_exception"),
        ({"a": {"date_histogram": {"field": "@timestamp", "fixed_interval": "1ms"}}}, "too_many_buckets_exception"),
        ({"a": {"date_histogram": {"field": "ms", "fixed_interval": "1d"}}}, "search_phase_execution_exception"),
        ({"a": {"histogram": {"field": "ms", "interval": 0}}}, "illegal_argument_exception"),
        ({"a": {"filter": {"bogus": {}}}}, "parsing_exception"),
        ({"a": {"cardinality": {"field": "ms"}}}, "illegal_argument_exception"),
        ({f"a{n}": {"avg": {"field": "ms"}} for n in range(200)}, "illegal_argument_exception"),
    ],
)
def test_bad_requests(store: LoggingStore, aggs: Any, kind: str) -> None:
    with pytest.raises(EsProblem) as caught:
        ask(store, aggs)
    assert (caught.value.status, caught.value.kind) == (400, kind)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 100_000_000), st.integers(-(10**9), 10**9), st.integers(1, 12), st.booleans())
def test_any_histogram(store: LoggingStore, interval: int, offset: int, size: int, ok: bool) -> None:
    shape = {"field": "@timestamp", "fixed_interval": f"{interval}ms", "offset": f"{offset}ms", "min_doc_count": 1}
    wanted = {
        "h": {"date_histogram": shape, "aggs": {"p": {"terms": {"field": "kubernetes.pod_name.keyword", "size": size}}}}
    }
    found = ask(store, wanted, query={"term": {"ok": ok}})["h"]["buckets"]
    expected: dict[int, Counter[str]] = {}
    for line in lines():
        if line["ok"] == ok:
            moment = round(datetime.fromisoformat(line["@timestamp"]).timestamp() * 1000)
            begin = (moment - offset) // interval * interval + offset
            expected.setdefault(begin, Counter())[line["kubernetes"]["pod_name"]] += 1
    assert {bucket["key"]: bucket["doc_count"] for bucket in found} == {
        begin: counts.total() for begin, counts in expected.items()
    }
    for bucket in found:
        counts = expected[bucket["key"]]
        assert [one["doc_count"] for one in bucket["p"]["buckets"]] == sorted(counts.values(), reverse=True)[:size]


def test_an_index_of_an_older_version(tmp_path: Path) -> None:
    """Its documents are found, new log lines go to another index, aggregations report its documents as missing."""
    import tantivy

    from hatchway.addons.logging import index as module

    first = LoggingStore(tmp_path, 10**9)
    first.create("logstash-2026.01.01")
    first.close()
    directory = tmp_path / "indices/logstash-2026.01.01"
    meta = json.loads((directory / "meta.json").read_bytes())
    del meta["format"]
    (directory / "meta.json").write_text(json.dumps(meta))
    for file in (directory / "data").iterdir():
        file.unlink()
    tantivy.Index(module._schema(1), str(directory / "data"))
    second = LoggingStore(tmp_path, 10**9)
    assert second.log_index("2026.01.01") == "logstash-2026.01.01-000002"
    for name in ("logstash-2026.01.01", "logstash-2026.01.01-000002"):
        second.write(name, "1", b'{"@timestamp": "2026-01-01T00:00:00Z", "log": "x", "level": "info"}')
    wanted = parse_request({"aggs": {"l": {"terms": {"field": "level.keyword"}}}}, {})
    answer = search.run(second.resolve(""), wanted)
    assert answer["hits"]["total"]["value"] == 2
    assert counted(answer["aggregations"]["l"]) == {"info": 1}
    assert answer["_shards"]["failed"] == 1
    assert answer["_shards"]["failures"][0]["index"] == "logstash-2026.01.01"
    second.close()
