"""The three patch formats, by tables of cases."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.cluster.api.patch.jsonpatch import PatchRejected, PatchTestFailed, apply_operations
from hatchway.cluster.api.patch.patches import (
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_MERGE_PATCH,
    json_patch,
    merge_patch,
    parse_patch,
    strategic_merge_patch,
)
from hatchway.errors import ApiError

POD = ("", "v1", "Pod")
SERVICE = ("", "v1", "Service")
DEPLOYMENT = ("apps", "v1", "Deployment")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
objects = st.dictionaries(st.text(max_size=3), json_values, max_size=4)


@pytest.mark.parametrize(
    ("before", "operations", "after"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": [1]}], {"a": 1, "b": [1]}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": {"b/c": 1}}, [{"op": "remove", "path": "/a/b~1c"}], {"a": {}}),
        ({"a": {"~1": 1}}, [{"op": "replace", "path": "/a/~01", "value": 2}], {"a": {"~1": 2}}),
        ({"a": {"": 1}}, [{"op": "remove", "path": "/a/"}], {"a": {}}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/-1"}], {"a": [1]}),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": 1}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a": 1.0}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1.0}),
        ({"a": {}}, [{"op": "test", "path": "/a/b", "value": None}], {"a": {}}),
        ({"a": 1}, [], {"a": 1}),
        (
            {"a": {}},
            [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "add", "path": "/b/x", "value": 1}],
            {"a": {}, "b": {"x": 1}},
        ),
    ],
)
def test_json_patch(before: dict[str, Any], operations: list[Any], after: dict[str, Any]) -> None:
    given_before, given_operations = copy.deepcopy(before), copy.deepcopy(operations)
    assert json_patch(before, operations) == after
    assert (before, operations) == (given_before, given_operations)


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/absent"},
        {"op": "replace", "path": "/absent", "value": 1},
        {"op": "add", "path": "/absent/x", "value": 1},
        {"op": "add", "path": "/list/3", "value": 1},
        {"op": "add", "path": "/list/01", "value": 1},
        {"op": "add", "path": "no-slash", "value": 1},
        {"op": "add", "path": "/x"},
        {"op": "add", "path": "", "value": 1},
        {"op": "remove", "path": ""},
        {"op": "test", "path": "/yes", "value": 1},
        {"op": "test", "path": "/absent", "value": 1},
        {"op": "move", "from": "/map", "path": "/map/inner"},
        {"op": "unheard-of", "path": "/map"},
        {"op": ["add"], "path": "/map", "value": 1},
        {"path": "/map", "value": 1},
    ],
)
def test_json_patch_that_cannot_be_applied(operation: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        json_patch({"list": [0], "map": {}, "yes": True}, [operation])
    assert caught.value.code == 422
    assert caught.value.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "the server rejected our request due to an error in our request",
        "reason": "Invalid",
        "details": {},
        "code": 422,
    }


def test_copies_cannot_make_an_object_too_large() -> None:
    double = {"op": "copy", "from": "/a", "path": "/a/-"}
    with pytest.raises(ApiError) as caught:
        json_patch({"a": ["x" * 1000]}, [double] * 60)
    assert caught.value.code == 422


def test_too_many_operations() -> None:
    with pytest.raises(ApiError) as caught:
        json_patch({}, [{"op": "add", "path": "/a", "value": 1}] * 10_001)
    assert caught.value.code == 413


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": ["c", None]}, {"a": ["c", None]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [1]}, {"a": {"b": {"c": None}}}, {"a": {"b": {}}}),
        ({}, {"a": {"b": None}}, {"a": {}}),
    ],
)
def test_merge_patch(before: dict[str, Any], patch: dict[str, Any], after: dict[str, Any]) -> None:
    assert merge_patch(before, patch) == after


@given(objects, objects)
def test_merge_patch_keeps_its_arguments_and_is_idempotent(before: dict[str, Any], patch: dict[str, Any]) -> None:
    kept = copy.deepcopy((before, patch))
    once = merge_patch(before, patch)
    assert (before, patch) == kept
    assert merge_patch(once, patch) == once


def containers(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(items), **more}}


A, B, C = ({"name": name, "image": name} for name in "abc")


@pytest.mark.parametrize(
    ("gvk", "before", "patch", "after"),
    [
        # maps
        (POD, {"metadata": {"labels": {"a": "1"}}}, {"metadata": {"labels": {"a": None, "b": "2"}}}, {"metadata": {"labels": {"b": "2"}}}),
        (POD, {}, {"metadata": {"labels": {"a": None, "b": "2"}}}, {"metadata": {"labels": {"b": "2"}}}),
        (POD, {"metadata": {"labels": {"a": "1"}}}, {"metadata": {"labels": {"$patch": "replace", "b": "2"}}}, {"metadata": {"labels": {"b": "2"}}}),
        (POD, {"metadata": {"labels": {"a": "1"}}}, {"metadata": {"labels": {"$patch": "delete"}}}, {"metadata": {"labels": {}}}),
        # lists merged by key: an existing item is merged, and such items are in the patch's order; a new item is
        # appended
        (POD, containers(A, B), containers({"name": "b", "image": "x"}), containers(A, {"name": "b", "image": "x"})),
        (POD, containers(A), containers(B), containers(B, A)),
        (POD, containers(A, B), containers({"name": "a", "$patch": "delete"}), containers(B)),
        (POD, containers(A, B), containers(C, {"$patch": "replace"}), containers(C)),
        (POD, containers(A), containers({"name": "a", "image": None}), containers({"name": "a"})),
        (POD, containers(A), containers({"name": "z", "$patch": "delete"}), containers(A)),
        # atomic lists are replaced
        (POD, containers({"name": "a", "args": ["1"]}), containers({"name": "a", "args": ["2"]}), containers({"name": "a", "args": ["2"]})),
        # nested merge lists
        (
            POD,
            containers({"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}),
            containers({"name": "a", "env": [{"name": "Y", "value": "3"}, {"name": "X", "$patch": "delete"}]}),
            containers({"name": "a", "env": [{"name": "Y", "value": "3"}]}),
        ),
        # sets of scalars
        (POD, {"metadata": {"finalizers": ["a", "b"]}}, {"metadata": {"finalizers": ["c", "a"]}}, {"metadata": {"finalizers": ["c", "a", "b"]}}),
        (POD, {"metadata": {"finalizers": ["a", "b"]}}, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "z"]}}, {"metadata": {"finalizers": ["b"]}}),
        (POD, {"metadata": {}}, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}, {"metadata": {}}),
        (
            POD,
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}},
            {"metadata": {"finalizers": ["c", "b"]}},
        ),
        # order
        (POD, containers(A, B), {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}, containers(B, A)),
        (POD, containers(A, B), {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [C]}}, containers(C, A, B)),
        (POD, {"spec": {}}, {"spec": {"$setElementOrder/containers": [{"name": "c"}], "containers": [C]}}, containers(C)),
        (POD, containers(A), {"spec": {"$setElementOrder/containers": [], "containers": None}}, {"spec": {}}),
        # retainKeys: a union changes its member
        (
            DEPLOYMENT,
            {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}},
            {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}},
            {"spec": {"strategy": {"type": "Recreate"}}},
        ),
        (
            POD,
            {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}},
            {"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}},
            {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}},
        ),
        # an integer merge key
        (
            SERVICE,
            {"spec": {"ports": [{"port": 80, "name": "http"}, {"port": 81, "name": "alt"}]}},
            {"spec": {"ports": [{"port": 80, "targetPort": 9090}]}},
            {"spec": {"ports": [{"port": 80, "name": "http", "targetPort": 9090}, {"port": 81, "name": "alt"}]}},
        ),
        # directives inside new values are removed
        (POD, {"spec": {}}, containers({"name": "a", "$patch": "delete"}, B), containers(B)),
        (POD, {"spec": {}}, containers({"name": "b", "image": None, "$retainKeys": ["name"]}), containers({"name": "b"})),
        # a value whose type changes is replaced; an unknown field is kept, and later reported by `check`
        (POD, {"spec": {"x": 1}}, {"spec": {"x": {"y": 1}}}, {"spec": {"x": {"y": 1}}}),
    ],
)  # fmt: skip
def test_strategic_merge_patch(
    gvk: tuple[str, str, str], before: dict[str, Any], patch: dict[str, Any], after: dict[str, Any]
) -> None:
    kept = copy.deepcopy((before, patch))
    assert strategic_merge_patch(gvk, before, patch) == after
    assert (before, patch) == kept


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        (containers({"image": "x"}), "does not contain declared merge key: name"),
        (containers({"name": "a", "$patch": "unheard-of"}), "unknown patch type"),
        (containers({"name": "a", "$patch": "merge"}), "merging lists cannot yet"),
        ({"metadata": {"labels": {"$patch": 1}}}, "unknown patch type"),
        ({"spec": {"containers": ["x"]}}, "list element types"),
        ({"spec": {"containers": [{"name": {}}]}}, "lists of lists"),
        ({"spec": {"$setElementOrder/containers": {}}}, "setElementOrder"),
        ({"spec": {"$setElementOrder/nope": []}}, "unable to find api field"),
        ({"spec": {"$setElementOrder": []}}, "setElementOrder"),
        ({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [A]}}, "order in patch list"),
        ({"spec": {"$deleteFromPrimitiveList": []}}, "primitive list"),
        ({"spec": {"$retainKeys": 1}}, "retainKeys"),
        ({"spec": {"$retainKeys": [], "hostname": "x"}}, "retainKeys"),
    ],
)
def test_malformed_strategic_merge_patch(patch: dict[str, Any], why: str) -> None:
    with pytest.raises(ApiError) as caught:
        strategic_merge_patch(POD, {"metadata": {"labels": {"a": "b"}}, **containers(A, B)}, patch)
    assert caught.value.code == 400
    assert why in caught.value.message


@given(objects)
def test_any_patch_is_applied_or_refused(patch: dict[str, Any]) -> None:
    for one in (patch, {"spec": patch}, {"spec": {"containers": [patch]}}, {"metadata": patch}):
        try:
            result = strategic_merge_patch(POD, {"metadata": {"finalizers": ["a"]}, **containers(A, B)}, one)
        except ApiError as error:
            assert error.code == 400
        else:
            assert isinstance(result, dict)


def test_parsing() -> None:
    found = parse_patch(MERGE_PATCH, b'{"data":{"a":"1","a":"2"}}')
    assert found.content == {"data": {"a": "2"}}
    assert found.duplicates == ('duplicate field "data.a"',)
    assert parse_patch(JSON_PATCH, b'[{"op":"test","op":"add"}]').duplicates == ('json patch duplicate field "[0].op"',)
    assert parse_patch(STRATEGIC_MERGE_PATCH, b"{}").apply(POD, {"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    ("media_type", "body", "code"),
    [
        (MERGE_PATCH, b"{", 400),
        (MERGE_PATCH, b"[]", 400),
        (JSON_PATCH, b"{}", 400),
        (JSON_PATCH, b"\xff", 400),
        (MERGE_PATCH, b'{"a":' * 100_000, 400),
        ("application/foo", b"{}", 415),
    ],
)
def test_bodies_that_are_not_patches(media_type: str, body: bytes, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        parse_patch(media_type, body)
    assert caught.value.code == code


def test_deep_patches_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    for function in (lambda: merge_patch({}, deep), lambda: strategic_merge_patch(POD, {}, deep)):
        with pytest.raises(ApiError) as caught:
            function()
        assert caught.value.code == 400


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"op": "add", "path": "/absent/x", "value": 1},
         'add operation does not apply: doc is missing path: "/absent/x": missing value'),
        ({"op": "add", "path": "/list/3", "value": 1},
         "error in add for path: '/list/3': Unable to access invalid index: 3: invalid index referenced"),
        ({"op": "remove", "path": "/map/x"},
         "error in remove for path: '/map/x': Unable to remove nonexistent key: x: missing value"),
        ({"op": "remove", "path": "/list/9"},
         "error in remove for path: '/list/9': Unable to access invalid index: 9: invalid index referenced"),
        ({"op": "replace", "path": "/no", "value": 1},
         "replace operation does not apply: doc is missing key: /no: missing value"),
        ({"op": "replace", "path": "/no/x", "value": 1},
         "replace operation does not apply: doc is missing path: /no/x: missing value"),
        ({"op": "move", "from": "/no/x", "path": "/a"},
         "move operation does not apply: doc is missing from path: /no/x: missing value"),
        ({"op": "move", "from": "/yes", "path": "/no/x"},
         "move operation does not apply: doc is missing destination path: /no/x: missing value"),
        ({"op": "copy", "from": "/no/x", "path": "/a"},
         "copy operation does not apply: doc is missing from path: /no/x: missing value"),
        ({"op": "copy", "from": "/yes", "path": "/no/x"},
         "copy operation does not apply: doc is missing destination path: /no/x: missing value"),
        ({"op": "test", "path": "/no/x", "value": 1},
         "test operation does not apply: is missing path: /no/x: missing value"),
        ({"op": "test", "path": "/yes", "value": 1}, "testing value /yes failed: test failed"),
        ({"op": "nope", "path": "/yes"}, "Unexpected kind: nope"),
    ],
)  # fmt: skip
def test_errors_are_those_of_kubernetes_library(operation: dict[str, Any], message: str) -> None:
    with pytest.raises(PatchRejected) as caught:
        apply_operations({"list": [0], "map": {}, "yes": True}, [operation])
    assert str(caught.value) == message
    assert isinstance(caught.value, PatchTestFailed) is ("failed: test" in message)


_POINTERS = st.lists(st.sampled_from(["a", "b", "0", "1", "-", "-1", "01", "~0", "~1", ""]), max_size=3).map(
    lambda parts: "".join(f"/{one}" for one in parts)
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0"]), inner, max_size=3),
    max_leaves=8,
)
_OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": _POINTERS},
    optional={"from": _POINTERS, "value": _VALUES},
)


@given(st.dictionaries(st.sampled_from(["a", "b", "0"]), _VALUES), st.lists(_OPERATIONS, max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_patch_is_applied_or_rejected_and_changes_no_argument(obj: dict[str, Any], changes: list[Any]) -> None:
    before = copy.deepcopy((obj, changes))
    try:
        found = apply_operations(obj, changes)
    except PatchRejected as error:
        assert str(error)
    else:
        assert isinstance(found, dict)
        if changes and changes[-1]["op"] == "add" and "-" not in changes[-1]["path"]:
            # After an "add", a "test" of the same value at the same path must succeed.
            assert apply_operations(found, [{**changes[-1], "op": "test"}]) == found
    assert (obj, changes) == before
