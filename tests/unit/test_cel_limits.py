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
from hatchway.cluster.api.cel.sizedcache import SizedCache
from hatchway.cluster.api.cel.state import Evaluation
from hatchway.cluster.api.cel.syntax import ExpressionIssues
from hatchway.cluster.api.cel.values import CostExceeded, EvaluationError, Optional
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
    ("call", "value"),
    [
        ("long_texts[0].findAll('x+')", ["x" * 100_000]),
        ("long_texts[0].find('x+y?')", "x" * 100_000),
        ("long_texts[0].matches('y')", False),
        ("'a'.matches('[a-z]{1000}')", False),
        ("'a'.find('[a-z]{1000}')", ""),
        ("'a'.findAll('[a-z]{1000}')", []),
        ("strings.quote(long_texts[0]).size()", 100_002),
        ("long_texts[0].split('').size()", 100_000),
        ("long_texts[0].split('x').size()", 100_001),
    ],
)
def test_a_call_with_much_work_checks_the_processor_time(call: str, value: Any) -> None:
    # A text that the expression creates is unknown when it is compiled, and the cost of one call is small.
    assert evaluate(call, deadline=math.inf).value == value
    assert isinstance(evaluate(call).error, CostExceeded)


def test_the_processor_time_is_checked_between_the_matches_of_one_call() -> None:
    (found,) = (one for one in kubernetes_functions()["findAll"] if len(one.arguments) == 2)
    text = "a," * 400
    assert len(found.call(Evaluation({}, 0, 1000, math.inf), text, "a")) == 400
    with pytest.raises(CostExceeded):
        found.call(Evaluation({}, 0, 1000, 0.0), text, "a")
    assert len(found.call(Evaluation({}, 0, 1000, 0.0), text[:40], "a")) == 20


def test_malformed_regular_expressions_check_the_processor_time() -> None:
    text = "'a'.find('(' + '[')"
    assert isinstance(evaluate(text, deadline=math.inf).error, EvaluationError)
    assert isinstance(evaluate(text).error, CostExceeded)


def test_the_regular_expressions_of_one_text_are_checked_with_limited_work() -> None:
    def text(pattern: str, count: int) -> str:
        return "[" + ", ".join(f"'a'.matches('{pattern}{at}')" for at in range(count)) + "].size() == 1"

    for pattern in ("(", "[z-a]"):
        with pytest.raises(ExpressionIssues) as refused:
            compile_expression(text(pattern, 50), ENVIRONMENT)
        assert str(refused.value).count("invalid matches argument") == 50
    # Each of these is compiled up to the largest size before it is refused.
    with pytest.raises(ExpressionIssues) as refused:
        compile_expression(text(r"[\\pL\\pN]{500}", 50), ENVIRONMENT)
    assert 1 <= str(refused.value).count("invalid matches argument") <= 10


def test_a_search_that_may_take_too_many_steps_is_refused() -> None:
    (found,) = (one for one in kubernetes_functions()["matches"] if one.is_member)
    state = Evaluation({}, 0, 1_000_000_000, math.inf)
    assert found.call(state, "a" * 1_000_000, "b") is False
    with pytest.raises(CostExceeded):
        found.call(state, "a" * 1_000_000, "[a-y]{900}z")


def test_short_texts_are_counted_before_they_are_made() -> None:
    calls = kubernetes_functions()["split"]
    split = next(one for one in calls if len(one.arguments) == 2).call
    limited = next(one for one in calls if len(one.arguments) == 3).call
    state = Evaluation({}, 0, 1_000_000_000, math.inf)
    latin, other = "\xe9" * 1_000_000, "\u0101" * 1_000_000
    assert len(split(state, latin, "")) == 1_000_000
    assert limited(state, other, "", 2) == ["\u0101", other[1:]]
    with pytest.raises(CostExceeded):
        split(state, other, "")
    with pytest.raises(CostExceeded):
        split(state, latin, "\xe9")


def test_the_last_place_of_a_text_is_found_in_linear_time() -> None:
    # A search that compares the text at each place would take 10**12 steps.
    (found,) = (one for one in kubernetes_functions()["lastIndexOf"] if one.id == "string_last_index_of_string")
    text, part = "a" * 2_000_000, "ab" + "a" * 1_000_000
    assert found.call(text, part) == -1
    assert found.call("ab" + text, part) == 0


def test_regular_expressions_and_other_values_are_kept_within_a_size() -> None:
    cache: SizedCache[int] = SizedCache(100)
    cache.put("a", 1, 40)
    cache.put("b", 2, 40)
    assert cache.get("a") == 1
    cache.put("c", 3, 60)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]
    cache.put("c", 4, 101)
    assert [cache.get(key) for key in "abc"] == [1, None, None]
    cache.put("a", 5, 100)
    assert cache.get("a") == 5


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
