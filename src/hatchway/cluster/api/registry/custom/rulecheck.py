"""Checks the rules of a definition's schema (apiextensions-apiserver `pkg/apis/apiextensions/validation`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hatchway.cluster.api.cel.estimate import UNBOUNDED
from hatchway.cluster.api.cel.schematypes import DeclaredType, most_occurrences
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.custom.celschema import declared_type
from hatchway.cluster.api.registry.custom.fieldpaths import FieldPathError, parse_field_path
from hatchway.cluster.api.registry.custom.node import SchemaNode, parse_schema
from hatchway.cluster.api.registry.custom.rulecompile import CompiledRule, RuleCompiler
from hatchway.cluster.api.registry.custom.rulesource import Rule, has_rules, inner_schemas, rules_of
from hatchway.errors import Cause

__all__ = ["expression_errors", "rule_errors"]

# The highest estimated costs of one rule, and of all rules of a schema.
_RULE_COST, _TOTAL_COST = 10_000_000, 100_000_000
# The maximum number of characters of all expressions of a schema together. Compiling longer expressions would take
# minutes.
_MOST_TEXT = 512 * 1024
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_KEY = "x-kubernetes-validations"


def rule_errors(source: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """Yield the errors in the fields of a schema's own rules. `expression_errors` checks the expressions.

    path: the schema's field.
    """
    for index, rule in enumerate(rules_of(source)):
        at = f"{path}.{_KEY}[{index}]"
        text, message = (rule.get("rule") or "").strip(), rule.get("message") or ""
        if not text:
            yield v.required(f"{at}.rule", "rule is not specified")
        elif message and not message.strip():
            yield v.invalid(f"{at}.message", message, "must be non-empty if specified")
        elif _has_breaks(message.strip()):
            yield v.invalid(f"{at}.message", message, "must not contain line breaks")
        elif _has_breaks(text) and not message.strip():
            yield v.required(f"{at}.message", "message must be specified if rule contains line breaks")
        expression = rule.get("messageExpression") or ""
        if expression and not expression.strip():
            yield v.required(f"{at}.messageExpression", "messageExpression must be non-empty if specified")
        if rule.get("reason") is not None and rule["reason"] not in _REASONS:
            yield v.not_supported(f"{at}.reason", rule["reason"], _REASONS)
        yield from _field_path_errors(source, rule.get("fieldPath") or "", f"{at}.fieldPath")


def _field_path_errors(source: Mapping[str, Any], path: str, at: str) -> Iterator[Cause]:
    if not path:
        return
    if not path.strip():
        yield v.invalid(at, path, "must be non-empty if specified")
    if _has_breaks(path):
        yield v.invalid(at, path, "must not contain line breaks")
    try:
        parse_field_path(path, parse_schema(source))
    except FieldPathError:
        yield v.invalid(at, path, "must be a valid path")


def _has_breaks(text: str) -> bool:
    return "\n" in text or "\r" in text


# Expressions


@dataclass(frozen=True, slots=True)
class _RulePlace:
    """A place in a schema.

    Attributes:
        path: its field.
        count: how many values an object may have at the place; None when the number is not limited.
        uncorrelated: the list or map that contains the place and whose old and new items cannot be matched; "" when
            there is no such list or map.
    """

    path: str
    count: int | None = 1
    uncorrelated: str = ""


@dataclass(slots=True)
class _Total:
    cost: int = 0
    expensive: list[tuple[int, str]] = field(default_factory=list)

    def add(self, path: str, cost: int) -> None:
        self.cost = min(self.cost + cost, UNBOUNDED)
        if cost >= _TOTAL_COST // 100:
            self.expensive = sorted([*self.expensive, (cost, path)], key=lambda one: -one[0])[:4]


def expression_errors(source: Mapping[str, Any], path: str) -> list[Cause]:
    """Return the errors in the expressions of a schema's rules: syntax, types and estimated costs.

    source: a structural `openAPIV3Schema`. path: its field.
    """
    if not has_rules(source):
        return []
    if _text_size(source) > _MOST_TEXT:
        return [v.forbidden(path, f"the expressions of its rules may have at most {_MOST_TEXT} characters together")]
    total = _Total()
    node = parse_schema(source)
    causes = list(_errors(node, declared_type(node, is_whole=True), _RulePlace(path), total))
    if total.cost > _TOTAL_COST:
        text = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        causes += [v.forbidden(at, text) for _, at in total.expensive]
        name = f"{_KEY} estimated rule cost total for entire OpenAPIv3 schema"
        causes.append(v.forbidden(path, _too_costly(name, total.cost, _TOTAL_COST)))
    return causes


def _text_size(source: Mapping[str, Any]) -> int:
    own = sum(len(one.get("rule") or "") + len(one.get("messageExpression") or "") + 64 for one in rules_of(source))
    return own + sum(map(_text_size, inner_schemas(source)))


def _errors(node: SchemaNode, declared: DeclaredType | None, place: _RulePlace, total: _Total) -> Iterator[Cause]:
    source = node.source
    path, count = place.path, _times(place.count, _most_children(node))
    inner = replace(place, count=count)
    if node.rest is not None:
        outside = place.uncorrelated or (path if node.map_type not in ("", "granular", "atomic") else "")
        below = replace(inner, path=f"{path}.additionalProperties", uncorrelated=outside)
        yield from _errors(node.rest, _type_of(node.rest), below, total)
    for name, one in node.properties.items():
        below = replace(inner, path=f"{path}.properties[{name}]")
        yield from _errors(one, _type_of(one), below, total)
    if node.items is not None:
        outside = place.uncorrelated or ("" if node.list_type == "map" else path)
        below = replace(inner, path=f"{path}.items", uncorrelated=outside)
        yield from _errors(node.items, _type_of(node.items), below, total)
    rules = rules_of(source)
    if not rules:
        return
    if declared is None:
        text = (
            "Internal error: internal error: failed to construct type information for x-kubernetes-validations rules: "
            "unable to convert structural schema to CEL declarations"
        )
        yield Cause("InternalError", text, f"{path}.{_KEY}")
        return
    compiler = RuleCompiler(declared)
    times = most_occurrences(declared) if place.count is None else place.count
    for index, rule in enumerate(rules):
        at = f"{path}.{_KEY}[{index}]"
        yield from _compiled_errors(compiler.compile(rule), at, times, place, total)


def _type_of(node: SchemaNode) -> DeclaredType | None:
    # Deriving a type takes long, because it reads all inner schemas. Only schemas with rules need the type.
    return declared_type(node, is_whole=node.embedded) if rules_of(node.source) else None


def _compiled_errors(found: CompiledRule, at: str, times: int, place: _RulePlace, total: _Total) -> Iterator[Cause]:
    rule = found.rule
    cost = min(found.cost * times, UNBOUNDED)
    if cost > _RULE_COST:
        yield v.forbidden(f"{at}.rule", _too_costly("estimated rule cost", cost, _RULE_COST))
    total.add(f"{at}.rule", cost)
    if found.error:
        yield v.invalid(f"{at}.rule", _shown(rule), found.error)
    if found.message_error:
        yield v.invalid(f"{at}.messageExpression", _shown(rule), found.message_error)
    elif found.message is not None:
        if found.message_cost > _RULE_COST:
            text = _too_costly("estimated messageExpression cost", found.message_cost, _RULE_COST)
            yield v.forbidden(f"{at}.messageExpression", text)
        total.add(f"{at}.messageExpression", found.message_cost)
    if found.uses_old and place.uncorrelated:
        text = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {place.uncorrelated}"
        yield v.invalid(f"{at}.rule", rule.get("rule") or "", text)
    elif not found.uses_old and rule.get("optionalOldSelf") is not None:
        text = "may not be set if oldSelf is not used in rule"
        yield v.invalid(f"{at}.optionalOldSelf", rule["optionalOldSelf"], text)


def _shown(rule: Rule) -> dict[str, Any]:
    """Return a rule with the field names of Kubernetes' Go type, for errors."""
    return {
        "Rule": rule.get("rule") or "",
        "Message": rule.get("message") or "",
        "MessageExpression": rule.get("messageExpression") or "",
        "Reason": rule.get("reason"),
        "FieldPath": rule.get("fieldPath") or "",
        "OptionalOldSelf": rule.get("optionalOldSelf"),
    }


def _most_children(node: SchemaNode) -> int | None:
    """Return how many items or entries a value may have; None when the number is not limited."""
    if node.type == "object" and node.additional is not None:
        return None if node.max_properties is None else max(node.max_properties, 0)
    if node.type == "array":
        return None if node.max_items is None else max(node.max_items, 0)
    return 1


def _times(count: int | None, factor: int | None) -> int | None:
    return None if count is None or factor is None else min(count * factor, UNBOUNDED)


def _too_costly(name: str, cost: int, limit: int) -> str:
    factor = cost / limit
    exact = f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    shown = "more than 100x" if factor > 100 else exact
    return (
        f"{name} exceeds budget by factor of {shown} (try simplifying the rule, or adding maxItems, maxProperties, and "
        "maxLength where arrays, maps, and strings are declared)"
    )
