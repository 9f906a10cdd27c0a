"""Limits of CEL's evaluation inside functions that read nested values.

A small expression can create a value that contains the same list many times: after n steps of `[a, a]`, the value has n
lists in memory, but 2**n elements.
"""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from hatchway.cluster.api.cel import celtypes as t
from hatchway.cluster.api.cel.compiler import Outcome
from hatchway.cluster.api.cel.environment import CelEnvironment
from hatchway.cluster.api.cel.expression import compile_expression
from hatchway.cluster.api.cel.state import Evaluation
from hatchway.cluster.api.cel.syntax import ExpressionIssues
from hatchway.cluster.api.cel.values import CostExceeded, Optional
from hatchway.cluster.api.registry.custom.celfunctions import kubernetes_functions
from hatchway.cluster.api.registry.custom.keyedlists import KeyedList, SetList
from hatchway.cluster.api.registry.deviceselectors import device_matches

VARIABLES: dict[str, Any] = {
    "empty_texts": [""] * 1000,
    "numbers": list(range(1000, 0, -1)),
    "missing": [Optional()] * 1000,
    "empty_lists": [[]] * 1000,
    "long_texts": ["x" * 100_000] * 5,
    "same_texts": ["x" * 100_000] * 5,
}
TYPES = {
    "empty_texts": t.list_of(t.STRING),
    "numbers": t.list_of(t.INT),
    "missing": t.list_of(t.optional_of(t.INT)),
    "empty_lists": t.list_of(t.list_of(t.INT)),
    "long_texts": t.list_of(t.STRING),
    "same_texts": t.list_of(t.STRING),
}
ENVIRONMENT = CelEnvironment(kubernetes_functions(), TYPES, {}, has_bindings=True)


def evaluate(text: str, *, deadline: float = 0.0) -> Outcome:
    """Evaluate an expression. With the deadline 0, no processor time is left, so only small values can be read."""
    return compile_expression(text, ENVIRONMENT).program.evaluate(VARIABLES, 100_000_000, deadline)


def lists(steps: int) -> str:
    """Return an expression whose value has 2**(steps + 1) elements, in lists inside lists."""
    return "dyn([[1, 1]]" + ".map(x, [x, x])" * steps + ")"


def maps(steps: int) -> str:
    return "dyn([{1: 1}]" + ".map(x, dyn({1: x, 2: x}))" * steps + "[0])"


def bound(steps: int) -> str:
    """Return an expression with `cel.bind` that compares two values with 2**steps elements."""
    text = "a == b"
    for at in reversed(range(steps)):
        text = (
            f"cel.bind(a, [a, a], cel.bind(b, [b, b], {text}))" if at else f"cel.bind(a, [1], cel.bind(b, [1], {text}))"
        )
    return text


# V and W are replaced by two equal values that share no part.
READING = [
    "V == W",
    "V != W",
    "V in [W]",
    "V in {'a': 1} || [V] == [W]",
    "{'a': V} == {'a': W}",
    "optional.of(V) == optional.of(W)",
    "[V].indexOf(W) == 0",
    "[V].lastIndexOf(W) == 0",
    "[V, W].distinct().size() == 1",
    "sets.contains([V], [W])",
    "sets.equivalent([V], [W])",
    "sets.intersects([V], [W])",
    "'%s'.format([V]).size() > 0",
    "'%s'.format([{'k': V}]).size() > 0",
    "dyn([V]).max() != 1",
    "dyn([V]).isSorted()",
]


@pytest.mark.parametrize("text", READING)
@pytest.mark.parametrize("make", [lists, maps])
def test_reading_a_nested_value_checks_the_processor_time(text: str, make: Any) -> None:
    small, large, endless = (text.replace("V", make(n)).replace("W", make(n)) for n in (2, 12, 40))
    assert evaluate(small).error is None
    assert evaluate(small, deadline=math.inf).error is None
    assert isinstance(evaluate(large).error, CostExceeded)
    assert isinstance(evaluate(endless).error, CostExceeded)


def test_bound_values_are_compared_within_the_processor_time() -> None:
    assert evaluate(bound(4)).value is True
    assert isinstance(evaluate(bound(14)).error, CostExceeded)
    assert isinstance(evaluate(bound(40)).error, CostExceeded)


@pytest.mark.parametrize(
    "text",
    [
        "empty_texts.join() == ''",
        "empty_texts.join('') == ''",
        "empty_texts.max() == ''",
        "empty_texts.isSorted()",
        "empty_texts.indexOf('x') == -1",
        "'x' in dyn(empty_texts)",
        "empty_texts == empty_texts.map(x, x)",
        "missing.unwrapOpt().size() == 0",
        "optional.unwrap(missing).size() == 0",
        "empty_lists.indexOf([1]) == -1",
        "long_texts == same_texts",
        "long_texts.max() == ''",
    ],
)
def test_reading_a_long_list_checks_the_processor_time(text: str) -> None:
    assert evaluate(text, deadline=time.thread_time() + 30).error is None
    assert isinstance(evaluate(text).error, CostExceeded)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("sort", [VARIABLES["numbers"]]),
        ("flatten", [VARIABLES["empty_lists"]]),
        ("distinct", [VARIABLES["numbers"]]),
        ("sum", [VARIABLES["numbers"]]),
        ("format", ["%d" * 1000, VARIABLES["numbers"]]),
        ("@sortByAssociatedKeys", [VARIABLES["numbers"], VARIABLES["numbers"]]),
    ],
)
def test_a_function_checks_the_processor_time_before_its_cost_is_known(name: str, args: list[Any]) -> None:
    found = next(one for one in kubernetes_functions()[name] if len(one.arguments) == len(args))
    with pytest.raises(CostExceeded):
        found.call(Evaluation({}, 0, 100_000_000, 0.0), *args)


def test_a_list_that_is_too_expensive_is_not_made() -> None:
    (found,) = kubernetes_functions()["lists.range"]
    assert found.call(Evaluation({}, 0, 1000, math.inf), 1000) == list(range(1000))
    with pytest.raises(CostExceeded):
        found.call(Evaluation({}, 0, 1000, math.inf), 1001)


@pytest.mark.parametrize("make", [SetList, lambda values: KeyedList(values, ("name",))])
def test_lists_without_an_order_are_read_within_the_processor_time(make: Any) -> None:
    first, second = ([{"name": str(at)} for at in range(260)] for _ in range(2))
    for call in (make(first).equal_to, make(first).merged_with):
        call(make(second), Evaluation({}, 0, 0, math.inf))
        with pytest.raises(CostExceeded):
            call(make(second), Evaluation({}, 0, 0, 0.0))


def test_the_text_of_a_value_is_limited_while_it_is_made() -> None:
    # The whole text would have 2**41 times 100,000 characters.
    value = lists(40).replace("1", "long_texts[0]")
    assert isinstance(evaluate(f"'%s'.format([{value}]) == ''", deadline=math.inf).error, CostExceeded)


def test_nan_is_not_equal_to_itself_inside_a_shared_list() -> None:
    text = "cel.bind(n, [double('NaN')], cel.bind(l, [n, n], l == l || n == n || n in l))"
    assert evaluate(text).value is False


@pytest.mark.parametrize("lookup", ["{'a': 1}[V]", "{'a': 1}[dyn(optional.of(V))]", "{'a': 1}[dyn({'k': V})]"])
def test_the_error_for_a_missing_key_is_short(lookup: str) -> None:
    message = str(evaluate(lookup.replace("V", lists(12))).error)
    assert message.startswith("no such key: ")
    assert "[[1, 1], [1, 1]]" in message
    assert message.endswith("...")
    assert len(message) < 2000
    assert len(str(evaluate(lookup.replace("V", lists(40))).error)) < 2000


def test_types_with_very_many_parts_are_refused() -> None:
    def text(steps: int) -> str:
        return "[{1: 1}]" + ".map(x, {x: x})" * steps + ".size() == 1"

    assert compile_expression(text(4), ENVIRONMENT).type == t.BOOL
    for steps in (10, 40):
        with pytest.raises(ExpressionIssues, match="the types of the expression are too large"):
            compile_expression(text(steps), ENVIRONMENT)
        with pytest.raises(ExpressionIssues, match="the types of the expression are too large"):
            compile_expression(f"[[]]{'.map(x, {x: x})' * steps}.size() == 1", ENVIRONMENT)


def test_a_device_selector_ends_within_its_processor_time() -> None:
    with pytest.raises(ValueError, match="actual cost limit exceeded"):
        device_matches(bound(30), "gpu.example.com", {"name": "gpu-0"})
