"""Expressions of mutations: objects and JSON patches that they make (apiserver `pkg/cel/mutation`)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hatchway.cluster.api.admission.policies.patchvalues import configuration_of, operations_of
from hatchway.cluster.api.cel.compiler import Outcome
from hatchway.cluster.api.cel.values import CostExceeded, EvaluationError
from hatchway.cluster.api.registry.policyexpressions import PolicyCompiler, policy_environment
from hatchway.cluster.api.work import MAX_OBJECT, MAX_VALUES
from hatchway.errors import ApiError

OBJECT = {"spec": {"names": ["a", "b"], "map": {"k": 1}}, "flag": True}


def evaluate(text: str, patch_type: str = "ApplyConfiguration") -> Outcome:
    compiled = PolicyCompiler(policy_environment(has_params=False)).mutation(patch_type, text)
    assert compiled.program is not None, compiled.error
    return compiled.program.evaluate({"object": OBJECT}, 1_000_000, time.thread_time() + 10)


def configuration(text: str) -> Any:
    outcome = evaluate(text)
    assert outcome.error is None, outcome.error
    return configuration_of(outcome.value)


def operations(text: str) -> Any:
    outcome = evaluate(text, "JSONPatch")
    assert outcome.error is None, outcome.error
    return operations_of(outcome.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Object{}", {}),
        ("Object{spec: Object.spec{replicas: 3, ratio: 1.5, on: true, none: null}}",
         {"spec": {"replicas": 3, "ratio": 1.5, "on": True, "none": None}}),
        ("Object{spec: Object.spec{?left: optional.none(), ?kept: optional.of('x')}}", {"spec": {"kept": "x"}}),
        ("Object{spec: Object.spec{names: object.spec.names + ['c'], map: object.spec.map}}",
         {"spec": {"names": ["a", "b", "c"], "map": {"k": 1}}}),
        ("Object{items: object.spec.names.map(n, Object.items{name: n})}",
         {"items": [{"name": "a"}, {"name": "b"}]}),
        ("Object{map: object.spec.names.transformMapEntry(i, n, {n: i})}", {"map": {"a": 0, "b": 1}}),
        ("object.flag ? Object{a: 1} : Object{b: 2}", {"a": 1}),
        ("type(Object.spec{}) == Object.spec && Object{a: [1]} == Object{a: [1]} && dyn(Object.a{}) != dyn(Object.b{}) "
         "? Object{equal: true} : Object{}", {"equal": True}),
    ],
)  # fmt: skip
def test_apply_configurations(text: str, value: Any) -> None:
    assert configuration(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[JSONPatch{op: 'add', path: '/' + jsonpatch.escapeKey('a/b~c'), value: 1}]",
         [{"op": "add", "path": "/a~1b~0c", "value": 1}]),
        ("[JSONPatch{op: 'move', from: '/a', path: '/b'}]", [{"op": "move", "from": "/a", "path": "/b"}]),
        ("[JSONPatch{op: 'test', path: '/a', value: null}]", [{"op": "test", "path": "/a", "value": None}]),
        ("[JSONPatch{value: [Object.x{a: 1}, Object.x{b: {'c': [dyn(2u), 0.5]}}]}]",
         [{"op": "", "path": "", "value": [{"a": 1}, {"b": {"c": [2, 0.5]}}]}]),
        ("[JSONPatch{value: Object.spec{a: Object.spec.a{b: 1}}}]", [{"op": "", "path": "", "value": {"a": {"b": 1}}}]),
        # Values that JSON lacks are texts, as in protobuf's JSON.
        ("[JSONPatch{value: [9007199254740991, 9007199254740992, -9007199254740993]}]",
         [{"op": "", "path": "", "value": [9007199254740991, "9007199254740992", "-9007199254740993"]}]),
        ("[JSONPatch{value: [dyn(b'hi'), dyn(duration('90s')), dyn(timestamp('2024-01-02T03:04:05Z'))]}]",
         [{"op": "", "path": "", "value": ["aGk=", "90s", "2024-01-02T03:04:05Z"]}]),
        ("[JSONPatch{op: JSONPatch{op: 'add'}.op, path: has(JSONPatch{path: ''}.path) ? 'set' : 'unset'}]",
         [{"op": "add", "path": "unset"}]),
        ("object.flag ? [JSONPatch{op: 'a'}] : []", [{"op": "a", "path": ""}]),
    ],
)  # fmt: skip
def test_json_patches(text: str, value: Any) -> None:
    assert operations(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Object{spec: Object.spec{a: Object.spec.wrong{}}}", 'unexpected type name "Object.spec.wrong", expected'),
        ("Object{a: [Object.b{}]}", 'unexpected type name "Object.b", expected "Object.a"'),
        ("Object{a: {'k': Object.b{}}}", 'unexpected type name "Object.b", expected "Object.a"'),
        ("Object{a: {1: 'x'}}", 'map key "1" is of type int, not string'),
        ("Object{a: duration('1s')}", "a value of type google.protobuf.Duration cannot be a part of an object"),
        ("Object{a: JSONPatch{}}", "a value of type JSONPatch cannot be a part of an object"),
        ("Object{a: optional.of(1)}", "a value of type optional_type cannot be a part of an object"),
        ("Object{a: double('NaN')}", "a value of type double cannot be a part of an object"),
    ],
)
def test_values_that_are_no_objects(text: str, message: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        configuration(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Object{a: 1}.a == 1 ? Object{} : Object{}", "no such key: a"),
        ("Object{a: JSONPatch{op: object.flag}}", "unexpected type bool for JSONPatchType 'op' field"),
    ],
)
def test_errors_of_evaluation(text: str, message: str) -> None:
    assert str(evaluate(text).error) == message


def test_a_result_has_a_limited_number_of_values() -> None:
    # Each element costs little, but counts as a value of the object.
    parts = ", ".join(f"k{number}: lists.range(9000)" for number in range(7))
    outcome = evaluate(f"Object{{{parts}}}")
    assert outcome.error is None
    with pytest.raises(ApiError) as caught:
        configuration_of(outcome.value)
    assert caught.value.code == 413
    assert str(MAX_VALUES) in caught.value.message


def test_validations_have_no_types_of_mutations() -> None:
    compiler = PolicyCompiler(policy_environment(has_params=False))
    for text in ("Object{} == Object{}", "JSONPatch{op: 'a'}.op == 'a'", "jsonpatch.escapeKey('a') == 'a'"):
        assert "undeclared reference to" in compiler.validation(text).error


# A value with 2**41 elements: each list contains the previous list twice.
ENDLESS = "dyn([['x']]" + ".map(x, [x, x])" * 40 + ")"


@pytest.mark.parametrize("value", [ENDLESS, f"{{'k': {ENDLESS}}}", f"{ENDLESS}.map(x, Object.a{{b: x}})"])
def test_a_value_that_contains_the_same_list_many_times_is_refused(value: str) -> None:
    for made in (lambda: configuration(f"Object{{a: {value}}}"), lambda: operations(f"[JSONPatch{{value: {value}}}]")):
        with pytest.raises(ApiError) as caught:
            made()
        assert caught.value.code == 413


# 80,000 characters, and a list that contains them 100 times.
LONG = "dyn(['xxxxxxxxxx']" + ".map(x, x + x)" * 13 + "[0])"
_HUNDRED = f"map(x, [{', '.join('x' * 100)}])"
MANY, MANY_BYTES = f"[{LONG}].{_HUNDRED}", f"[{LONG}].map(x, dyn(bytes(string(x)))).{_HUNDRED}"


@pytest.mark.parametrize("value", [MANY, f"{MANY}[0].map(x, {{x: 1}})", MANY_BYTES])
def test_the_texts_of_a_patch_are_limited_before_they_are_written(value: str) -> None:
    with pytest.raises(ApiError) as caught:
        operations(f"[JSONPatch{{value: {value}}}]")
    assert caught.value.code == 413
    assert caught.value.message == f"the object would become too large: limit is {MAX_OBJECT} bytes"


def test_the_texts_of_an_apply_configuration_are_limited_before_they_are_written() -> None:
    with pytest.raises(ApiError) as caught:
        configuration(f"Object{{a: {MANY}}}")
    assert caught.value.code == 413


def test_the_paths_of_a_patch_are_limited_before_they_are_written() -> None:
    for field in ("path", "from", "op"):
        with pytest.raises(ApiError) as caught:
            operations(f"{MANY}[0].map(x, JSONPatch{{{field}: x}})")
        assert caught.value.code == 413


def test_a_patch_with_very_many_operations_is_refused_before_they_are_written() -> None:
    with pytest.raises(EvaluationError, match="JSON Patch: there are more than 10000 operations"):
        operations("lists.range(10001).map(x, JSONPatch{op: 'add'})")


def test_an_error_names_at_most_a_hundred_misplaced_objects() -> None:
    with pytest.raises(EvaluationError) as caught:
        configuration("Object{a: lists.range(1000).map(x, Object.b{})}")
    assert str(caught.value).count("unexpected type name") == 100


def test_objects_and_patches_are_compared_within_the_processor_time() -> None:
    values = [f"Object{{a: {ENDLESS}}}", f"JSONPatch{{value: {ENDLESS}}}"]
    for value in values:
        text = f"{value} == {value} ? Object{{}} : Object{{}}"
        compiled = PolicyCompiler(policy_environment(has_params=False)).mutation("ApplyConfiguration", text)
        assert compiled.program is not None, compiled.error
        assert isinstance(compiled.program.evaluate({"object": OBJECT}, 1_000_000, 0.0).error, CostExceeded)
