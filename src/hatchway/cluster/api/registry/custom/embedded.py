"""The metadata of custom objects, and of whole objects inside them (x-kubernetes-embedded-resource).

As in apiextensions-apiserver's `pkg/apiserver/schema/objectmeta`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.custom.node import SchemaNode
from hatchway.cluster.api.registry.schema.check import FieldPath, check_part, show_path
from hatchway.errors import Cause

__all__ = ["coerce_metadata", "embedded_errors"]

Json = Any

_METADATA = "meta.v1.ObjectMeta"


def coerce_metadata(value: Json, node: SchemaNode | None, unknown: list[str], path: FieldPath = None) -> None:
    """Give metadata the shape of ObjectMeta, in an object and in its embedded objects.

    unknown: gets a message for each field that is dropped. Raises ValueError, with the reason, when apiVersion, kind or
    metadata have a wrong type.
    """
    if node is None:
        return
    if isinstance(value, dict):
        if node.embedded:
            for name in ("apiVersion", "kind"):
                if name in value and not isinstance(value[name], str):
                    raise ValueError(f"{show_path((path, name))}: must be a string")
            if value.get("metadata") is not None:
                value["metadata"], dropped = check_part(_METADATA, value["metadata"], (path, "metadata"))
                unknown += dropped
        for name, one in value.items():
            inner = node.property(name)
            if inner is not None:
                coerce_metadata(one, inner, unknown, (path, name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            coerce_metadata(one, node.items, unknown, (path, index))


def embedded_errors(value: Json, node: SchemaNode | None, path: str = "") -> list[Cause]:
    """Return the errors in apiVersion, kind and metadata of embedded objects."""
    return list(_errors(value, node, path))


def _errors(value: Json, node: SchemaNode | None, path: str) -> Iterator[Cause]:
    if node is None:
        return
    if isinstance(value, dict):
        if node.embedded:
            yield from _identity_errors(value, f"{path}." if path else "")
        for name, one in value.items():
            inner = node.properties.get(name)
            if inner is not None:
                yield from _errors(one, inner, f"{path}.{name}" if path else name)
            elif node.rest is not None:
                yield from _errors(one, node.rest, f"{path}[{name}]")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _errors(one, node.items, f"{path}[{index}]")


def _identity_errors(value: dict[str, Json], prefix: str) -> Iterator[Cause]:
    for name in ("apiVersion", "kind"):
        field, found = f"{prefix}{name}", value.get(name)
        if name not in value:
            yield v.required(field)
        elif not isinstance(found, str):
            yield v.invalid(field, found, "must be a string")
        elif not found:
            yield v.invalid(field, found, "must not be empty")
        elif name == "kind":
            errors = v.dns1035_label(found.lower())
            if errors:
                text = "may have mixed case, but should otherwise match: " + ",".join(errors)
                yield v.invalid(field, found, text)
        elif found.count("/") > 1:
            yield v.invalid(field, found, f"unexpected GroupVersion string: {found}")
    metadata = value.get("metadata")
    if isinstance(metadata, dict):
        for key, check in (("name", v.path_segment), ("namespace", v.dns1123_label)):
            given = metadata.get(key)
            if isinstance(given, str) and given:
                yield from v.each(f"{prefix}metadata.{key}", given, check(given))
