"""Completion indexes of Jobs as ordered intervals: `1,3-5,7` (`pkg/controller/job/indexed_job_utils.go`). Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from hatchway.numerals import is_digits

__all__ = ["Intervals", "contains", "count", "format_intervals", "indexes_fault", "merge", "parse_intervals", "single"]

# (first, last) of each interval, in order; intervals neither overlap nor touch.
Intervals = list[tuple[int, int]]


def single(indexes: Iterable[int]) -> Intervals:
    """Return the intervals of single indexes, given in any order."""
    return merge([], [(one, one) for one in sorted(set(indexes))])


def merge(left: Intervals, right: Intervals) -> Intervals:
    """Return the union of two ordered lists of intervals."""
    found: Intervals = []
    for first, last in sorted([*left, *right]):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def count(intervals: Intervals) -> int:
    """Return the number of indexes."""
    return sum(last - first + 1 for first, last in intervals)


def contains(intervals: Intervals, index: int) -> bool:
    """Return True when the index is in one of the intervals."""
    at = bisect_left(intervals, index, key=lambda one: one[1])
    return at < len(intervals) and intervals[at][0] <= index


def format_intervals(intervals: Intervals) -> str:
    """Return the intervals in the form of a Job's status. An interval of two indexes is written as `1,2`."""
    return ",".join(
        str(first) if first == last else f"{first}{',' if last == first + 1 else '-'}{last}"
        for first, last in intervals
    )


def parse_intervals(text: str, completions: int) -> Intervals:
    """Parse intervals. Indexes that are not below `completions` and parts that are not valid are left out."""
    found: Intervals = []
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        if not is_digits(first) or (dash and not is_digits(last)):
            continue
        low, high = int(first), int(last if dash else first)
        if low < completions and low <= high:
            found.append((low, min(high, completions - 1)))
    return merge(found, [])


def indexes_fault(text: str, completions: int) -> tuple[int, str]:
    """Return (the number of indexes in a text, what is wrong with the text or "") (`validateIndexesFormat`)."""
    if not text:
        return 0, ""
    total, last_of_previous = 0, -1
    for part in text.split(","):
        limits = part.split("-")
        if len(limits) > 2:
            why = "violates the requirement that an index interval can have at most two parts separated by '-'"
            return 0, f"the fragment {_quoted(part)} {why}"
        numbers = []
        for limit in limits:
            if not is_digits(limit):
                return 0, f"cannot convert string to integer for index: {_quoted(limit)}"
            number = int(limit)
            if number >= completions:
                return 0, f"too large index: {_quoted(limit)}"
            numbers.append(number)
        first, last = numbers[0], numbers[-1]
        if len(numbers) == 2 and first >= last:
            return 0, f"non-increasing order, previous: {first}, current: {last}"
        if last_of_previous >= first:
            return 0, f"non-increasing order, previous: {last_of_previous}, current: {first}"
        last_of_previous = last
        total += last - first + 1
    return total, ""


def _quoted(text: str) -> str:
    return f'"{text}"'
