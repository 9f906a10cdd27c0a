"""The function `format` of texts: `"%s".format([...])` (cel-go `ext/formatting.go`)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from functools import cmp_to_key

from hatchway.cluster.api.cel.library.declaring import limit_made
from hatchway.cluster.api.cel.mapkeys import entries
from hatchway.cluster.api.cel.state import Evaluation
from hatchway.cluster.api.cel.values import (
    Duration,
    EvaluationError,
    Timestamp,
    TypeValue,
    UInt,
    Value,
    show_double,
    type_name,
)

__all__ = ["format_text"]

_CLAUSE = re.compile(r"%(%|(?:\.([0-9]+))?([a-zA-Z])?)", re.ASCII)
# The maximum number of digits after the decimal point. The limit saves memory.
_MOST_DIGITS = 1000
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_text(state: Evaluation, text: str, args: list[Value]) -> str:
    """Return a text with its clauses (`%s`, `%d`, `%.2f` ...) replaced. Raises EvaluationError, CostExceeded."""
    parts: list[str] = []
    at, index, size = 0, 0, 0
    values = _ValueText(state)
    for match in _CLAUSE.finditer(text):
        state.walk(1)
        parts.append(text[at : match.start()])
        at = match.end()
        if match[1] == "%":
            parts.append("%")
            continue
        if not match[3]:
            raise EvaluationError("could not parse formatting clause: unexpected end of string")
        if index >= len(args):
            raise EvaluationError(f"index {index} out of range")
        shown = _clause(match[3], match[2], args[index], values)
        size += len(shown)
        limit_made(size)
        parts.append(shown)
        index += 1
    return "".join([*parts, text[at:]])


def _clause(verb: str, precision: str | None, value: Value, values: _ValueText) -> str:
    digits = min(int(precision[:6]), _MOST_DIGITS) if precision else 6
    match verb:
        case "s":
            return values.show(value)
        case "d":
            if isinstance(value, int) and not isinstance(value, bool):
                return str(int(value))
            raise _wrong("decimal clause can only be used on integers", value)
        case "f" | "e":
            if not isinstance(value, float):
                name = "fixed-point" if verb == "f" else "scientific"
                raise _wrong(f"{name} clause can only be used on doubles", value)
            return _show_number(value, digits, scientific=verb == "e")
        case "b":
            if isinstance(value, int):
                return f"{int(value):b}"
            raise _wrong("only integers and bools can be formatted as binary", value)
        case "o":
            if isinstance(value, int) and not isinstance(value, bool):
                return f"{int(value):o}"
            raise _wrong("octal clause can only be used on integers", value)
        case "x" | "X":
            return _hex(value, upper=verb == "X")
        case _:
            raise EvaluationError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')


def _show_number(value: float, digits: int, *, scientific: bool) -> str:
    """Return a double as Go's golang.org/x/text prints it in English."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if not scientific:
        return f"{value:,.{digits}f}"
    number, _, exponent = f"{value:.{digits}e}".partition("e")
    sign = "⁻" if exponent.startswith("-") else ""
    # Narrow spaces that no line break may divide.
    return f"{number}\u202f×\u202f10{sign}{exponent.lstrip('+-').translate(_SUPERSCRIPT)}"


def _hex(value: Value, *, upper: bool) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str | bytes):
        raise _wrong("only integers, byte buffers, and strings can be formatted as hex", value)
    shown = f"{int(value):x}" if isinstance(value, int) else (value.encode() if isinstance(value, str) else value).hex()
    return shown.upper() if upper else shown


def _wrong(text: str, value: Value) -> EvaluationError:
    return EvaluationError(f"error during formatting: {text}, was given {type_name(value)}")


class _ValueText:
    """Shows values for `%s`. Limits the length of the texts, because a value can contain the same list many times."""

    def __init__(self, state: Evaluation) -> None:
        self._state = state
        self._size = 0

    def _made(self, size: int) -> None:
        """Count characters of a new text. Raises CostExceeded."""
        self._size += size
        limit_made(self._size)
        self._state.walk(1 + size // 256)

    def show(self, value: Value) -> str:
        """Return the text of a value. Raises EvaluationError for types that cannot be shown, CostExceeded."""
        if value is None:
            return "null"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, UInt | int):
            return str(int(value))
        if isinstance(value, float):
            return show_double(value)
        if isinstance(value, str):
            return value
        if isinstance(value, bytes):
            return _decoded(value)
        if isinstance(value, Timestamp | Duration):
            return str(value)
        if isinstance(value, TypeValue):
            return value.name
        if isinstance(value, list):
            return self._joined("[", map(self._literal, value), "]")
        if isinstance(value, dict):
            pairs = [(self._key(key), self._literal(one)) for key, one in entries(value)]
            pairs.sort(key=cmp_to_key(self._order))
            return self._joined("{", (f"{key}:{one}" for key, one in pairs), "}")
        text = "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations,"
        raise EvaluationError(f"error during formatting: {text} and timestamps, was given {type_name(value)}")

    def _joined(self, opening: str, parts: Iterable[str], closing: str) -> str:
        text = f"{opening}{', '.join(parts)}{closing}"
        # The text of a nested list is copied once per level, which takes time, but needs no more memory.
        self._state.walk(1 + len(text) // 256)
        return text

    def _order(self, first: tuple[str, str], second: tuple[str, str]) -> int:
        self._state.walk(1)
        return (first > second) - (first < second)

    def _key(self, key: Value) -> str:
        if not isinstance(key, str | int):
            text = f"no formatting function for map key of type {type_name(key)}"
            raise EvaluationError(f"error during formatting: {text}")
        return self._literal(key)

    def _literal(self, value: Value) -> str:
        """Return the text of an element of a list or a map, in the syntax of an expression."""
        if isinstance(value, list | dict):
            # `show` counts the elements.
            self._made(2)
            return self.show(value)
        text = self._scalar(value)
        self._made(len(text) + 2)
        return text

    def _scalar(self, value: Value) -> str:
        if isinstance(value, str):
            return json.dumps(value, ensure_ascii=False)
        if isinstance(value, bytes):
            return f"b{json.dumps(_decoded(value), ensure_ascii=False)}"
        if isinstance(value, float):
            return f"{value:.6f}" if math.isfinite(value) else f'"{show_double(value)}"'
        if isinstance(value, Timestamp):
            return f'timestamp("{value}")'
        return f'duration("{value}")' if isinstance(value, Duration) else self.show(value)


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        text = "invalid UTF-8 in bytes, cannot convert to string"
        raise EvaluationError(f'error during formatting: could not convert argument "{text}" to string') from None
