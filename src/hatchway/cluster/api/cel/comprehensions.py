"""Compiles macros that iterate: all, exists, existsOne, map, filter, transformMap and similar macros.

The expansions of `macros.py` are not evaluated, because they would copy the collected list in each iteration. The
computed cost is nevertheless the cost of the expansion.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from hatchway.cluster.api.cel.mapkeys import entries, insert, keys
from hatchway.cluster.api.cel.state import MAX_MADE, Evaluation, Step
from hatchway.cluster.api.cel.syntax import Comprehension, SyntaxNode
from hatchway.cluster.api.cel.values import CostExceeded, EvaluationError, Value

__all__ = ["compile_comprehension"]

# The cost of one iteration: of the condition, and of reading the accumulator in the step.
_ALL, _EXISTS = 3, 4
# The cost of adding an element: of reading the accumulator, of creating a list with one element, and of the addition.
_APPEND, _INSERT, _INSERT_ENTRY = 12, 3, 2


_END = object()


class _Scopes(Protocol):
    def visit(self, node: SyntaxNode) -> Step: ...
    def enter(self, *names: str) -> list[int]: ...
    def leave(self) -> None: ...


def compile_comprehension(node: Comprehension, scopes: _Scopes) -> Step:
    """Return the step of a macro."""
    source = scopes.visit(node.source)
    if node.kind == "bind":
        value = scopes.visit(node.initial)
        (slot,) = scopes.enter(node.accumulator)
        body = scopes.visit(node.body)
        scopes.leave()
        return _bind(value, slot, body)
    slots = scopes.enter(node.variable, node.second) if node.second else scopes.enter(node.variable)
    body = scopes.visit(node.body)
    filter = scopes.visit(node.filter) if node.filter is not None else None
    scopes.leave()
    rounds = _Rounds(source, slots)
    match node.kind:
        case "all":
            return _quantified(rounds, body, until=False, cost=_ALL)
        case "exists":
            return _quantified(rounds, body, until=True, cost=_EXISTS)
        case "existsOne":
            return _one(rounds, body)
        case "map":
            return _collected(rounds, body, filter)
        case _:
            return _mapped(rounds, body, filter, with_key=node.kind == "transformMap")


def _bind(value: Step, slot: int, body: Step) -> Step:
    def run(state: Evaluation) -> Value:
        state.slots[slot] = value(state)
        return body(state)

    return run


class _Rounds:
    """The iterations of a comprehension. `run` sets the variables of each iteration."""

    def __init__(self, source: Step, slots: list[int]) -> None:
        self._source = source
        self._slots = slots

    def run(self, state: Evaluation) -> Iterator[Value]:
        """Set the variables of each iteration. Yield the element; with two variables, yield the key or index."""
        found = self._source(state)
        slots, first = state.slots, self._slots[0]
        if len(self._slots) == 1:
            if not isinstance(found, list | dict):
                raise EvaluationError("no such overload")
            for one in keys(found) if isinstance(found, dict) else found:
                state.round()
                slots[first] = one
                yield one
            return
        second = self._slots[1]
        if not isinstance(found, list | dict):
            raise EvaluationError("no such overload")
        pairs = entries(found) if isinstance(found, dict) else enumerate(found)
        for key, one in pairs:
            state.round()
            slots[first], slots[second] = key, one
            yield key


def _quantified(rounds: _Rounds, body: Step, *, until: bool, cost: int) -> Step:
    def run(state: Evaluation) -> Value:
        failed: EvaluationError | None = None
        left = rounds.run(state)
        for _ in left:
            state.cost += cost
            try:
                value = body(state)
            except EvaluationError as error:
                failed = failed or error
                continue
            if value is until:
                # In cel-go, the condition of the next iteration, which has a cost, ends the macro. After the last
                # element, there is no next iteration.
                state.add(1 if next(left, _END) is _END else cost)
                return until
            if value is not (not until):
                failed = failed or EvaluationError("no such overload")
        state.add(1)
        if failed is not None:
            raise failed
        return not until

    return run


def _condition(value: Value) -> bool:
    if value is not True and value is not False:
        raise EvaluationError("no such overload")
    return bool(value)


def _one(rounds: _Rounds, body: Step) -> Step:
    def run(state: Evaluation) -> Value:
        count = 0
        for _ in rounds.run(state):
            matches = _condition(body(state))
            state.cost += 2 if matches else 1
            count += matches
        state.add(2)
        return count == 1

    return run


def _collected(rounds: _Rounds, body: Step, filter: Step | None) -> Step:
    def run(state: Evaluation) -> Value:
        found: list[Value] = []
        for _ in rounds.run(state):
            if filter is not None and not _condition(filter(state)):
                state.cost += 1
                continue
            found.append(body(state))
            state.cost += _APPEND
        state.add(1)
        return found

    return run


def _mapped(rounds: _Rounds, body: Step, filter: Step | None, *, with_key: bool) -> Step:
    def run(state: Evaluation) -> Value:
        found: dict[Value, Value] = {}
        for key in rounds.run(state):
            if filter is not None and not _condition(filter(state)):
                state.cost += 1
                continue
            value = body(state)
            state.cost += _INSERT if with_key else _INSERT_ENTRY
            if with_key:
                insert(found, key, value)
                continue
            if not isinstance(value, dict):
                raise EvaluationError("no such overload")
            if len(found) + len(value) > MAX_MADE:
                raise CostExceeded
            for inner, one in entries(value):
                state.walk(1)
                insert(found, inner, one)
        state.add(1)
        return found

    return run
