"""The types of values that a schema describes (apiserver `pkg/cel/types.go`, `pkg/cel/common/schemas.go`).

In addition to the CEL type, such a type has the maximum number of elements of a value. Estimates of an expression's
cost need this number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hatchway.cluster.api.cel.celtypes import CelType, list_of, map_of, object_type

__all__ = ["MAX_REQUEST", "DeclaredType", "assign_names", "list_type", "map_type", "most_occurrences", "size_at"]

# The size of the largest request, in bytes.
MAX_REQUEST = 3 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class DeclaredType:
    """The type of a value that a schema describes.

    Attributes:
        type: the CEL type. Object types have no name before `assign_names`.
        most: the maximum number of elements, entries, characters or bytes of a value.
        least_json: the size of the smallest value as JSON, in bytes.
        fields: the fields of an object, by their escaped names.
        key, element: the types of the keys and values of a map. For a list, `element` is the type of its elements.
    """

    type: CelType
    most: int = 0
    least_json: int = 1
    fields: Mapping[str, DeclaredType] = field(default_factory=dict)
    key: DeclaredType | None = None
    element: DeclaredType | None = None


def list_type(element: DeclaredType, most: int) -> DeclaredType:
    """Return the type of a list."""
    return DeclaredType(list_of(element.type), most, 2, element=element)


def map_type(key: DeclaredType, element: DeclaredType, most: int) -> DeclaredType:
    """Return the type of a map."""
    return DeclaredType(map_of(key.type, element.type), most, 2, key=key, element=element)


def assign_names(declared: DeclaredType, name: str, types: dict[str, Mapping[str, CelType]]) -> CelType:
    """Name each object type after its path, and return the type. types: gets the fields of each type, by this name."""
    if declared.type.kind == "object":
        types[name] = {key: assign_names(one, f"{name}.{key}", types) for key, one in declared.fields.items()}
        return object_type(name)
    if declared.element is None:
        return declared.type
    if declared.key is not None:
        return map_of(declared.key.type, assign_names(declared.element, f"{name}.@elem", types))
    return list_of(assign_names(declared.element, f"{name}.@idx", types))


def size_at(declared: DeclaredType, path: tuple[str, ...]) -> int | None:
    """Return the maximum number of elements of the value at a path; None if the schema does not limit them.

    path: names of fields, `@items`, `@values` and `@keys`, without the name of the variable.
    """
    found: DeclaredType | None = declared
    for name in path:
        if found is None:
            return None
        if name in ("@items", "@values"):
            found = found.element
        elif name == "@keys":
            found = found.key
        else:
            found = found.fields.get(name)
    return None if found is None else found.most


def most_occurrences(declared: DeclaredType) -> int:
    """Return the number of smallest values that fit into a request: the limit for lists and maps that set none."""
    return MAX_REQUEST // (declared.least_json + 1)
