"""Makes an object fit its custom type: sets defaults and removes unknown fields.

As in apiextensions-apiserver's `pkg/apiserver/schema/defaulting` and `pruning`. The functions change the object in
place. `prune` does not change apiVersion, kind and metadata of an object.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hatchway.cluster.api.registry.custom.node import META_FIELDS, MISSING, SchemaNode
from hatchway.cluster.api.registry.schema.check import MAX_STRICT_ERRORS, FieldPath, show_path
from hatchway.cluster.api.work import MAX_OBJECT
from hatchway.errors import ApiError

__all__ = ["drop_nulls", "fits", "prune", "set_defaults"]

Json = Any


def drop_nulls(value: Json, node: SchemaNode | None) -> None:
    """Remove nulls that are neither allowed nor replaced by a default."""
    if isinstance(value, dict):
        for name in list(value):
            inner = node.property(name) if node is not None else None
            if value[name] is None:
                if inner is not None and not inner.nullable and inner.default is MISSING:
                    del value[name]
            else:
                drop_nulls(value[name], inner)
    elif isinstance(value, list):
        inner = node.items if node is not None else None
        for one in value:
            drop_nulls(one, inner)


def _loses_nulls(value: Json, node: SchemaNode | None) -> bool:
    """Return True when `drop_nulls` would change the value."""
    if isinstance(value, dict):
        for name, one in value.items():
            inner = node.property(name) if node is not None else None
            if one is None:
                if inner is not None and not inner.nullable and inner.default is MISSING:
                    return True
            elif _loses_nulls(one, inner):
                return True
    elif isinstance(value, list):
        items = node.items if node is not None else None
        return any(_loses_nulls(one, items) for one in value)
    return False


class _DefaultBudget:
    """Limits the size of added defaults: large defaults in the items of a long list could fill the memory."""

    __slots__ = ("_bytes_left",)

    def __init__(self) -> None:
        self._bytes_left = MAX_OBJECT

    def copy(self, node: SchemaNode) -> Json:
        """Return a copy of a node's default for use in an object. Raises ApiError 413 when the budget is used up."""
        self._bytes_left -= node.default_size
        if self._bytes_left < 0:
            message = f"the defaults of its schema would make the object larger than {MAX_OBJECT} bytes"
            raise ApiError(413, "RequestEntityTooLarge", message)
        default = node.default
        return msgspec.json.decode(msgspec.json.encode(default)) if isinstance(default, dict | list) else default


def set_defaults(value: Json, node: SchemaNode | None) -> None:
    """Set the defaults of fields that are missing, or that are null where null is not allowed.

    Raises ApiError 413 when the defaults together are larger than an object may be.
    """
    _set_defaults(value, node, _DefaultBudget())


def _set_defaults(value: Json, node: SchemaNode | None, budget: _DefaultBudget) -> None:
    if node is None:
        return
    if isinstance(value, dict):
        for name, inner in node.properties.items():
            if inner.default is not MISSING and (name not in value or (value[name] is None and not inner.nullable)):
                value[name] = budget.copy(inner)
        rest = node.rest
        for name, one in value.items():
            known = node.properties.get(name)
            if known is None and one is None and rest is not None and _replaces_null(rest):
                value[name] = budget.copy(rest)
            _set_defaults(value[name], known or rest, budget)
    elif isinstance(value, list) and node.items is not None:
        items = node.items
        for index, one in enumerate(value):
            if one is None and _replaces_null(items):
                value[index] = budget.copy(items)
            _set_defaults(value[index], items, budget)


def _replaces_null(node: SchemaNode) -> bool:
    return not node.nullable and node.default is not MISSING


def prune(value: Json, node: SchemaNode | None, unknown: list[str], path: FieldPath = None) -> None:
    """Remove the fields that the schema does not have.

    node: the value's schema. None for a value without a schema: all its fields are removed.
    unknown: gets a message for each removed field, such as `unknown field "spec.foo"`.
    """
    if node is not None and node.preserve:
        _prune_known(value, node, unknown, path)
        return
    if isinstance(value, dict):
        embedded = node is not None and node.embedded
        for name in list(value):
            if embedded and name in META_FIELDS:
                continue
            inner = node.properties.get(name) if node is not None else None
            if inner is not None:
                prune(value[name], inner, unknown, (path, name))
            elif node is not None and node.additional is not None:
                # The property is kept. If no schema describes its value, all fields inside the value are removed.
                prune(value[name], node.rest, unknown, (path, name))
            else:
                if len(unknown) < MAX_STRICT_ERRORS:
                    unknown.append(f'unknown field "{show_path((path, name))}"')
                del value[name]
    elif isinstance(value, list):
        items = node.items if node is not None else None
        for index, one in enumerate(value):
            prune(one, items, unknown, (path, index))


def _prune_known(value: Json, node: SchemaNode | None, unknown: list[str], path: FieldPath) -> None:
    """Prune only the properties that have a schema; other properties stay unchanged."""
    if node is None:
        return
    if isinstance(value, dict):
        for name, one in value.items():
            if node.embedded and name in META_FIELDS:
                continue
            inner = node.properties.get(name)
            if inner is not None:
                prune(one, inner, unknown, (path, name))
            elif node.rest is not None:
                prune(one, node.rest, unknown, (path, name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            _prune_known(one, node.items, unknown, (path, index))


def fits(value: Json, node: SchemaNode | None) -> bool:
    """Return True when neither `prune` nor `drop_nulls` would change the value. node: the schema, as for `prune`."""
    if isinstance(value, dict):
        embedded, preserve = node is not None and node.embedded, node is not None and node.preserve
        for name, one in value.items():
            if embedded and name in META_FIELDS:
                # `prune` does not change these fields, but `drop_nulls` may remove a null in them.
                if _loses_nulls({name: one}, node):
                    return False
                continue
            inner = node.properties.get(name) if node is not None else None
            if inner is None and node is not None:
                inner = node.rest
                if not preserve and node.additional is None:
                    return False
                if preserve and inner is None:
                    continue
            elif inner is None:
                return False
            if one is None and inner is not None and not inner.nullable and inner.default is MISSING:
                return False
            if not fits(one, inner):
                return False
    elif isinstance(value, list):
        items = node.items if node is not None else None
        if items is None and node is not None and node.preserve:
            return True
        return all(fits(one, items) for one in value)
    return True
