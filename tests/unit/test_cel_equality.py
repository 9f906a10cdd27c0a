"""Equality and order of CEL values, and the keys of maps. cel-go v0.26.0, which Kubernetes 1.36 uses, gave these results."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api.cel import celtypes as t
from hatchway.cluster.api.cel.compiler import Outcome
from hatchway.cluster.api.cel.environment import CelEnvironment
from hatchway.cluster.api.cel.equality import equal
from hatchway.cluster.api.cel.expression import compile_expression
from hatchway.cluster.api.cel.mapkeys import MISSING, constant_members, entries, find, is_member, put
from hatchway.cluster.api.cel.state import Evaluation
from hatchway.cluster.api.cel.values import UInt
from hatchway.cluster.api.registry.custom.celfunctions import kubernetes_functions

ANY: dict[str, Any] = {"one": 1.0, "text": "text", "null": None, "list": [1, 2], "yes": True, "number": 1}
ENVIRONMENT = CelEnvironment(kubernetes_functions(), {"any": t.DYN, "m": t.map_of(t.STRING, t.INT)}, {})


def evaluate(text: str) -> Outcome:
    program = compile_expression(text, ENVIRONMENT).program
    return program.evaluate({"any": ANY, "m": {"k": 1}}, 1_000_000, time.thread_time() + 30)


def _unlimited() -> Evaluation:
    return Evaluation({}, 0, 1_000_000, math.inf)


TRUE_KEYS = [
    "dyn({true: 'a'})[dyn(true)] == 'a'",
    "{dyn(1): 'a'} == {dyn(1u): 'a'}",
    # A look-up by an int does not find a double key, but a look-up by a double finds an int key.
    "{dyn(1.0): 'a'} == {dyn(1): 'a'}",
    "{dyn(true): 1, dyn(1): 2}.size() == 2",
    "{dyn(true): 1, dyn(1): 2}[dyn(true)] == 1 && {dyn(true): 1, dyn(1): 2}[dyn(1)] == 2",
    "{dyn(true): 1, dyn(1): 2}.map(k, k).size() == 2",
    "{dyn(false): 1, dyn(0u): 2, dyn(0): 3}.size() == 3",
    "{dyn(1): 'i', dyn(1u): 'u'}[dyn(1)] == 'i' && {dyn(1): 'i', dyn(1u): 'u'}[dyn(1u)] == 'u'",
    "{dyn(1u): 'u', dyn(1): 'i'}[dyn(1.0)] == 'i'",
    "{dyn(1): 'i', dyn(1u): 'u', dyn(1.0): 'd'}[dyn(1.0)] == 'd'",
    "1.0 in {1.0: 'd'} && 1.5 in {1.5: 'd'} && -0.0 in {0.0: 'd'} && dyn(-0.0) in {0: 'd'}",
    "dyn(1.0) in {dyn(1u): 1} && dyn(1u) in {1: 1} && dyn(1) in {1u: 1}",
    "{double('NaN'): 1}.size() == 1 && {double('NaN'): 1, double('NaN') + 0.0: 2}.size() == 2",
    "null in {null: 1} && {null: 1} == {null: 1}",
    "duration('1s') in {duration('1000ms'): 1} && type(1) in {int: 1}",
    "{1: 'a', 1: 'b'}[1] == 'b' && {1: 'a', 1: 'b'}.size() == 1",
    "{?1: optional.of('a'), ?1: optional.none()}.size() == 0",
    "{dyn(1): 1, dyn(2u): 2} == {dyn(1u): 1, dyn(2): 2}",
    "{dyn(true): 1, dyn(1): 2} == {dyn(1): 2, dyn(true): 1}",
    "{true: 1}.all(k, k) && {true: 1}.all(k, v, k && v == 1) && {true: 1}.exists(k, k == true)",
    "{dyn(1u): 1}.map(k, type(k) == uint) == [true] && {dyn(1.5): 1}.map(k, type(k) == double) == [true]",
    "{1: 2}.transformMap(k, v, v + k) == {1: 3} && {true: 2}.transformMap(k, v, k ? v : 0)[true] == 2",
    "{dyn(true): 2, dyn(1): 3}.transformMap(k, v, v).size() == 2",
    "[dyn(1.0), dyn(1)].transformMapEntry(i, v, {v: i}).size() == 2",
    "[dyn(1), dyn(true)].transformMapEntry(i, v, {v: i}).size() == 2",
    "[null].transformMapEntry(i, v, {v: i}).size() == 1",
    "'%s'.format([{dyn(true): 1, dyn(1): 2}]) == '{1:2, true:1}'",
    "'%s'.format([{dyn(1u): 'a', dyn(2): 'b'}]) == '{1:\"a\", 2:\"b\"}'",
    "m == dyn({'k': 1u}) && dyn({'k': 1}) == m",
    "any.list[dyn(1u)] == 2 && any.list[dyn(1.0)] == 2 && any.list[dyn(-0.0)] == 1 && any.list[?1.0].hasValue()",
]
FALSE_KEYS = [
    "dyn(true) in {1: 'a'}",
    "dyn(false) in {0: 'a'}",
    "1 in {dyn(true): 'a'}",
    "{1: 'a'} == dyn({true: 'a'})",
    "{dyn(1): 'a'} == {dyn(1.0): 'a'}",
    "dyn({1: 'a'})[?dyn(true)].hasValue()",
    "dyn({true: 'a'})[?dyn(1)].hasValue()",
    "dyn(1) in {1.0: 'd'}",
    "double('NaN') in {double('NaN'): 1}",
    "{double('NaN'): 1} == {double('NaN'): 1}",
    "null in dyn({1: 1})",
    "dyn('a') in dyn({1: 1})",
    "dyn([1]) in {1: 1}",
    "dyn({1: 1}) in {1: 1}",
    "{dyn(true): 1, dyn(1): 2} == {dyn(1): 1, dyn(true): 2}",
    "{'a': dyn(1)} == {'a': dyn(true)}",
    "m == dyn({'k': true})",
    "any.yes in any",
    "1 in any",
    "null in any",
    "b'text' in any",
    "dyn(1) in m",
    "m[?dyn(true)].hasValue()",
    "optional.of(any)[?dyn(1)].hasValue()",
    "optional.of(any.list)[dyn(5)].hasValue()",
    "any.list[?dyn(7)].hasValue() || any.list[?-1].hasValue()",
    "dyn(9223372036854775807.0) in {9223372036854775807: 1}",
    "dyn(-9223372036854775808.0) in {-9223372036854775808: 1}",
    "dyn(9007199254740992.0) in {9007199254740993: 1}",
    "dyn(1) in {18446744073709551615u: 1}",
    "dyn(18446744073709551615u) in {-1: 1}",
    "dyn(1e300) in {1: 1} || dyn(double('Infinity')) in {1: 1}",
    # Values of types without fields have no fields.
    "has(any.one.foo) || has(any['null'].foo) || has(any.text.foo) || has(dyn(duration('1s')).foo)",
    "any.yes.?a.hasValue() || any.yes[?'a'].hasValue() || any['null'].?foo.hasValue() || any.text[?0].hasValue()",
]
TRUE_VALUES = [
    "dyn(1) in [1u] && dyn(1.0) in [1, 2] && dyn(1) in [1.0] && null in [null]",
    "any.number in [1u] && any.number in [1.0, 2.0] && any.yes in [true] && any.one in [dyn(1)]",
    "[1] == dyn([1u]) && [1] == dyn([1.0]) && {'a': dyn(1)} == {'a': dyn(1u)}",
    "dyn(1) == 1u && dyn(1) == 1.0 && 0.0 == -0.0 && dyn(-0.0) == 0 && dyn(-0.0) == 0u && dyn(null) == null",
    "double('NaN') != double('NaN')",
    "optional.of(dyn(1)) == optional.of(dyn(1.0)) && optional.of(dyn(null)) == optional.of(dyn(null))",
    # Whole numbers are rounded to doubles before they are compared with doubles.
    "dyn(9007199254740993) == 9007199254740992.0 && dyn(9007199254740993u) == 9007199254740992.0",
    "dyn(9007199254740993) <= 9007199254740992.0",
    "dyn(9223372036854775807) == 9223372036854775808.0 && dyn(18446744073709551615u) == 18446744073709551616.0",
    "dyn(9007199254740993) in [9007199254740992.0, double(any.number)]",
    "dyn(9007199254740992.0) in [9007199254740993]",
    "9223372036854775807 < 9223372036854775808u && 18446744073709551615u > 9223372036854775807 && -1 < 0u",
    "[dyn(1), dyn(true)].distinct().size() == 2 && [[dyn(1)], [dyn(true)]].distinct().size() == 2",
    "[{dyn(1): 1}, {dyn(true): 1}].distinct().size() == 2 && [dyn('a'), dyn(b'a')].distinct().size() == 2",
    "[dyn(1), dyn(1u), dyn(1.0)].distinct().size() == 1 && [dyn(0.0), dyn(-0.0)].distinct().size() == 1",
    "[dyn(null), dyn(false), dyn(0)].distinct().size() == 3",
    "[double('NaN'), double('NaN')].distinct().size() == 2",
    "sets.contains([dyn(1)], [dyn(1u)]) && sets.equivalent([dyn(1)], [dyn(1u), dyn(1.0)])",
    "[dyn(true), dyn(false)].sort() == [false, true] && [2.0, double('NaN'), 1.0].sort().size() == 3",
]
FALSE_VALUES = [
    "true in [dyn(1)] || dyn(true) in [1] || dyn(true) in [1, 2] || dyn(1) in [true] || dyn(1.5) in [1, 2]",
    "any.yes in [any.number] || any.number in [any.yes] || any.number in [1.5] || any.yes in [dyn('text'), dyn(1)]",
    "dyn(null) in [1] || dyn('a') in [b'a'] || any.list in ['a'] || any in [1]",
    "[1] == dyn([true]) || [1.5] == dyn([1]) || [any.number] == [any.yes]",
    "dyn(true) == 1 || dyn(1) == true || dyn(0) == false || dyn(0.0) == false || dyn(1u) == true",
    "any.yes == 1 || any.number == true || any.number == any.yes",
    "dyn('1') == 1 || dyn(b'a') == 'a' || dyn(null) == false || dyn(null) == 0 || dyn(duration('1s')) == 1",
    "dyn(type(1)) == 'int'",
    "double('NaN') == double('NaN') || [double('NaN')] == [double('NaN')]",
    "double('NaN') in [double('NaN')] || double('NaN') in [double('NaN'), 1.0]",
    "sets.contains([double('NaN')], [double('NaN')])",
    "dyn(9007199254740993) < 9007199254740992.0 || 9007199254740993 > 9007199254740992.0",
    "dyn(9007199254740993) in [9007199254740992.0, 1.0]",
    "dyn(-1) == 18446744073709551615u || dyn(18446744073709551615u) == -1 || 9223372036854775808u < 5",
    "optional.of(dyn(1)) == optional.of(dyn(true))",
    "sets.contains([dyn(1)], [dyn(true)]) || sets.intersects([dyn(false)], [dyn(0)])",
    "sets.equivalent([dyn(1), dyn(true)], [dyn(1)]) || sets.intersects([dyn(b'a')], [dyn('a')])",
    # The left side is not evaluated, because the list is empty.
    "1 / 0 in []",
]


@pytest.mark.parametrize("text", TRUE_KEYS + TRUE_VALUES)
def test_true_comparisons(text: str) -> None:
    found = evaluate(text)
    assert found.error is None, found.error
    assert found.value is True


@pytest.mark.parametrize("text", FALSE_KEYS + FALSE_VALUES)
def test_false_comparisons(text: str) -> None:
    found = evaluate(text)
    assert found.error is None, found.error
    assert found.value is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dyn({1: 'a'})[dyn(true)]", "no such key: true"),
        ("dyn({true: 'a'})[dyn(1)]", "no such key: 1"),
        ("dyn({true: 'a'})[dyn(1.0)]", "no such key: 1"),
        ("{1.0: 'd'}[dyn(1)]", "no such key: 1"),
        ("{true: 'a'}[false]", "no such key: false"),
        ("{1.5: 'a'}[2.5]", "no such key: 2.5"),
        ("dyn({1: 'a'})[dyn(int)]", "no such key: int"),
        ("dyn({1: 'a'})[dyn(type(duration('1s')))]", "no such key: google.protobuf.Duration"),
        (
            "dyn({1: 'a'})[dyn([dyn(1), dyn('b'), dyn(null), dyn(b'hi'), dyn(true), dyn(1.5)])]",
            "no such key: [1, b, null, [104 105], true, 1.5]",
        ),
        ("dyn({1: 'a'})[dyn({dyn('k'): dyn([int]), dyn(2): dyn({})})]", "no such key: {k: [int], 2: {}}"),
        ("dyn({1: 'a'})[dyn(optional.of(2))]", "no such key: optional(2)"),
        ("dyn({1: 'a'})[dyn(optional.none())]", "no such key: optional.none()"),
        ("dyn({1: 'a'})[dyn(quantity('1'))]", "no such key: kubernetes.Quantity"),
        ("[1, 1].transformMapEntry(i, v, {int: v})", "insert failed: key int already exists"),
        ("any[any.yes]", "no such key: true"),
        ("any.one[dyn(1)]", "no such key: 1"),
        ("any.text[0]", "no such key: 0"),
        ("any.one.foo", "no such key: foo"),
        ("any['null'].foo", "no such key: foo"),
        ("dyn({1: 'a'}).a", "no such key: a"),
        ("any.list.foo", "unsupported index type 'string' in list"),
        ("has(any.list.foo)", "unsupported index type 'string' in list"),
        ("any.list[dyn(true)]", "unsupported index type 'bool' in list"),
        ("any.list[?dyn(true)]", "unsupported index type 'bool' in list"),
        ("any.list[?dyn('a')]", "unsupported index type 'string' in list"),
        ("any.list[dyn(1.5)]", "unsupported index value 1.5 in list"),
        ("any.list[1e300]", "unsupported index value 1e+300 in list"),
        ("any.list[double('NaN')]", "unsupported index value NaN in list"),
        ("any.list[18446744073709551615u]", "unsupported index value 18446744073709551615 in list"),
        ("any.list[-1]", "index out of bounds: -1"),
        ("any.list[7.0]", "index out of bounds: 7"),
        ("[1, 2].transformMapEntry(i, v, {true: v})", "insert failed: key true already exists"),
        ("[dyn(1), dyn(1u)].transformMapEntry(i, v, {v: i})", "insert failed: key 1 already exists"),
        ("[dyn(1), dyn(1.0)].transformMapEntry(i, v, {v: i})", "insert failed: key 1 already exists"),
        ("[1.5, 1.5].transformMapEntry(i, v, {v: i})", "insert failed: key 1.5 already exists"),
        ("['a', 'a'].transformMapEntry(i, v, {v: i})", "insert failed: key a already exists"),
        ("'%s'.format([{1.5: 1}])", "error during formatting: no formatting function for map key of type double"),
        ("'%s'.format([{null: 1}])", "error during formatting: no formatting function for map key of type null_type"),
        ("[dyn(2), dyn(true)].sort()", "list elements must have the same type"),
        ("dyn('a') in dyn('abc')", "no such overload"),
        # cel-go crashes if a key is of type bytes, and cannot find entries whose key is a list or a map.
        ("{b'a': 1}", "unsupported key type"),
        ("{[1]: 1}", "unsupported key type"),
    ],
)
def test_errors(text: str, message: str) -> None:
    assert str(evaluate(text).error) == message


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("any.one in []", 0),
        ("any.number in [1u]", 2),
        ("any.text in [dyn('text'), dyn(1), dyn(true)]", 2),
        ("double('NaN') in [double('NaN'), 1.0]", 0),
        ("null in [null]", 1),
        ("duration('1s') in [duration('1s')]", 1),
        ("{dyn(1): 'i', dyn(1u): 'u'}.size()", 1),
    ],
)
def test_the_cost_of_a_search_in_constants_is_that_of_cel_go(text: str, cost: int) -> None:
    assert evaluate(text).cost == cost


SCALARS = (
    st.booleans()
    | st.integers(-3, 3)
    | st.integers(0, 3).map(UInt)
    | st.sampled_from([-1.0, -0.0, 0.0, 1.0, 1.5, 2.0, float("inf"), float("nan")])
    | st.none()
    | st.sampled_from(["", "1", "True"])
)


@given(st.lists(st.tuples(SCALARS, st.integers())))
def test_a_map_has_one_entry_for_each_type_and_value_of_a_key(pairs: list[tuple[Any, int]]) -> None:
    found: dict[Any, Any] = {}
    expected: list[list[Any]] = []
    for key, value in pairs:
        put(found, key, value)
        known = [one for one in expected if type(one[0]) is type(key) and one[0] == key]
        if known:
            known[0][1] = value
        else:
            expected.append([key, value])
    assert [(type(key), repr(value)) for key, value in entries(found)] == [
        (type(one), repr(at)) for one, at in expected
    ]
    assert all(key != key or find(found, key) == value for key, value in expected)


@given(SCALARS, SCALARS)
def test_a_key_finds_an_entry_only_if_they_are_equal(first: Any, second: Any) -> None:
    found: dict[Any, Any] = {}
    put(found, second, "value")
    # Only a look-up by a double finds a key of type double.
    is_found = equal(first, second, _unlimited()) and (type(first) is type(second) or not isinstance(second, float))
    assert (find(found, first) is not MISSING) is is_found


@given(SCALARS, st.lists(SCALARS.filter(lambda one: one is not None)))
def test_a_value_is_a_member_if_it_is_equal_to_one_of_the_constants(value: Any, values: list[Any]) -> None:
    members = constant_members(values)
    assert members is not None
    assert is_member(members, value) is any(equal(value, one, _unlimited()) for one in values)
