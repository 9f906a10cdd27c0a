"""Expressions that Go refuses are refused with the messages of Go's `regexp/syntax`."""

from __future__ import annotations

import pytest

from hatchway.goregexp import Expression, ExpressionError


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a(", "missing closing ): `a(`"),
        ("a)", "unexpected ): `a)`"),
        ("x[a", "missing closing ]: `[a`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("[b-a]", "invalid character class range: `b-a`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\C", r"invalid escape sequence: `\C`"),
    ],
)
def test_a_malformed_expression_is_described_in_the_words_of_go(source: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(source)
    assert str(caught.value) == message
