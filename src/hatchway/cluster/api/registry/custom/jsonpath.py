"""Kubernetes' JSONPath (client-go `util/jsonpath`), which printer columns and selectable fields use. Examples:

.spec.size   .metadata.labels['app.kubernetes.io/name']   .spec.containers[*].image   .spec.items[-1]   .items[0:2]
.status.conditions[?(@.type=="Ready")].status   ..name
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["JSONPath", "JSONPathError"]

Json = Any
# One step of a path: yields the values that the step selects in a value.
_Step = Callable[[Json], Iterator[Json]]

_MOST = 1000
# The maximum number of characters of a path. The time for parsing filters grows faster than the length of the path.
_LONGEST = 1024
_LARGEST_INDEX = 10**9
_name = re.compile(r"(?:\\.|[^.\[\]\\\s'\"(){}?@$*,:])+").match
_quoted = re.compile(r"'((?:\\.|[^'\\])*)'|\"((?:\\.|[^\"\\])*)\"").match
_index = re.compile(r"\s*(-?\d+)?\s*(:)?\s*(-?\d+)?\s*(?::\s*(-?\d+))?\s*").fullmatch
_filter = re.compile(r"\?\(\s*(.*?)\s*(?:(==|!=|<=|>=|<|>)\s*(.*?)\s*)?\)", re.DOTALL).fullmatch


class JSONPathError(ValueError):
    """Raised for a malformed path. The text says why."""


class JSONPath:
    """A parsed path. text: the path, with or without the braces of a template. The constructor raises JSONPathError."""

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > _LONGEST:
            raise JSONPathError(f"the path is longer than {_LONGEST} characters")
        inner = text[1:-1] if text.startswith("{") and text.endswith("}") else text
        try:
            self._steps = _parse(inner.strip())
        except RecursionError:
            raise JSONPathError("the filters of the path are nested too deep") from None

    def find(self, value: Json) -> list[Json]:
        """Return the values that the path selects, in order, at most 1,000; [] when a part of the path is missing."""
        found = [value]
        for step in self._steps:
            found = _bounded(selected for one in found for selected in step(one))
        return found

    def first(self, value: Json) -> Json:
        """Return the first value that the path selects, or None."""
        found = self.find(value)
        return found[0] if found else None


def _bounded(values: Iterator[Json]) -> list[Json]:
    found = []
    for value in values:
        found.append(value)
        if len(found) == _MOST:
            break
    return found


def _parse(text: str) -> Sequence[_Step]:
    steps: list[_Step] = []
    at = 1 if text[:1] in ("$", "@") else 0
    while at < len(text):
        if text.startswith("..", at):
            steps.append(_descendants)
            at += 2
            if text[at : at + 1] == "[":
                continue
            step, at = _named(text, at)
            steps.append(step)
        elif text[at] == ".":
            at += 1
            if at == len(text):
                break  # "." alone selects the whole object.
            if text[at] == "[":
                continue
            step, at = _named(text, at)
            steps.append(step)
        elif text[at] == "[":
            end = _closing(text, at)
            steps.append(_bracket(text[at + 1 : end].strip()))
            at = end + 1
        elif at == 0:
            step, at = _named(text, at)
            steps.append(step)
        else:
            raise JSONPathError(f"unexpected {text[at]!r} in the path {text!r}")
    return tuple(steps)


def _named(text: str, at: int) -> tuple[_Step, int]:
    if text[at : at + 1] == "*":
        return _all, at + 1
    found = _name(text, at)
    if found is None:
        raise JSONPathError(f"a name is missing in the path {text!r}")
    return _field(re.sub(r"\\(.)", r"\1", found[0])), found.end()


def _closing(text: str, at: int) -> int:
    """Return the index of the bracket that closes the bracket at index `at`."""
    depth = 0
    while at < len(text):
        if text[at] in "'\"":
            quoted = _quoted(text, at)
            if quoted is None:
                break
            at = quoted.end()
            continue
        if text[at] == "[":
            depth += 1
        elif text[at] == "]":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise JSONPathError(f"unterminated array in the path {text!r}")


def _bracket(inner: str) -> _Step:
    if inner == "*":
        return _all
    if inner[:1] in "'\"" and inner:
        quoted = _quoted(inner, 0)
        if quoted is None or quoted.end() != len(inner):
            raise JSONPathError(f"invalid name [{inner}]")
        return _field(re.sub(r"\\(.)", r"\1", quoted[1] if quoted[1] is not None else quoted[2]))
    if inner.startswith("?"):
        return _condition(inner)
    found = _index(inner)
    if found is None or not inner:
        raise JSONPathError(f"invalid array index {inner}")
    start, colon, end, stride = found.groups()
    if any(one is not None and abs(int(one)) > _LARGEST_INDEX for one in (start, end, stride)):
        raise JSONPathError(f"array index {inner} is too large")
    if not colon:
        return _item(int(start))
    if stride is not None and int(stride) <= 0:
        raise JSONPathError("step must be > 0")
    span = slice(*(int(one) if one is not None else None for one in (start, end, stride)))
    return lambda value: iter(value[span]) if isinstance(value, list) else iter(())


def _condition(inner: str) -> _Step:
    """Return the step for a filter such as `?(@.type=="Ready")`."""
    found = _filter(inner)
    if found is None or not found[1]:
        raise JSONPathError(f"invalid filter {inner}")
    left, operator, right = found.groups()
    wanted = _operand(left)
    if operator is None:
        return lambda value: (one for one in _items(value) if wanted(one))
    other = _operand(right)
    compare = _COMPARE[operator]

    def select(value: Json) -> Iterator[Json]:
        for one in _items(value):
            mine, its = wanted(one), other(one)
            if len(mine) == 1 and len(its) == 1 and compare(mine[0], its[0]):
                yield one

    return select


def _operand(text: str) -> Callable[[Json], list[Json]]:
    """Return a function that gives the values of one operand of a comparison. The operand is a path or a literal."""
    if text[:1] in ("@", "$", "."):
        return JSONPath(text).find
    quoted = _quoted(text, 0)
    if quoted is not None and quoted.end() == len(text):
        literal: Json = re.sub(r"\\(.)", r"\1", quoted[1] if quoted[1] is not None else quoted[2])
    else:
        try:
            literal = json.loads(text)
        except ValueError:
            raise JSONPathError(f"invalid value {text!r} in a filter") from None
    return lambda value: [literal]


def _same_kind(one: Json, other: Json) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return type(one) is type(other)
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return numbers or (isinstance(one, str) and isinstance(other, str))


_COMPARE: dict[str, Callable[[Json, Json], bool]] = {
    "==": lambda one, other: _same_kind(one, other) and one == other,
    "!=": lambda one, other: not (_same_kind(one, other) and one == other),
    "<": lambda one, other: _same_kind(one, other) and one < other,
    "<=": lambda one, other: _same_kind(one, other) and one <= other,
    ">": lambda one, other: _same_kind(one, other) and one > other,
    ">=": lambda one, other: _same_kind(one, other) and one >= other,
}


def _items(value: Json) -> Iterator[Json]:
    return iter(value) if isinstance(value, list) else iter(())


def _field(name: str) -> _Step:
    def select(value: Json) -> Iterator[Json]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return select


def _item(index: int) -> _Step:
    def select(value: Json) -> Iterator[Json]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]

    return select


def _all(value: Json) -> Iterator[Json]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _descendants(value: Json) -> Iterator[Json]:
    """Yield the value and everything inside it, outer values first."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += reversed(list(_all(one)))
