"""Conversions between types: `int("1")`, `string(1.5)`, `timestamp("...")` (cel-go `common/types`)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from hatchway.cluster.api.cel.celtypes import Overload
from hatchway.cluster.api.cel.library.declaring import declare, traversal
from hatchway.cluster.api.cel.values import (
    MAX_INT,
    MIN_INT,
    Duration,
    EvaluationError,
    Timestamp,
    TypeValue,
    UInt,
    Value,
    checked_timestamp,
    parse_duration,
    parse_timestamp,
    show_double,
    type_name,
)

__all__ = ["conversions", "duration_of_text", "timestamp_of_text"]

_NANO = 1_000_000_000
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf|infinity|nan)", re.ASCII | re.I)
_TRUE, _FALSE = (
    frozenset(("1", "t", "T", "true", "TRUE", "True")),
    frozenset(("0", "f", "F", "false", "FALSE", "False")),
)


def _fail(kind: str) -> EvaluationError:
    return EvaluationError(f"type conversion error from 'string' to '{kind}'")


def _int_of_text(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise _fail("int")
    found = int(text)
    if not MIN_INT <= found <= MAX_INT:
        raise _fail("int")
    return found


def _uint_of_text(text: str) -> UInt:
    if not _INTEGER.fullmatch(text) or text[0] in "+-":
        raise _fail("uint")
    if int(text) >= 1 << 64:
        raise _fail("uint")
    return UInt(int(text))


def _int_of_double(value: float) -> int:
    if math.isnan(value) or not -9223372036854775808 < value < 9223372036854775808:
        raise EvaluationError("integer overflow")
    return int(value)


def _uint_of_double(value: float) -> UInt:
    if math.isnan(value) or not 0 <= value < 18446744073709551616:
        raise EvaluationError("unsigned integer overflow")
    return UInt(int(value))


def _int_of_uint(value: int) -> int:
    if value > MAX_INT:
        raise EvaluationError("integer overflow")
    return int(value)


def _uint_of_int(value: int) -> UInt:
    if value < 0:
        raise EvaluationError("unsigned integer overflow")
    return UInt(value)


def _double_of_text(text: str) -> float:
    if len(text) > 1000 or not _FLOAT.fullmatch(text):
        raise _fail("double")
    found = float(text)
    if math.isinf(found) and "inf" not in text.lower():
        raise _fail("double")
    return found


def _bool_of_text(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise _fail("bool")


def _text_of_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None


def timestamp_of_text(text: str) -> Timestamp:
    """Return the timestamp in a text (RFC 3339). Raises EvaluationError."""
    try:
        return parse_timestamp(text)
    except ValueError:
        raise _fail("google.protobuf.Timestamp") from None


def duration_of_text(text: str) -> Duration:
    """Return the duration in a text such as `1h30m`. Raises EvaluationError."""
    try:
        return parse_duration(text)
    except ValueError:
        raise _fail("google.protobuf.Duration") from None


def _same(value: Value) -> Value:
    return value


def conversions() -> Iterator[Overload]:
    """Yield the conversions between types."""
    yield declare("type", "type(A) type(A)", lambda value: TypeValue(type_name(value)))
    yield declare("bool_to_bool", "bool(bool) bool", _same)
    yield declare("string_to_bool", "bool(string) bool", _bool_of_text)
    yield declare("bytes_to_bytes", "bytes(bytes) bytes", _same)
    yield declare("string_to_bytes", "bytes(string) bytes", lambda text: text.encode(errors="replace"), traversal)
    yield declare("double_to_double", "double(double) double", _same)
    yield declare("int64_to_double", "double(int) double", float)
    yield declare("string_to_double", "double(string) double", _double_of_text)
    yield declare("uint64_to_double", "double(uint) double", float)
    yield declare("duration_to_duration", "duration(duration) duration", _same)
    yield declare("string_to_duration", "duration(string) duration", duration_of_text)
    yield declare("int64_to_int64", "int(int) int", _same)
    yield declare("double_to_int64", "int(double) int", _int_of_double)
    yield declare("duration_to_int64", "int(duration) int", lambda value: value.nanoseconds)
    yield declare("string_to_int64", "int(string) int", _int_of_text)
    yield declare("timestamp_to_int64", "int(timestamp) int", lambda value: value.nanoseconds // _NANO)
    yield declare("uint64_to_int64", "int(uint) int", _int_of_uint)
    yield declare("string_to_string", "string(string) string", _same)
    yield declare("bool_to_string", "string(bool) string", lambda value: "true" if value else "false")
    yield declare("bytes_to_string", "string(bytes) string", _text_of_bytes, traversal)
    yield declare("double_to_string", "string(double) string", show_double)
    yield declare("duration_to_string", "string(duration) string", str)
    yield declare("int64_to_string", "string(int) string", str)
    yield declare("timestamp_to_string", "string(timestamp) string", str)
    yield declare("uint64_to_string", "string(uint) string", lambda value: str(int(value)))
    yield declare("timestamp_to_timestamp", "timestamp(timestamp) timestamp", _same)
    yield declare("int64_to_timestamp", "timestamp(int) timestamp", lambda value: checked_timestamp(value * _NANO))
    yield declare("string_to_timestamp", "timestamp(string) timestamp", timestamp_of_text)
    yield declare("uint64_to_uint64", "uint(uint) uint", _same)
    yield declare("double_to_uint64", "uint(double) uint", _uint_of_double)
    yield declare("int64_to_uint64", "uint(int) uint", _uint_of_int)
    yield declare("string_to_uint64", "uint(string) uint", _uint_of_text)
