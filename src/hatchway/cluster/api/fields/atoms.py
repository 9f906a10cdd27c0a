"""The types of values for merging: scalar, list or map, and whether their parts can have different owners.

The types of built-in kinds are made from the schema table, the types of custom kinds from the schemas in their
definitions. The rules are those of kube-openapi's `schemaconv`: a list is atomic unless its list type is `set` or
`map`, or it has a merge key. A map is granular unless its map type is `atomic`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Literal
from weakref import WeakKeyDictionary

from hatchway.cluster.api.registry.custom.customschema import CustomSchema
from hatchway.cluster.api.registry.custom.node import MISSING, SchemaNode
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.schema.table import Field, TypeDefinition, load

__all__ = ["DEDUCED", "Atom", "blank_object", "builtin_atom", "custom_atom", "row_atom"]

Json = Any
Scalar = Literal["", "string", "numeric", "boolean", "untyped"]


class Atom:
    """The type of a value: a scalar, a list or a map. (A value of the type DEDUCED may be a scalar, a list or a map.)

    scalar: the kind of scalar; "" if the value cannot be a scalar.
    is_list, is_map: True if the value can be a list or a map.
    atomic: True if a list or map is owned as a whole.
    keys: the keys that identify the items of a list of maps; () for a set.
    defaults: the default values of these keys.
    item: the type of a list's items; None if the type is unknown, which makes the list atomic.
    fields: the types of a map's declared fields.
    element: the type of a map's other fields; None when only declared fields are allowed.
    """

    __slots__ = ("atomic", "defaults", "element", "fields", "is_list", "is_map", "item", "keys", "scalar")

    def __init__(
        self,
        scalar: Scalar = "",
        *,
        is_list: bool = False,
        is_map: bool = False,
        atomic: bool = False,
        keys: tuple[str, ...] = (),
        item: Atom | None = None,
        element: Atom | None = None,
    ) -> None:
        self.scalar = scalar
        self.is_list = is_list
        self.is_map = is_map
        self.atomic = atomic
        self.keys = keys
        self.defaults: dict[str, Json] = {}
        self.item = item
        self.fields: dict[str, Atom] = {}
        self.element = element

    def field(self, name: str) -> Atom:
        """Return the type of a field of a map; DEDUCED if the map does not declare such a field."""
        return self.fields.get(name) or self.element or DEDUCED


# The type of a value without a schema: maps are granular, lists are atomic (structured-merge-diff's `typed/parser.go`).
DEDUCED = Atom("untyped", is_list=True, is_map=True)
DEDUCED.element = DEDUCED
_UNTYPED = Atom("untyped")
_SCALARS: dict[str, Atom] = {
    "string": Atom("string"),
    "bytes": Atom("string"),
    "boolean": Atom("boolean"),
    "int32": Atom("numeric"),
    "int64": Atom("numeric"),
    "double": Atom("numeric"),
    "time": _UNTYPED,
    "microTime": _UNTYPED,
    "quantity": _UNTYPED,
    "intOrString": _UNTYPED,
}


@functools.cache
def builtin_atom(gvk: tuple[str, str, str]) -> Atom:
    """Return the type of a built-in kind."""
    return _message_atom(load().message(gvk).name)


@functools.cache
def _declared(name: str) -> Atom:
    """Return the type of a definition, without fields: `_message_atom` adds them, because a type may contain itself."""
    return Atom(is_map=True, atomic=load().message(name).atomic)


def _message_atom(name: str) -> Atom:
    atom = _declared(name)
    if not atom.fields:
        for field in load().message(name).fields.values():
            atom.fields[field.name] = _UNTYPED
        atom.fields.update({field.name: _field_atom(field) for field in load().message(name).fields.values()})
    return atom


def _element_atom(field: Field) -> Atom:
    if field.kind == "message":
        return _message_atom(field.ref)
    if field.kind == "strings":
        return Atom(is_list=True, atomic=True, item=_SCALARS["string"])
    return _SCALARS.get(field.kind, DEDUCED)


def _field_atom(field: Field) -> Atom:
    one = _element_atom(field)
    if field.container == "map":
        return Atom(is_map=True, atomic=field.map_type == "atomic", element=one)
    if field.container == "list":
        return _list_atom(field, one)
    if field.map_type and field.kind == "message" and (field.map_type == "atomic") != one.atomic:
        # The field overrides the map type of its definition.
        found = Atom(is_map=True, atomic=field.map_type == "atomic", element=one.element)
        found.fields = one.fields
        return found
    return one


def _list_atom(field: Field, item: Atom) -> Atom:
    keys: tuple[str, ...] = ()
    if field.list_type:
        atomic, keys = field.list_type == "atomic", tuple(field.map_keys)
    else:
        # Without a list type, the merge key decides (`schemaconv/smd.go`).
        atomic = "merge" not in field.strategy
        keys = (field.merge_key,) if not atomic and field.merge_key else ()
    found = Atom(is_list=True, atomic=atomic, keys=tuple(sorted(keys)), item=item)
    if keys and field.kind == "message":
        known = load().message(field.ref).fields
        found.defaults = {key: known[key].default for key in keys if key in known and known[key].default is not None}
    return found


def blank_object(gvk: tuple[str, str, str]) -> dict[str, Json]:
    """Return the JSON of a kind's Go value before any field is set.

    The object contains the fields that Go always writes: structs as {}, and empty values. These fields exist before the
    first write. A manager that sets a field in such a struct therefore does not own the struct itself.
    """
    group, version, kind = gvk
    return {
        "apiVersion": f"{group}/{version}" if group else version,
        "kind": kind,
        **_blank(load().message(gvk), ("kind", "apiVersion")),
        **(_EVENT if kind == "Event" else {}),
    }


# The fields of Events that Go writes although they are empty and not required.
_EVENT: dict[str, Json] = {
    "eventTime": None,
    "firstTimestamp": None,
    "lastTimestamp": None,
    "deprecatedFirstTimestamp": None,
    "deprecatedLastTimestamp": None,
    "reportingComponent": "",
    "reportingInstance": "",
}
_ZERO: dict[str, Json] = {"string": "", "bytes": None, "boolean": False, "int32": 0, "int64": 0, "double": 0}


def _blank(message: TypeDefinition, left_out: tuple[str, ...] = ()) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, field in message.fields.items():
        if name in left_out:
            continue
        if field.always:
            found[name] = _blank(load().message(field.ref))
        elif field.required and not field.left_out:
            found[name] = None if field.container or field.pointer else _ZERO.get(field.kind)
    return found


_custom_atoms: WeakKeyDictionary[CustomSchema, Atom] = WeakKeyDictionary()


def row_atom(row: Resource) -> Atom:
    """Return the type of a row's objects."""
    schema = row.own_schema
    if schema is None:
        return builtin_atom(row.gvk)
    found = _custom_atoms.get(schema)
    if found is None:
        found = _custom_atoms[schema] = custom_atom(schema.node)
    return found


def custom_atom(root: SchemaNode) -> Atom:
    """Return the type of a custom kind, from its schema."""
    found = _node_atom(root)
    if not found.is_map or found is DEDUCED:
        found = Atom(is_map=True, element=DEDUCED)
    return _with_meta(found)


def _with_meta(atom: Atom) -> Atom:
    atom.fields = {
        **atom.fields,
        "apiVersion": _SCALARS["string"],
        "kind": _SCALARS["string"],
        "metadata": _message_atom("meta.v1.ObjectMeta"),
    }
    return atom


def _node_atom(node: SchemaNode) -> Atom:
    if node.int_or_string:
        return _UNTYPED
    if node.type == "object":
        return _object_atom(node)
    if node.type == "array":
        return _array_atom(node)
    kinds: Mapping[str, str] = {"string": "string", "boolean": "boolean", "integer": "int64", "number": "double"}
    return _SCALARS[kinds[node.type]] if node.type in kinds else DEDUCED


def _object_atom(node: SchemaNode) -> Atom:
    element = _node_atom(node.rest) if node.rest is not None else None
    if element is None and (node.preserve or node.additional or not node.properties):
        element = DEDUCED
    found = Atom(is_map=True, atomic=node.map_type == "atomic", element=element)
    found.fields = {name: _node_atom(one) for name, one in node.properties.items()}
    return _with_meta(found) if node.embedded else found


def _array_atom(node: SchemaNode) -> Atom:
    item = _node_atom(node.items) if node.items is not None else DEDUCED
    found = Atom(
        is_list=True, atomic=node.list_type not in ("set", "map"), keys=tuple(sorted(node.list_keys)), item=item
    )
    if node.items is not None:
        known = node.items.properties
        found.defaults = {
            key: known[key].default for key in node.list_keys if key in known and known[key].default is not MISSING
        }
    return found
