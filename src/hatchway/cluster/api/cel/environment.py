"""The names that an expression can use: variables, functions, and fields of object types (cel-go `checker/env.go`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hatchway.cluster.api.cel.celtypes import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    UINT,
    CelType,
    Overload,
    list_of,
    map_of,
    object_type,
    opaque,
    type_of,
)
from hatchway.cluster.api.cel.lexer import RESERVED

__all__ = ["PATCH_OPERATION", "PATCH_ROOT", "TYPE_NAMES", "CelEnvironment", "JoinedTypes", "ObjectTypes"]

# The names of two types: an operation of a JSON patch, and an apply configuration. The type of a part of an apply
# configuration has the part's path in its name: `Object.spec` (apiserver `pkg/cel/mutation/typeresolver.go`).
PATCH_OPERATION, PATCH_ROOT = "JSONPatch", "Object"
_PATCH_FIELDS = {"op": STRING, "from": STRING, "path": STRING, "value": DYN}

# Maps the name of an object type to the types of its fields by name.
ObjectTypes = Mapping[str, Mapping[str, CelType]]

# The types that an expression can name, with the names that `type()` returns for them.
TYPE_NAMES: Mapping[str, tuple[CelType, str]] = {
    "bool": (type_of(BOOL), "bool"),
    "bytes": (type_of(BYTES), "bytes"),
    "double": (type_of(DOUBLE), "double"),
    "int": (type_of(INT), "int"),
    "uint": (type_of(UINT), "uint"),
    "string": (type_of(STRING), "string"),
    "null_type": (type_of(NULL), "null_type"),
    "list": (type_of(list_of(DYN)), "list"),
    "map": (type_of(map_of(DYN, DYN)), "map"),
    "type": (type_of(opaque("type")), "type"),
    "google.protobuf.Timestamp": (type_of(TIMESTAMP), "google.protobuf.Timestamp"),
    "google.protobuf.Duration": (type_of(DURATION), "google.protobuf.Duration"),
    "optional_type": (type_of(opaque("optional_type")), "optional_type"),
    "net.IP": (type_of(opaque("net.IP")), "net.IP"),
    "net.CIDR": (type_of(opaque("net.CIDR")), "net.CIDR"),
    "kubernetes.URL": (type_of(opaque("kubernetes.URL")), "kubernetes.URL"),
    "kubernetes.Quantity": (type_of(opaque("kubernetes.Quantity")), "kubernetes.Quantity"),
    "kubernetes.Semver": (type_of(opaque("kubernetes.Semver")), "kubernetes.Semver"),
    "kubernetes.NamedFormat": (type_of(opaque("kubernetes.NamedFormat")), "kubernetes.NamedFormat"),
    **{
        f"kubernetes.authorization.{name}": (
            type_of(object_type(f"kubernetes.authorization.{name}")),
            f"kubernetes.authorization.{name}",
        )
        for name in ("Authorizer", "PathCheck", "GroupCheck", "ResourceCheck", "Decision")
    },
}


class JoinedTypes(Mapping[str, Mapping[str, CelType]]):
    """The object types of two mappings, also types that are added later. If both have a type, `second` is used."""

    def __init__(self, first: ObjectTypes, second: ObjectTypes) -> None:
        self._first = first
        self._second = second

    def __getitem__(self, name: str) -> Mapping[str, CelType]:
        """Return the fields of a type. Raises KeyError for an unknown type."""
        return self._second[name] if name in self._second else self._first[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._first, *self._second)))

    def __len__(self) -> int:
        return len({*self._first, *self._second})


@dataclass(frozen=True)
class CelEnvironment:
    """The names that an expression may use.

    Attributes:
        functions: the overloads by the function's name.
        variables: the type of each variable.
        types: the object types.
        has_bindings: True if expressions may use `cel.bind`.
        makes_patches: True if expressions may make objects of the types JSONPatch, Object, Object.spec ...
    """

    functions: Mapping[str, list[Overload]]
    variables: Mapping[str, CelType] = field(default_factory=dict)
    types: ObjectTypes = field(default_factory=dict)
    has_bindings: bool = False
    makes_patches: bool = False

    def is_patch_type(self, name: str) -> bool:
        """Return True if an expression may make objects of the type with this name."""
        return self.makes_patches and (name in (PATCH_OPERATION, PATCH_ROOT) or name.startswith(f"{PATCH_ROOT}."))

    def has_fields(self, name: str) -> bool:
        """Return True for an object type whose fields are known."""
        return name in self.types or self.is_patch_type(name)

    def field_type(self, name: str, field_name: str) -> CelType | None:
        """Return the type of an object's field; None if there is no such field.

        A field whose name is a reserved word is also found by its escaped name.
        """
        if self.is_patch_type(name):
            # The type of a field is unknown here, because it depends on the type of the patched object.
            return _PATCH_FIELDS.get(field_name) if name == PATCH_OPERATION else DYN
        fields = self.types.get(name, {})
        found = fields.get(field_name)
        if found is None and field_name in RESERVED:
            found = fields.get(f"__{field_name}__")
        return found
