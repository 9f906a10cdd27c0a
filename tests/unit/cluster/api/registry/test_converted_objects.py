"""The cache of conversions, and fields that a version does not have."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from hatchway.cluster.api.registry.custom.convertedobjects import ConvertedObjects
from hatchway.cluster.api.registry.custom.node import parse_schema
from hatchway.cluster.api.registry.custom.pruning import drop_nulls, fits, prune

NAMES = st.sampled_from(("a", "b", "apiVersion", "metadata"))
leaves = st.sampled_from(({"type": "string"}, {"type": "string", "nullable": True}, {"type": "string", "default": "x"}))


def _objects(inner: Any) -> Any:
    flags = st.sampled_from(
        ({}, {"x-kubernetes-preserve-unknown-fields": True}, {"x-kubernetes-embedded-resource": True})
    )
    with_fields = st.dictionaries(NAMES, inner, max_size=3).map(lambda one: {"type": "object", "properties": one})
    maps = (inner | st.booleans()).map(lambda one: {"type": "object", "additionalProperties": one})
    lists = inner.map(lambda one: {"type": "array", "items": one})
    return st.builds(lambda one, flag: {**one, **flag}, with_fields, flags) | maps | lists


schemas = st.recursive(leaves, _objects, max_leaves=6)
values = st.recursive(
    st.none() | st.just("x"),
    lambda one: st.lists(one, max_size=2) | st.dictionaries(NAMES, one, max_size=3),
    max_leaves=8,
)


_EMBEDDED = {"type": "object", "x-kubernetes-embedded-resource": True}


@given(schemas, values)
@example({**_EMBEDDED, "properties": {"apiVersion": {"type": "string"}}}, {"apiVersion": None})
@example(
    {**_EMBEDDED, "properties": {"metadata": {"type": "object", "properties": {"a": {"type": "string"}}}}},
    {"metadata": {"a": None}},
)
def test_objects_with_only_fields_of_the_version_are_not_changed(schema: dict[str, Any], value: Any) -> None:
    node = parse_schema(schema)
    changed = copy.deepcopy(value)
    prune(changed, node, [])
    drop_nulls(changed, node)
    if fits(value, node):
        assert changed == value
    # The result has only fields of the version, except where a list without a schema of its own is preserved.
    if "preserve" not in str(schema) and "True" not in str(schema):
        assert fits(changed, node)


def _state(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


def test_conversions_are_cached_by_converter_version_and_state() -> None:
    kept, one, other = ConvertedObjects(), object(), object()
    stored, made = _state("a"), _state("b")
    kept.keep(one, stored, "g/v2", made, 10)
    assert kept.get(one, stored, "g/v2") is made
    assert kept.get(one, stored, "g/v3") is None
    assert kept.get(other, stored, "g/v2") is None
    # A later state of the object has a cache entry of its own.
    assert kept.get(one, _state("a"), "g/v2") is None


def test_the_oldest_entries_are_dropped_first() -> None:
    kept, maker = ConvertedObjects(100), object()
    states = [_state(str(index)) for index in range(20)]
    for one in states:
        kept.keep(maker, one, "g/v2", one, 10)
        kept.get(maker, states[0], "g/v2")
    assert kept.size == 100
    assert [kept.get(maker, one, "g/v2") is not None for one in states] == [True] + [False] * 10 + [True] * 9
    kept.keep(maker, states[5], "g/v2", states[5], 101)
    assert kept.get(maker, states[5], "g/v2") is None
    kept.keep(maker, states[0], "g/v2", states[0], 50)
    assert kept.size <= 100
