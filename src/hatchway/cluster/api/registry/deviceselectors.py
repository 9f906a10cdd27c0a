"""Expressions that select devices (`k8s.io/dynamic-resource-allocation/cel/compile.go`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from hatchway.cluster.api.cel.celtypes import BOOL, DYN, STRING, CelType, object_type, opaque
from hatchway.cluster.api.cel.compiler import Program
from hatchway.cluster.api.cel.environment import CelEnvironment
from hatchway.cluster.api.cel.estimate import estimate_cost
from hatchway.cluster.api.cel.expression import compile_expression
from hatchway.cluster.api.cel.schematypes import DeclaredType, assign_names, map_type, size_at
from hatchway.cluster.api.cel.syntax import ExpressionIssues
from hatchway.cluster.api.registry.custom.celfunctions import kubernetes_functions

__all__ = ["MAX_COST", "MAX_LENGTH", "DeviceSelector", "compile_selector"]

# Units of cost of one evaluation, and bytes of an expression (`CELSelectorExpressionMaxCost` and `MaxLength`).
MAX_COST = 1_000_000
MAX_LENGTH = 10 * 1024

_ENTRIES = 32
_DOMAIN, _ID, _DRIVER = (DeclaredType(STRING, most) for most in (63, 32, 63))
_ATTRIBUTES = map_type(_DOMAIN, map_type(_ID, DeclaredType(DYN, 64), _ENTRIES), _ENTRIES)
_CAPACITY = map_type(_DOMAIN, map_type(_ID, DeclaredType(opaque("kubernetes.Quantity")), _ENTRIES), _ENTRIES)
_DEVICE = DeclaredType(
    object_type("kubernetes.DRADevice"),
    fields={
        "driver": _DRIVER,
        "allowMultipleAllocations": DeclaredType(BOOL, 1),
        "attributes": _ATTRIBUTES,
        "capacity": _CAPACITY,
    },
)


class DeviceSelector:
    """A compiled expression. problem: why it cannot be used; "" when it can. cost: the highest that it may have."""

    def __init__(self, program: Program | None, problem: str = "", cost: int = 0) -> None:
        self.program = program
        self.problem = problem
        self.cost = cost


@lru_cache(1)
def _environment() -> CelEnvironment:
    types: dict[str, Mapping[str, CelType]] = {}
    device = assign_names(_DEVICE, "kubernetes.DRADevice", types)
    return CelEnvironment(kubernetes_functions(), {"device": device}, types, has_bindings=True)


@lru_cache(256)
def compile_selector(text: str) -> DeviceSelector:
    """Return a compiled expression; it is kept, since the same ones are used again and again."""
    try:
        found = compile_expression(text, _environment())
    except ExpressionIssues as issues:
        return DeviceSelector(None, f"compilation failed: {issues}")
    if found.type not in (BOOL, DYN):
        return DeviceSelector(None, f"must evaluate to bool or the unknown type, not {found.type}")
    cost = estimate_cost(found.root, lambda path: size_at(_DEVICE, path[1:]))
    return DeviceSelector(found.program, cost=cost)
