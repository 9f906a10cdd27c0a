"""Server-side apply and the owners of fields, on built-in types and on a custom one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.cluster.api.fields.atoms import Atom, blank_object, builtin_atom, custom_atom
from hatchway.cluster.api.fields.managers import decode_entries
from hatchway.cluster.api.fields.ownership import (
    LAST_APPLIED,
    ApplyConflict,
    BadConfiguration,
    FieldType,
    FieldWrite,
    apply,
    update,
)
from hatchway.cluster.api.fields.pathset import make
from hatchway.cluster.api.registry.custom.node import parse_schema

Object = dict[str, Any]
_DEPLOYMENT = ("apps", "v1", "Deployment")
_CUSTOM = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "map": {"type": "object", "additionalProperties": {"type": "string"}},
                "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "list": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string"}}},
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                },
                "plain": {"type": "array", "items": {"type": "string"}},
                "whole": {
                    "type": "object",
                    "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                    "x-kubernetes-map-type": "atomic",
                },
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        }
    },
}
_CUSTOM_ATOM = custom_atom(parse_schema(_CUSTOM))


def write(manager: str, *, now: str = "2026-01-01T00:00:00Z", atom: Atom = _CUSTOM_ATOM, **more: Any) -> FieldWrite:
    blank = {"apiVersion": "example.com/v1", "kind": "Thing"}
    types = {"example.com/v1": FieldType(atom)}
    return FieldWrite(manager, "example.com/v1", "", types, blank, more.pop("reset", {}), now, **more)


def thing(**spec: Any) -> Object:
    return {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec}


def applied(live: Object | None, manager: str, config: Object, *, force: bool = False, now: str = "") -> Object:
    return apply(write(manager, now=now or "2026-01-01T00:00:00Z"), live, config, force=force)


def updated(live: Object | None, manager: str, new: Object, **more: Any) -> Object:
    """Return the object after an update, with its new managed fields."""
    given = new["metadata"].get("managedFields")
    entries = update(write(manager, **more), live, new, given)
    metadata = {key: one for key, one in new["metadata"].items() if key != "managedFields"}
    return {**new, "metadata": {**metadata, **({"managedFields": entries} if entries else {})}}


def owners(obj: Object) -> dict[str, Any]:
    return {one["manager"]: one["fieldsV1"] for one in obj["metadata"].get("managedFields", [])}


# How each kind of field is merged


@pytest.mark.parametrize(
    ("one", "two", "both"),
    [
        ({"map": {"a": "1"}}, {"map": {"b": "2"}}, {"map": {"a": "1", "b": "2"}}),
        ({"set": ["a", "b"]}, {"set": ["c", "a"]}, {"set": ["c", "a", "b"]}),
        (
            {"list": [{"k": "a", "v": "1"}]},
            {"list": [{"k": "b", "v": "2"}, {"k": "a"}]},
            {"list": [{"k": "b", "v": "2"}, {"k": "a", "v": "1"}]},
        ),
        ({"free": {"a": {"b": 1}}}, {"free": {"a": {"c": [1]}}}, {"free": {"a": {"b": 1, "c": [1]}}}),
    ],
)
def test_two_managers_share_maps_sets_and_lists_with_keys(one: Object, two: Object, both: Object) -> None:
    found = applied(applied(None, "one", thing(**one)), "two", thing(**two))
    assert found["spec"] == both
    assert set(owners(found)) == {"one", "two"}


@pytest.mark.parametrize(
    ("one", "two", "path"),
    [
        ({"plain": ["a"]}, {"plain": ["a", "b"]}, ".spec.plain"),
        ({"whole": {"a": "1"}}, {"whole": {"a": "1", "b": "2"}}, ".spec.whole"),
        ({"map": {"a": "1"}}, {"map": {"a": "2"}}, ".spec.map.a"),
        ({"list": [{"k": "a", "v": "1"}]}, {"list": [{"k": "a", "v": "2"}]}, '.spec.list[k="a"].v'),
        ({"free": {"l": [1]}}, {"free": {"l": [2]}}, ".spec.free.l"),
    ],
)
def test_a_changed_field_of_another_manager_is_a_conflict(one: Object, two: Object, path: str) -> None:
    live = applied(None, "one", thing(**one))
    with pytest.raises(ApplyConflict) as caught:
        applied(live, "two", thing(**two))
    assert caught.value.message == f'Apply failed with 1 conflict: conflict with "one": {path}'
    forced = applied(live, "two", thing(**two), force=True)
    assert forced["spec"] == two
    assert applied(forced, "two", thing(**two)) == forced


def test_several_conflicts_are_listed_by_manager() -> None:
    live = applied(None, "one", thing(map={"a": "1", "b": "1"}))
    live = updated(live, "two", {**live, "spec": {**live["spec"], "plain": ["x"]}})
    with pytest.raises(ApplyConflict) as caught:
        applied(live, "three", thing(map={"a": "2", "b": "2"}, plain=["y"]))
    assert caught.value.message == (
        'Apply failed with 3 conflicts: conflicts with "one":\n- .spec.map.a\n- .spec.map.b\n'
        'conflicts with "two" using example.com/v1:\n- .spec.plain'
    )


def test_fields_that_are_no_longer_applied_are_removed_unless_others_own_them() -> None:
    live = applied(None, "one", thing(map={"a": "1", "b": "1", "c": "1"}, list=[{"k": "x", "v": "1"}]))
    live = applied(live, "two", thing(map={"b": "1"}))
    live = updated(live, "editor", {**live, "spec": {**live["spec"], "list": [{"k": "x", "v": "1"}, {"k": "y"}]}})
    found = applied(live, "one", thing(map={"a": "1"}))
    assert found["spec"] == {"map": {"a": "1", "b": "1"}, "list": [{"k": "y"}]}


def test_an_item_with_a_field_of_another_manager_is_kept() -> None:
    live = applied(None, "one", thing(list=[{"k": "x", "v": "1"}]))
    live = applied(live, "two", thing(list=[{"k": "x"}]))
    found = applied(live, "one", thing())
    assert found["spec"] == {"list": [{"k": "x"}]}


# Updates


def test_an_update_owns_the_fields_that_it_changes() -> None:
    live = updated(None, "one", thing(map={"a": "1", "b": "1"}))
    found = updated(live, "two", {**live, "spec": {"map": {"a": "1", "b": "2", "c": "3"}}})
    assert owners(found) == {
        "one": {"f:spec": {".": {}, "f:map": {".": {}, "f:a": {}}}},
        "two": {"f:spec": {"f:map": {"f:b": {}, "f:c": {}}}},
    }


def test_an_update_without_a_change_changes_no_owners() -> None:
    live = updated(None, "one", thing(map={"a": "1"}))
    assert updated(live, "two", live, now="2026-02-02T00:00:00Z") == live


def test_removed_fields_have_no_owner() -> None:
    live = updated(None, "one", thing(map={"a": "1"}, set=["x"]))
    found = updated(live, "two", {**live, "spec": {"set": ["x"]}})
    assert owners(found) == {"one": {"f:spec": {".": {}, "f:set": {".": {}, 'v:"x"': {}}}}}


def test_from_the_eleventh_manager_on_the_oldest_are_merged() -> None:
    live = updated(None, "m00", thing(map={"k00": "1"}))
    for index in range(1, 30):
        spec = {"map": {**live["spec"]["map"], f"k{index:02}": "1"}}
        live = updated(live, f"m{index:02}", {**live, "spec": spec}, now=f"2026-01-01T00:00:{index:02}Z")
    entries = live["metadata"]["managedFields"]
    assert len(entries) == 10
    assert entries[0]["manager"] == "ancient-changes"
    assert set(entries[0]["fieldsV1"]["f:spec"]["f:map"]) == {".", *(f"f:k{index:02}" for index in range(21))}


@pytest.mark.parametrize("given_entries", [[], [{}]])
def test_managed_fields_can_be_removed(given_entries: Any) -> None:
    live = updated(None, "one", thing(map={"a": "1"}))
    bare = {**live, "metadata": {"name": "t", "managedFields": given_entries}, "spec": {"map": {"a": "2"}}}
    found = updated(live, "two", bare)
    assert "managedFields" not in found["metadata"]
    # The next apply starts the tracking again, and the earlier fields get an owner, too.
    again = applied(found, "three", thing(map={"b": "1"}))
    assert set(owners(again)) == {"before-first-apply", "three"}


@pytest.mark.parametrize(
    "entries",
    [
        [{"manager": "x", "operation": "Sing", "apiVersion": "example.com/v1", "fieldsType": "FieldsV1"}],
        [{"manager": "x", "operation": "Update", "apiVersion": "", "fieldsType": "FieldsV1"}],
        [{"manager": "x", "operation": "Update", "apiVersion": "example.com/v1", "fieldsType": "FieldsV2"}],
        [
            {
                "manager": "x",
                "operation": "Update",
                "apiVersion": "example.com/v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"zz": {}},
            }
        ],
    ],
)
def test_managed_fields_that_cannot_be_read_are_ignored(entries: Any) -> None:
    live = updated(None, "one", thing(map={"a": "1"}))
    bare = {**live, "metadata": {"name": "t", "managedFields": entries}, "spec": {"map": {"a": "2"}}}
    assert set(owners(updated(live, "two", bare))) == {"one", "two"}


def test_a_client_may_change_managed_fields() -> None:
    live = updated(None, "one", thing(map={"a": "1"}))
    entries = [{**live["metadata"]["managedFields"][0], "manager": "other"}]
    found = updated(live, "two", {**live, "metadata": {"name": "t", "managedFields": entries}})
    assert set(owners(found)) == {"other"}


def test_fields_that_the_server_ignores_have_no_owner() -> None:
    reset = make(("status",))
    new = {**thing(map={"a": "1"}), "status": {"x": 1}}
    assert "f:status" not in owners(updated(None, "one", new, reset=reset))["one"]


# The change from client-side apply, and configurations that cannot be merged


def test_kubectl_takes_over_from_client_side_apply() -> None:
    text = '{"apiVersion":"example.com/v1","kind":"Thing","metadata":{"name":"t"},"spec":{"map":{"a":"1"}}}'
    new = thing(map={"a": "1"})
    new["metadata"]["annotations"] = {LAST_APPLIED: text}
    live = updated(None, "kubectl-client-side-apply", new)
    changed = thing(map={"a": "2"})
    with pytest.raises(ApplyConflict):
        applied(live, "somebody", changed)
    found = applied(live, "kubectl", changed)
    assert found["spec"]["map"] == {"a": "2"}
    assert '"a":"2"' in found["metadata"]["annotations"][LAST_APPLIED]
    # If another program has changed a field since the client-side apply, this field is a conflict.
    live = updated(live, "editor", {**live, "spec": {"map": {"a": "9"}}})
    with pytest.raises(ApplyConflict):
        applied(live, "kubectl", changed)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"nope": 1}, ".spec.nope: field not declared in schema"),
        ({"map": {"a": 1}}, ".spec.map.a: expected string, got &{1}"),
        ({"set": ["a", "a"]}, '.spec.set: duplicate entries for key [="a"]'),
        ({"set": [None]}, ".spec.set: element 0: associative list without keys has an element that's an explicit null"),
        ({"plain": "x"}, '.spec.plain: expected list, got &{"x"}'),
        (
            {"list": [{"v": "1"}]},
            '.spec.list: element 0: associative list with keys has an element that omits all key fields ["k"] '
            "(and doesn't have default values for any key fields)",
        ),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(spec: Object, why: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        applied(None, "one", thing(**spec))
    assert str(caught.value) == f"failed to create typed patch object (/t; example.com/v1, Kind=Thing): {why}"


def test_default_values_of_keys_identify_items() -> None:
    types = {"v1": FieldType(builtin_atom(("", "v1", "Service")))}
    one = FieldWrite("one", "v1", "", types, blank_object(("", "v1", "Service")), {}, "2026-01-01T00:00:00Z")
    config = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    found = apply(one, None, config, force=False)
    assert owners(found)["one"] == {"f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}}}


# Property tests

_TEXTS = st.sampled_from(["1", "2"])
_NAMES = st.sampled_from(["a", "b", "c", "d"])


def _specs(names: st.SearchStrategy[str]) -> st.SearchStrategy[Object]:
    # These maps have items, because an empty map is itself a field with an owner.
    lists = st.lists(names, unique=True, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {"map": st.dictionaries(names, _TEXTS, min_size=1, max_size=3)},
        optional={
            "set": lists,
            "list": lists.map(lambda found: [{"k": one, "v": one} for one in found]),
            "free": st.dictionaries(
                names, st.dictionaries(names, _TEXTS, min_size=1, max_size=2), min_size=1, max_size=2
            ),
        },
    )


def _normal(obj: Object) -> Any:
    """Return the spec with sorted items and without empty values, because these depend on the order of two applies."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: found for key, one in value.items() if (found := walk(one)) not in ({}, [], None)}
        if isinstance(value, list):
            return sorted(map(walk, value), key=str)
        return value

    return walk(obj["spec"]) if obj.get("spec") else {}


@settings(max_examples=60)
@given(_specs(_NAMES), _specs(_NAMES))
def test_applying_again_changes_nothing(first: Object, second: Object) -> None:
    live = updated(None, "editor", thing(**first))
    once = applied(live, "one", thing(**second), force=True)
    assert applied(once, "one", thing(**second), now="2026-02-02T00:00:00Z") == once


@settings(max_examples=60)
@given(_specs(st.sampled_from(["a", "b"])), _specs(st.sampled_from(["c", "d"])))
def test_managers_of_different_fields_commute(first: Object, second: Object) -> None:
    one = applied(applied(None, "one", thing(**first)), "two", thing(**second))
    two = applied(applied(None, "two", thing(**second)), "one", thing(**first))
    assert _normal(one) == _normal(two)
    assert owners(one) == owners(two)


@settings(max_examples=60)
@given(_specs(_NAMES), _specs(_NAMES))
def test_applying_nothing_undoes_an_apply(first: Object, second: Object) -> None:
    live = updated(None, "editor", thing(**first))
    nothing = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}}
    found = applied(applied(live, "one", thing(**second), force=True), "one", nothing)
    assert "one" not in owners(found)
    assert set(_normal(found).get("map", {})) <= set(first.get("map", {}))
    assert set(_normal(found).get("set", [])) <= set(first.get("set", []))


@settings(max_examples=60)
@given(_specs(_NAMES), _specs(_NAMES), _specs(_NAMES))
def test_every_owned_item_exists(first: Object, second: Object, third: Object) -> None:
    live = applied(updated(None, "editor", thing(**first)), "one", thing(**second), force=True)
    live = updated(live, "late", {**live, "spec": third})
    managed = decode_entries(live["metadata"].get("managedFields"))
    for owned in managed.values():
        for name in ("map", "set", "list"):
            fields = owned.fields.get("f:spec", {}).get(f"f:{name}", {})
            there = third.get(name) or ()
            known = {one["k"] if isinstance(one, dict) else one for one in there}
            for element in fields:
                if element != ".":
                    assert any(f'"{one}"' in element or element == f"f:{one}" for one in known)
