"""Converts the results of mutations to JSON: apply configurations, and the operations of JSON patches.

Source: apiserver `pkg/cel/mutation/dynamic/objects.go` and `pkg/admission/plugin/policy/mutating/patch/json_patch.go`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

from hatchway.cluster.api.cel.mapkeys import entries, show_key
from hatchway.cluster.api.cel.objectvalues import UNSET, ObjectValue, PatchOperation
from hatchway.cluster.api.cel.values import (
    Duration,
    EvaluationError,
    Timestamp,
    Value,
    type_name,
)
from hatchway.cluster.api.patch.jsonpatch import MOST_OPERATIONS
from hatchway.cluster.api.work import MAX_OBJECT, MAX_VALUES, object_too_large, too_many_values

__all__ = ["configuration_of", "operations_of"]

Json = Any
# The largest integer that a JSON number represents exactly. JSON patches have larger integers as texts
# (`types/int.go`).
_LARGEST = (1 << 53) - 1
# The maximum number of misplaced objects that one error names.
_MOST_ERRORS = 100


def configuration_of(value: ObjectValue) -> dict[str, Json]:
    """Return an apply configuration as JSON.

    Raises EvaluationError; ApiError 413 for too many values or too long texts.
    """
    _require_places(value)
    found: dict[str, Json] = _JsonMaker(is_patch=False).make(value)
    return found


def operations_of(values: list[PatchOperation]) -> list[dict[str, Json]]:
    """Return the operations of a JSON patch as JSON.

    Raises EvaluationError; ApiError 413 for too many values or too long texts.
    """
    if len(values) > MOST_OPERATIONS:
        raise EvaluationError(f"JSON Patch: there are more than {MOST_OPERATIONS} operations")
    maker = _JsonMaker(is_patch=True)
    found: list[dict[str, Json]] = []
    for one in values:
        if not isinstance(one, PatchOperation):
            raise EvaluationError(
                "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of "
                f"{type_name(one)}"
            )
        operation: dict[str, Json] = {"op": maker.text(one.op), "path": maker.text(one.path)}
        if one.source:
            operation["from"] = maker.text(one.source)
        if one.value is not UNSET:
            if isinstance(one.value, ObjectValue):
                _require_places(one.value)
            operation["value"] = maker.make(one.value)
        found.append(operation)
    return found


def _require_places(value: ObjectValue) -> None:
    """Raise EvaluationError if an object's type does not fit its field: `spec` needs the type `Object.spec`."""
    errors = list(islice(_misplaced(value, value.type_name, count()), _MOST_ERRORS))
    if errors:
        raise EvaluationError("type mismatch: " + "\n".join(errors))


def _misplaced(value: Value, place: str, numbers: Iterator[int]) -> Iterator[str]:
    """Yield an error for each misplaced object. numbers: counts the values. Raises ApiError 413 for too many values."""
    # A value can contain the same list many times.
    if next(numbers) > MAX_VALUES:
        raise too_many_values()
    if isinstance(value, ObjectValue):
        if value.type_name != place:
            yield (
                f'unexpected type name "{value.type_name}", expected "{place}", which matches field name path from '
                "root Object type"
            )
        for name, one in value.fields.items():
            yield from _misplaced(one, f"{place}.{name}", numbers)
    elif isinstance(value, list):
        for one in value:
            yield from _misplaced(one, place, numbers)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _misplaced(one, place, numbers)


class _JsonMaker:
    """Converts at most MAX_VALUES values, with at most MAX_OBJECT characters of texts, to JSON.

    A value can contain the same list or text many times, so its JSON can be much larger than the value.

    is_patch: True for a JSON patch, which allows more types.
    """

    def __init__(self, *, is_patch: bool) -> None:
        self._is_patch = is_patch
        self._count = 0
        self._characters = 0

    def text(self, text: str) -> str:
        """Count the characters of a text, and return it. Raises ApiError 413."""
        self._characters += len(text)
        if self._characters > MAX_OBJECT:
            raise object_too_large()
        return text

    def make(self, value: Value) -> Json:
        self._count += 1
        if self._count > MAX_VALUES:
            raise too_many_values()
        if isinstance(value, ObjectValue):
            return {self.text(name): self._field(name, one) for name, one in value.fields.items()}
        if isinstance(value, dict):
            return {self._key(key): self.make(one) for key, one in entries(value)}
        if isinstance(value, list):
            return [self.make(one) for one in value]
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return str(int(value)) if self._is_patch and abs(value) > _LARGEST else int(value)
        if isinstance(value, float) and math.isfinite(value):
            return value
        if self._is_patch:
            if isinstance(value, bytes):
                return self.text(base64.b64encode(value).decode())
            if isinstance(value, Timestamp | Duration):
                return str(value)
        raise EvaluationError(f"a value of type {type_name(value)} cannot be a part of an object")

    def _field(self, name: str, value: Value) -> Json:
        try:
            return self.make(value)
        except EvaluationError as error:
            raise EvaluationError(f'fail to convert field "{name}": {error}') from None

    def _key(self, key: Value) -> str:
        if not isinstance(key, str):
            raise EvaluationError(f'map key "{show_key(key)}" is of type {type_name(key)}, not string')
        return self.text(key)
