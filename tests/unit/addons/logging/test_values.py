from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.addons.logging import cri, values
from hatchway.addons.logging.mapping import FIELD_LIMIT, DocumentError, FieldMapping
from hatchway.addons.logging.query import QueryError

NOW = datetime(2026, 11, 23, 13, 45, 30, tzinfo=UTC)


def moment(*parts: int, nanoseconds: int = 0) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * 10**9 + nanoseconds  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02", moment(2026, 1, 2)),
        ("2026-01-02T03:04:05Z", moment(2026, 1, 2, 3, 4, 5)),
        ("2026-01-02T03:04:05.123456789Z", moment(2026, 1, 2, 3, 4, 5, nanoseconds=123456789)),
        ("2026-01-02T03:04:05.5+01:00", moment(2026, 1, 2, 2, 4, 5, nanoseconds=500_000_000)),
        ("2026/01/02 03:04:05", moment(2026, 1, 2, 3, 4, 5)),
        ("2026-01-02T03:04", moment(2026, 1, 2, 3, 4)),
        ("1969-12-31T23:59:59Z", -(10**9)),
        ("2026-13-02", None),
        ("2026-02-30", None),
        ("2026", None),
        ("20260102", None),
        ("0001-01-01T00:00:00+12:00", None),
        ("10.0.0.1", None),
    ],
)
def test_dates(text: str, expected: int | None) -> None:
    assert values.parse_date(text) == expected


@pytest.mark.parametrize(
    ("text", "up", "expected"),
    [
        ("now", False, moment(2026, 11, 23, 13, 45, 30)),
        ("now-1h", False, moment(2026, 11, 23, 12, 45, 30)),
        ("now/d", False, moment(2026, 11, 23)),
        ("now-1d/d", False, moment(2026, 11, 22)),
        ("now/d", True, moment(2026, 11, 23, 23, 59, 59, nanoseconds=999_999_000)),
        ("now-1M", False, moment(2026, 10, 23, 13, 45, 30)),
        ("now/w", False, moment(2026, 11, 23)),
        ("now/y", False, moment(2026, 1, 1)),
        ("2026-03-31||-1M", False, moment(2026, 2, 28)),
        ("2026-01-02", True, moment(2026, 1, 2, 23, 59, 59, nanoseconds=999_999_999)),
        ("2026-01", False, moment(2026, 1, 1)),
        (1767225600123, False, moment(2026, 1, 1, nanoseconds=123_000_000)),
        ("1767225600123", False, moment(2026, 1, 1, nanoseconds=123_000_000)),
    ],
)
def test_bounds(text: str | int, up: bool, expected: int) -> None:
    assert values.date_bound(text, NOW, up=up) == expected


@pytest.mark.parametrize(
    "text", ["nowx", "now-", "now-1", "now-1x", "now-999999999y", "yesterday", "2026-01-01||x", ""]
)
def test_bounds_that_are_no_dates(text: str) -> None:
    with pytest.raises(QueryError):
        values.date_bound(text, NOW, up=False)


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(numbers, numbers)
def test_numbers_sort_as_their_keys(a: float, b: float) -> None:
    assert (a < b) == (values.sortable_number(a) < values.sortable_number(b))
    assert (a == b) == (values.sortable_number(a) == values.sortable_number(b))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_integers_sort_as_their_keys(a: int, b: int) -> None:
    assert (a < b) == (values.sortable_integer(a) < values.sortable_integer(b))
    assert len(values.sortable_integer(a)) == 16


def words(text: str) -> list[str]:
    return text.lower().split()


def test_fields_are_learned() -> None:
    mapping = FieldMapping()
    mapping.analyze(
        {"a": {"b": 1, "c": [1.5]}, "d": "x y", "e": True, "f": "2026-01-01", "g": None, "h": {}, "i": []}, words
    )
    expected = {"a": "object", "a.b": "long", "a.c": "float", "d": "text", "e": "boolean", "f": "date", "h": "object"}
    assert mapping.fields == expected
    assert mapping.resolve("d.keyword") == ("d", "keyword")
    assert mapping.resolve("a.b.keyword") is None
    assert mapping.properties()["a"] == {"properties": {"b": {"type": "long"}, "c": {"type": "float"}}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"n": "abc", "new": 1}, "failed to parse field [n] of type [long]. Preview of field's value: 'abc'"),
        ({"n": {"x": 1}}, "Could not dynamically add mapping for field [n.x]. Existing mapping for [n] must be of type "
                          "object but found [long]."),
        ({"o": 1}, "object mapping for [o] tried to parse field [o] as object, but found a concrete value"),
        ({"": 1}, "field name ['''] is empty, or has an empty part"),
        ({"a..b": 1}, "field name ['a..b'] is empty, or has an empty part"),
        ({"a\0": 1}, "field name"),
        ({"d": "no date"}, "failed to parse field [d] of type [date]. Preview of field's value: 'no date'"),
        ({"b": "maybe"}, "failed to parse field [b] of type [boolean]. Preview of field's value: 'maybe'"),
        ({f"f{n}": n for n in range(FIELD_LIMIT)}, f"Limit of total fields [{FIELD_LIMIT}] has been exceeded"),
    ],
)  # fmt: skip
def test_documents_that_do_not_fit_change_nothing(document: dict[str, object], message: str) -> None:
    mapping = FieldMapping({"n": "long", "o": "object", "d": "date", "b": "boolean"})
    before = dict(mapping.fields)
    with pytest.raises(DocumentError) as caught:
        mapping.analyze({"first": 1, **document}, words)
    assert caught.value.message.startswith(message.replace("'''", "''"))
    assert mapping.fields == before


def test_documents_may_not_be_too_deep() -> None:
    document: dict[str, object] = {"x": 1}
    for _ in range(30):
        document = {"a": document}
    with pytest.raises(DocumentError, match="depth"):
        FieldMapping().analyze(document, words)


def test_declared_fields() -> None:
    mapping = FieldMapping()
    mapping.merge({"k": {"type": "keyword"}, "o": {"properties": {"n": {"type": "integer"}}}})
    assert mapping.fields == {"k": "keyword", "o": "object", "o.n": "integer"}
    with pytest.raises(DocumentError, match="cannot be changed from type"):
        mapping.merge({"k": {"type": "text"}})
    with pytest.raises(DocumentError, match="No handler for type"):
        mapping.merge({"x": {"type": "hologram"}})
    for malformed in (None, [], {"x": 1}):
        with pytest.raises(DocumentError):
            mapping.merge(malformed)


def test_lines_of_log_files() -> None:
    line = cri.parse_line(b"2026-01-01T00:00:00.000000001Z stderr F a  b\xff")
    assert line == cri.LogLine("2026-01-01T00:00:00.000000001Z", "stderr", "a  b\ufffd", False)
    assert line.day == "2026.01.01"
    empty = cri.parse_line(b"2026-01-01T00:00:00Z stdout F ")
    assert empty is not None and empty.text == ""
    partial = cri.parse_line(b"2026-01-01T00:00:00Z stdout P:x abc")
    assert partial is not None and partial.partial
    for other in (b"", b"hello", b"2026-01-01T00:00:00Z stdout", b"2026-01-01T00:00:00Z other F x"):
        assert cri.parse_line(other) is None
    assert cri.source_of("ns_pod_uid", "c", "n") == cri.LoggedContainer("ns", "pod", "uid", "c", "n")
    assert [cri.source_of(name, "c", "n") for name in ("pod", "a_b", "a__c", "a_b_c_d")] == [None] * 4
    assert [name for name in ("0.log", "12.log.3", "x.log", "0.log.gz", "0.log~") if cri.is_log(name)] == [
        "0.log",
        "12.log.3",
    ]


@given(st.binary(max_size=200))
def test_any_line_is_parsed_or_ignored(data: bytes) -> None:
    line = cri.parse_line(data)
    assert line is None or line.stream in ("stdout", "stderr")
