"""Parses a search: the parameters and the body of a request for `_search`, `_count` or `_msearch`. Pure."""

from __future__ import annotations

from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from typing import Any

from hatchway.addons.logging import aggregations, dsl, lucene, values
from hatchway.addons.logging.problems import EsProblem, failed_query, illegal, parsing
from hatchway.addons.logging.query import MatchAll, Query, QueryError

# The maximum number of hits that a search can return, `from` included; and the number up to which hits are counted by
# default.
RESULT_WINDOW = 10_000
_TOTAL_HITS = 10_000
# Parameters that are accepted and ignored.
_IGNORED = frozenset(
    ("timeout", "version", "seq_no_primary_term", "track_scores", "explain", "stats", "terminate_after", "preference",
     "stored_fields", "docvalue_fields", "script_fields", "indices_boost", "profile", "highlight", "fields")
)  # fmt: skip
_UNSUPPORTED = ("collapse", "suggest", "rescore", "search_after", "pit", "slice", "knn")


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of an order.

    field: a path, "_score" or "_doc". missing_first: True when documents without the field come first.
    """

    field: str
    ascending: bool
    missing_first: bool = False


@dataclass(slots=True)
class SearchRequest:
    """A search.

    Attributes:
        query: the documents to find.
        start: the index of the first hit to return (`from`).
        size: the maximum number of hits to return.
        sort: the keys of the order, the most important one first; empty: by score.
        includes: patterns of the fields of `_source` to return; empty for all.
        excludes: patterns of the fields of `_source` to leave out.
        source: False to leave out `_source`.
        total: how far hits are counted: True: exactly; False: not at all; a number: up to this number.
        min_score: hits with a lower score are left out.
        aggregations: the aggregations over all documents that match, by name.
    """

    query: Query = field(default_factory=MatchAll)
    start: int = 0
    size: int = 10
    sort: tuple[SortKey, ...] = ()
    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    source: bool = True
    total: bool | int = _TOTAL_HITS
    min_score: float | None = None
    aggregations: aggregations.Aggregations = field(default_factory=dict)


def parse_request(body: Any, params: Map[str, str]) -> SearchRequest:
    """Parse a search. body: the JSON body; None without one. params: the URL's parameters, which have priority.

    Raises EsProblem 400.
    """
    request = SearchRequest()
    if body is not None:
        _apply_body(request, body)
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
    _apply_source_parameters(request, params)
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


def _apply_body(request: SearchRequest, body: Any) -> None:
    if not isinstance(body, dict):
        raise parsing("Expected [START_OBJECT] but found another token")
    for key, value in body.items():
        if key in ("query", "aggs", "aggregations"):
            try:
                if key == "query":
                    request.query = dsl.parse(value)
                else:
                    request.aggregations = aggregations.parse(value)
            except QueryError as error:
                if error.kind == "query_shard_exception":
                    raise failed_query(error.kind, error.message, "_all") from error
                raise EsProblem(400, error.kind, error.message) from error
        elif key == "from":
            request.start = _whole("from", value)
        elif key == "size":
            request.size = _whole("size", value)
        elif key == "sort":
            request.sort = tuple(_sort(one) for one in (value if isinstance(value, list) else [value]))
        elif key == "_source":
            _apply_source(request, value)
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


def _sort_parameter(text: str) -> SortKey:
    name, _, order = text.partition(":")
    return _sort({name: order} if order else name)


def _sort(value: Any) -> SortKey:
    if isinstance(value, str):
        return SortKey(value, ascending=value != "_score")
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
    return SortKey(str(name), str(order).lower() == "asc", missing == "_first")


def _apply_source(request: SearchRequest, value: Any) -> None:
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


def parse_source_filter(params: Map[str, str]) -> SearchRequest:
    """Return a search in which only `source`, `includes` and `excludes` are set, from the URL's parameters."""
    request = SearchRequest()
    _apply_source_parameters(request, params)
    return request


def _apply_source_parameters(request: SearchRequest, params: Map[str, str]) -> None:
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
