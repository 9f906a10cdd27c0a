r"""Parses Lucene's query syntax: the text of `?q=` and of `query_string`.

    user:kimchy  "a phrase"~2  +must -not  a AND (b OR NOT c)  status:[400 TO 499}  size:>=10  kub*  /re.*x/  fuzy~1
    a^2  _exists_:field  field:*  *:*  tag:(a OR b)  escaped\:colon

The meaning of AND, OR, NOT, + and - is that of Lucene's classic parser (`QueryParserBase.addClause`): they mark clauses
as required, optional or prohibited; there is no precedence between AND and OR.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from hatchway.addons.logging.query import (
    MAX_DEPTH,
    Bool,
    Boost,
    Exists,
    Fuzzy,
    Match,
    MatchAll,
    Pattern,
    Phrase,
    Query,
    QueryError,
    Range,
    check_size,
)

_SPACE = " \t\n\r\u3000"
# A term ends at these characters unless a backslash is before them (TERM_CHAR of Lucene's grammar).
_TERM = re.compile(r"(?:\\.|[^\\\s\u3000()\[\]{}\"^~:/]|(?<=[^\s])/)+", re.DOTALL)
_FIELD = re.compile(r"((?:\\.|[^\\\s\u3000()\[\]{}\"^~:/+!&|-])(?:\\.|[^\\\s\u3000()\[\]{}\"^~:])*)\s*:", re.DOTALL)
_PHRASE = re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL)
_REGEXP = re.compile(r"/((?:\\.|[^/\\])*)/", re.DOTALL)
_BOUND = re.compile(r'"((?:\\.|[^"\\])*)"|((?:\\.|[^\\\s\u3000\]}])+)', re.DOTALL)
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_COMPARISON = re.compile(r"(>=|<=|>|<)\s*")
_CONJUNCTION = re.compile(r"(AND|OR|&&|\|\|)(?=[\s(\"+\-!]|$)")
_NOT = re.compile(r"NOT(?=[\s(\"]|$)|!")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_MAX_LENGTH = 32 * 1024


@dataclass(slots=True)
class _Clause:
    query: Query
    required: bool = False
    prohibited: bool = False


def parse(text: str, *, default_field: str = "", default_operator: str = "or") -> Query:
    """Parse a query.

    Args:
        text: the query.
        default_field: the field of terms that name no field; "" for all fields.
        default_operator: "and" or "or", for clauses without an operator between them.

    Raises:
        QueryError: the text is not a query. The message is Elasticsearch's.
    """
    if not text.strip(_SPACE):
        return Bool(must_not=(MatchAll(),))
    parser = _LuceneParser(text, default_operator.lower() == "and")
    try:
        if len(text) > _MAX_LENGTH:
            raise QueryError(f"longer than {_MAX_LENGTH} characters")
        query = parser.clauses(default_field, 0)
        if parser.at < len(text):
            parser.fail()
        return check_size(query)
    except QueryError as error:
        raise QueryError(f"Failed to parse query [{text[:256]}]: {error.message}", "query_shard_exception") from None


def unescape(text: str) -> str:
    """Return the text without the backslashes that escape characters."""
    return _ESCAPE.sub(r"\1", text)


class _LuceneParser:
    def __init__(self, text: str, every: bool) -> None:
        self.text = text
        self.every = every
        self.at = 0

    def fail(self) -> NoReturn:
        found = repr(self.text[self.at]) if self.at < len(self.text) else "<EOF>"
        raise QueryError(f"Encountered {found} at column {self.at}")

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in _SPACE:
            self.at += 1

    def next(self) -> str:
        return self.text[self.at : self.at + 1]

    def clauses(self, field: str, depth: int) -> Query:
        """Parse clauses up to a closing parenthesis or the end."""
        if depth > MAX_DEPTH:
            raise QueryError(f"nested deeper than {MAX_DEPTH}")
        found: list[_Clause] = []
        while True:
            self.space()
            if self.next() in ("", ")"):
                break
            conjunction = ""
            match = self.take(_CONJUNCTION)
            if match is not None:
                if not found:
                    self.at = match.start()
                    self.fail()
                conjunction = "and" if match[1] in ("AND", "&&") else "or"
                self.space()
            sign = ""
            if self.take(_NOT):
                sign = "-"
            elif self.next() in ("+", "-"):
                sign = self.next()
                self.at += 1
            self.space()
            self._add(found, _Clause(self.clause(field, depth)), conjunction, sign)
        if not found:
            self.fail()
        return _combined(found)

    def _add(self, found: list[_Clause], clause: _Clause, conjunction: str, sign: str) -> None:
        if found and not found[-1].prohibited:
            if conjunction == "and":
                found[-1].required = True
            elif conjunction == "or" and self.every:
                found[-1].required = False
        clause.prohibited = sign == "-"
        if not clause.prohibited:
            clause.required = sign == "+" or (conjunction != "or" if self.every else conjunction == "and")
        found.append(clause)

    def clause(self, field: str, depth: int) -> Query:
        if self.text.startswith("*:", self.at):
            self.at += 2
            if self.next() == "*":
                self.at += 1
                return self.boosted(MatchAll())
            field = ""
        elif (match := self.take(_FIELD)) is not None:
            field = unescape(match[1])
            self.space()
            if field == "_exists_":
                term = self.take(_TERM) or self.take(_PHRASE)
                if term is None:
                    self.fail()
                assert term is not None
                return self.boosted(Exists(unescape(term[0].strip('"'))))
        following = self.next()
        query: Query
        if following == "(":
            self.at += 1
            query = self.clauses(field, depth + 1)
            if self.next() != ")":
                self.fail()
            self.at += 1
        elif following == '"':
            query = self.phrase(field)
        elif following == "/" and (match := self.take(_REGEXP)) is not None:
            query = Pattern(field, "regexp", match[1].replace("\\/", "/"))
        elif following and following in "[{":
            query = self.range(field)
        elif field and (match := self.take(_COMPARISON)) is not None:
            query = self.comparison(field, match[1])
        else:
            query = self.term(field)
        return self.boosted(query)

    def boosted(self, query: Query) -> Query:
        if self.next() != "^":
            return query
        self.at += 1
        number = self.take(_NUMBER)
        if number is None:
            self.fail()
        assert number is not None
        return Boost(query, float(number[0]))

    def phrase(self, field: str) -> Query:
        match = self.take(_PHRASE)
        if match is None:
            raise QueryError(f"the quotation mark at column {self.at} has no partner")
        slop = 0
        if self.next() == "~":
            self.at += 1
            number = self.take(_NUMBER)
            slop = min(int(float(number[0])), 1000) if number else 0
        return Phrase(field, unescape(match[1]), slop)

    def range(self, field: str) -> Query:
        include_lower = self.next() == "["
        self.at += 1
        self.space()
        lower = self.bound()
        self.space()
        if not self.text.startswith("TO", self.at):
            self.fail()
        self.at += 2
        self.space()
        upper = self.bound()
        self.space()
        if self.next() not in ("]", "}"):
            self.fail()
        include_upper = self.next() == "]"
        self.at += 1
        if lower is None and upper is None:
            return Exists(field) if field else MatchAll()
        return Range(field, lower, upper, include_lower, include_upper)

    def bound(self) -> str | None:
        match = self.take(_BOUND)
        if match is None:
            self.fail()
        assert match is not None
        if match[1] is not None:
            return unescape(match[1])
        return None if match[2] == "*" else unescape(match[2])

    def comparison(self, field: str, operator: str) -> Query:
        match = self.take(_PHRASE)
        if match is not None:
            value = unescape(match[1])
        else:
            match = self.take(_TERM)
            if match is None:
                self.fail()
            assert match is not None
            value = unescape(match[0])
        if operator[0] == ">":
            return Range(field, lower=value, include_lower=operator == ">=")
        return Range(field, upper=value, include_upper=operator == "<=")

    def term(self, field: str) -> Query:
        match = self.take(_TERM)
        if match is None:
            self.fail()
        assert match is not None
        raw = match[0]
        if raw in ("AND", "OR", "NOT", "&&", "||"):
            self.at = match.start()
            self.fail()
        if self.next() == ":":
            self.fail()
        if self.next() == "~":
            self.at += 1
            number = self.take(_NUMBER)
            distance = int(float(number[0])) if number else 2
            return Fuzzy(field, unescape(raw), min(distance, 2))
        bare = _ESCAPE.sub("", raw)
        if raw == "*":
            return Exists(field) if field else MatchAll()
        if "*" in bare or "?" in bare:
            return Pattern(field, "wildcard", raw)
        return Match(field, unescape(raw), together=True)


def _combined(found: list[_Clause]) -> Query:
    if len(found) == 1 and not found[0].prohibited:
        return found[0].query
    return Bool(
        must=tuple(clause.query for clause in found if clause.required),
        should=tuple(clause.query for clause in found if not clause.required and not clause.prohibited),
        must_not=tuple(clause.query for clause in found if clause.prohibited),
    )
