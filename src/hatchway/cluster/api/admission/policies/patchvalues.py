"""Converts the results of mutations to JSON: apply configurations, and the operations of JSON patches.

Source: apiserver `pkg/cel/mutation/dynamic/objects.go` and `pkg/admission/plugin/policy/mutating/patch/json_patch.go`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
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
from hatchway.cluster.api.work import MAX_VALUES, too_many_values

__all__ = ["configuration_of", "operations_of"]

Json = Any
# The largest integer that a JSON number represents exactly. JSON patches have larger integers as texts
# (`types/int.go`).
_LARGEST = (1 << 53) - 1


def configuration_of(value: ObjectValue) -> dict[str, Json]:
    """Return an apply configuration as JSON. Raises EvaluationError; ApiError 413 for too many values."""
    _require_places(value)
    found: dict[str, Json] = _JsonMaker(is_patch=False).make(value)
    return found


def operations_of(values: list[PatchOperation]) -> list[dict[str, Json]]:
    """Return the operations of a JSON patch as JSON. Raises EvaluationError; ApiError 413 for too many values."""
    maker = _JsonMaker(is_patch=True)
    found: list[dict[str, Json]] = []
    for one in values:
        if not isinstance(one, PatchOperation):
            raise EvaluationError(
                "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of "
                f"{type_name(one)}"
            )
        operation: dict[str, Json] = {"op": one.op, "path": one.path}
        if one.source:
            operation["from"] = one.source
        if one.value is not UNSET:
            if isinstance(one.value, ObjectValue):
                _require_places(one.value)
            operation["value"] = maker.make(one.value)
        found.append(operation)
    return found


def _require_places(value: ObjectValue) -> None:
    """Raise EvaluationError if an object's type does not fit its field (only `Object.spec` fits `spec`)."""
    errors = list(_misplaced(value, value.type_name))
    if errors:
        raise EvaluationError("type mismatch: " + "\n".join(errors))


def _misplaced(value: Value, place: str) -> Iterator[str]:
    if isinstance(value, ObjectValue):
        if value.type_name != place:
            yield (
                f'unexpected type name "{value.type_name}", expected "{place}", which matches field name path from '
                "root Object type"
            )
        for name, one in value.fields.items():
            yield from _misplaced(one, f"{place}.{name}")
    elif isinstance(value, list):
        for one in value:
            yield from _misplaced(one, place)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _misplaced(one, place)


class _JsonMaker:
    """Converts at most MAX_VALUES values to JSON. is_patch: True for a JSON patch, which allows more types."""

    def __init__(self, *, is_patch: bool) -> None:
        self._is_patch = is_patch
        self._count = 0

    def make(self, value: Value) -> Json:
        self._count += 1
        if self._count > MAX_VALUES:
            raise too_many_values()
        if isinstance(value, ObjectValue):
            return {name: self._field(name, one) for name, one in value.fields.items()}
        if isinstance(value, dict):
            return {self._key(key): self.make(one) for key, one in entries(value)}
        if isinstance(value, list):
            return [self.make(one) for one in value]
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int):
            return str(int(value)) if self._is_patch and abs(value) > _LARGEST else int(value)
        if isinstance(value, float) and math.isfinite(value):
            return value
        if self._is_patch:
            if isinstance(value, bytes):
                return base64.b64encode(value).decode()
            if isinstance(value, Timestamp | Duration):
                return str(value)
        raise EvaluationError(f"a value of type {type_name(value)} cannot be a part of an object")

    def _field(self, name: str, value: Value) -> Json:
        try:
            return self.make(value)
        except EvaluationError as error:
            raise EvaluationError(f'fail to convert field "{name}": {error}') from None

    @staticmethod
    def _key(key: Value) -> str:
        if not isinstance(key, str):
            raise EvaluationError(f'map key "{show_key(key)}" is of type {type_name(key)}, not string')
        return key
