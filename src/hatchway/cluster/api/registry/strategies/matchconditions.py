"""The match conditions of admission policies and webhooks: validation (`validateMatchConditions`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hatchway.cluster.api.registry import validation as v
from hatchway.errors import Cause

if TYPE_CHECKING:
    from hatchway.cluster.api.registry.policyexpressions import PolicyCompiler

__all__ = ["condition_errors"]

_MOST_CONDITIONS = 64


def condition_errors(conditions: list[dict[str, Any]], at: str, compiler: PolicyCompiler) -> Iterator[Cause]:
    """Yield the errors in match conditions. at: the path of the list."""
    if len(conditions) > _MOST_CONDITIONS:
        yield v.too_many(at, len(conditions), _MOST_CONDITIONS)
    seen: set[str] = set()
    for index, one in enumerate(conditions):
        here = f"{at}[{index}]"
        text, called = (one.get("expression") or "").strip(), one.get("name") or ""
        if not text:
            yield v.required(f"{here}.expression")
        elif error := compiler.condition(text).error:
            yield v.invalid(f"{here}.expression", text, error)
        yield from v.each(f"{here}.name", called, v.qualified_name(called)) if called else [v.required(f"{here}.name")]
        if called in seen:
            yield v.duplicate(f"{here}.name", called)
        seen.add(called)
