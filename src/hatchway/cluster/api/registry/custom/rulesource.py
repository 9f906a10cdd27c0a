"""Finds the rules (x-kubernetes-validations) in a schema. Does not import the code that compiles rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Rule", "has_rules", "inner_schemas", "rules_of"]

Rule = Mapping[str, Any]


def rules_of(source: Mapping[str, Any]) -> list[Rule]:
    """Return the rules of one schema, without the rules of its parts."""
    found = source.get("x-kubernetes-validations")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def has_rules(source: Mapping[str, Any]) -> bool:
    """Return True when a schema or one of its parts has rules."""
    return bool(rules_of(source)) or any(map(has_rules, inner_schemas(source)))


def inner_schemas(source: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the schemas inside a schema that may have rules of their own."""
    yield from (source.get("properties") or {}).values()
    for key in ("additionalProperties", "items"):
        inner = source.get(key)
        if isinstance(inner, dict):
            yield inner
