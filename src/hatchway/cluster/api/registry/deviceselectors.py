"""CEL expressions that select devices (`k8s.io/dynamic-resource-allocation/cel/compile.go`)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache

from hatchway.cluster.api.cel.celtypes import BOOL, DYN, STRING, CelType, object_type, opaque
from hatchway.cluster.api.cel.compiler import Program
from hatchway.cluster.api.cel.environment import CelEnvironment
from hatchway.cluster.api.cel.estimate import estimate_cost
from hatchway.cluster.api.cel.expression import compile_expression
from hatchway.cluster.api.cel.library.quantities import QuantityValue, parse_version
from hatchway.cluster.api.cel.schematypes import DeclaredType, assign_names, map_type, size_at
from hatchway.cluster.api.cel.sizedcache import SizedCache
from hatchway.cluster.api.cel.syntax import ExpressionIssues
from hatchway.cluster.api.cel.values import Value
from hatchway.cluster.api.registry.custom.celfunctions import kubernetes_functions
from hatchway.cluster.quantity import parse_quantity
from hatchway.kube.api import Object

__all__ = ["MAX_COST", "MAX_LENGTH", "DeviceSelector", "compile_selector", "device_matches"]

# The highest CEL cost of one evaluation, and the maximum number of bytes of an expression
# (`CELSelectorExpressionMaxCost` and `CELSelectorExpressionMaxLength`).
MAX_COST = 1_000_000
MAX_LENGTH = 10 * 1024

# The maximum number of seconds of processor time of one evaluation.
_SECONDS = 0.2
# The estimated memory of a compiled expression: bytes, and bytes for each character. The cache's limit is in bytes.
_BASE, _FACTOR, _MOST_CACHED = 4096, 160, 64 << 20
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
    """A compiled expression. problem: why it is invalid; "" when it is valid. cost: its highest estimated CEL cost."""

    def __init__(self, program: Program | None, problem: str = "", cost: int = 0) -> None:
        self.program = program
        self.problem = problem
        self.cost = cost


_compiled: SizedCache[DeviceSelector] = SizedCache(_MOST_CACHED)


@lru_cache(1)
def _environment() -> CelEnvironment:
    types: dict[str, Mapping[str, CelType]] = {}
    device = assign_names(_DEVICE, "kubernetes.DRADevice", types)
    return CelEnvironment(kubernetes_functions(), {"device": device}, types, has_bindings=True)


def compile_selector(text: str) -> DeviceSelector:
    """Compile an expression. The results are cached, because the same expressions are used often."""
    found = _compiled.get(text)
    if found is None:
        found = _compile(text)
        _compiled.put(text, found, _BASE + _FACTOR * len(text))
    return found


def _compile(text: str) -> DeviceSelector:
    try:
        found = compile_expression(text, _environment())
    except ExpressionIssues as issues:
        return DeviceSelector(None, f"compilation failed: {issues}")
    if found.type not in (BOOL, DYN):
        return DeviceSelector(None, f"must evaluate to bool or the unknown type, not {found.type}")
    cost = estimate_cost(found.root, lambda path: size_at(_DEVICE, path[1:]))
    return DeviceSelector(found.program, cost=cost)


class _Domains(dict[str, dict[str, Value]]):
    """A device's attributes or capacities by domain. A domain that the device does not have is empty."""

    def __missing__(self, domain: str) -> dict[str, Value]:
        return {}


def device_matches(text: str, driver: str, device: Object) -> bool:
    """Return True when an expression selects a device. Raises ValueError when the result is not a boolean.

    text: the expression. device: a device of a ResourceSlice. driver: the driver's name, which is also the domain of
    attributes and capacities whose names have no domain.
    """
    compiled = compile_selector(text)
    if compiled.program is None:
        raise ValueError(compiled.problem)
    attributes, capacity = _Domains(), _Domains()
    for name, one in (device.get("attributes") or {}).items():
        _put(attributes, name, driver, _value(one))
    for name, one in (device.get("capacity") or {}).items():
        _put(capacity, name, driver, QuantityValue(parse_quantity(one.get("value", "0"))))
    variables: dict[str, Value] = {
        "device": {
            "driver": driver,
            "allowMultipleAllocations": bool(device.get("allowMultipleAllocations")),
            "attributes": attributes,
            "capacity": capacity,
        }
    }
    found = compiled.program.evaluate(variables, MAX_COST, time.thread_time() + _SECONDS)
    if found.error is not None:
        raise ValueError(str(found.error) or "the expression takes too long")
    if not isinstance(found.value, bool):
        raise ValueError("the result is not a boolean")
    return found.value


def _put(found: _Domains, name: str, driver: str, value: Value) -> None:
    domain, slash, short = name.partition("/")
    found.setdefault(domain if slash else driver, {})[short if slash else name] = value


def _value(attribute: Object) -> Value:
    if attribute.get("version") is not None:
        return parse_version(attribute["version"])
    return next((attribute[key] for key in ("int", "bool", "string") if attribute.get(key) is not None), None)
