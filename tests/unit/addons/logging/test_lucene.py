from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.addons.logging.lucene import parse
from hatchway.addons.logging.query import (
    MAX_CLAUSES,
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
    leaves,
    resolve_minimum,
)


def word(text: str, field: str = "") -> Match:
    return Match(field, text, together=True)


A, B, C = word("a"), word("b"), word("c")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", A),
        ("user:kimchy", word("kimchy", "user")),
        ("user : kimchy", word("kimchy", "user")),
        ("kubernetes.pod_name:web-0", word("web-0", "kubernetes.pod_name")),
        ("@timestamp:2026", word("2026", "@timestamp")),
        ("a b", Bool(should=(A, B))),
        ("a OR b || c", Bool(should=(A, B, C))),
        ("a AND b && c", Bool(must=(A, B, C))),
        ("a AND b OR c", Bool(must=(A, B), should=(C,))),
        ("a OR b AND c", Bool(must=(B, C), should=(A,))),
        ("+a b -c", Bool(must=(A,), should=(B,), must_not=(C,))),
        ("a NOT b", Bool(should=(A,), must_not=(B,))),
        ("a AND NOT b", Bool(must=(A,), must_not=(B,))),
        ("a !b", Bool(should=(A,), must_not=(B,))),
        ("NOT a", Bool(must_not=(A,))),
        ("a AND (b OR c)", Bool(must=(A, Bool(should=(B, C))))),
        ("f:(a OR b)", Bool(should=(word("a", "f"), word("b", "f")))),
        ("f:(a g:b)", Bool(should=(word("a", "f"), word("b", "g")))),
        ("(a)", A),
        ("a^2.5", Boost(A, 2.5)),
        ("(a b)^2", Boost(Bool(should=(A, B)), 2.0)),
        ('"a b"', Phrase("", "a b")),
        ('f:"a \\" b"~3', Phrase("f", 'a " b', 3)),
        ("f:[1 TO 5]", Range("f", "1", "5")),
        ("f:{1 TO 5}", Range("f", "1", "5", False, False)),
        ("f:[1 TO *}", Range("f", "1", None, True, False)),
        ('f:["a b" TO c]', Range("f", "a b", "c")),
        ("f:[2026-01-01T00:00:00 TO now-1h/d]", Range("f", "2026-01-01T00:00:00", "now-1h/d")),
        ("f:[* TO *]", Exists("f")),
        ("f:>=10", Range("f", lower="10")),
        ("f:> 10", Range("f", lower="10", include_lower=False)),
        ("f:<10", Range("f", upper="10", include_upper=False)),
        ("f:<=-1", Range("f", upper="-1")),
        ("ku*", Pattern("", "wildcard", "ku*")),
        ("f:k?b", Pattern("f", "wildcard", "k?b")),
        ("f:/a.*\\/b/", Pattern("f", "regexp", "a.*/b")),
        ("/a b/", Pattern("", "regexp", "a b")),
        ("a/b", word("a/b")),
        ("a~", Fuzzy("", "a", 2)),
        ("a~1", Fuzzy("", "a", 1)),
        ("f:*", Exists("f")),
        ("_exists_:f.g", Exists("f.g")),
        ("*:*", MatchAll()),
        ("*", MatchAll()),
        ("a\\:b", word("a:b")),
        ("a\\:b:c", word("c", "a:b")),
        ("\\*", word("*")),
        ("a\\ b", word("a b")),
        ("ANDROID OR NOTE", Bool(should=(word("ANDROID"), word("NOTE")))),
        ("web-0", word("web-0")),
        ("10.0.0.1", word("10.0.0.1")),
        ("", Bool(must_not=(MatchAll(),))),
    ],
)
def test_syntax(text: str, expected: Query) -> None:
    assert parse(text) == expected


def test_default_operator_and_field() -> None:
    assert parse("a b", default_operator="AND") == Bool(must=(A, B))
    assert parse("a OR b c", default_operator="and") == Bool(must=(C,), should=(A, B))
    assert parse("a g:b", default_field="f") == Bool(should=(word("a", "f"), word("b", "g")))


@pytest.mark.parametrize(
    "text",
    ["user:", "(a", "a)", '"a', "AND", "AND a", "a AND", "a OR OR b", "-", "a:b:c", "f:[1 TO", "f:[1 5]", "f:>", "a^",
     "[a TO b", "()", "a ^2", "{"],
)  # fmt: skip
def test_invalid_queries_are_refused_with_a_reason(text: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert caught.value.message.startswith(f"Failed to parse query [{text}]: ")
    assert caught.value.kind == "query_shard_exception"


@pytest.mark.parametrize("text", ["(" * 2000 + "a" + ")" * 2000, "a " * (MAX_CLAUSES + 1), "a" * 40_000])
def test_size_is_bounded(text: str) -> None:
    with pytest.raises(QueryError):
        parse(text)


@given(st.text(alphabet='ab:()[]{}"*?~^/\\+-!&|<>= \n.NOTAD1', max_size=40))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        query = parse(text)
    except QueryError:
        return
    assert list(leaves(query))


_SPECIAL = set(' \t\r\n\u3000+-&|!(){}[]^"~*?:\\/<>=')


@given(st.text(min_size=1, max_size=20))
def test_escaped_text_is_one_word(text: str) -> None:
    escaped = "".join(f"\\{character}" if not character.isalnum() else character for character in text)
    if text not in ("AND", "OR", "NOT"):
        assert parse(escaped) == word(text)


@pytest.mark.parametrize(
    ("minimum", "count", "expected"),
    [(None, 3, 1), (2, 3, 2), (-1, 3, 2), ("75%", 4, 3), ("-25%", 4, 3), (9, 3, 9), (-9, 3, 0)],
)
def test_minimum_should_match(minimum: int | str | None, count: int, expected: int) -> None:
    assert resolve_minimum(minimum, count, 1) == expected


def test_minimum_should_match_refuses_nonsense() -> None:
    with pytest.raises(QueryError):
        resolve_minimum("most", 3, 1)
