"""Parses the conditions for which a test waits, and evaluates them on an object. Pure.

The forms are those of `kubectl wait --for` (kubectl `pkg/cmd/wait`), and Python functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from hatchway.kube.api import Object
from hatchway.kube.objects import get_condition
from hatchway.testing.problems import ClusterError

Condition: TypeAlias = "str | Callable[[Object], object]"
"""`condition=Ready`, `condition=Ready=False`, `jsonpath={.status.phase}=Running`, `jsonpath={.status.phase}`, `delete`,
or a function of the object that returns a true value when the wait is over."""

_FORMS = "condition=Ready, condition=Ready=False, jsonpath={.status.phase}=Running, jsonpath={.status.phase} or delete"
# .name, ['name'] or [0]
_STEP = re.compile(r"\.((?:[^.\[\]\\\s]|\\.)+)|\['([^']*)'\]|\[(\d+)\]")
# The errors that a function raises when the object does not have the fields yet.
_NOT_YET = (AssertionError, AttributeError, LookupError, TypeError)


@dataclass(frozen=True, slots=True)
class WaitCondition:
    """A parsed condition.

    text: the condition's text, for messages. is_met: returns (True if an object meets the condition, why not); None for
        `delete`.
    """

    text: str
    is_met: Callable[[Object], tuple[bool, str]] | None

    @property
    def wants_deletion(self) -> bool:
        """Return True when the condition is that the object does not exist."""
        return self.is_met is None


def parse_condition(condition: Condition) -> WaitCondition:
    """Parse a condition. Raises ClusterError when its form is not known."""
    if not isinstance(condition, str):
        return WaitCondition(_name_of(condition), _Predicate(condition))
    if condition in ("delete", "deleted"):
        return WaitCondition("delete", None)
    kind, _, rest = condition.partition("=")
    if kind == "condition" and rest:
        name, _, status = rest.partition("=")
        return WaitCondition(condition, _HasStatus(name, status or "True"))
    if kind == "jsonpath" and rest:
        return WaitCondition(condition, _parse_path(condition, rest))
    raise ClusterError(f'"{condition}" is not a condition', f"write {_FORMS}, or pass a function")


def _name_of(function: Callable[[Object], object]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    code = getattr(function, "__code__", None)
    return f"{name} of line {code.co_firstlineno}" if name == "<lambda>" and code is not None else str(name)


@dataclass(frozen=True, slots=True)
class _HasStatus:
    """The status of a condition in `status.conditions` (kubectl `pkg/cmd/wait/condition.go`, `checkCondition`)."""

    name: str
    status: str

    def __call__(self, obj: Object) -> tuple[bool, str]:
        conditions = (obj.get("status") or {}).get("conditions") or ()
        named = next((str(one["type"]) for one in conditions if str(one.get("type")).lower() == self.name.lower()), "")
        found = get_condition(obj, named) if named else None
        if found is None:
            return False, f"it has no condition {self.name}"
        observed = found.get("observedGeneration") or (obj.get("status") or {}).get("observedGeneration")
        generation = obj["metadata"].get("generation")
        if observed and generation and observed < generation:
            return False, "its controller has not seen the last change"
        if str(found.get("status")).lower() == self.status.lower():
            return True, ""
        said = ": ".join(filter(None, (str(found.get("reason") or ""), str(found.get("message") or ""))))
        return False, f"{named} is {found.get('status')}" + (f" ({said})" if said else "")


@dataclass(frozen=True, slots=True)
class _Predicate:
    function: Callable[[Object], object]

    def __call__(self, obj: Object) -> tuple[bool, str]:
        try:
            found = self.function(obj)
        except _NOT_YET as error:
            return False, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return bool(found), f"it returned {found!r:.200}"


@dataclass(frozen=True, slots=True)
class _HasField:
    """A field of the object. value: the value to wait for; None to wait until the field exists."""

    steps: tuple[str | int, ...]
    value: str | None

    def __call__(self, obj: Object) -> tuple[bool, str]:
        found: Any = obj
        for step in self.steps:
            try:
                found = found[step]
            except (LookupError, TypeError):
                return False, "the field is not there"
        if self.value is None:
            return True, ""
        text = _text(found)
        return text == self.value, f"it is {text:.200}"


def _text(found: Any) -> str:
    if isinstance(found, bool):
        return "true" if found else "false"
    return str(found)


def _parse_path(condition: str, text: str) -> _HasField:
    """Parse `{.status.phase}=Running`, with or without braces and value. Wildcards and filters are refused."""
    path: str
    value: str | None = None
    if text.startswith("{"):
        path, brace, rest = text[1:].partition("}")
        if not brace or (rest and not rest.startswith("=")):
            raise ClusterError(f'"{condition}": the path is not closed by "}}"', f"write {_FORMS}")
        value = rest[1:] if rest else None
    else:
        path, equals, rest = text.partition("=")
        value = rest if equals else None
    if value is not None:
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        if not value:
            raise ClusterError(f'"{condition}" has no value after "="', f"write {_FORMS}")
    path = path if path.startswith((".", "[")) else f".{path}"
    steps: list[str | int] = []
    position = 0
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None:
            raise ClusterError(
                f'"{condition}": a path can have only names and numbers, as in .status.items[0].name',
                "pass a function for anything else: lambda obj: ...",
            )
        name, quoted, index = step.groups()
        steps.append(int(index) if index else quoted if quoted is not None else re.sub(r"\\(.)", r"\1", name))
        position = step.end()
    return _HasField(tuple(steps), value)
