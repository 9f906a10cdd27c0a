"""Compiles a checked expression into a program that can be run with a cost limit (cel-go `interpreter/planner.go`)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from hatchway.cluster.api.cel.celtypes import CelType
from hatchway.cluster.api.cel.comprehensions import compile_comprehension
from hatchway.cluster.api.cel.environment import PATCH_OPERATION, TYPE_NAMES
from hatchway.cluster.api.cel.mapkeys import put, remove
from hatchway.cluster.api.cel.objectvalues import ObjectValue, PatchOperation
from hatchway.cluster.api.cel.state import LIST_COST, MAP_COST, STRUCT_COST, Evaluation, Step
from hatchway.cluster.api.cel.steps import (
    all_of,
    any_of,
    choice,
    constant_membership,
    direct,
    dispatched,
    element,
    equality,
    fallback,
    get_field,
    has_field,
    membership,
    no_overload,
    optional_element,
    optional_field,
)
from hatchway.cluster.api.cel.syntax import (
    CallNode,
    Comprehension,
    Ident,
    ListExpr,
    Literal,
    MapExpr,
    Select,
    Struct,
    SyntaxNode,
    TreeWalk,
)
from hatchway.cluster.api.cel.values import (
    CostExceeded,
    EvaluationError,
    Optional,
    TypeValue,
    Value,
)

_log = logging.getLogger(__name__)

__all__ = ["Outcome", "Program", "compile_steps"]


# A call of one of these functions with a constant argument is a constant (cel-go `IsTypeConversionFunction`).
_CONVERSIONS = frozenset(
    ("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an evaluation: a value or an error, and the cost."""

    value: Value
    cost: int
    error: EvaluationError | CostExceeded | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """An expression that can be evaluated.

    type: the type of its result. names: the variables that it uses.
    """

    step: Step
    slots: int
    type: CelType
    names: frozenset[str]

    def evaluate(self, variables: Mapping[str, Value], limit: int, deadline: float) -> Outcome:
        """Evaluate the expression.

        variables: the values of variables, by name.
        limit: the maximum cost, in units of cost.
        deadline: when the evaluation ends, as processor time of this thread in seconds (`time.thread_time`).
        """
        state = Evaluation(variables, self.slots, limit, deadline)
        try:
            value = self.step(state)
            state.add(0)
        except (EvaluationError, CostExceeded) as error:
            return Outcome(None, state.cost, error)
        except RecursionError:
            return Outcome(None, state.cost, EvaluationError("the values are nested too deeply"))
        except MemoryError:
            return Outcome(None, state.cost, CostExceeded())
        except Exception as error:  # noqa: BLE001  a fault must not end the caller's work on other expressions and objects
            return Outcome(None, state.cost, _unexpected(error))
        return Outcome(value, state.cost)


# The faults that have been logged. A fault is the type of an exception, and the place in the code that raised it.
_logged: set[tuple[str, str, int]] = set()


def _unexpected(error: Exception) -> EvaluationError:
    """Return the error of an expression for an exception that no function should raise. Logs each fault only once."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace is not None else ("", 0)
    fault = (type(error).__name__, *place)
    if fault not in _logged:
        _logged.add(fault)
        _log.error("the evaluation of a CEL expression failed unexpectedly", exc_info=error)
    return EvaluationError(f"internal error: {type(error).__name__}")


def compile_steps(root: SyntaxNode) -> Program:
    """Return the program of a checked expression."""
    compiler = _Compiler()
    step = compiler.visit(root)
    return Program(step, compiler.slots, root.type, frozenset(compiler.names))


def _converted(node: CallNode, value: Value) -> tuple[Value] | None:
    """Convert a constant. Return a tuple with the value (which may be None); None if the conversion fails."""
    try:
        return (node.overloads[0].call(value),)
    except Exception:  # noqa: BLE001  the evaluation of the expression reports the same error
        return None


def _local(slot: int) -> Step:
    def run(state: Evaluation) -> Value:
        state.cost += 1
        return state.slots[slot]

    return run


class _Compiler(TreeWalk[Step]):
    def __init__(self) -> None:
        super().__init__()
        self.slots = 0
        self.names: set[str] = set()
        self._scopes: list[dict[str, int]] = []
        # The steps of constants, with their values. A list or map that contains only constants costs nothing.
        self._constants: dict[Step, Value] = {}

    def _constant(self, value: Value) -> Step:
        found: Step = lambda state: value  # noqa: E731
        self._constants[found] = value
        return found

    def _folded(self, make: Step) -> Step:
        """Return the step of a list or map of constants. The value is made only once, because values never change."""
        try:
            return self._constant(make(Evaluation({}, 0, 0, math.inf)))
        except EvaluationError:
            return make

    def visit_literal(self, node: Literal) -> Step:
        return self._constant(node.value)

    def visit_comprehension(self, node: Comprehension) -> Step:
        return compile_comprehension(node, self)

    # Names

    def enter(self, *names: str) -> list[int]:
        """Open a scope with variables, and return their slots."""
        first = self.slots
        self.slots += len(names)
        found = list(range(first, self.slots))
        self._scopes.append(dict(zip(names, found, strict=True)))
        return found

    def leave(self) -> None:
        """Close the innermost scope."""
        self._scopes.pop()

    def _named(self, name: str, found: CelType) -> Step:
        if not name.startswith("."):
            for scope in reversed(self._scopes):
                if name in scope:
                    return _local(scope[name])
        name = name.removeprefix(".")
        if name in TYPE_NAMES:
            value = TypeValue(TYPE_NAMES[name][1])
            return lambda state: value
        if found.kind == "type" and found.parameters[0].kind == "object":
            own = TypeValue(found.parameters[0].name)
            return lambda state: own
        self.names.add(name)

        def variable(state: Evaluation) -> Value:
            state.cost += 1
            try:
                return state.variables[name]
            except KeyError:
                raise EvaluationError(f"no such attribute(s): {name}") from None

        return variable

    def visit_ident(self, node: Ident) -> Step:
        return self._named(node.name, node.type)

    def visit_select(self, node: Select) -> Step:
        if node.qualified:
            return self._named(node.qualified, node.type)
        operand, field = self.visit(node.operand), node.field
        if node.test:
            return lambda state: has_field(operand(state), field)

        def select(state: Evaluation) -> Value:
            value = operand(state)
            state.cost += 1
            if type(value) is dict and field in value:
                return value[field]
            return get_field(value, field)

        return select

    # Literals with parts

    def visit_list(self, node: ListExpr) -> Step:
        parts = [(self.visit(one), index in node.optional) for index, one in enumerate(node.items)]
        if not node.optional and all(part in self._constants for part, _ in parts):
            return self._constant([self._constants[part] for part, _ in parts])

        def make(state: Evaluation) -> Value:
            found: list[Value] = []
            for part, optional in parts:
                value = part(state)
                if not optional:
                    found.append(value)
                elif not isinstance(value, Optional):
                    raise no_overload()
                elif value.has_value:
                    found.append(value.value)
            state.add(LIST_COST)
            return found

        return make

    def visit_map(self, node: MapExpr) -> Step:
        parts = [
            (self.visit(key), self.visit(value), index in node.optional)
            for index, (key, value) in enumerate(node.entries)
        ]
        is_constant = not node.optional and all(
            key in self._constants and value in self._constants for key, value, _ in parts
        )
        cost = 0 if is_constant else MAP_COST

        def make(state: Evaluation) -> Value:
            found: dict[Value, Value] = {}
            for first, second, optional in parts:
                key, value = first(state), second(state)
                if optional:
                    if not isinstance(value, Optional):
                        raise no_overload()
                    if not value.has_value:
                        remove(found, key)
                        continue
                    value = value.value
                # As in cel-go, the last one of several entries with the same key counts.
                put(found, key, value)
            state.add(cost)
            return found

        return self._folded(make) if is_constant else make

    def visit_struct(self, node: Struct) -> Step:
        kind = node.name
        parts = [
            (name, self.visit(value), index in node.optional) for index, (name, value, _) in enumerate(node.fields)
        ]

        def make(state: Evaluation) -> Value:
            found: dict[Value, Value] = {}
            for name, part, optional in parts:
                value = part(state)
                if optional:
                    if not isinstance(value, Optional):
                        raise no_overload()
                    if not value.has_value:
                        continue
                    value = value.value
                found[name] = value
            state.add(STRUCT_COST)
            return PatchOperation.of(found) if kind == PATCH_OPERATION else ObjectValue(kind, found)

        return make

    # Calls

    def visit_call(self, node: CallNode) -> Step:
        args = [self.visit(one) for one in node.all_args]
        match node.name:
            case "_&&_":
                return all_of(args)
            case "_||_":
                return any_of(args)
            case "_?_:_":
                return choice(*args)
            case "_[_]":
                return element(*args)
            case "_[?_]":
                return optional_element(*args)
            case "_?._":
                field = node.args[1]
                assert isinstance(field, Literal)
                return optional_field(args[0], field.value)
            case "_==_":
                return equality(*args, wanted=True)
            case "_!=_":
                return equality(*args, wanted=False)
            case "@in":
                values = self._constants.get(args[1])
                step = constant_membership(args[0], values) if isinstance(values, list) else None
                return step or membership(*args)
            case "or" | "orValue" if node.target is not None and len(args) == 2:
                return fallback(*args, unwrap=node.name == "orValue")
        if node.name in _CONVERSIONS and len(args) == len(node.overloads) == 1 and args[0] in self._constants:
            found = _converted(node, self._constants[args[0]])
            if found is not None:
                return self._constant(found[0])
        if len(node.overloads) == 1 and not any(one.type.is_dyn for one in node.all_args):
            return direct(node.overloads[0], args)
        return dispatched(node.overloads, args)
