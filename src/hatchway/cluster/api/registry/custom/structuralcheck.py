"""Checks that a schema is structural (apiextensions-apiserver `pkg/apiserver/schema/{validation,complete}.go`).

A structural schema declares the type of every field outside of allOf, anyOf, oneOf and not. Pruning and defaults need
such a schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.custom.patterns import compile_pattern
from hatchway.errors import Cause

__all__ = ["structural_errors"]

Json = Any
Source = Mapping[str, Json]
_Level = Literal["root", "item", "field"]

_COMBINATIONS = ("anyOf", "allOf", "oneOf")
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_MISSING_TYPE = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}
# The fields that a schema inside of allOf, anyOf, oneOf and not must not have.
_FORBIDDEN_INSIDE = {
    "type": "must be empty to be structural",
    "additionalProperties": "must be undefined to be structural",
    "default": "must be undefined to be structural",
    "title": "must be empty to be structural",
    "description": "must be empty to be structural",
    "nullable": "must be false to be structural",
    "x-kubernetes-preserve-unknown-fields": "must be false to be structural",
    "x-kubernetes-embedded-resource": "must be false to be structural",
    "x-kubernetes-int-or-string": "must be false to be structural",
    "x-kubernetes-list-map-keys": "must be empty to be structural",
    "x-kubernetes-list-type": "must be undefined to be structural",
    "x-kubernetes-map-type": "must be undefined to be structural",
    "x-kubernetes-validations": "must be empty to be structural",
}


def structural_errors(source: Source, path: str) -> list[Cause]:
    """Return the reasons why a schema is not structural, sorted by text as in Kubernetes. path: the schema's field."""
    causes = [*_invariants(source, "root", path), *_completeness(source, path)]
    return sorted(causes, key=lambda one: f"{one.field}: {one.message}")


def _schemas(source: Source, key: str) -> list[Source]:
    found = source.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _properties(source: Source) -> Mapping[str, Source]:
    return source.get("properties") or {}


def _inner(source: Source, key: str) -> Source | None:
    found = source.get(key)
    return found if isinstance(found, dict) else None


def _invariants(source: Source, level: _Level, path: str) -> Iterator[Cause]:
    kind = source.get("type") or ""
    items, additional = _inner(source, "items"), source.get("additionalProperties")
    embedded = bool(source.get("x-kubernetes-embedded-resource"))
    either = bool(source.get("x-kubernetes-int-or-string"))
    preserves = bool(source.get("x-kubernetes-preserve-unknown-fields"))
    if kind == "array" and items is None:
        yield v.required(f"{path}.items", "must be specified")
    if items is not None:
        yield from _invariants(items, "item", f"{path}.items")
    for name, one in _properties(source).items():
        yield from _invariants(one, "field", f"{path}.properties[{name}]")
    if additional is not None:
        if level == "root":
            yield v.forbidden(f"{path}.additionalProperties", "must not be used at the root")
        if isinstance(additional, dict):
            yield from _invariants(additional, "field", f"{path}.additionalProperties")
    if either and preserves:
        field = f"{path}.x-kubernetes-preserve-unknown-fields"
        yield v.invalid(field, True, "must be false if x-kubernetes-int-or-string is true")
    if either and embedded:
        field = f"{path}.x-kubernetes-embedded-resource"
        yield v.invalid(field, True, "must be false if x-kubernetes-int-or-string is true")
    yield from _values(source, path, _skipped(source))
    if embedded and kind != "object":
        text = "must be object if x-kubernetes-embedded-resource is true"
        yield v.invalid(f"{path}.type", kind, text) if kind else v.required(f"{path}.type", text)
    elif not kind and not either and not preserves:
        yield v.required(f"{path}.type", _MISSING_TYPE[level])
    if embedded and additional is not None:
        text = "must not be used if x-kubernetes-embedded-resource is set"
        yield v.forbidden(f"{path}.additionalProperties", text)
    if level == "root" and kind and kind != "object":
        yield v.invalid(f"{path}.type", kind, "must be object at the root")
    yield from _metadata_invariants(source, level, path, checked=level == "root" or embedded)
    if embedded and not preserves and not _properties(source):
        text = (
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        )
        yield v.required(f"{path}.properties", text)


def _metadata_invariants(source: Source, level: _Level, path: str, *, checked: bool) -> Iterator[Cause]:
    """Check the schemas of kind, apiVersion and metadata. checked: the schema describes a whole object."""
    properties = _properties(source)
    for name in ("kind", "apiVersion"):
        if checked and name in properties and properties[name].get("type") != "string":
            yield v.invalid(f"{path}.properties[{name}].type", properties[name].get("type") or "", "must be string")
    metadata = properties.get("metadata")
    if metadata is None:
        return
    at = f"{path}.properties[metadata]"
    if checked and metadata.get("type") != "object":
        yield v.invalid(f"{at}.type", metadata.get("type") or "", "must be object")
    if level == "root":
        allowed = {"type", "default", "properties"}
        known = set(_properties(metadata)) <= {"name", "generateName"}
        if not known or any(value for key, value in metadata.items() if key not in allowed):
            text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            yield v.forbidden(at, text)


def _skipped(source: Source) -> frozenset[str]:
    """Return the keyword (anyOf, allOf) in which an int-or-string lists its two types. There, `type` is allowed."""
    if source.get("anyOf") == _INT_OR_STRING:
        return frozenset(("anyOf",))
    first = next(iter(_schemas(source, "allOf")), None)
    return frozenset(("allOf",)) if first is not None and first.get("anyOf") == _INT_OR_STRING else frozenset()


def _values(source: Source, path: str, skipped: frozenset[str] = frozenset()) -> Iterator[Cause]:
    """Check allOf, anyOf, oneOf, not and the pattern of a schema."""
    for key in _COMBINATIONS:
        for index, one in enumerate(_schemas(source, key)):
            if key == "anyOf" and "anyOf" in skipped:
                continue
            inner = frozenset(("anyOf",)) if key == "allOf" and index == 0 and "allOf" in skipped else frozenset[str]()
            yield from _nested(one, f"{path}.{key}[{index}]", inner)
    negated = _inner(source, "not")
    if negated is not None:
        yield from _nested(negated, f"{path}.not")
    pattern = source.get("pattern")
    if pattern:
        try:
            compile_pattern(pattern)
        except ValueError as error:
            text = f"must be a valid regular expression, but isn't: error parsing regexp: {error}"
            yield v.invalid(f"{path}.pattern", pattern, text)


def _nested(source: Source, path: str, skipped: frozenset[str] = frozenset()) -> Iterator[Cause]:
    """Check a schema inside of allOf, anyOf, oneOf or not. Such a schema may only restrict values."""
    yield from _values(source, path, skipped)
    items = _inner(source, "items")
    if items is not None:
        yield from _nested(items, f"{path}.items")
    for name, one in _properties(source).items():
        yield from _nested(one, f"{path}.properties[{name}]")
    for key, text in _FORBIDDEN_INSIDE.items():
        value = source.get(key)
        undefined = value is None if key in ("additionalProperties", "default") else not value
        if not undefined:
            yield v.forbidden(f"{path}.{key}", text)
    if "metadata" in _properties(source):
        yield v.forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context")


def _completeness(source: Source, path: str) -> Iterator[Cause]:
    """Check that every field in allOf, anyOf, oneOf or not is also declared outside of them."""
    yield from _covered(source, source, path, path)
    for name, one in _properties(source).items():
        yield from _completeness(one, f"{path}.properties[{name}]")
    for key in ("items", "additionalProperties"):
        inner = _inner(source, key)
        if inner is not None:
            yield from _completeness(inner, f"{path}.{key}")


def _covered(restriction: Source, source: Source, at: str, path: str) -> Iterator[Cause]:
    """Check that `source` declares every field of the schemas inside `restriction` (allOf, anyOf, oneOf, not).

    at, path: the fields of `restriction` and of `source`.
    """
    for key in _COMBINATIONS:
        for index, one in enumerate(_schemas(restriction, key)):
            yield from _covers(one, source, f"{at}.{key}[{index}]", path)
    negated = _inner(restriction, "not")
    if negated is not None:
        yield from _covers(negated, source, f"{at}.not", path)


def _covers(restriction: Source, source: Source | None, at: str, path: str) -> Iterator[Cause]:
    if source is None:
        yield v.required(path, f"because it is defined in {at}")
        return
    yield from _covered(restriction, source, at, path)
    items = _inner(restriction, "items")
    if items is not None:
        yield from _covers(items, _inner(source, "items"), f"{at}.items", f"{path}.items")
    for name, one in _properties(restriction).items():
        inner = f"properties[{name}]"
        yield from _covers(one, _properties(source).get(name), f"{at}.{inner}", f"{path}.{inner}")
