"""Checks the expressions of ValidatingAdmissionPolicies against the types of the matched objects.

From apiserver's `pkg/admission/plugin/policy/validating/typechecking.go`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api.registry.policyexpressions import PolicyCompiler, checked_environment
from hatchway.cluster.api.registry.policytypes import CheckedType, builtin_type, custom_type
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.schema.table import UnknownKind

__all__ = ["PolicyCheck"]

Json = dict[str, Any]
# The maximum number of kinds that are checked for one rule of a policy.
_MOST_KINDS = 10
# The maximum number of characters of all warnings of a policy. A warning quotes the expression once for each kind.
_MOST_TEXT = 256 * 1024


@dataclass(frozen=True, slots=True)
class _CheckedKind:
    """The compiler of a policy's expressions for one kind. shown: the kind's name in warnings."""

    shown: str
    compiler: PolicyCompiler


class PolicyCheck:
    """The check of one policy. Run it on a thread, because it may take long.

    spec: the spec of the policy. rows: the rows of all types. seconds: the most processor time that the check may use.
    """

    def __init__(self, spec: Json, rows: Iterable[Resource], seconds: float) -> None:
        self._spec = spec
        self._rows = list(rows)
        self._params: CheckedType | None = None
        self._seconds = seconds

    def warnings(self) -> list[Json]:
        """Return the warnings for all expressions. The list ends early when the time or the size limit is reached."""
        until = time.thread_time() + self._seconds
        self._params = self._params_type()
        kinds: list[_CheckedKind] = []
        for row in self._matched(until):
            if time.thread_time() > until:
                break
            if (declared := _type_of(row)) is not None:
                kinds.append(self._kind(row, declared, until))
        found: list[Json] = []
        size = 0
        for place, text in self._expressions():
            said = [f"{kind.shown}: {issues}\n" for kind in kinds if (issues := _issues(kind, text, until))]
            warning = "\n".join(said)
            size += len(warning)
            if size > _MOST_TEXT:
                break
            if warning:
                found.append({"fieldRef": place, "warning": warning})
        return found

    def _params_type(self) -> CheckedType | None:
        kind = self._spec.get("paramKind")
        if kind is None:
            return None
        wanted = kind.get("apiVersion"), kind.get("kind")
        row = next((one for one in self._rows if (one.api_version, one.kind) == wanted), None)
        return _type_of(row) if row is not None else None

    def _matched(self, until: float) -> list[Resource]:
        """Return the resources that the rules name, ordered by group, version and kind."""
        found: dict[tuple[str, str, str], Resource] = {}
        for rule in (self._spec.get("matchConstraints") or {}).get("resourceRules") or ():
            if time.thread_time() > until:
                break
            found |= {row.gvk: row for row in _named(rule, self._rows)}
        return [found[gvk] for gvk in sorted(found)]

    def _kind(self, row: Resource, declared: CheckedType, until: float) -> _CheckedKind:
        has_params = self._spec.get("paramKind") is not None
        compiler = PolicyCompiler(checked_environment(declared, self._params, has_params=has_params))
        for one in self._spec.get("variables") or ():
            if time.thread_time() > until:
                break
            compiler.variable(one["name"], one["expression"])
        return _CheckedKind(f"{row.group}/{row.version}, Kind={row.kind}", compiler)

    def _expressions(self) -> Iterator[tuple[str, str]]:
        for index, one in enumerate(self._spec.get("validations") or ()):
            yield f"spec.validations[{index}].expression", one["expression"]
            if one.get("messageExpression"):
                yield f"spec.validations[{index}].messageExpression", one["messageExpression"]


def _named(rule: Json, rows: list[Resource]) -> list[Resource]:
    """Return the resources that a rule names; [] for a rule with wildcards in its groups or versions.

    As in Kubernetes' type check, the group "" stands for any group.
    """
    groups, versions = set(rule.get("apiGroups") or ()), set(rule.get("apiVersions") or ())
    if any("*" in one for one in (*groups, *versions)):
        return []
    resources = {one for one in rule.get("resources") or () if "*" not in one and "/" not in one}
    found = [
        (group, row.version, name, index)
        for index, row in enumerate(rows)
        if row.version in versions
        for name in {row.plural, row.singular} & resources
        for group in {"", row.group} & groups
    ]
    return [rows[index] for *_, index in sorted(found)[:_MOST_KINDS]]


def _issues(kind: _CheckedKind, text: str, until: float) -> str:
    return kind.compiler.issues(text) if time.thread_time() <= until else ""


def _type_of(row: Resource) -> CheckedType | None:
    """Return the type of a resource's objects; None when it has no schema or the schema is nested too deeply."""
    try:
        return builtin_type(row.gvk) if row.own_schema is None else custom_type(row.kind, row.own_schema)
    except (UnknownKind, RecursionError):
        return None
