"""Numbers as Go reads them: texts that are numbers only for Python are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.numerals import is_digits, parse_int


@pytest.mark.parametrize(
    "text", ["٣", "²", "８０", "1_0", " 1", "1\n", "", "+", "-", "--1", "1" * 20, "1" * 5000, "0x1", None, 1]
)
def test_what_is_no_number(text: str) -> None:
    assert parse_int(text) is None
    assert not isinstance(text, str) or not is_digits(text)


@given(st.integers(-(2**63), 2**63 - 1))
def test_numbers_come_back(number: int) -> None:
    assert parse_int(str(number)) == number
    assert is_digits(str(number)) == (number >= 0)


def test_what_64_bits_do_not_hold_is_none() -> None:
    assert parse_int(str(2**63)) is None
    assert parse_int("+7") == 7
