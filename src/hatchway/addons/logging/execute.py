"""Builds tantivy queries from the query tree, for one index and its mapping.

Most queries about one field search the tantivy fields `terms` and `ranges`, whose terms `mapping.py` defines: JSON
fields of tantivy have no regular expressions, and their ranges are unreliable (0.27 panics on fractional bounds).
Phrases and fuzzy words are searched in the JSON field `words`, ranges of `@timestamp` in the numeric field `time`, and
queries without a field in `everything`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import tantivy

from hatchway.addons.logging import values
from hatchway.addons.logging.mapping import PRESENT, TOKEN, WHOLE, FieldMapping, range_key, sortable_text
from hatchway.addons.logging.query import (
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
    resolve_minimum,
)

_MUST, _SHOULD, _MUST_NOT = tantivy.Occur.Must, tantivy.Occur.Should, tantivy.Occur.MustNot
_SPECIAL = re.compile(r"([.+*?()|\[\]{}^$\\&~#\-])")
_SMALLEST, _LARGEST = "0" * 16, "f" * 16
# The upper bound of a range of strings that names no upper bound: it sorts after every hex digit.
_AFTER_TEXT = "z"
_PATTERN_LENGTH = 1000


class QueryBuilder:
    """Builds queries against one index.

    tokens: the index's analyzer, which splits a text into words.
    now: the present time, for date mathematics.
    """

    def __init__(
        self, index: tantivy.Index, mapping: FieldMapping, tokens: Callable[[str], list[str]], now: datetime
    ) -> None:
        self._index = index
        self._schema = index.schema
        self._mapping = mapping
        self._tokens = tokens
        self._now = now

    def build(self, query: Query) -> tantivy.Query:
        """Return the tantivy query. Raises QueryError: a value does not fit its field, or a pattern is malformed."""
        match query:
            case MatchAll():
                return tantivy.Query.all_query()
            case MatchNone():
                return tantivy.Query.empty_query()
            case Boost(inner, factor):
                return tantivy.Query.boost_query(self.build(inner), factor)
            case Bool():
                return self._bool(query)
            case DocumentIds(ids):
                return self._any([self._term("id", one) for one in ids])
            case Exists(field):
                return self._any([self._term("terms", f"{PRESENT}{path}") for path in self._matching(field)])
            case _:
                return self._on_fields(query)

    def _on_fields(self, query: Query) -> tantivy.Query:
        field: str = query.field  # type: ignore[union-attr]
        if field in ("", "*", "_all", "*.*"):
            return self._everywhere(query)
        if field == "_id":
            return self._term("id", str(getattr(query, "text", None) or getattr(query, "value", "")))
        if "*" in field:
            return self._any(
                [self._on(query, path, kind) for path in self._matching(field) for kind in self._kind(path)]
            )
        found = self._mapping.resolve(field)
        return tantivy.Query.empty_query() if found is None else self._on(query, *found)

    def _kind(self, path: str) -> list[str]:
        kind = self._mapping.fields[path]
        return [] if kind == "object" else [kind]

    def _matching(self, field: str) -> list[str]:
        """Return the paths of the mapped fields that a name or a pattern with `*` means."""
        if "*" in field:
            return fnmatch.filter(self._mapping.fields, field)
        found = self._mapping.resolve(field)
        return [found[0]] if found else []

    def _on(self, query: Query, path: str, kind: str) -> tantivy.Query:
        match query:
            case Term(_, value):
                return self._value(path, kind, value, TOKEN)
            case Match(_, text):
                return self._match(query, path) if kind == "text" else self._value(path, kind, text, WHOLE)
            case Phrase(_, text, slop, prefix):
                if kind != "text":
                    return self._pattern(path, kind, "prefix", text) if prefix else self._value(path, kind, text, WHOLE)
                return self._phrase(_words_field(path), self._tokens(text), slop, prefix, path)
            case Pattern(_, how, text):
                return self._pattern(path, kind, how, text)
            case Fuzzy(_, text, distance):
                if kind == "text":
                    field = _words_field(path)
                    return tantivy.Query.fuzzy_term_query(self._schema, field, text.lower(), distance)
                return self._value(path, kind, text, WHOLE)
            case Range():
                return self._range(query, path, kind)
        raise AssertionError(query)

    def _value(self, path: str, kind: str, value: Any, separator: str) -> tantivy.Query:
        """Return a query for documents whose field at `path` has this value.

        separator: TOKEN if the value is one word of a text, WHOLE if it is the whole string.
        """
        text = values.text_of(value)
        if kind in values.NUMBERS:
            number = values.number(value)
            if number is None:
                raise QueryError(f'failed to create query: For input string: "{text[:64]}"', "query_shard_exception")
            return self._term("ranges", range_key(path, "n", values.sortable_number(number)))
        if kind == "date":
            return self._range(Range(path, value, value), path, kind)
        if kind == "boolean":
            flag = values.boolean(value)
            if flag is None:
                raise QueryError(
                    f"failed to create query: Can't parse boolean value [{text[:64]}], expected [true] or [false]",
                    "query_shard_exception",
                )
            return self._term("terms", f"{path}{WHOLE}{'true' if flag else 'false'}")
        return self._term("terms", f"{path}{separator if kind == 'text' else WHOLE}{text}")

    def _match(self, query: Match, path: str) -> tantivy.Query:
        words = self._tokens(values.text_of(query.text))
        if query.together:
            return self._phrase(_words_field(path), words, 0, False, path)
        return self._words(query, [self._term("terms", f"{path}{TOKEN}{word}") for word in words])

    def _words(self, query: Match, clauses: list[tantivy.Query]) -> tantivy.Query:
        if query.operator == "and":
            return _boolean([(_MUST, clause) for clause in clauses])
        minimum = resolve_minimum(query.minimum, len(clauses), 1)
        return _boolean([(_SHOULD, clause) for clause in clauses], minimum)

    def _phrase(self, field: str, words: list[str], slop: int, prefix: bool, path: str) -> tantivy.Query:
        if not words:
            return tantivy.Query.empty_query()
        if len(words) == 1:
            if prefix:
                return self._regex("terms", f"{_quote(path + TOKEN + words[0])}.*")
            return self._term("terms", f"{path}{TOKEN}{words[0]}")
        return self._side_by_side(field, words, slop, prefix)

    def _side_by_side(self, field: str, words: list[str], slop: int, prefix: bool) -> tantivy.Query:
        phrase: list[str | tuple[int, str]] = [*words]
        if prefix:
            return tantivy.Query.phrase_prefix_query(self._schema, field, phrase)
        return tantivy.Query.phrase_query(self._schema, field, phrase, slop)

    def _pattern(self, path: str, kind: str, how: str, text: str) -> tantivy.Query:
        separator = TOKEN if kind == "text" else WHOLE
        if kind in values.NUMBERS or kind == "date":
            raise QueryError(
                f"Can only use wildcard queries on keyword and text fields - not on [{path}] which is of type [{kind}]",
                "query_shard_exception",
            )
        return self._regex("terms", _quote(path + separator) + _expression(how, text, kind == "text"))

    def _everywhere(self, query: Query) -> tantivy.Query:
        """Return the tantivy query for a query without a field: it searches the words of all fields."""
        match query:
            case Term(_, value):
                return self._term("everything", values.text_of(value).lower())
            case Match(_, text):
                words = self._tokens(values.text_of(text))
                if not query.together:
                    return self._words(query, [self._term("everything", word) for word in words])
                return self._phrase_everywhere(words, 0, False)
            case Phrase(_, text, slop, prefix):
                return self._phrase_everywhere(self._tokens(text), slop, prefix)
            case Pattern(_, how, text):
                return self._regex("everything", _expression(how, text, True))
            case Fuzzy(_, text, distance):
                return tantivy.Query.fuzzy_term_query(self._schema, "everything", text.lower(), distance)
            case Range():
                kinds = [(path, kind) for path, kind in self._mapping.fields.items() if kind != "object"]
                return self._any([self._range(query, path, kind, lenient=True) for path, kind in kinds])
        raise AssertionError(query)

    def _phrase_everywhere(self, words: list[str], slop: int, prefix: bool) -> tantivy.Query:
        if not words:
            return tantivy.Query.empty_query()
        if len(words) == 1:
            if prefix:
                return self._regex("everything", f"{_quote(words[0])}.*")
            return self._term("everything", words[0])
        return self._side_by_side("everything", words, slop, prefix)

    def _range(self, query: Range, path: str, kind: str, lenient: bool = False) -> tantivy.Query:
        try:
            lower, upper, sort = self._bounds(query, kind)
        except QueryError:
            if lenient:
                return tantivy.Query.empty_query()
            raise
        if path == "@timestamp" and kind == "date":
            # The numeric column is faster than a range that matches very many terms.
            return self._time_range(query, lower, upper)
        first = range_key(path, sort, lower)
        last = range_key(path, sort, upper)
        begin = "[" if query.include_lower or query.lower is None else "{"
        end = "]" if query.include_upper or query.upper is None else "}"
        return self._index.parse_query(f"ranges:{begin}{first} TO {last}{end}")

    def _bounds(self, query: Range, kind: str) -> tuple[str, str, str]:
        """Return (lower, upper, kind): the bounds in sortable form; kind is n (number), d (date) or s (string)."""
        if kind in values.NUMBERS:
            lower, upper = _SMALLEST, _LARGEST
            if query.lower is not None:
                lower = values.sortable_number(_number(query.lower))
            if query.upper is not None:
                upper = values.sortable_number(_number(query.upper))
            return lower, upper, "n"
        if kind == "date":
            lower, upper = _SMALLEST, _LARGEST
            if query.lower is not None:
                bound = values.date_bound(query.lower, self._now, up=not query.include_lower)
                lower = values.sortable_integer(bound)
            if query.upper is not None:
                bound = values.date_bound(query.upper, self._now, up=query.include_upper)
                upper = values.sortable_integer(bound)
            return lower, upper, "d"
        low = sortable_text(values.text_of(query.lower)) if query.lower is not None else ""
        high = sortable_text(values.text_of(query.upper)) if query.upper is not None else _AFTER_TEXT
        return low, high, "s"

    def _time_range(self, query: Range, lower: str, upper: str) -> tantivy.Query:
        low, high = (int(bound, 16) - 2**63 for bound in (lower, upper))
        low = max(low, -(2**63) + 2)  # Documents without a time have a smaller value.
        return tantivy.Query.range_query(
            self._schema,
            "time",
            tantivy.FieldType.Integer,
            low,
            high,
            include_lower=query.include_lower or query.lower is None,
            include_upper=query.include_upper or query.upper is None,
        )

    def _bool(self, query: Bool) -> tantivy.Query:
        clauses = [(_MUST, self.build(clause)) for clause in query.must]
        clauses += [(_MUST, tantivy.Query.const_score_query(self.build(clause), 0.0)) for clause in query.filter]
        required = bool(clauses)
        clauses += [(_MUST_NOT, self.build(clause)) for clause in query.must_not]
        should = [self.build(clause) for clause in query.should]
        minimum = resolve_minimum(query.minimum, len(should), 0 if required or not should else 1)
        if minimum > len(should):
            return tantivy.Query.empty_query()
        if not required and minimum == 0:
            score = 0.0 if should or query.must_not else 1.0
            clauses.append((_MUST, tantivy.Query.const_score_query(tantivy.Query.all_query(), score)))
        if should and minimum:
            clauses.append((_MUST, _boolean([(_SHOULD, clause) for clause in should], minimum)))
        else:
            clauses += [(_SHOULD, clause) for clause in should]
        return tantivy.Query.boolean_query(clauses)

    def _any(self, queries: Sequence[tantivy.Query]) -> tantivy.Query:
        return _boolean([(_SHOULD, query) for query in queries])

    def _term(self, field: str, value: str) -> tantivy.Query:
        return tantivy.Query.term_query(self._schema, field, value, "freq" if field == "everything" else "basic")

    def _regex(self, field: str, pattern: str) -> tantivy.Query:
        try:
            return tantivy.Query.regex_query(self._schema, field, pattern)
        except ValueError as error:
            reason = str(error).rpartition("error: ")[2].strip("'\n ")
            raise QueryError(f"invalid regular expression: {reason[:200]}", "query_shard_exception") from error


def _boolean(clauses: list[tuple[Any, tantivy.Query]], minimum: int | None = None) -> tantivy.Query:
    if not clauses:
        return tantivy.Query.empty_query()
    if len(clauses) == 1 and clauses[0][0] is not _MUST_NOT:
        return clauses[0][1]
    return tantivy.Query.boolean_query(clauses, minimum)


def _words_field(path: str) -> str:
    return "words." + path.replace("\\", "\\\\").replace(".", "\\.")


def _number(value: Any) -> float:
    found = values.number(value)
    if found is None:
        raise QueryError(f'For input string: "{values.text_of(value)[:64]}"', "number_format_exception")
    return found


def _quote(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _expression(how: str, text: str, lower: bool) -> str:
    """Return the regular expression for a pattern. Raises QueryError.

    how: "regexp", "prefix" or "wildcard".
    lower: True if the terms are the lower-case words of a text.
    """
    if len(text) > _PATTERN_LENGTH:
        raise QueryError(f"the pattern is longer than {_PATTERN_LENGTH} characters", "query_shard_exception")
    if how == "regexp":
        return f"({text})"
    if lower:
        text = text.lower()
    if how == "prefix":
        return _quote(text) + "(?s:.)*"
    out = []
    characters = iter(text)
    for character in characters:
        if character == "\\":
            out.append(_quote(next(characters, "\\")))
        elif character == "*":
            out.append("(?s:.)*")
        elif character == "?":
            out.append("(?s:.)")
        else:
            out.append(_quote(character))
    return "".join(out)
