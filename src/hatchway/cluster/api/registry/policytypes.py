"""The CEL types of objects, for type checks of policies (apiserver `pkg/cel/common/schemas.go`, `pkg/cel/openapi`).

Built-in types come from the schema table. As in Kubernetes, fields with quantities are missing, because OpenAPI
documents give quantities no type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api.cel.celtypes import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    CelType,
    list_of,
    map_of,
    object_type,
)
from hatchway.cluster.api.cel.environment import JoinedTypes, ObjectTypes
from hatchway.cluster.api.cel.names import escape
from hatchway.cluster.api.cel.schematypes import assign_names
from hatchway.cluster.api.registry.custom.celschema import declared_type
from hatchway.cluster.api.registry.custom.customschema import CustomSchema
from hatchway.cluster.api.registry.schema.table import Field, load

__all__ = ["CheckedType", "builtin_type", "custom_type"]

_SCALARS: Mapping[str, CelType] = {
    "string": STRING,
    "bytes": BYTES,
    "boolean": BOOL,
    "int32": INT,
    "int64": INT,
    "double": DOUBLE,
    "time": TIMESTAMP,
    "microTime": TIMESTAMP,
    "strings": list_of(STRING),
    "intOrString": DYN,
}
_METADATA = "meta.v1.ObjectMeta"


@dataclass(frozen=True, slots=True)
class CheckedType:
    """The CEL type of an object. fields: the fields of this type and of all types inside it, by type name."""

    type: CelType
    fields: ObjectTypes


class _BuiltinTypes(Mapping[str, Mapping[str, CelType]]):
    """The fields of a built-in type and of the types inside it. The fields of each type are looked up at first use.

    A type is named by its place: `Deployment.spec.template`.
    """

    def __init__(self, name: str, message: str) -> None:
        # By type name: the type's definition, and the definitions that contain it. If a definition occurs inside
        # itself, the inner type has no fields. Otherwise, there would be infinitely many types.
        self._messages: dict[str, tuple[str, frozenset[str]]] = {name: (message, frozenset())}
        self._known: dict[str, dict[str, CelType]] = {}

    def __getitem__(self, name: str) -> Mapping[str, CelType]:
        """Return the fields of a type. Raises KeyError."""
        found = self._known.get(name)
        if found is None:
            message, around = self._messages[name]
            found = self._known[name] = {}
            if message and message not in around:
                for field in load().message(message).fields.values():
                    escaped = escape(field.name)
                    kind = self._field(field, f"{name}.{escaped}", around | {message})
                    if escaped is not None and kind is not None:
                        found[escaped] = kind
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._messages

    def __iter__(self) -> Iterator[str]:
        return iter(self._messages)

    def __len__(self) -> int:
        return len(self._messages)

    def _field(self, field: Field, name: str, around: frozenset[str]) -> CelType | None:
        if field.container == "list":
            element = self._element(field, f"{name}.@idx", around)
            return list_of(element) if element is not None else None
        if field.container == "map":
            element = self._element(field, f"{name}.@elem", around)
            return map_of(STRING, element) if element is not None else None
        return self._element(field, name, around)

    def _element(self, field: Field, name: str, around: frozenset[str]) -> CelType | None:
        if field.kind in ("message", "raw"):
            self._messages[name] = (field.ref, around)
            return object_type(name)
        return _SCALARS.get(field.kind)


def builtin_type(gvk: tuple[str, str, str]) -> CheckedType:
    """Return the CEL type of a built-in kind. Raises UnknownKind."""
    name = gvk[2]
    return CheckedType(object_type(name), _BuiltinTypes(name, load().message(gvk).name))


def custom_type(kind: str, schema: CustomSchema) -> CheckedType | None:
    """Return the CEL type of a custom kind; None when its schema does not describe an object."""
    declared = declared_type(schema.node, is_whole=False)
    if declared is None or declared.type.kind != "object":
        return None
    types: dict[str, Any] = {}
    assign_names(declared, kind, types)
    metadata = f"{kind}.metadata"
    types[kind] = {**types[kind], "apiVersion": STRING, "kind": STRING, "metadata": object_type(metadata)}
    return CheckedType(object_type(kind), JoinedTypes(types, _BuiltinTypes(metadata, _METADATA)))
