"""The values that only mutations create: objects of named types, and operations of JSON patches.

Source: apiserver's `pkg/cel/mutation/dynamic/objects.go` and `pkg/cel/mutation/jsonpatch.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hatchway.cluster.api.cel.equality import equal
from hatchway.cluster.api.cel.state import Evaluation
from hatchway.cluster.api.cel.values import EvaluationError, UInt, Value

__all__ = ["UNSET", "ObjectValue", "PatchOperation"]


@dataclass(frozen=True, slots=True, eq=False)
class ObjectValue:
    """An object that an expression has created, such as `Object.spec{replicas: 1}`. Its fields cannot be read.

    type_name: `Object` for a whole object; `Object` and the path, such as `Object.spec`, for a part of an object.
    """

    type_name: str
    fields: dict[str, Value]

    def equal_to(self, other: ObjectValue, state: Evaluation) -> bool:
        """Return True for an object of the same type with equal fields. Raises CostExceeded."""
        return self.type_name == other.type_name and equal(self.fields, other.fields, state)


# Stands for the value of an operation without a value.
UNSET: Value = object()


@dataclass(frozen=True, slots=True, eq=False)
class PatchOperation:
    """An operation of a JSON patch. value: UNSET if it has no value."""

    op: str = ""
    path: str = ""
    source: str = ""
    value: Value = UNSET
    type_name: ClassVar[str] = "JSONPatch"

    @classmethod
    def of(cls, fields: Mapping[str, Value]) -> PatchOperation:
        """Return an operation with these fields. Raises EvaluationError if `op`, `from` or `path` is not a string."""
        for name, value in fields.items():
            if name != "value" and not isinstance(value, str):
                found = _GO_TYPES.get(type(value), "map[string]interface {}")
                raise EvaluationError(f"unexpected type {found} for JSONPatchType '{name}' field")
        return cls(fields.get("op", ""), fields.get("path", ""), fields.get("from", ""), fields.get("value", UNSET))

    def has(self, field: str) -> bool:
        """Return True if a field is set."""
        return self.value is not UNSET if field == "value" else bool(self.get(field))

    def get(self, field: str) -> Value:
        """Return the value of a field; None if `value` is not set."""
        if field == "value":
            return None if self.value is UNSET else self.value
        return {"op": self.op, "path": self.path, "from": self.source}.get(field, "")

    def equal_to(self, other: PatchOperation, state: Evaluation) -> bool:
        """Return True for an operation with equal fields. Raises CostExceeded."""
        if (self.op, self.path, self.source) != (other.op, other.path, other.source):
            return False
        return equal(self.value, other.value, state)


_GO_TYPES: dict[type, str] = {
    bool: "bool", int: "int64", UInt: "uint64", float: "float64", bytes: "[]uint8", list: "[]interface {}",
    type(None): "structpb.NullValue",
}  # fmt: skip
