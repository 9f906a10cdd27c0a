"""The printers of admission policies and their bindings (`pkg/printers/internalversion/printers.go`)."""

from __future__ import annotations

from hatchway.cluster.api.registry.printers.base import AGE, NAME, Cells, Column, Json, Printer, age_of, name_of

__all__ = ["MUTATING_BINDING", "MUTATING_POLICY", "POLICY", "POLICY_BINDING"]


def _policy(obj: Json, now: float) -> Cells:
    return _counted(obj, "validations", now)


def _mutating_policy(obj: Json, now: float) -> Cells:
    return _counted(obj, "mutations", now)


def _counted(obj: Json, field: str, now: float) -> Cells:
    spec = obj.get("spec") or {}
    kind = spec.get("paramKind")
    shown = f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else "<unset>"
    return [name_of(obj), len(spec.get(field) or ()), shown, age_of(obj, now)]


def _binding(obj: Json, now: float) -> Cells:
    spec = obj.get("spec") or {}
    reference = spec.get("paramRef")
    shown = "<unset>"
    if reference:
        name, namespace = reference.get("name") or "", reference.get("namespace") or ""
        shown = f"{namespace}/{name}" if namespace else f"*/{name}" if name else "<selector>"
    return [name_of(obj), spec.get("policyName") or "", shown, age_of(obj, now)]


POLICY = Printer(
    _policy,
    NAME,
    Column("Validations", "integer", description="Validations"),
    Column("ParamKind", description="ParamKind"),
    AGE,
)
POLICY_BINDING = Printer(
    _binding,
    NAME,
    Column("PolicyName", description="PolicyName"),
    Column("ParamRef", description="ParamRef"),
    AGE,
)
MUTATING_POLICY = Printer(
    _mutating_policy,
    NAME,
    Column(
        "Mutations",
        "integer",
        description="Mutation indicates the number of mutations rules defined in this configuration",
    ),
    Column("ParamKind", description="ParamKind specifies the kind of resources used to parameterize this policy"),
    AGE,
)
MUTATING_BINDING = Printer(
    _binding,
    NAME,
    Column(
        "PolicyName",
        description="PolicyName indicates the policy definition which the policy binding binded to",
    ),
    Column("ParamRef", description="ParamRef indicates the param resource which sets the configuration param"),
    AGE,
)
