"""What can be asked of an index: the tree that both query languages (Lucene's syntax, the JSON DSL) are turned into.

`field` is a document's path (`kubernetes.pod_name`, with or without `.keyword` at its end) or "" for every field.
Pure values; `execute.py` makes tantivy queries of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# As Elasticsearch's indices.query.bool.max_clause_count, and a depth that Python's recursion bears.
MAX_CLAUSES = 1024
MAX_DEPTH = 64


class QueryError(Exception):
    """A query that cannot be understood. type: Elasticsearch's name of the error."""

    def __init__(self, message: str, kind: str = "parsing_exception") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind


@dataclass(frozen=True, slots=True)
class MatchAll:
    pass


@dataclass(frozen=True, slots=True)
class MatchNone:
    pass


@dataclass(frozen=True, slots=True)
class Term:
    """One value, as it was indexed (no analysis)."""

    field: str
    value: Any


@dataclass(frozen=True, slots=True)
class Match:
    """Words of a text. together: words that one token of a query splits into (`10.0.0.1`) must stand side by side.

    minimum: how many words must match; None: one with operator "or", all with "and".
    """

    field: str
    text: Any
    operator: str = "or"
    together: bool = False
    minimum: int | str | None = None


@dataclass(frozen=True, slots=True)
class Phrase:
    field: str
    text: str
    slop: int = 0
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """A term that matches a pattern. kind: "wildcard" (`*`, `?`, backslash escapes), "regexp" or "prefix"."""

    field: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Fuzzy:
    field: str
    text: str
    distance: int


@dataclass(frozen=True, slots=True)
class Range:
    """A bound that is None is open."""

    field: str
    lower: Any = None
    upper: Any = None
    include_lower: bool = True
    include_upper: bool = True


@dataclass(frozen=True, slots=True)
class Exists:
    field: str


@dataclass(frozen=True, slots=True)
class Ids:
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Boost:
    query: Query
    factor: float


@dataclass(frozen=True, slots=True)
class Bool:
    """minimum: of the `should` clauses; None: one when nothing else is required, else none."""

    must: tuple[Query, ...] = ()
    should: tuple[Query, ...] = ()
    must_not: tuple[Query, ...] = ()
    filter: tuple[Query, ...] = ()
    minimum: int | str | None = None


Query = MatchAll | MatchNone | Term | Match | Phrase | Pattern | Fuzzy | Range | Exists | Ids | Boost | Bool


def leaves(query: Query) -> Iterator[Query]:
    """All nodes that hold no other ones."""
    if isinstance(query, Bool):
        for group in (query.must, query.should, query.must_not, query.filter):
            for clause in group:
                yield from leaves(clause)
    elif isinstance(query, Boost):
        yield from leaves(query.query)
    else:
        yield query


def check_size(query: Query) -> Query:
    """The query itself. Raises QueryError when it has too many clauses."""
    if sum(1 for _ in leaves(query)) > MAX_CLAUSES:
        raise QueryError(f"maxClauseCount is set to {MAX_CLAUSES}", "too_many_clauses")
    return query


def resolve_minimum(minimum: int | str | None, count: int, default: int) -> int:
    """`minimum_should_match` (2, -1, "75%", "-25%") as a number between 0 and `count`. Raises QueryError."""
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
