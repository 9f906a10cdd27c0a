"""Runs the rules of a custom type on its objects (apiextensions-apiserver `pkg/apiserver/schema/cel/validation.go`)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api.cel.compiler import Outcome, Program
from hatchway.cluster.api.cel.values import CostExceeded, Optional, Value
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.custom.celschema import bind_value, declared_type
from hatchway.cluster.api.registry.custom.fieldpaths import FieldPathError, parse_field_path
from hatchway.cluster.api.registry.custom.node import SchemaNode
from hatchway.cluster.api.registry.custom.rulecompile import CompiledRule, RuleCompiler
from hatchway.cluster.api.registry.custom.rulesource import Rule, has_rules, rules_of
from hatchway.cluster.api.registry.custom.samevalue import same_value
from hatchway.errors import Cause

__all__ = ["RuleTree", "compile_rules"]

Json = Any

# The highest CEL costs of one expression, and of all expressions for one object (apiserver `pkg/apis/cel/config.go`).
_CALL_COST, _OBJECT_COST = 1_000_000, 10_000_000
# Processor time, in seconds, that the rules of one object may take.
_SECONDS = 5.0
_LONGEST_MESSAGE = 5 * 1024


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A rule of one schema. path: the field in the rule's error, relative to the value; "" for the value itself."""

    rule: CompiledRule
    path: str


@dataclass(slots=True, eq=False)
class RuleTree:
    """The rules of a schema and of the schemas inside it. Schemas without any rules are left out."""

    node: SchemaNode
    is_whole: bool
    rules: list[_Compiled]
    properties: Mapping[str, RuleTree]
    rest: RuleTree | None
    items: RuleTree | None

    def errors(self, obj: Json, old: Json) -> tuple[list[Cause], list[str]]:
        """Return the errors in an object, and warnings about unchanged values that break a rule.

        old: the former object; None for a new object.
        """
        run = _RuleRun()
        found = [] if obj is None else list(run.check(self, obj, old, "", _Former(obj, old, None)))
        return found, run.warnings


def compile_rules(node: SchemaNode, *, is_whole: bool) -> RuleTree | None:
    """Compile the rules of a schema; None if there are none. is_whole: values have apiVersion, kind and metadata."""
    if not has_rules(node.source):
        return None
    own: list[_Compiled] = []
    rules = rules_of(node.source)
    if rules:
        declared = declared_type(node, is_whole=is_whole)
        if declared is not None:
            compiler = RuleCompiler(declared)
            own = [_Compiled(compiler.compile(one), _reported(one, node)) for one in rules]
    properties = {name: compile_rules(one, is_whole=one.embedded) for name, one in node.properties.items()}
    return RuleTree(
        node,
        is_whole,
        own,
        {name: one for name, one in properties.items() if one is not None},
        compile_rules(node.rest, is_whole=node.rest.embedded) if node.rest is not None else None,
        compile_rules(node.items, is_whole=node.items.embedded) if node.items is not None else None,
    )


def _reported(rule: Rule, node: SchemaNode) -> str:
    try:
        return parse_field_path(rule.get("fieldPath") or "", node)
    except FieldPathError:
        return ""


class _Former:
    """Compares a value with its former value: an unchanged value that breaks a rule causes only a warning.

    current: the value. former: its former value; None if there is none. parent: the comparison of the list or object
    that contains the value.
    """

    __slots__ = ("_current", "_former", "_is_same", "_parent")

    def __init__(self, current: Json, former: Json, parent: _Former | None) -> None:
        self._current = current
        self._former = former
        self._parent = parent
        self._is_same: bool | None = None

    def is_same(self) -> bool:
        """Return True when the value, or a list or object that contains it, has not changed."""
        if self._is_same is None:
            if self._former is not None:
                self._is_same = same_value(self._current, self._former)
            else:
                self._is_same = self._parent is not None and self._parent.is_same()
        return self._is_same


class _Ended(Exception):
    """Raised to end the check: no further rules are run."""


class _RuleRun:
    """One check of an object, with the cost and the time that its rules may still use."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._budget = _OBJECT_COST
        self._deadline = time.thread_time() + _SECONDS

    def check(self, tree: RuleTree, value: Json, old: Json, path: str, former: _Former) -> Iterator[Cause]:
        """Yield the errors of a value and of its parts."""
        try:
            yield from self._check(tree, value, old, path, former)
        except _Ended:
            return

    def _check(self, tree: RuleTree, value: Json, old: Json, path: str, former: _Former) -> Iterator[Cause]:
        if value is None:
            return
        if tree.rules:
            yield from self._own(tree, value, old, path, former)
        if isinstance(value, list):
            if tree.items is not None:
                before = _correlated(value, tree.node, old)
                for index, one in enumerate(value):
                    inner = _Former(one, before[index], former)
                    yield from self._check(tree.items, one, before[index], f"{path}[{index}]", inner)
        elif isinstance(value, dict):
            known = old if isinstance(old, dict) else {}
            for name in sorted(value):
                inner_tree = tree.properties.get(name)
                below = f"{path}.{name}" if path else name
                if inner_tree is None and name not in tree.node.properties:
                    inner_tree, below = tree.rest, f"{path}[{name}]"
                if inner_tree is not None:
                    before_one = known.get(name)
                    yield from self._check(
                        inner_tree, value[name], before_one, below, _Former(value[name], before_one, former)
                    )

    def _own(self, tree: RuleTree, value: Json, old: Json, path: str, former: _Former) -> Iterator[Cause]:
        field, kind = path or "<nil>", tree.node.type
        if self._budget <= 0:
            text = "validation failed due to running out of cost budget, no further validation rules will be run"
            yield v.invalid(field, kind, text)
            raise _Ended
        bound = bind_value(value, tree.node, is_whole=tree.is_whole)
        before = bind_value(old, tree.node, is_whole=tree.is_whole) if old is not None else None
        for one in tree.rules:
            found = one.rule
            if found.program is None:
                yield v.invalid(field, kind, f"rule compile error: {found.error}")
                continue
            optional = bool(found.rule.get("optionalOldSelf"))
            if found.uses_old and old is None and not optional:
                continue
            variables: dict[str, Value] = {"self": bound}
            if optional:
                variables["oldSelf"] = Optional(True, before) if old is not None else Optional()
            elif old is not None:
                variables["oldSelf"] = before
            outcome = self._evaluate(found.program, variables)
            shown = _shown(found.rule)
            if outcome.error is not None:
                yield from self._failed(outcome, shown, field, kind)
                continue
            self._budget -= outcome.cost
            if self._budget < 0:
                text = "validation failed due to running out of cost budget, no further validation rules will be run"
                yield v.invalid(field, kind, text)
                raise _Ended
            if outcome.value is True:
                continue
            at = _joined(path, one.path)
            cause, is_last = self._broken(found, variables, at, value, kind)
            if not found.uses_old and former.is_same():
                self.warnings.append(f"{cause.field}: {cause.message}")
            else:
                yield cause
            if is_last:
                raise _Ended

    def _evaluate(self, program: Program, variables: Mapping[str, Value]) -> Outcome:
        return program.evaluate(variables, _CALL_COST, self._deadline)

    def _failed(self, outcome: Outcome, shown: str, field: str, kind: str) -> Iterator[Cause]:
        error = outcome.error
        self._budget -= outcome.cost
        if isinstance(error, CostExceeded):
            why = "no further validation rules will be run due to call cost exceeds limit for rule"
            yield v.invalid(field, kind, f"'{error}': {why}: {shown}")
            raise _Ended
        if str(error) == "no such overload":
            why = "call arguments did not match a supported operator, function or macro signature for rule"
            yield v.invalid(field, kind, f"'{error}': {why}: {shown}")
        else:
            yield v.invalid(field, kind, f"{error} evaluating rule: {shown}")

    def _broken(
        self, found: CompiledRule, variables: Mapping[str, Value], at: str, value: Json, kind: str
    ) -> tuple[Cause, bool]:
        """Return the error for a broken rule, and True when no further rules may be run."""
        detail = _message(found.rule)
        if found.message is not None:
            outcome = self._evaluate(found.message, variables)
            self._budget -= outcome.cost
            source = v.quote(found.rule.get("messageExpression") or "")
            if isinstance(outcome.error, CostExceeded):
                why = "no further validation rules will be run due to call cost exceeds limit for messageExpression"
                return v.invalid(at, kind, f"{why}: {source}"), True
            if self._budget < 0:
                why = "messageExpression evaluation failed due to running out of cost budget"
                return v.invalid(at, kind, f"{why}, no further validation rules will be run"), True
            text = outcome.value.strip() if isinstance(outcome.value, str) else ""
            if text and "\n" not in text and len(text.encode()) <= _LONGEST_MESSAGE:
                detail = text
        return _cause(at, value, kind, detail, found.rule.get("reason")), False


def _joined(path: str, below: str) -> str:
    if not below:
        return path or "<nil>"
    return below if not path else f"{path}{below}" if below.startswith("[") else f"{path}.{below}"


def _shown(rule: Rule) -> str:
    """Return the text that stands for a rule in errors."""
    return str(rule.get("message") or rule.get("rule") or "").strip()


def _message(rule: Rule) -> str:
    return _shown(rule) if rule.get("message") else f"failed rule: {_shown(rule)}"


def _cause(field: str, value: Json, kind: str, detail: str, reason: str | None) -> Cause:
    shown = "" if kind in ("object", "array") else f": {v.show(value)}"
    match reason:
        case "FieldValueForbidden":
            return v.forbidden(field, detail)
        case "FieldValueRequired":
            return v.required(field, detail)
        case "FieldValueDuplicate":
            return Cause("FieldValueDuplicate", f"Duplicate value{shown}", field)
        case _:
            return Cause("FieldValueInvalid", f"Invalid value{shown}: {detail}", field)


def _correlated(value: list[Json], node: SchemaNode, old: Json) -> list[Json]:
    """Return, for each item of a list of type map, the former item with the same keys, or None."""
    if node.list_type != "map" or not isinstance(old, list):
        return [None] * len(value)
    former: dict[tuple[str, ...], Json] = {}
    for one in old:
        former.setdefault(_key(one, node), one)
    return [former.get(_key(one, node)) for one in value]


def _key(item: Json, node: SchemaNode) -> tuple[str, ...]:
    fields = item if isinstance(item, dict) else {}
    return tuple(repr(fields.get(name)) for name in node.list_keys)
