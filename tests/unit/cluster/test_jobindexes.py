"""Completion indexes: formatting and parsing keep them, and a union has each index once."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.jobindexes import (
    contains,
    count,
    format_intervals,
    indexes_fault,
    merge,
    parse_intervals,
    single,
)

SETS = st.sets(st.integers(0, 60))


@given(SETS, SETS)
def test_intervals_agree_with_sets(left: set[int], right: set[int]) -> None:
    both = merge(single(left), single(right))
    assert count(both) == len(left | right)
    assert {one for one in range(-1, 65) if contains(both, one)} == left | right
    assert all(first[1] + 1 < second[0] for first, second in itertools.pairwise(both))
    text = format_intervals(both)
    assert parse_intervals(text, 100) == both
    assert indexes_fault(text, 100) == (len(left | right), "")


def test_indexes_are_formatted_as_in_a_status() -> None:
    assert format_intervals(single([1, 3, 4, 5, 7, 9, 10])) == "1,3-5,7,9,10"
    assert parse_intervals("0-4,nope,7,9-2,x-3", 4) == [(0, 3)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("5", 'too large index: "5"'),
        ("x", 'cannot convert string to integer for index: "x"'),
        ("3,1", "non-increasing order, previous: 3, current: 1"),
        ("2-1", "non-increasing order, previous: 2, current: 1"),
        (
            "1-2-3",
            'the fragment "1-2-3" violates the requirement that an index interval can have at most two parts '
            "separated by '-'",
        ),
    ],
)
def test_invalid_texts(text: str, fault: str) -> None:
    assert indexes_fault(text, 5) == (0, fault)


@given(st.text(alphabet="0123456789-,x ²", max_size=20))
def test_any_text_is_parsed_or_ignored(text: str) -> None:
    parse_intervals(text, 10)
    indexes_fault(text, 10)
