"""The parser: a printed query parses to the same query, and each invalid text gives an error of the parser."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.addons.monitoring.promql.errors import PromqlError, QueryParseError
from hatchway.addons.monitoring.promql.golang import (
    format_duration,
    format_float,
    parse_duration,
    parse_float,
    quote,
    unquote,
)
from hatchway.addons.monitoring.promql.lexer import QueryLexer
from hatchway.addons.monitoring.promql.parser import parse, parse_selector
from hatchway.addons.monitoring.promql.printer import one_line, pretty
from tests.unit.addons.monitoring.queries import QUERIES

_TOKENS = [
    "up", "sum", "by", "without", "(", ")", "{", "}", "[5m]", "[5m:1m]", "[", "]", ",", "+", "-", "*", "/", "%", "^", "==",
    "!=", ">", "bool", "and", "or", "unless", "on", "ignoring", "group_left", "offset", "@", "start", "end", "1", "5m",
    '"x"', "'", "`", "rate", "topk", "a", "=", "=~", "!~", "inf", "nan", "#", "\n", ":", ".", "é", "\\", "$", "0x", "1e",
]  # fmt: skip


@pytest.mark.parametrize("printed", [one_line, pretty])
def test_a_printed_query_is_printed_the_same_again(printed: object) -> None:
    assert callable(printed)
    different = []
    for query in QUERIES:
        try:
            node = parse(query)
        except QueryParseError:
            continue
        if printed(parse(printed(node))) != printed(node):
            different.append(query)
    assert different == []


@settings(max_examples=400)
@given(st.lists(st.sampled_from(_TOKENS), max_size=14).map(" ".join) | st.text(max_size=30))
def test_any_text_is_a_query_or_an_error_with_a_position(text: str) -> None:
    try:
        node = parse(text)
    except QueryParseError as error:
        assert ": parse error: " in str(error)
        assert 0 <= error.position <= len(text) + 1
    else:
        assert one_line(parse(one_line(node))) == one_line(node)


def test_deep_nesting_is_an_error() -> None:
    for text in (
        "(" * 5000 + "up" + ")" * 5000,
        "-" * 5000 + "up",
        "sum(" * 5000 + "up" + ")" * 5000,
        "1 ^ " * 5000 + "1",
    ):
        with pytest.raises(QueryParseError, match="nested"):
            parse(text)


def test_a_long_chain_of_operators_is_parsed_or_refused() -> None:
    text = " + ".join(["up"] * 3000)
    try:
        one_line(parse(text))
    except PromqlError as error:
        assert "nested" in str(error)


def test_a_selector_is_parsed_by_itself() -> None:
    assert [(one.name, one.type, one.value) for one in parse_selector('up{job=~"a.*"}')] == [
        ("job", "=~", "a.*"),
        ("__name__", "=", "up"),
    ]
    for text in ("up[5m]", "sum(up)", "1", "", "up +"):
        with pytest.raises(QueryParseError):
            parse_selector(text)


def test_regular_expressions_are_matched_in_linear_time_or_refused() -> None:
    (matcher, _) = parse_selector('up{path=~"(a+)+b"}')
    assert not matcher.matches("a" * 5000)
    with pytest.raises(QueryParseError, match="regexp"):
        parse('up{path=~"((((a{1000}){1000}){1000}){1000})"}')


@given(st.integers(0, 9 * 10**12))
def test_durations_are_read_as_they_are_printed(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds)) == milliseconds


@given(st.floats(allow_nan=False))
def test_numbers_are_read_as_they_are_printed(value: float) -> None:
    assert parse_float(format_float(value)) == value
    assert parse_float(format_float(value, exponents=True)) == value
    assert "e" not in format_float(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e21, "1e+21"), (1e20, "100000000000000000000"), (1.5e-7, "1.5e-07"), (1e-6, "0.000001"), (-0.0, "-0"),
     (123456789.125, "123456789.125"), (5e-324, "5e-324"), (1e16, "10000000000000000"), (12.0, "12")],
)  # fmt: skip
def test_numbers_are_formatted_as_in_go(value: float, text: str) -> None:
    assert format_float(value, exponents=True) == text


@given(st.text())
def test_strings_are_read_as_they_are_quoted(text: str) -> None:
    text = text.replace("�", "")
    token = QueryLexer(quote(text)).next()
    assert token.kind == "string"
    assert unquote(token.text) == text
