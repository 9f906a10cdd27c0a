"""The tree of a query. Both query languages (Lucene's syntax, the JSON DSL) are parsed into it.

`field` is the path of a field (`kubernetes.pod_name`, with or without `.keyword` at its end), or "" for all fields.
The nodes are pure values; `execute.py` makes tantivy's queries from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Elasticsearch's indices.query.bool.max_clause_count, and a depth that is safe for Python's recursion.
MAX_CLAUSES = 1024
MAX_DEPTH = 64


class QueryError(Exception):
    """A malformed query. kind: Elasticsearch's name of the error."""

    def __init__(self, message: str, kind: str = "parsing_exception") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind


@dataclass(frozen=True, slots=True)
class MatchAll:
    """A query that every document matches."""


@dataclass(frozen=True, slots=True)
class MatchNone:
    """A query that no document matches."""


@dataclass(frozen=True, slots=True)
class Term:
    """Documents with exactly this value; it is not split into words."""

    field: str
    value: Any


@dataclass(frozen=True, slots=True)
class Match:
    """Documents with words of a text.

    Attributes:
        operator: "or" or "and".
        together: True when the words must be adjacent: they are parts of one term of the query (`10.0.0.1`).
        minimum: how many words must match; None: one word for the operator "or", all words for "and".
    """

    field: str
    text: Any
    operator: str = "or"
    together: bool = False
    minimum: int | str | None = None


@dataclass(frozen=True, slots=True)
class Phrase:
    """Documents with words in this order.

    Attributes:
        slop: how many positions may be between the words.
        prefix: True when the last word may be the beginning of a word.
    """

    field: str
    text: str
    slop: int = 0
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """Documents with a term that matches a pattern.

    Attributes:
        kind: "wildcard" (`*`, `?`, backslash escapes), "regexp" or "prefix".
    """

    field: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """Documents with a term that differs from a text by at most `distance` characters (0 to 2)."""

    field: str
    text: str
    distance: int


@dataclass(frozen=True, slots=True)
class Range:
    """Documents with a value between two bounds. None: no bound."""

    field: str
    lower: Any = None
    upper: Any = None
    include_lower: bool = True
    include_upper: bool = True


@dataclass(frozen=True, slots=True)
class Exists:
    """Documents that have a field."""

    field: str


@dataclass(frozen=True, slots=True)
class DocumentIds:
    """Documents with one of these ids."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Boost:
    """The documents of a query, with their scores multiplied by a factor."""

    query: Query
    factor: float


@dataclass(frozen=True, slots=True)
class Bool:
    """A combination of queries.

    Attributes:
        must: queries that must all match; they count for the score.
        should: queries of which at least `minimum` must match.
        must_not: queries that must not match.
        filter: queries that must all match; they do not count for the score.
        minimum: how many of `should` must match; None: 1 when `must` and `filter` are empty, else 0.
    """

    must: tuple[Query, ...] = ()
    should: tuple[Query, ...] = ()
    must_not: tuple[Query, ...] = ()
    filter: tuple[Query, ...] = ()
    minimum: int | str | None = None


Query = MatchAll | MatchNone | Term | Match | Phrase | Pattern | Fuzzy | Range | Exists | DocumentIds | Boost | Bool


def leaves(query: Query) -> Iterator[Query]:
    """Yield all nodes without child nodes."""
    if isinstance(query, Bool):
        for group in (query.must, query.should, query.must_not, query.filter):
            for clause in group:
                yield from leaves(clause)
    elif isinstance(query, Boost):
        yield from leaves(query.query)
    else:
        yield query


def check_size(query: Query) -> Query:
    """Return the query itself. Raises QueryError when it has too many clauses."""
    if sum(1 for _ in leaves(query)) > MAX_CLAUSES:
        raise QueryError(f"maxClauseCount is set to {MAX_CLAUSES}", "too_many_clauses")
    return query


def resolve_minimum(minimum: int | str | None, count: int, default: int) -> int:
    """Return the number of clauses that must match, at least 0. Raises QueryError.

    Args:
        minimum: the value of `minimum_should_match`: a number (2), the number that need not match (-1), or a share
            ("75%", "-25%"); None for `default`.
        count: how many clauses there are.
        default: the result when `minimum` is None.
    """
    if minimum is None:
        return default
    text = str(minimum).strip()
    try:
        if text.endswith("%"):
            share = int(text[:-1])
            number = count * share // 100 if share >= 0 else count - count * -share // 100
        else:
            number = int(text)
            number = count + number if number < 0 else number
    except ValueError:
        raise QueryError(f"cannot understand minimum_should_match [{text[:64]}]") from None
    return max(0, number)
