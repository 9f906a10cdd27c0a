"""Queries against real indices: the documents that they find."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatchway.addons.logging import bulk, search
from hatchway.addons.logging.documentstore import LoggingStore
from hatchway.addons.logging.index import AnswerRoom
from hatchway.addons.logging.problems import EsProblem
from hatchway.addons.logging.searchrequest import parse_request

DOCUMENTS: dict[str, dict[str, Any]] = {
    "1": {"user": "kimchy", "text": "Trying out the Search engine", "n": 5, "at": "2009-11-15T14:12:12",
          "tags": ["red", "Green"]},
    "2": {"user": "Bob Smith", "text": "GET /index.html from 10.0.0.1", "n": 7.5, "ok": True, "at": "2026-01-01"},
    "3": {"user": "alice", "text": "search the engine trying", "n": -3, "ok": False,
          "k8s": {"pod": "web-0", "ns": "default"}},
    "4": {"text": "", "n": 2**53, "@timestamp": "2026-01-01T00:00:00.5Z", "k8s": {"pod": "web-1"}},
    "5": {"text": "over_under.score", "@timestamp": "2026-01-01T00:00:00.25Z", "a.b": "dotted", "path": "C:\\x y"},
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggingStore]:
    made = LoggingStore(tmp_path_factory.mktemp("store"), 10**9)
    for id, document in DOCUMENTS.items():
        made.write("first" if id < "4" else "second", id, json.dumps(document).encode())
    yield made
    made.close()


def run(store: LoggingStore, body: Any = None, indices: str = "", **params: str) -> dict[str, Any]:
    return search.run(store.resolve(indices), parse_request(body, params))


def ids(store: LoggingStore, body: Any = None, **params: str) -> set[str]:
    answer = run(store, body, **params)
    found = [hit["_id"] for hit in answer["hits"]["hits"]]
    assert len(found) == len(set(found)) == answer["hits"]["total"]["value"]
    counted = search.count(store.resolve(""), parse_request(body, params).query)
    assert counted["count"] == len(found)
    return set(found)


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("user:kimchy", "1"),
        ("user:KIMCHY", "1"),
        ("user:nobody", ""),
        ("nofield:x", ""),
        ("kimchy", "1"),
        ("user:bob", "2"),
        ("user.keyword:bob", ""),
        ('user.keyword:"Bob Smith"', "2"),
        ("text:(trying AND out)", "1"),
        ('"the search engine"', "1"),
        ('"search engine"~1', "13"),
        ("10.0.0.1", "2"),
        ("10.0.1.0", ""),
        ("text:over_under.score", "5"),
        ("k8s.pod:web-0", "3"),
        ("k8s.pod:web", "34"),
        ("k8s.\\*:default", "3"),
        ("a.b:dotted", "5"),
        ("n:5", "1"),
        ("n:7.5", "2"),
        ("n:[5 TO 7.5]", "12"),
        ("n:{5 TO 7.5]", "2"),
        ("n:>=5", "124"),
        ("n:<0", "3"),
        ("n:9007199254740992", "4"),
        ("ok:true", "2"),
        ("ok:false", "3"),
        ("tags:green", "1"),
        ("tags.keyword:Green", "1"),
        ("at:[2009 TO 2010]", "1"),
        ("at:2026-01-01", "2"),
        ("at:>2009-11-15", "2"),
        ("@timestamp:[2026-01-01T00:00:00.3 TO *]", "4"),
        ("@timestamp:{2026-01-01T00:00:00.25 TO 2026-01-01T00:00:00.5}", ""),
        ("@timestamp:>now-200y", "45"),
        ("user:[alice TO bob]", "3"),
        ("user:kim*", "1"),
        ("user:k?mchy", "1"),
        ("user.keyword:*Smith", "2"),
        ("user.keyword:Bob\\ S*", "2"),
        ("text:/searc.*/", "13"),
        ("ki*", "1"),
        ("user:kimhcy~", "1"),
        ("path.keyword:C\\:\\\\x*", "5"),
        ("_exists_:ok", "23"),
        ("_exists_:k8s", "34"),
        ("tags:*", "1"),
        ("NOT _exists_:n", "5"),
        ("_id:3", "3"),
        ("*:*", "12345"),
        ("+text:trying -user:alice", "1"),
        ("", ""),
    ],
)
def test_lucene_queries(store: LoggingStore, q: str, expected: str) -> None:
    assert ids(store, q=q) == set(expected)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"match_all": {}}, "12345"),
        ({"match_none": {}}, ""),
        ({"match": {"text": "trying nothing"}}, "13"),
        ({"match": {"text": {"query": "trying out", "operator": "and"}}}, "1"),
        ({"match": {"text": {"query": "trying out nothing", "minimum_should_match": "60%"}}}, "13"),
        ({"match": {"n": "5"}}, "1"),
        ({"match": {"user": {"query": "kimhcy", "fuzziness": "AUTO"}}}, "1"),
        ({"match_phrase": {"text": "the engine"}}, "3"),
        ({"match_phrase_prefix": {"text": "the eng"}}, "3"),
        ({"match_phrase_prefix": {"text": "eng"}}, "13"),
        ({"multi_match": {"query": "kimchy", "fields": ["text", "user^3"]}}, "1"),
        ({"term": {"user": "kimchy"}}, "1"),
        ({"term": {"user": "Kimchy"}}, ""),
        ({"term": {"user.keyword": {"value": "Bob Smith"}}}, "2"),
        ({"term": {"n": 7.5}}, "2"),
        ({"term": {"ok": True}}, "2"),
        ({"terms": {"user": ["kimchy", "alice"]}}, "13"),
        ({"terms": {"user": []}}, ""),
        ({"terms": {"_id": ["1", "5"]}}, "15"),
        ({"range": {"n": {"gt": -3, "lt": 7.5}}}, "1"),
        ({"range": {"n": {"gte": -3}}}, "1234"),
        ({"range": {"at": {"lte": "2009-11-15"}}}, "1"),
        ({"range": {"@timestamp": {"gte": 1767225600400}}}, "4"),
        ({"range": {"n": {}}}, "1234"),
        ({"bool": {"must": {"match": {"text": "engine"}}, "must_not": [{"term": {"user": "alice"}}]}}, "1"),
        ({"bool": {"filter": {"term": {"user": "alice"}}, "should": [{"term": {"user": "kimchy"}}]}}, "3"),
        ({"bool": {"should": [{"term": {"user": "kimchy"}}, {"term": {"user": "alice"}}]}}, "13"),
        ({"bool": {"should": [{"match": {"text": "trying"}}, {"term": {"n": 5}}], "minimum_should_match": 2}}, "1"),
        ({"bool": {"must": [{"match_all": {}}], "should": [{"term": {"n": 5}}], "minimum_should_match": 1}}, "1"),
        ({"bool": {"must_not": {"exists": {"field": "n"}}}}, "5"),
        ({"bool": {}}, "12345"),
        ({"constant_score": {"filter": {"term": {"user": "kimchy"}}, "boost": 3}}, "1"),
        ({"dis_max": {"queries": [{"term": {"n": 5}}, {"term": {"n": -3}}]}}, "13"),
        ({"query_string": {"query": "kimchy OR alice", "fields": ["user"]}}, "13"),
        ({"query_string": {"query": "trying engine", "default_field": "text", "default_operator": "AND"}}, "13"),
        ({"simple_query_string": {"query": "kimchy (", "fields": ["user"]}}, "1"),
        ({"exists": {"field": "k8s.ns"}}, "3"),
        ({"prefix": {"user": "kim"}}, "1"),
        ({"prefix": {"user.keyword": {"value": "Bob"}}}, "2"),
        ({"wildcard": {"user": "k*y"}}, "1"),
        ({"wildcard": {"user": {"wildcard": "ali?e"}}}, "3"),
        ({"regexp": {"user": "k.mchy|bob"}}, "12"),
        ({"fuzzy": {"user": {"value": "alicee"}}}, "3"),
        ({"ids": {"values": ["2", 3, "x"]}}, "23"),
    ],
)
def test_json_queries(store: LoggingStore, query: Any, expected: str) -> None:
    assert ids(store, {"query": query}) == set(expected)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ([], "parsing_exception"),
        ({"query": []}, "parsing_exception"),
        ({"query": {}}, "illegal_argument_exception"),
        ({"query": {"bogus": {}}}, "parsing_exception"),
        ({"query": {"match": []}}, "parsing_exception"),
        ({"query": {"match": {}}}, "illegal_argument_exception"),
        ({"query": {"match": {"a": 1, "b": 2}}}, "parsing_exception"),
        ({"query": {"match": {"a": [1]}}}, "parsing_exception"),
        ({"query": {"term": {"n": "abc"}}}, "search_phase_execution_exception"),
        ({"query": {"range": {"at": {"gte": "yesterday"}}}}, "search_phase_execution_exception"),
        ({"query": {"range": {"n": {"near": 1}}}}, "parsing_exception"),
        ({"query": {"range": {"n": 1}}}, "parsing_exception"),
        ({"query": {"regexp": {"user": "("}}}, "search_phase_execution_exception"),
        ({"query": {"regexp": {"user": "((a{1000}){1000}){1000}"}}}, "search_phase_execution_exception"),
        ({"query": {"wildcard": {"n": "1*"}}}, "search_phase_execution_exception"),
        ({"query": {"query_string": {"query": "user:"}}}, "search_phase_execution_exception"),
        ({"query": {"bool": {"maybe": []}}}, "parsing_exception"),
        (
            {"query": {"bool": {"should": [{"match_all": {}}], "minimum_should_match": "x"}}},
            "search_phase_execution_exception",
        ),
        ({"query": {"match_all": {"boost": -1}}}, "parsing_exception"),
        ({"size": -1}, "illegal_argument_exception"),
        ({"from": "x"}, "illegal_argument_exception"),
        ({"size": 10_001}, "illegal_argument_exception"),
        ({"sort": [1]}, "illegal_argument_exception"),
        ({"sort": {"n": "sideways"}}, "illegal_argument_exception"),
        ({"sort": "nofield"}, "search_phase_execution_exception"),
        ({"bogus": 1}, "parsing_exception"),
        ({"collapse": {}}, "illegal_argument_exception"),
        ({"_source": 3}, "parsing_exception"),
    ],
)
def test_bad_requests(store: LoggingStore, body: Any, kind: str) -> None:
    with pytest.raises(EsProblem) as caught:
        run(store, body)
    assert caught.value.status == 400
    answer = caught.value.body()
    assert (answer["status"], answer["error"]["type"]) == (400, kind)
    assert answer["error"]["root_cause"][0]["reason"]


def test_queries_nested_too_deep(store: LoggingStore) -> None:
    query: dict[str, Any] = {"match_all": {}}
    for _ in range(500):
        query = {"bool": {"must": [query]}}
    with pytest.raises(EsProblem):
        run(store, {"query": query})
    with pytest.raises(EsProblem):
        run(store, {"query": {"terms": {"n": list(range(2000))}}})


def ordered(store: LoggingStore, *sort: Any, **params: str) -> list[str]:
    body = {"sort": list(sort)} if sort else None
    return [hit["_id"] for hit in run(store, body, **params)["hits"]["hits"]]


def test_order(store: LoggingStore) -> None:
    assert ordered(store, {"n": "asc"}) == ["3", "1", "2", "4", "5"]
    assert ordered(store, {"n": {"order": "desc", "missing": "_first"}}) == ["5", "4", "2", "1", "3"]
    assert ordered(store, {"@timestamp": "desc"})[:2] == ["4", "5"]
    assert ordered(store, {"@timestamp": "asc"})[:2] == ["5", "4"]
    assert set(ordered(store, {"@timestamp": "asc"})[2:]) == {"1", "2", "3"}
    assert ordered(store, "user.keyword")[:3] == ["2", "3", "1"]
    assert ordered(store, "ok", {"n": "desc"})[:2] == ["3", "2"]
    assert ordered(store, sort="n:desc", size="2") == ["4", "2"]
    assert run(store, {"sort": ["@timestamp"]})["hits"]["hits"][0]["sort"] == [1767225600250]
    best = run(store, q="text:trying user:kimchy^9")["hits"]
    assert best["hits"][0]["_id"] == "1" and best["max_score"] == best["hits"][0]["_score"]


def test_pages_and_totals(store: LoggingStore) -> None:
    assert ordered(store, "n", **{"from": "1", "size": "2"}) == ["1", "2"]
    assert ordered(store, "n", **{"from": "9"}) == []
    none = run(store, size="0")["hits"]
    assert (none["total"], none["hits"]) == ({"value": 5, "relation": "eq"}, [])
    assert run(store, {"track_total_hits": 2})["hits"]["total"] == {"value": 2, "relation": "gte"}
    assert "total" not in run(store, {"track_total_hits": False})["hits"]
    assert run(store, indices="second")["hits"]["total"]["value"] == 2
    assert run(store, indices="f*,second")["_shards"]["total"] == 2
    assert run(store, indices="none*")["hits"]["total"]["value"] == 0
    with pytest.raises(EsProblem) as caught:
        run(store, indices="none")
    assert caught.value.status == 404


def test_documents_that_do_not_fit_in_memory_are_refused(store: LoggingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = ({}, {"sort": [{"@timestamp": "asc"}]}, {"sort": [{"n": "asc"}], "query": {"exists": {"field": "n"}}})
    monkeypatch.setattr(search, "AnswerRoom", lambda: AnswerRoom(1500))
    for body in bodies:
        with pytest.raises(EsProblem, match="Data too large") as caught:
            run(store, body)
        assert (caught.value.status, caught.value.kind) == (429, "circuit_breaking_exception")
    assert len(run(store, {"size": 1})["hits"]["hits"]) == 1


def test_source_filtering(store: LoggingStore) -> None:
    def source(body: Any = None, **params: str) -> Any:
        return run(store, {"query": {"ids": {"values": ["3"]}}, **(body or {})}, **params)["hits"]["hits"][0].get(
            "_source"
        )

    assert source() == DOCUMENTS["3"]
    assert source({"_source": False}) is None
    assert source({"_source": "k8s.*"}) == {"k8s": DOCUMENTS["3"]["k8s"]}
    assert source({"_source": ["k8s"]}) == {"k8s": DOCUMENTS["3"]["k8s"]}
    assert source({"_source": {"includes": ["k8s.*", "n"], "excludes": ["*.ns"]}}) == {"k8s": {"pod": "web-0"}, "n": -3}
    assert source(_source="user,n") == {"user": "alice", "n": -3}
    assert source(_source_excludes="text,k8s,ok,n") == {"user": "alice"}


def test_documents_have_versions(tmp_path: Path) -> None:
    store = LoggingStore(tmp_path, 10**9)
    assert store.write("i", "1", b'{"a":1}').result == "created"
    again = store.write("i", "1", b'{"a":2}')
    assert (again.result, again.version) == ("updated", 2)
    with pytest.raises(EsProblem) as caught:
        store.write("i", "1", b"{}", only_new=True)
    assert (caught.value.status, caught.value.kind) == (409, "version_conflict_engine_exception")
    assert store.update("i", "1", b'{"doc":{"b":{"c":1}}}').version == 3
    stored = store.get("i", "1")
    assert stored is not None and stored.document() == {"a": 2, "b": {"c": 1}}
    with pytest.raises(EsProblem):
        store.update("i", "2", b'{"doc":{}}')
    assert store.update("i", "2", b'{"doc":{"x":1},"doc_as_upsert":true}').result == "created"
    assert store.erase("i", "1").result == "deleted"
    assert store.erase("i", "1").result == "not_found"
    assert store.get("i", "1") is None
    store.close()
    reopened = LoggingStore(tmp_path, 10**9)
    assert reopened.indices["i"].count == 1
    assert reopened.write("i", "2", b"{}").version == 2
    assert reopened.indices["i"].mapping.fields["x"] == "long"
    reopened.close()


@pytest.mark.parametrize(
    ("name", "id", "source"),
    [
        ("Upper", "1", b"{}"), ("_x", "1", b"{}"), ("a b", "1", b"{}"), ("..", "1", b"{}"), ("a/b", "1", b"{}"),
        ("x" * 300, "1", b"{}"), ("i", "x" * 600, b"{}"), ("i", "1", b"[]"), ("i", "1", b"{"), ("i", "1", b""),
        ("i", "1", b"\xff"), ("i", "1", b'{"a":NaN}'),
        ("i", "1", b"[" * 100_000), ("i", "1", b'{"":1}'), ("i", "1", b'{"a":1,"a.b":2}'),
    ],
)  # fmt: skip
def test_bad_documents(tmp_path: Path, name: str, id: str, source: bytes) -> None:
    store = LoggingStore(tmp_path, 10**9)
    with pytest.raises(EsProblem) as caught:
        store.write(name, id, source)
    assert caught.value.status == 400
    store.close()


def test_bulk(tmp_path: Path) -> None:
    store = LoggingStore(tmp_path, 10**9)
    lines = [
        {"index": {"_index": "a", "_id": "1"}}, {"n": 1},
        {"create": {"_id": "1"}}, {"n": 2},
        {"create": {"_index": "a", "_id": "1"}}, {"n": 3},
        {"index": {"_index": "a", "_id": 2}}, {"n": "x"},
        {"update": {"_index": "a", "_id": "1"}}, {"doc": {"m": 1}},
        {"delete": {"_index": "a", "_id": "9"}},
        {"delete": {"_index": "none", "_id": "9"}},
        {"index": {}}, {"auto": True},
    ]  # fmt: skip
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    errors, items = bulk.run(store, body, "default")
    assert errors
    assert [next(iter(item.values()))["status"] for item in items] == [201, 201, 409, 400, 200, 404, 404, 201]
    stored = store.get("a", "1")
    assert stored is not None and stored.document() == {"n": 1, "m": 1}
    for malformed in (
        b"",
        b"{}\n",
        b'{"index":{}}\n',
        b'{"index":{}}',
        b"x\n",
        b'{"index":[]}\n{}\n',
        b'{"bogus":{}}\n{}\n',
        b'{"index":{"_id":[]}}\n{}\n',
    ):
        with pytest.raises(EsProblem) as caught:
            bulk.run(store, malformed, "default")
        assert caught.value.status == 400
    store.close()


def test_the_oldest_days_go_first(tmp_path: Path) -> None:
    store = LoggingStore(tmp_path, 10**9)
    for name in ("logstash-2026.01.01", "logstash-2026.01.02", "kept"):
        store.write(name, None, b'{"log":"x"}')
    store.refresh()
    assert store.bound() == []
    store._limit = 1
    assert store.log_index("2026.01.02") == "logstash-2026.01.02-000002"
    store._limit = sum(index.size for index in store.indices.values()) - 1
    assert store.bound() == ["logstash-2026.01.01"]
    assert sorted(store.indices) == ["kept", "logstash-2026.01.02"]
    store._limit = 0
    assert store.bound() == ["logstash-2026.01.02"]
    assert not (tmp_path / "indices" / "logstash-2026.01.01").exists()
    store.close()


def test_a_damaged_index_is_set_aside(tmp_path: Path) -> None:
    store = LoggingStore(tmp_path, 10**9)
    store.write("good", "1", b"{}")
    store.write("bad", "1", b"{}")
    store.close()
    (tmp_path / "indices" / "bad" / "meta.json").write_text("{")
    for _ in range(2):
        again = LoggingStore(tmp_path, 10**9)
        assert list(again.indices) == ["good"]
        again.close()
    assert (tmp_path / "indices" / "bad.damaged").exists()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_any_document_is_stored_as_it_came_or_refused(store: LoggingStore, document: dict[str, Any]) -> None:
    source = json.dumps(document, allow_nan=True).encode()
    try:
        written = store.write("any", None, source)
    except EsProblem as problem:
        assert problem.status == 400
        return
    stored = store.get("any", written.id)
    assert stored is not None and stored.source == source
    store.delete("any")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(alphabet='abn:()[]{}"*?~^/\\+-<>=1. TO', max_size=24))
def test_any_query_is_answered_or_refused(store: LoggingStore, text: str) -> None:
    try:
        run(store, q=text)
    except EsProblem as problem:
        assert problem.status == 400
