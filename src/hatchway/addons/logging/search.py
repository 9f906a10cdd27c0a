"""Executes a search on indices, and makes the answer of `_search` and `_count`."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hatchway.addons.logging import values
from hatchway.addons.logging.aggregate import AggregationRun
from hatchway.addons.logging.index import AnswerRoom, EsIndex, Hit
from hatchway.addons.logging.problems import failed_query, illegal
from hatchway.addons.logging.query import Query, QueryError
from hatchway.addons.logging.searchrequest import RESULT_WINDOW, SearchRequest, SortKey

_TIMESTAMP = "@timestamp"


def run(indices: Sequence[EsIndex], request: SearchRequest) -> dict[str, Any]:
    """Execute a search, and return the body of the answer. Raises EsProblem 400, 429."""
    begun = time.monotonic()
    for index in indices:
        index.refresh()
    now = datetime.now(UTC)
    built = [(index, _build(index, request.query, now)) for index in indices]
    first = request.sort[0] if request.sort else SortKey("_score", False)
    wanted = request.start + request.size
    if first.field in ("_score", "_doc") or (first.field == _TIMESTAMP and not first.missing_first):
        hits, total = _search_by_column(built, first, wanted, AnswerRoom())
    else:
        hits, total = _search_and_sort(built, request.sort, AnswerRoom())
    if request.min_score is not None and first.field == "_score":
        hits = [hit for hit in hits if hit.key >= request.min_score]
    shown = hits[request.start : wanted]
    answer: dict[str, Any] = {"max_score": None, "hits": [_hit_body(hit, request, first) for hit in shown]}
    if first.field == "_score" and hits:
        answer["max_score"] = hits[0].key
    if request.total is not False:
        capped = request.total is not True and total > request.total
        answer = {
            "total": {"value": request.total if capped else total, "relation": "gte" if capped else "eq"},
            **answer,
        }
    more = {"aggregations": _aggregate(built, request, now)} if request.aggregations else {}
    return {
        "took": int((time.monotonic() - begun) * 1000),
        "timed_out": False,
        "_shards": _shards(indices, request),
        "hits": answer,
        **more,
    }


def _aggregate(built: list[tuple[EsIndex, Any]], request: SearchRequest, now: datetime) -> dict[str, Any]:
    aggregator = AggregationRun(request.aggregations, request.query, now)
    for index, query in built:
        if index.has_columns:
            try:
                aggregator.add(index, query)
            except QueryError as error:
                raise failed_query(error.kind, error.message, index.name) from error
    return aggregator.answer()


def _shards(indices: Sequence[EsIndex], request: SearchRequest) -> dict[str, Any]:
    """Return `_shards`. Indices of an older version of Hatchway count as failed when there are aggregations."""
    reason = "an older version of Hatchway made this index, so the aggregations do not include its documents"
    failures = [
        {"shard": 0, "index": index.name, "reason": {"type": "illegal_argument_exception", "reason": reason}}
        for index in indices
        if request.aggregations and not index.has_columns
    ]
    count = {"total": len(indices), "successful": len(indices) - len(failures), "skipped": 0, "failed": len(failures)}
    return {**count, "failures": failures} if failures else count


def count(indices: Sequence[EsIndex], query: Query) -> dict[str, Any]:
    """Count the documents that match, and return the body of the answer. Raises EsProblem 400."""
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


def _search_by_column(
    built: list[tuple[EsIndex, Any]], first: SortKey, wanted: int, room: AnswerRoom
) -> tuple[list[Hit], int]:
    order = {"_score": "", "_doc": "seq"}.get(first.field, "time")
    found: list[Hit] = []
    total = 0
    for index, query in built:
        hits, matching = index.search(query, wanted, order, first.ascending, room)
        found.extend(hits)
        total += matching
    if len(built) > 1:
        timed = [hit for hit in found if hit.key is not None]
        timed.sort(key=lambda hit: hit.key, reverse=not first.ascending)
        found = timed + [hit for hit in found if hit.key is None]
    return found[:wanted], total


def _search_and_sort(
    built: list[tuple[EsIndex, Any]], order: Sequence[SortKey], room: AnswerRoom
) -> tuple[list[Hit], int]:
    """Find hits, and sort them in memory by any fields. The index sorts only by `@timestamp`, `_score` and `_doc`.

    This reads all documents that match, so their number is limited.
    """
    found: list[Hit] = []
    total = 0
    known = False
    for index, query in built:
        known = known or index.mapping.resolve(order[0].field) is not None
        hits, matching = index.search(query, RESULT_WINDOW + 1, "seq", True, room)
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
            f"sorting by [{order[0].field[:64]}] needs a query that matches at most {RESULT_WINDOW} documents, "
            f"this one matches {total}: narrow it, or sort by [{_TIMESTAMP}]"
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
    """Return a sort key: numbers come first, then dates in any form, then other strings."""
    if isinstance(value, str):
        moment = values.parse_date(value)
        return (1, moment) if moment is not None else (2, value)
    return (0, value)


def _hit_body(hit: Hit, request: SearchRequest, first: SortKey) -> dict[str, Any]:
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


def filtered(source: dict[str, Any], request: SearchRequest) -> dict[str, Any]:
    """Return the part of a document that the request's filter of `_source` keeps."""
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
