"""Numbers are parsed as in Go: texts that are numbers only for Python are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.numerals import is_digits, parse_int


@pytest.mark.parametrize(
    "text", ["٣", "²", "８０", "1_0", " 1", "1\n", "", "+", "-", "--1", "1" * 20, "1" * 5000, "0x1", None, 1]
)
def test_texts_that_are_not_numbers(text: str) -> None:
    assert parse_int(text) is None
    assert not isinstance(text, str) or not is_digits(text)


@given(st.integers(-(2**63), 2**63 - 1))
def test_formatted_numbers_are_parsed_to_the_same_number(number: int) -> None:
    assert parse_int(str(number)) == number
    assert is_digits(str(number)) == (number >= 0)


def test_numbers_with_more_than_64_bits_are_refused() -> None:
    assert parse_int(str(2**63)) is None
    assert parse_int("+7") == 7
