"""The state of one evaluation: the values of variables, and the cost and time that are left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from hatchway.cluster.api.cel.values import CostExceeded, Value

__all__ = ["LIST_COST", "MAP_COST", "MAX_MADE", "STEPS", "STRUCT_COST", "Evaluation", "Step"]

# The number of iterations after which the processor time is checked (apiserver `pkg/apis/cel/config.go`).
_ROUNDS = 100
# The number of parts of values after which the processor time is checked.
STEPS = 500
# The maximum number of elements of lists, entries of maps and characters of strings that one evaluation may create.
MAX_MADE = 4 * 1024 * 1024
LIST_COST, MAP_COST, STRUCT_COST = 10, 30, 40


class Evaluation:
    """One evaluation.

    Attributes:
        variables: the values of the environment's variables.
        slots: the values of the variables of comprehensions.
        cost: the units of cost used so far.
        limit: the maximum cost, in units of cost.
        deadline: when the evaluation ends, as processor time of this thread in seconds (`time.thread_time`).
    """

    __slots__ = ("_made", "_rounds", "_steps", "cost", "deadline", "limit", "slots", "variables")

    def __init__(self, variables: Mapping[str, Value], slots: int, limit: int, deadline: float) -> None:
        self.variables = variables
        self.slots: list[Value] = [None] * slots
        self.cost = 0
        self.limit = limit
        self.deadline = deadline
        self._rounds = 0
        self._steps = 0
        self._made = 0

    def made(self, size: int) -> None:
        """Count the parts of a large value that a function has created. Raises CostExceeded if there are too many."""
        self._made += size
        if self._made > MAX_MADE:
            raise CostExceeded

    def reserve(self, size: int) -> None:
        """Raise CostExceeded if a value with `size` parts, which a function is about to create, would be too many."""
        if self._made + size > MAX_MADE:
            raise CostExceeded

    def add(self, cost: int) -> None:
        """Add `cost` to the cost used so far. Raises CostExceeded above the limit."""
        self.cost += cost
        if self.cost > self.limit:
            raise CostExceeded

    def round(self) -> None:
        """Count one iteration of a comprehension. Raises CostExceeded when cost or processor time is used up."""
        if self.cost > self.limit:
            raise CostExceeded
        self._rounds += 1
        if self._rounds >= _ROUNDS:
            self.watch()

    def walk(self, steps: int) -> None:
        """Count parts of values that a function is about to read. Raises CostExceeded when processor time is used up.

        Every function that reads nested values must call this. A small expression can create values that contain the
        same list many times, so neither the cost nor the memory of a value limits the time that reading it takes.
        """
        self._steps += steps
        if self._steps >= STEPS:
            self.watch()

    def watch(self) -> None:
        """Raise CostExceeded when the processor time is used up."""
        self._rounds = self._steps = 0
        if time.thread_time() > self.deadline:
            raise CostExceeded


Step = Callable[[Evaluation], Value]
