"""Compiles the expressions of a ValidatingAdmissionPolicy (apiserver `pkg/admission/plugin/cel/compile.go`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hatchway.cluster.api.cel.celtypes import (
    BOOL,
    DYN,
    NULL,
    STRING,
    TIMESTAMP,
    CelType,
    list_of,
    map_of,
    object_type,
)
from hatchway.cluster.api.cel.compiler import Program
from hatchway.cluster.api.cel.environment import CelEnvironment
from hatchway.cluster.api.cel.expression import compile_expression
from hatchway.cluster.api.cel.syntax import ExpressionIssues
from hatchway.cluster.api.registry.custom.celfunctions import kubernetes_functions

__all__ = ["CompiledPolicy", "CompiledText", "PolicyCompiler", "compile_policy"]

_PREFIX = "kubernetes."
_KIND = {"group": STRING, "version": STRING, "kind": STRING}
_RESOURCE = {"group": STRING, "version": STRING, "resource": STRING}
_TYPES: dict[str, Mapping[str, CelType]] = {
    f"{_PREFIX}GroupVersionKind": _KIND,
    f"{_PREFIX}GroupVersionResource": _RESOURCE,
    f"{_PREFIX}UserInfo": {
        "username": STRING,
        "uid": STRING,
        "groups": list_of(STRING),
        "extra": map_of(STRING, list_of(STRING)),
    },
    f"{_PREFIX}AdmissionRequest": {
        "kind": object_type(f"{_PREFIX}GroupVersionKind"),
        "resource": object_type(f"{_PREFIX}GroupVersionResource"),
        "subResource": STRING,
        "requestKind": object_type(f"{_PREFIX}GroupVersionKind"),
        "requestResource": object_type(f"{_PREFIX}GroupVersionResource"),
        "requestSubResource": STRING,
        "name": STRING,
        "namespace": STRING,
        "operation": STRING,
        "userInfo": object_type(f"{_PREFIX}UserInfo"),
        "dryRun": BOOL,
        "options": DYN,
    },
    f"{_PREFIX}NamespaceMetadata": {
        "name": STRING,
        "generateName": STRING,
        "namespace": STRING,
        "labels": map_of(STRING, STRING),
        "annotations": map_of(STRING, STRING),
        "UID": STRING,
        "creationTimestamp": TIMESTAMP,
        "deletionGracePeriodSeconds": DYN,
        "deletionTimestamp": TIMESTAMP,
        "generation": DYN,
        "resourceVersion": STRING,
        "finalizers": list_of(STRING),
    },
    f"{_PREFIX}NamespaceSpec": {"finalizers": list_of(STRING)},
    f"{_PREFIX}NamespaceStatus": {"phase": STRING},
    f"{_PREFIX}Namespace": {
        "metadata": object_type(f"{_PREFIX}NamespaceMetadata"),
        "spec": object_type(f"{_PREFIX}NamespaceSpec"),
        "status": object_type(f"{_PREFIX}NamespaceStatus"),
    },
}
_VARIABLES = {
    "object": DYN,
    "oldObject": DYN,
    "namespaceObject": object_type(f"{_PREFIX}Namespace"),
    "request": object_type(f"{_PREFIX}AdmissionRequest"),
}
_COMPOSED = f"{_PREFIX}variables"


@dataclass(frozen=True, slots=True)
class CompiledText:
    """One expression. error: why it cannot be evaluated; "" when it can."""

    text: str
    program: Program | None
    error: str = ""


class PolicyCompiler:
    """Compiles the expressions of one policy, in the order in which they stand.

    has_params: it has a paramKind. has_namespace: expressions can use `namespaceObject`; those of webhooks cannot.
    """

    def __init__(self, *, has_params: bool, has_namespace: bool = True) -> None:
        variables = {**_VARIABLES, "params": DYN} if has_params else dict(_VARIABLES)
        if not has_namespace:
            del variables["namespaceObject"]
        self._plain = CelEnvironment(kubernetes_functions(), variables, _TYPES)
        self._composed = self._plain
        self._fields: dict[str, CelType] = {}

    def condition(self, text: str) -> CompiledText:
        """Compile a match condition, which cannot use variables."""
        return self._compile(self._plain, text, (BOOL,))

    def variable(self, name: str, text: str) -> CompiledText:
        """Compile a variable; later expressions can use it."""
        found = self._compile(self._composed, text, ())
        self._fields[name] = found.program.type if found.program is not None else DYN
        self._composed = replace(
            self._plain,
            variables={**self._plain.variables, "variables": object_type(_COMPOSED)},
            types={**_TYPES, _COMPOSED: dict(self._fields)},
        )
        return found

    def validation(self, text: str) -> CompiledText:
        """Compile the expression of a validation."""
        return self._compile(self._composed, text, (BOOL,))

    def message(self, text: str) -> CompiledText:
        """Compile a messageExpression."""
        return self._compile(self._composed, text, (STRING,))

    def annotation(self, text: str) -> CompiledText:
        """Compile the valueExpression of an audit annotation."""
        return self._compile(self._composed, text, (STRING, NULL))

    def _compile(self, environment: CelEnvironment, text: str, wanted: tuple[CelType, ...]) -> CompiledText:
        try:
            found = compile_expression(text, environment)
        except ExpressionIssues as issues:
            return CompiledText(text, None, f"compilation failed: {issues}")
        if wanted and found.type not in wanted:
            names = [str(one) if one is not NULL else "null_type" for one in wanted]
            shown = names[0] if len(names) == 1 else f"one of [{' '.join(names)}]"
            return CompiledText(text, None, f"must evaluate to {shown} but got {found.type}")
        return CompiledText(text, found.program)


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """The expressions of a policy.

    Attributes:
        conditions: the match conditions.
        variables: in the order in which they may use each other.
        validations, messages: for each validation its expression and its messageExpression, None without one.
        annotations: (key, expression) of the audit annotations.
    """

    conditions: tuple[CompiledText, ...] = ()
    variables: Mapping[str, CompiledText] = field(default_factory=dict)
    validations: tuple[CompiledText, ...] = ()
    messages: tuple[CompiledText | None, ...] = ()
    annotations: tuple[tuple[str, CompiledText], ...] = ()


def compile_policy(spec: Mapping[str, Any]) -> CompiledPolicy:
    """Return the compiled expressions of a policy's spec."""
    compiler = PolicyCompiler(has_params=spec.get("paramKind") is not None)
    validations = spec.get("validations") or ()
    return CompiledPolicy(
        tuple(compiler.condition((one.get("expression") or "").strip()) for one in spec.get("matchConditions") or ()),
        {one["name"]: compiler.variable(one["name"], one["expression"]) for one in spec.get("variables") or ()},
        tuple(compiler.validation(one["expression"]) for one in validations),
        tuple(
            compiler.message(one["messageExpression"]) if one.get("messageExpression") else None for one in validations
        ),
        tuple(
            (one["key"], compiler.annotation(one["valueExpression"].strip()))
            for one in spec.get("auditAnnotations") or ()
        ),
    )
