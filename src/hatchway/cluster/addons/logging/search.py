"""`_search` and `_count`: the request's parameters and body, run over indices, and the answer's shape."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Mapping as Map
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hatchway.cluster.addons.logging import dsl, lucene, values
from hatchway.cluster.addons.logging.index import EsIndex, Hit
from hatchway.cluster.addons.logging.problems import Problem, failed_query, illegal, parsing
from hatchway.cluster.addons.logging.query import MatchAll, Query, QueryError

RESULT_WINDOW = 10_000
TOTAL_HITS = 10_000
_TIMESTAMP = "@timestamp"
# Taken, and without an effect on this server's answers.
_IGNORED = frozenset(
    ("timeout", "version", "seq_no_primary_term", "track_scores", "explain", "stats", "terminate_after", "preference",
     "stored_fields", "docvalue_fields", "script_fields", "indices_boost", "profile", "highlight", "fields")
)  # fmt: skip
_UNSUPPORTED = ("aggs", "aggregations", "collapse", "suggest", "rescore", "search_after", "pit", "slice", "knn")


@dataclass(frozen=True, slots=True)
class Sort:
    """field: a path, "_score" or "_doc"."""

    field: str
    ascending: bool
    missing_first: bool = False


@dataclass(slots=True)
class SearchRequest:
    """source: which fields of `_source` to show (True: all, False: none). total: how far hits are counted: True
    (exactly), False (not told) or a number."""

    query: Query = field(default_factory=MatchAll)
    start: int = 0
    size: int = 10
    sort: tuple[Sort, ...] = ()
    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    source: bool = True
    total: bool | int = TOTAL_HITS
    min_score: float | None = None


def parse_request(body: Any, params: Map[str, str]) -> SearchRequest:
    """From a JSON body (None: no body) and the URL's parameters, which win. Raises Problem 400."""
    request = SearchRequest()
    if body is not None:
        _from_body(request, body)
    if "q" in params:
        operator = params.get("default_operator", "or")
        try:
            request.query = lucene.parse(params["q"], default_field=params.get("df", ""), default_operator=operator)
        except QueryError as error:
            raise failed_query(error.kind, error.message, "_all") from error
    if "from" in params:
        request.start = _whole("from", params["from"])
    if "size" in params:
        request.size = _whole("size", params["size"])
    if "sort" in params:
        request.sort = tuple(_sort_parameter(part) for part in params["sort"].split(",") if part)
    if "track_total_hits" in params:
        request.total = _total(params["track_total_hits"])
    _source_parameters(request, params)
    if request.start < 0:
        raise illegal(f"[from] parameter cannot be negative but was [{request.start}]")
    if request.size < 0:
        raise illegal(f"[size] parameter cannot be negative, found [{request.size}]")
    if request.start + request.size > RESULT_WINDOW:
        raise illegal(
            f"Result window is too large, from + size must be less than or equal to: [{RESULT_WINDOW}] "
            f"but was [{request.start + request.size}]."
        )
    return request


def _from_body(request: SearchRequest, body: Any) -> None:
    if not isinstance(body, dict):
        raise parsing("Expected [START_OBJECT] but found another token")
    for key, value in body.items():
        if key == "query":
            try:
                request.query = dsl.parse(value)
            except QueryError as error:
                if error.kind == "query_shard_exception":
                    raise failed_query(error.kind, error.message, "_all") from error
                raise Problem(400, error.kind, error.message) from error
        elif key == "from":
            request.start = _whole("from", value)
        elif key == "size":
            request.size = _whole("size", value)
        elif key == "sort":
            request.sort = tuple(_sort(one) for one in (value if isinstance(value, list) else [value]))
        elif key == "_source":
            _source(request, value)
        elif key == "track_total_hits":
            request.total = _total(value)
        elif key == "min_score":
            request.min_score = values.number(value)
        elif key in _UNSUPPORTED:
            raise illegal(f"[{key}] is not supported by this server")
        elif key not in _IGNORED:
            raise parsing(f"unknown key [{str(key)[:64]}] for a {_token(value)} in [{str(key)[:64]}].")


def _token(value: Any) -> str:
    if isinstance(value, bool):
        return "VALUE_BOOLEAN"
    if isinstance(value, (dict, list)):
        return "START_OBJECT" if isinstance(value, dict) else "START_ARRAY"
    return "VALUE_STRING" if isinstance(value, str) else "VALUE_NUMBER"


def _whole(name: str, value: Any) -> int:
    try:
        if isinstance(value, (bool, float)):
            raise ValueError
        return int(value)
    except (ValueError, TypeError):
        raise illegal(f"Failed to parse int parameter [{name}] with value [{str(value)[:64]}]") from None


def _total(value: Any) -> bool | int:
    if isinstance(value, bool):
        return value
    if str(value) in ("true", "false"):
        return str(value) == "true"
    return max(0, _whole("track_total_hits", value))


def _sort_parameter(text: str) -> Sort:
    name, _, order = text.partition(":")
    return _sort({name: order} if order else name)


def _sort(value: Any) -> Sort:
    if isinstance(value, str):
        return Sort(value, ascending=value != "_score")
    if not isinstance(value, dict) or len(value) != 1:
        raise illegal("malformed sort format, within the sort array, an object, or an actual string are allowed")
    name, how = next(iter(value.items()))
    missing = "_last"
    order = "desc" if name == "_score" else "asc"
    if isinstance(how, dict):
        missing = how.get("missing", "_last")
        order = how.get("order", order)
    elif how is not None:
        order = how
    if str(order).lower() not in ("asc", "desc"):
        raise illegal(f"Illegal sort order: {str(order)[:64]}")
    return Sort(str(name), str(order).lower() == "asc", missing == "_first")


def _source(request: SearchRequest, value: Any) -> None:
    if isinstance(value, bool):
        request.source = value
    elif isinstance(value, dict):
        includes, excludes = (value.get(key, value.get(f"{key}s", [])) for key in ("include", "exclude"))
        request.includes, request.excludes = _patterns(includes), _patterns(excludes)
    else:
        request.includes = _patterns(value)


def _patterns(value: Any) -> tuple[str, ...]:
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in found):
        raise parsing("Unknown key for a value in [_source].")
    return tuple(found)


def source_filter(params: Map[str, str]) -> SearchRequest:
    """Only `_source`, `_source_includes` and `_source_excludes`."""
    request = SearchRequest()
    _source_parameters(request, params)
    return request


def _source_parameters(request: SearchRequest, params: Map[str, str]) -> None:
    if "_source" in params:
        text = params["_source"]
        if text in ("true", "false", ""):
            request.source = text != "false"
        else:
            request.includes = tuple(text.split(","))
    for name in ("_source_includes", "_source_include"):
        if name in params:
            request.includes = tuple(params[name].split(","))
    for name in ("_source_excludes", "_source_exclude"):
        if name in params:
            request.excludes = tuple(params[name].split(","))


def filtered(source: dict[str, Any], request: SearchRequest) -> dict[str, Any]:
    """The part of a document that `_source` filtering leaves."""
    if not request.includes and not request.excludes:
        return source
    return _filtered(source, "", request.includes, request.excludes)


def _filtered(value: dict[str, Any], path: str, includes: Sequence[str], excludes: Sequence[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, inner in value.items():
        at = f"{path}{name}"
        if any(fnmatch.fnmatchcase(at, pattern) for pattern in excludes):
            continue
        whole = not includes or any(fnmatch.fnmatchcase(at, pattern) for pattern in includes)
        if isinstance(inner, dict):
            part = _filtered(inner, f"{at}.", () if whole else includes, excludes)
            if part or (whole and not inner):
                kept[name] = part
        elif whole:
            kept[name] = inner
    return kept


def run(indices: Sequence[EsIndex], request: SearchRequest) -> dict[str, Any]:
    """Search, and answer as Elasticsearch does. Raises Problem 400."""
    begun = time.monotonic()
    for index in indices:
        index.refresh()
    now = datetime.now(UTC)
    built = [(index, _build(index, request.query, now)) for index in indices]
    first = request.sort[0] if request.sort else Sort("_score", False)
    wanted = request.start + request.size
    if first.field in ("_score", "_doc") or (first.field == _TIMESTAMP and not first.missing_first):
        hits, total = _ordered(built, first, wanted)
    else:
        hits, total = _sorted(built, request.sort)
    if request.min_score is not None and first.field == "_score":
        hits = [hit for hit in hits if hit.key >= request.min_score]
    shown = hits[request.start : wanted]
    answer: dict[str, Any] = {"max_score": None, "hits": [_shown(hit, request, first) for hit in shown]}
    if first.field == "_score" and hits:
        answer["max_score"] = hits[0].key
    if request.total is not False:
        capped = request.total is not True and total > request.total
        answer = {
            "total": {"value": request.total if capped else total, "relation": "gte" if capped else "eq"},
            **answer,
        }
    return {
        "took": int((time.monotonic() - begun) * 1000),
        "timed_out": False,
        "_shards": {"total": len(indices), "successful": len(indices), "skipped": 0, "failed": 0},
        "hits": answer,
    }


def count(indices: Sequence[EsIndex], query: Query) -> dict[str, Any]:
    """How many documents match. Raises Problem 400."""
    total = 0
    now = datetime.now(UTC)
    for index in indices:
        index.refresh()
        total += index.count_matches(_build(index, query, now))
    return {"count": total, "_shards": {"total": len(indices), "successful": len(indices), "skipped": 0, "failed": 0}}


def _build(index: EsIndex, query: Query, now: datetime) -> Any:
    try:
        return index.build(query, now)
    except QueryError as error:
        raise failed_query(error.kind, error.message, index.name) from error


def _ordered(built: list[tuple[EsIndex, Any]], first: Sort, wanted: int) -> tuple[list[Hit], int]:
    order = {"_score": "", "_doc": "seq"}.get(first.field, "time")
    found: list[Hit] = []
    total = 0
    for index, query in built:
        hits, matching = index.search(query, wanted, order, first.ascending)
        found.extend(hits)
        total += matching
    if len(built) > 1:
        timed = [hit for hit in found if hit.key is not None]
        timed.sort(key=lambda hit: hit.key, reverse=not first.ascending)
        found = timed + [hit for hit in found if hit.key is None]
    return found[:wanted], total


def _sorted(built: list[tuple[EsIndex, Any]], order: Sequence[Sort]) -> tuple[list[Hit], int]:
    """By fields that have no column: all matching documents are read, so there may not be too many."""
    found: list[Hit] = []
    total = 0
    known = False
    for index, query in built:
        known = known or index.mapping.resolve(order[0].field) is not None
        hits, matching = index.search(query, RESULT_WINDOW + 1, "seq", True)
        found.extend(hits)
        total += matching
    if built and not known:
        raise failed_query(
            "query_shard_exception",
            f"No mapping found for [{order[0].field[:64]}] in order to sort on",
            built[0][0].name,
        )
    if total > RESULT_WINDOW:
        raise illegal(
            f"sorting by [{order[0].field[:64]}] needs a query that matches at most {RESULT_WINDOW} documents, this one "
            f"matches {total}: narrow it, or sort by [{_TIMESTAMP}]"
        )
    for one in reversed(order):
        if one.field in ("_score", "_doc"):
            continue
        keyed = [(_value(hit, one.field), hit) for hit in found]
        present = [pair for pair in keyed if pair[0] is not None]
        absent = [hit for key, hit in keyed if key is None]
        present.sort(key=lambda pair: _rank(pair[0]), reverse=not one.ascending)
        for key, hit in present:
            hit.key = key
        for hit in absent:
            hit.key = None
        ordered = [hit for _, hit in present]
        found = absent + ordered if one.missing_first else ordered + absent
    return found, total


def _value(hit: Hit, path: str) -> Any:
    at: Any = hit.stored.document()
    base = path.removesuffix(".keyword")
    if base in at:
        at = at[base]
    else:
        for part in base.split("."):
            at = at.get(part) if isinstance(at, dict) else None
    while isinstance(at, list):
        at = at[0] if at else None
    return None if isinstance(at, dict) else at


def _rank(value: Any) -> tuple[int, Any]:
    """Numbers before strings; dates sort as their strings do when they are spelled alike."""
    if isinstance(value, str):
        moment = values.parse_date(value)
        return (1, moment) if moment is not None else (2, value)
    return (0, value)


def _shown(hit: Hit, request: SearchRequest, first: Sort) -> dict[str, Any]:
    scored = first.field == "_score"
    shown: dict[str, Any] = {
        "_index": hit.index,
        "_type": "_doc",
        "_id": hit.stored.id,
        "_score": hit.key if scored else None,
    }
    if request.source:
        shown["_source"] = filtered(hit.stored.document(), request)
    if request.sort:
        keys: list[Any] = []
        for one in request.sort:
            if one.field == "_score":
                keys.append(hit.key if scored else None)
            elif one.field == "_doc":
                keys.append(hit.stored.seq)
            elif one.field == _TIMESTAMP:
                moment = values.date(_value(hit, _TIMESTAMP))
                keys.append(None if moment is None else moment // 10**6)
            else:
                keys.append(_value(hit, one.field))
        shown["sort"] = keys
    return shown
