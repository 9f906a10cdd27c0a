"""Lines of a log: they may be divided anywhere, and each is printed once, even if the log is requested again."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.remote import loglines
from hatchway.remote.loglines import PIECE, LineCutter, LogReader, parse_stamp


def lines_of(data: bytes, reader: LogReader, cuts: list[int]) -> bytes:
    out = b""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(edges):
        out += b"".join(piece for piece, _ in reader.feed(data[begin:end]))
    return out + b"".join(piece for piece, _ in reader.end())


TEXTS = st.binary(max_size=20).map(lambda text: text.replace(b"\n", b""))
CUTS = st.lists(st.integers(0, 3000), max_size=4)


@given(st.lists(st.tuples(st.integers(0, 3), TEXTS), max_size=12), st.integers(0, 12), CUTS, CUTS)
def test_after_a_break_every_line_is_printed_once(
    log: list[tuple[int, bytes]], broken_at: int, first: list[int], second: list[int]
) -> None:
    """Several lines may have the same time. After a break, the log is requested from the last line's second on."""
    log = sorted(log, key=lambda line: line[0])
    stamped = [b"2026-01-01T00:00:0%d.000000001Z %b\n" % line for line in log]
    reader = LogReader(keep_stamps=False)
    found = lines_of(b"".join(stamped[:broken_at]), reader, first)
    since = log[:broken_at][-1][0] if log[:broken_at] else 0
    reader.restart()
    again = [line for line, (second_of, _) in zip(stamped, log, strict=True) if second_of >= since]
    found += lines_of(b"".join(again), reader, second)
    assert found == b"".join(text + b"\n" for _, text in log)


def test_an_interrupted_line_is_printed_completely() -> None:
    reader = LogReader(keep_stamps=False)
    whole = b"2026-01-01T00:00:01Z one\n2026-01-01T00:00:02Z two\n"
    assert b"".join(piece for piece, _ in reader.feed(whole[:-6])) == b"one\n"
    assert reader.last_stamp == "2026-01-01T00:00:01Z"
    reader.restart()
    assert lines_of(whole, reader, []) == b"two\n"


def test_a_line_whose_beginning_was_printed_is_continued() -> None:
    reader = LogReader(keep_stamps=False)
    assert lines_of(b"2026-01-01T00:00:01Z half", reader, []) == b"half"
    reader.restart()
    again = b"2026-01-01T00:00:01Z half and whole\n2026-01-01T00:00:02Z next\n"
    assert list(reader.feed(again)) == [(b" and whole\n", False), (b"next\n", True)]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.binary(max_size=200).map(lambda text: text.replace(b"\n", b""))), max_size=8
    ),
    st.lists(st.tuples(st.integers(0, 2000), st.booleans()), max_size=3),
    CUTS,
)
def test_after_a_break_anywhere_every_byte_is_printed_once(
    log: list[tuple[int, bytes]], breaks: list[tuple[int, bool]], cuts: list[int]
) -> None:
    """A body may end anywhere, properly or by an error. A line longer than a piece is printed in parts."""
    log = sorted(log, key=lambda line: line[0])
    stamped = [b"2026-01-01T00:00:0%d.000000001Z %b\n" % line for line in log]
    reader = LogReader(keep_stamps=False)
    found: list[tuple[bytes, bool]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loglines, "PIECE", 64)
        for length, in_order in [*breaks, (1 << 20, True)]:
            since = int(reader.last_stamp[17:19] or 0)
            body = b"".join(line for line, (second, _) in zip(stamped, log, strict=True) if second >= since)[:length]
            edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
            for begin, end in itertools.pairwise(edges):
                found += reader.feed(body[begin:end])
            if in_order:
                found += reader.end()
            reader.restart()
    assert b"".join(piece for piece, _ in found) == b"".join(text + b"\n" for _, text in log)
    assert sum(begins for _, begins in found) == len(log)


def test_text_without_times_is_not_changed() -> None:
    reader = LogReader(keep_stamps=True, stamped=False)
    text = b"2026-01-01T00:00:01Z the program's own time\n2026"
    assert lines_of(text, reader, [3, 30]) == text


def test_times_are_kept_on_request() -> None:
    line = b"2026-01-01T00:00:01.5+02:00 x\n"
    assert lines_of(line, LogReader(keep_stamps=True), []) == line


def test_a_long_line_is_returned_in_pieces() -> None:
    reader = LogReader(keep_stamps=False)
    long = b"x" * (3 * PIECE)
    data = b"2026-01-01T00:00:01Z " + long + b"\nno time\n"
    found = [piece for start in range(0, len(data), 1000) for piece in reader.feed(data[start : start + 1000])]
    assert b"".join(piece for piece, _ in found) == long + b"\nno time\n"
    assert sum(begins for _, begins in found) == 2
    assert max(len(piece) for piece, _ in found) < PIECE + 2000


@given(st.binary(max_size=200), st.integers(0, 200))
def test_lines_do_not_depend_on_the_pieces_of_the_response(data: bytes, cut: int) -> None:
    cutter = LineCutter()
    found = [*cutter.feed(data[:cut]), *cutter.feed(data[cut:])]
    assert b"".join(found) + cutter.end() == data
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in found)


@pytest.mark.parametrize(
    ("stamp", "found"),
    [
        (b"1970-01-01T00:00:01Z", 1_000_000_000),
        (b"1970-01-01T00:00:01.5Z", 1_500_000_000),
        (b"1970-01-01T02:00:01.000000001+02:00", 1_000_000_001),
        (b"1970-01-01T00:00:01", None),
        (b"2026-13-01T00:00:01Z", None),
        (b"failed to open log file", None),
    ],
)
def test_stamps(stamp: bytes, found: int | None) -> None:
    assert parse_stamp(stamp) == found
