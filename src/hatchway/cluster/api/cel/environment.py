"""What an expression can name: variables, functions, and the fields of object types (cel-go `checker/env.go`)."""

from __future__ import annotations

from collections.abc import Mapping
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
    opaque,
    type_of,
)
from hatchway.cluster.api.cel.lexer import RESERVED

__all__ = ["TYPE_NAMES", "CelEnvironment", "ObjectTypes"]

# The fields of object types, by the name of the type: field to type.
ObjectTypes = Mapping[str, Mapping[str, CelType]]

# Types that an expression can name, and the names as which `type()` returns them.
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
}


@dataclass(frozen=True)
class CelEnvironment:
    """The names of an expression.

    Attributes:
        functions: the overloads by the function's name.
        variables: the type of each variable.
        types: the object types. "Object" and the like can be created by the expression only if it is in `creatable`.
        has_bindings: expressions may use `cel.bind`.
        creatable: names of object types of which an expression may make objects (`Object{...}`).
    """

    functions: Mapping[str, list[Overload]]
    variables: Mapping[str, CelType] = field(default_factory=dict)
    types: ObjectTypes = field(default_factory=dict)
    creatable: frozenset[str] = frozenset()
    has_bindings: bool = False

    def field_type(self, name: str, field_name: str) -> CelType | None:
        """Return the type of an object's field, or None. A reserved word is found in its escaped form, too."""
        fields = self.types.get(name, {})
        found = fields.get(field_name)
        if found is None and field_name in RESERVED:
            found = fields.get(f"__{field_name}__")
        return found
