"""Compares the expressions of ValidatingAdmissionPolicies with the types of the objects that they judge.

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

__all__ = ["PolicyCheck", "rows_to_check"]

Json = dict[str, Any]
# Kinds that one rule of a policy is checked against.
_MOST_KINDS = 10
# Characters of all warnings of a policy. A warning quotes its line once for each kind.
_MOST_TEXT = 256 * 1024


def rows_to_check(spec: Json, rows: Iterable[Resource]) -> list[Resource]:
    """Return the resources against which a policy is checked, ordered by group, version and kind.

    Rules with wildcards name none. rows: those of all types.
    """
    found: dict[tuple[str, str, str], Resource] = {}
    known = list(rows)
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        named = list(_named(rule, known))[:_MOST_KINDS]
        found |= {row.gvk: row for row in named}
    return [found[gvk] for gvk in sorted(found)]


def _named(rule: Json, rows: list[Resource]) -> Iterator[Resource]:
    groups, versions = sorted(rule.get("apiGroups") or ()), sorted(rule.get("apiVersions") or ())
    if any("*" in one for one in (*groups, *versions)):
        return
    resources = sorted(one for one in rule.get("resources") or () if "*" not in one and "/" not in one)
    wanted = dict.fromkeys(
        (group, version, resource) for group in groups for version in versions for resource in resources
    )
    # Without a group, the resource of any group is meant, as when kubectl is given such a name.
    by_name: dict[tuple[str, str], list[Resource]] = {}
    for row in rows:
        for name in {row.plural, row.singular}:
            by_name.setdefault((row.version, name), []).append(row)
    for group, version, resource in wanted:
        for row in by_name.get((version, resource), ()):
            if not group or row.group == group:
                yield row


@dataclass(frozen=True, slots=True)
class _CheckedKind:
    """A compiler of a policy's expressions, for one kind. shown: the kind as warnings name it."""

    shown: str
    compiler: PolicyCompiler


class PolicyCheck:
    """The check of one policy. Everything but `__init__` may run on a thread.

    spec: of the policy. rows: of `rows_to_check`. params: the row of the parameters; None when it is not known.
    seconds: processor time that the check may take.
    """

    def __init__(self, spec: Json, rows: Iterable[Resource], params: Resource | None, seconds: float) -> None:
        self._spec = spec
        self._types = [(row, found) for row in rows if (found := _type_of(row)) is not None]
        self._params = _type_of(params) if params is not None else None
        self._left = seconds

    def warnings(self) -> list[Json]:
        """Return the warnings of all expressions, as many as there is time and room for."""
        until = time.thread_time() + self._left
        kinds: list[_CheckedKind] = []
        for row, declared in self._types:
            if time.thread_time() > until:
                break
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


def _issues(kind: _CheckedKind, text: str, until: float) -> str:
    return kind.compiler.issues(text) if time.thread_time() <= until else ""


def _type_of(row: Resource) -> CheckedType | None:
    if row.own_schema is not None:
        return custom_type(row.kind, row.own_schema)
    try:
        return builtin_type(row.gvk)
    except UnknownKind:
        return None
