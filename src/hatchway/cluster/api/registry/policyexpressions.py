"""Compiles the expressions of an admission policy (apiserver `pkg/admission/plugin/cel/compile.go`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from hatchway.cluster.api.cel.celtypes import (
    BOOL,
    DYN,
    NULL,
    STRING,
    TIMESTAMP,
    CelType,
    Overload,
    list_of,
    map_of,
    object_type,
)
from hatchway.cluster.api.cel.compiler import Program
from hatchway.cluster.api.cel.environment import PATCH_OPERATION, PATCH_ROOT, CelEnvironment, JoinedTypes
from hatchway.cluster.api.cel.expression import compile_expression
from hatchway.cluster.api.cel.library.declaring import declare, traversal
from hatchway.cluster.api.cel.syntax import ExpressionIssues
from hatchway.cluster.api.registry.custom.celfunctions import kubernetes_functions

if TYPE_CHECKING:
    from hatchway.cluster.api.registry.policytypes import CheckedType

__all__ = [
    "CompiledPolicy",
    "CompiledText",
    "PolicyCompiler",
    "checked_environment",
    "compile_policy",
    "mutation_text",
    "policy_environment",
]

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
_AUTHORIZER = {
    "authorizer": object_type(f"{_PREFIX}authorization.Authorizer"),
    "authorizer.requestResource": object_type(f"{_PREFIX}authorization.ResourceCheck"),
}
_COMPOSED = f"{_PREFIX}variables"
# A variable keeps its type if the type is one of these. Otherwise its type is dyn (`convertCelTypeToDeclType`).
_KEPT = ("bool", "bytes", "double", "duration", "int", "null", "string", "timestamp", "uint")
_MUTATIONS = {"ApplyConfiguration": object_type(PATCH_ROOT), "JSONPatch": list_of(object_type(PATCH_OPERATION))}


@dataclass(frozen=True, slots=True)
class CompiledText:
    """A compiled expression. program: None when compiling failed. error: why it failed; "" when it did not."""

    text: str
    program: Program | None
    error: str = ""


def policy_environment(*, has_params: bool) -> CelEnvironment:
    """Return the CEL environment of all expressions of a policy. has_params: the policy has a paramKind."""
    variables = {**_VARIABLES, **_AUTHORIZER}
    return CelEnvironment(kubernetes_functions(), {**variables, "params": DYN} if has_params else variables, _TYPES)


def checked_environment(obj: CheckedType, params: CheckedType | None, *, has_params: bool) -> CelEnvironment:
    """Return the CEL environment for type checks against the type of the object (`typechecking.go`, `buildEnvSet`).

    params: the type of the parameters, None when the type is unknown. has_params: the policy has a paramKind.
    """
    found = policy_environment(has_params=has_params)
    variables = {**found.variables, "object": obj.type, "oldObject": obj.type}
    # As in Kubernetes, the type check declares `authorizer`, but not `authorizer.requestResource`.
    del variables["authorizer.requestResource"]
    types = JoinedTypes(obj.fields, found.types)
    if params is not None:
        variables["params"] = params.type
        types = JoinedTypes(params.fields, types)
    return replace(found, variables=variables, types=types)


class PolicyCompiler:
    """Compiles the expressions of one policy, in the order in which they are written.

    environment: the CEL environment, without the policy's variables.
    """

    def __init__(self, environment: CelEnvironment) -> None:
        self._plain = environment
        self._fields: dict[str, CelType] = {}

    def condition(self, text: str) -> CompiledText:
        """Compile a match condition, which cannot use variables."""
        return _compile(self._plain, text, (BOOL,))

    def variable(self, name: str, text: str) -> CompiledText:
        """Compile a variable, which later expressions can use."""
        found = _compile(self._composed(), text, ())
        self._fields[name] = _variable_type(found.program.type) if found.program is not None else DYN
        return found

    def validation(self, text: str) -> CompiledText:
        """Compile the expression of a validation."""
        return _compile(self._composed(), text, (BOOL,))

    def message(self, text: str) -> CompiledText:
        """Compile a messageExpression, which cannot use `authorizer`."""
        environment = self._composed()
        variables = {name: one for name, one in environment.variables.items() if name not in _AUTHORIZER}
        return _compile(replace(environment, variables=variables), text, (STRING,))

    def annotation(self, text: str) -> CompiledText:
        """Compile the valueExpression of an audit annotation."""
        return _compile(self._composed(), text, (STRING, NULL))

    def mutation(self, patch_type: str, text: str) -> CompiledText:
        """Compile the expression of a mutation. patch_type: `ApplyConfiguration` or `JSONPatch`."""
        functions = {**self._plain.functions, **_patch_functions()}
        environment = replace(self._composed(), functions=functions, makes_patches=True)
        return _compile(environment, text, (_MUTATIONS[patch_type],))

    def issues(self, text: str) -> str:
        """Return the errors in an expression, "" when there are none. The result may have any type."""
        try:
            compile_expression(text, self._composed())
        except ExpressionIssues as issues:
            return str(issues)
        return ""

    def _composed(self) -> CelEnvironment:
        """Return the environment with the policy's variables that are already compiled."""
        plain = self._plain
        variables = {**plain.variables, "variables": object_type(_COMPOSED)}
        return replace(plain, variables=variables, types=JoinedTypes(plain.types, {_COMPOSED: dict(self._fields)}))


@cache
def _patch_functions() -> Mapping[str, list[Overload]]:
    """Return the functions that only mutations can call (apiserver `pkg/cel/library/jsonpatch.go`)."""
    name = "jsonpatch.escapeKey"
    signature = f".{name}(string) string"
    overload = declare("string_jsonpatch_escapeKey_string", signature, _escaped_key, traversal)
    return {name: [overload]}


def _escaped_key(text: str) -> str:
    return text.replace("~", "~0").replace("/", "~1")


def _variable_type(found: CelType) -> CelType:
    if found.kind in ("list", "map"):
        return replace(found, parameters=tuple(map(_variable_type, found.parameters)))
    return found if found.kind in _KEPT else DYN


def _compile(environment: CelEnvironment, text: str, wanted: tuple[CelType, ...]) -> CompiledText:
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
        variables: the variables. Each may use the variables before it.
        validations: the expression of each validation.
        messages: the messageExpression of each validation; None for a validation without a messageExpression.
        annotations: (key, expression) of the audit annotations.
        mutations: the mutations of a MutatingAdmissionPolicy.
    """

    conditions: tuple[CompiledText, ...] = ()
    variables: Mapping[str, CompiledText] = field(default_factory=dict)
    validations: tuple[CompiledText, ...] = ()
    messages: tuple[CompiledText | None, ...] = ()
    annotations: tuple[tuple[str, CompiledText], ...] = ()
    mutations: tuple[CompiledText, ...] = ()


def compile_policy(spec: Mapping[str, Any]) -> CompiledPolicy:
    """Compile the expressions of a policy's spec."""
    compiler = PolicyCompiler(policy_environment(has_params=spec.get("paramKind") is not None))
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
        tuple(compiler.mutation(one["patchType"], mutation_text(one)) for one in spec.get("mutations") or ()),
    )


def mutation_text(mutation: Mapping[str, Any]) -> str:
    """Return the text of a mutation's expression."""
    field = "jsonPatch" if mutation["patchType"] == "JSONPatch" else "applyConfiguration"
    return (mutation.get(field) or {}).get("expression") or ""
