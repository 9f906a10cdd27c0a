"""Sets of field paths in the form of FieldsV1."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api.fields import pathset
from hatchway.cluster.api.fields.pathset import BadFields, PathSet

_ELEMENTS = st.sampled_from(
    ["f:a", "f:b", "f:c", 'k:{"name":"x"}', 'k:{"name":"y"}', 'k:{"port":80,"protocol":"TCP"}', "v:1", 'v:"a"', "i:0"]
)
_PATHS = st.frozensets(st.lists(_ELEMENTS, min_size=1, max_size=3).map(tuple), max_size=8)
Paths = frozenset[tuple[str, ...]]


def _set(paths: Paths) -> PathSet:
    """Make a set by its definition: a path is a member if its dictionary is empty or has the key `.`."""
    root: PathSet = {}
    for path in paths:
        node = root
        for element in path:
            node = node.setdefault(element, {})
        node["."] = {}
    return pathset.canonical(root)


def _paths(fields: PathSet) -> Paths:
    return frozenset(pathset.paths(fields))


@given(_PATHS)
def test_a_set_has_the_paths_that_were_added(paths: Paths) -> None:
    found = _set(paths)
    assert _paths(found) == paths
    assert all(pathset.has(found, path) for path in paths)
    assert pathset.canonical(found) == found


@given(_PATHS, _PATHS)
def test_operations_agree_with_those_of_python_sets(left: Paths, right: Paths) -> None:
    one, two = _set(left), _set(right)
    assert _paths(pathset.union(one, two)) == left | right
    assert _paths(pathset.intersection(one, two)) == left & right
    assert _paths(pathset.difference(one, two)) == left - right
    below = {path for path in left if any(path[: len(other)] == other for other in right)}
    assert _paths(pathset.recursive_difference(one, two)) == left - below


@given(_PATHS, _PATHS)
def test_results_are_in_canonical_form(left: Paths, right: Paths) -> None:
    """Equal sets have equal JSON. The comparison of new and old managed fields relies on this."""
    one, two = _set(left), _set(right)
    for found in (pathset.union(one, two), pathset.intersection(one, two), pathset.difference(one, two)):
        again = pathset.canonical(found)
        assert found == again
        assert list(found) == list(again)


def test_elements_are_in_the_order_of_kubernetes() -> None:
    found = pathset.canonical({"v:2": {}, 'k:{"port":443}': {}, 'k:{"port":80}': {}, "v:10": {}, "f:z": {}, "f:a": {}})
    assert list(found) == ["f:a", "f:z", 'k:{"port":80}', 'k:{"port":443}', "v:2", "v:10"]


@pytest.mark.parametrize(
    ("given_fields", "found"),
    [
        ({'k:{"b":1,"a":2}': {}}, {'k:{"a":2,"b":1}': {}}),
        ({"v:1.0": {}}, {"v:1": {}}),
        ({"x:later": {}, "f:a": {}}, {"f:a": {}}),
        ({"f:a": {".": {}}}, {"f:a": {}}),
    ],
)
def test_sets_from_clients_are_made_canonical(given_fields: Any, found: PathSet) -> None:
    assert pathset.canonical(given_fields) == found


@pytest.mark.parametrize("fields", [[], {"f": {}}, {"ab": {}}, {"k:[]": {}}, {"k:{": {}}, {"v:": {}}, {"i:-1": {}}])
def test_invalid_sets_are_refused(fields: Any) -> None:
    with pytest.raises(BadFields):
        pathset.canonical(fields)


def test_a_deep_set_is_refused() -> None:
    fields: PathSet = {}
    for _ in range(2000):
        fields = {"f:a": fields}
    with pytest.raises(BadFields, match="too deep"):
        pathset.canonical(fields)


def test_paths_are_shown_as_kubernetes_writes_them() -> None:
    path = ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}', 'v:"a"', "i:3")
    assert pathset.show(path) == '.spec.ports[port=80,protocol="TCP"][="a"][3]'
