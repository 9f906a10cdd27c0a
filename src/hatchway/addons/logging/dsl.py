"""Parses Elasticsearch's JSON query DSL into the query tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hatchway.addons.logging import lucene, values
from hatchway.addons.logging.query import (
    MAX_DEPTH,
    Bool,
    Boost,
    DocumentIds,
    Exists,
    Fuzzy,
    Match,
    MatchAll,
    MatchNone,
    Pattern,
    Phrase,
    Query,
    QueryError,
    Range,
    Term,
    check_size,
)


def parse(query: Any) -> Query:
    """Return the value of `"query"` in a search request. Raises QueryError."""
    return check_size(_query(query, 0))


def _query(query: Any, depth: int) -> Query:
    if depth > MAX_DEPTH:
        raise QueryError(f"queries are nested deeper than {MAX_DEPTH}")
    if not isinstance(query, dict):
        raise QueryError("[_na] query malformed, must start with start_object")
    if not query:
        raise QueryError("query malformed, empty clause found", "illegal_argument_exception")
    if len(query) > 1:
        name, second = list(query)[:2]
        raise QueryError(f"[{name}] malformed query, expected [END_OBJECT] but found [FIELD_NAME] ({str(second)[:64]})")
    name, body = next(iter(query.items()))
    build = _QUERIES.get(name)
    if build is None:
        raise QueryError(f"unknown query [{str(name)[:64]}]")
    if not isinstance(body, dict):
        raise QueryError(f"[{name}] query malformed, no start_object after query name")
    return build(name, dict(body), depth)


def _boosted(query: Query, body: dict[str, Any]) -> Query:
    factor = body.get("boost", 1)
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or factor < 0:
        raise QueryError(f"[boost] must be a non-negative number, found [{str(factor)[:64]}]")
    return query if factor == 1 else Boost(query, float(factor))


def _match_all(_: str, body: dict[str, Any], depth: int) -> Query:
    return _boosted(MatchAll(), body)


def _match_none(_: str, body: dict[str, Any], depth: int) -> Query:
    return MatchNone()


def _field(name: str, body: dict[str, Any], value_key: str) -> tuple[str, Any, dict[str, Any]]:
    """Return (field, value, options) of `{"user": "x"}` or `{"user": {"query": "x", ...}}`."""
    named = {key: value for key, value in body.items() if key not in ("boost", "_name")}
    if len(named) != 1:
        if not named:
            raise QueryError(f"[{name}] query malformed, no field name given", "illegal_argument_exception")
        first, second = list(named)[:2]
        raise QueryError(f"[{name}] query doesn't support multiple fields, found [{first}] and [{second}]")
    field, value = next(iter(named.items()))
    options: dict[str, Any] = {}
    if isinstance(value, dict):
        options = value
        if value_key not in options:
            raise QueryError(f"No text specified for text query [{name}] on field [{field}]")
        value = options[value_key]
    if isinstance(value, (dict, list)) or value is None:
        raise QueryError(f"[{name}] query does not support arrays, objects or null as the value of [{field}]")
    return str(field), value, {**body, **options}


def _match(name: str, body: dict[str, Any], depth: int) -> Query:
    field, value, options = _field(name, body, "query")
    return _boosted(_matching(field, value, options), options)


def _matching(field: str, value: Any, options: dict[str, Any]) -> Query:
    operator = str(options.get("operator", "or")).lower()
    if operator not in ("and", "or"):
        raise QueryError(
            f"operator needs to be either [and] or [or], but not [{operator[:64]}]", "illegal_argument_exception"
        )
    if "fuzziness" in options and operator == "or":
        words = values.text_of(value).split()
        return Bool(should=tuple(Fuzzy(field, word, _distance(options["fuzziness"], word)) for word in words))
    return Match(field, value, operator, minimum=options.get("minimum_should_match"))


def _distance(fuzziness: Any, word: str) -> int:
    text = str(fuzziness).upper()
    if text.startswith("AUTO"):
        return 0 if len(word) < 3 else 1 if len(word) < 6 else 2
    if text not in ("0", "1", "2"):
        raise QueryError(f"invalid fuzziness [{text[:64]}]", "illegal_argument_exception")
    return int(text)


def _match_phrase(name: str, body: dict[str, Any], depth: int) -> Query:
    field, value, options = _field(name, body, "query")
    slop = options.get("slop", 0)
    if isinstance(slop, bool) or not isinstance(slop, int) or not 0 <= slop <= 1000:
        raise QueryError("No negative slop allowed, and none above 1000.", "illegal_argument_exception")
    return _boosted(Phrase(field, values.text_of(value), slop, prefix=name == "match_phrase_prefix"), options)


def _multi_match(name: str, body: dict[str, Any], depth: int) -> Query:
    if "query" not in body:
        raise QueryError("No text specified for multi_match query")
    fields = body.get("fields") or [""]
    if not isinstance(fields, list):
        fields = [fields]
    kind = body.get("type", "best_fields")
    clauses: list[Query] = []
    for spelled in fields:
        field, _, boost = str(spelled).partition("^")
        if kind in ("phrase", "phrase_prefix"):
            clause: Query = Phrase(field, values.text_of(body["query"]), prefix=kind == "phrase_prefix")
        else:
            clause = _matching(field, body["query"], body)
        clauses.append(_boosted(clause, {"boost": _factor(boost)} if boost else {}))
    return _boosted(Bool(should=tuple(clauses)), body)


def _factor(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise QueryError(f"[{text[:64]}] is no boost") from None


def _term(name: str, body: dict[str, Any], depth: int) -> Query:
    field, value, options = _field(name, body, "value")
    if field == "_id":
        return _boosted(DocumentIds((values.text_of(value),)), options)
    return _boosted(Term(field, value), options)


def _terms(name: str, body: dict[str, Any], depth: int) -> Query:
    named = {key: value for key, value in body.items() if key not in ("boost", "_name")}
    if len(named) != 1:
        raise QueryError("[terms] query requires exactly one field", "parsing_exception")
    field, found = next(iter(named.items()))
    if not isinstance(found, list):
        raise QueryError(f"[terms] query does not support [{str(field)[:64]}]")
    if field == "_id":
        return DocumentIds(tuple(values.text_of(value) for value in found))
    return _boosted(Bool(should=tuple(Term(str(field), value) for value in found)) if found else MatchNone(), body)


def _range(name: str, body: dict[str, Any], depth: int) -> Query:
    named = {key: value for key, value in body.items() if key not in ("boost", "_name")}
    if len(named) != 1 or not isinstance(next(iter(named.values())), dict):
        raise QueryError("[range] query malformed, expected one field with its bounds")
    field, bounds = next(iter(named.items()))
    lower = upper = None
    include_lower = include_upper = True
    for key, value in bounds.items():
        if key in ("gt", "gte", "from"):
            lower, include_lower = value, key != "gt" and bounds.get("include_lower", True)
        elif key in ("lt", "lte", "to"):
            upper, include_upper = value, key != "lt" and bounds.get("include_upper", True)
        elif key not in ("format", "time_zone", "boost", "relation", "include_lower", "include_upper", "_name"):
            raise QueryError(f"[range] query does not support [{str(key)[:64]}]")
        if isinstance(value, (dict, list)):
            raise QueryError(f"[range] query does not support [{str(key)[:64]}] of this type")
    if lower is None and upper is None:
        return _boosted(Exists(str(field)), bounds)
    return _boosted(Range(str(field), lower, upper, bool(include_lower), bool(include_upper)), bounds)


def _bool(name: str, body: dict[str, Any], depth: int) -> Query:
    groups: dict[str, tuple[Query, ...]] = {}
    for key, value in body.items():
        if key in ("must", "should", "must_not", "filter"):
            clauses = value if isinstance(value, list) else [value]
            groups[key] = tuple(_query(clause, depth + 1) for clause in clauses)
        elif key not in ("minimum_should_match", "boost", "_name", "adjust_pure_negative"):
            raise QueryError(f"[bool] query does not support [{str(key)[:64]}]")
    return _boosted(Bool(**groups, minimum=body.get("minimum_should_match")), body)


def _constant_score(name: str, body: dict[str, Any], depth: int) -> Query:
    if "filter" not in body:
        raise QueryError("[constant_score] requires a 'filter' element")
    return _boosted(Bool(must=(MatchAll(),), filter=(_query(body["filter"], depth + 1),)), body)


def _dis_max(name: str, body: dict[str, Any], depth: int) -> Query:
    queries = body.get("queries")
    if not isinstance(queries, list) or not queries:
        raise QueryError("[dis_max] requires 'queries' field with at least one clause")
    return _boosted(Bool(should=tuple(_query(query, depth + 1) for query in queries)), body)


def _query_string(name: str, body: dict[str, Any], depth: int) -> Query:
    text = body.get("query")
    if not isinstance(text, str):
        raise QueryError(f"[{name}] must be provided with a [query]")
    operator = str(body.get("default_operator", "or"))
    fields = body.get("fields") or [body.get("default_field", "")]
    if not isinstance(fields, list):
        raise QueryError(f"[{name}] query does not support [fields]")
    clauses = [
        _one_field(name, text, "" if field == "*" else str(field).partition("^")[0], operator) for field in fields
    ]
    return _boosted(clauses[0] if len(clauses) == 1 else Bool(should=tuple(clauses)), body)


def _one_field(name: str, text: str, field: str, operator: str) -> Query:
    try:
        return lucene.parse(text, default_field=field, default_operator=operator)
    except QueryError:
        if name == "query_string":
            raise
        # simple_query_string never fails: a text that cannot be parsed is searched as words.
        return Match(field, text, operator)


def _exists(name: str, body: dict[str, Any], depth: int) -> Query:
    field = body.get("field")
    if not isinstance(field, str) or not field:
        raise QueryError("[exists] must be provided with a [field]", "illegal_argument_exception")
    return _boosted(Exists(field), body)


def _pattern(name: str, body: dict[str, Any], depth: int) -> Query:
    key = (
        "wildcard"
        if name == "wildcard" and any(isinstance(v, dict) and "wildcard" in v for v in body.values())
        else "value"
    )
    field, value, options = _field(name, body, key)
    return _boosted(Pattern(field, name, values.text_of(value)), options)


def _fuzzy(name: str, body: dict[str, Any], depth: int) -> Query:
    field, value, options = _field(name, body, "value")
    text = values.text_of(value)
    return _boosted(Fuzzy(field, text, _distance(options.get("fuzziness", "AUTO"), text)), options)


def _ids(name: str, body: dict[str, Any], depth: int) -> Query:
    found = body.get("values")
    if not isinstance(found, list):
        raise QueryError("[ids] requires providing a [values] element")
    return _boosted(DocumentIds(tuple(values.text_of(value) for value in found)), body)


_QUERIES: dict[str, Callable[[str, dict[str, Any], int], Query]] = {
    "match_all": _match_all,
    "match_none": _match_none,
    "match": _match,
    "match_phrase": _match_phrase,
    "match_phrase_prefix": _match_phrase,
    "multi_match": _multi_match,
    "term": _term,
    "terms": _terms,
    "range": _range,
    "bool": _bool,
    "constant_score": _constant_score,
    "dis_max": _dis_max,
    "query_string": _query_string,
    "simple_query_string": _query_string,
    "exists": _exists,
    "prefix": _pattern,
    "wildcard": _pattern,
    "regexp": _pattern,
    "fuzzy": _fuzzy,
    "ids": _ids,
}
