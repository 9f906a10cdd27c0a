"""Schemas of custom types: pruned fields, defaults, and invalid values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api.registry.custom.customschema import CustomSchema
from hatchway.cluster.api.registry.custom.formats import FORMATS
from hatchway.cluster.api.registry.custom.node import parse_schema
from hatchway.cluster.api.registry.custom.schemacheck import schema_errors
from hatchway.cluster.api.registry.custom.valuecheck import check_value
from hatchway.cluster.api.registry.schema import GVK, ShapeError

WIDGET = GVK("example.com", "v1", "Widget")

SCALARS = st.sampled_from(["string", "integer", "number", "boolean"])
SCHEMAS = st.recursive(
    st.builds(lambda kind, nullable: {"type": kind, "nullable": nullable}, SCALARS, st.booleans()),
    lambda inner: st.one_of(
        st.builds(
            lambda properties, preserve: {
                "type": "object",
                "properties": properties,
                **({"x-kubernetes-preserve-unknown-fields": True} if preserve else {}),
            },
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            st.booleans(),
        ),
        st.builds(lambda one: {"type": "object", "additionalProperties": one}, inner),
        st.builds(lambda one: {"type": "array", "items": one}, inner),
    ),
    max_leaves=8,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | st.text("ab"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=10,
)


@given(SCHEMAS, st.dictionaries(st.sampled_from(["spec", "other"]), VALUES))
def test_a_pruned_object_is_not_changed_by_a_second_check(spec: dict[str, Any], fields: dict[str, Any]) -> None:
    schema = CustomSchema(WIDGET, {"type": "object", "properties": {"spec": spec}})
    obj = {"metadata": {"name": "w"}, **fields}
    kept = schema.check(obj)
    assert "other" not in kept.object
    assert schema.check(kept.object).object == kept.object
    assert schema.check(kept.object).unknown == ()
    assert obj == {"metadata": {"name": "w"}, **fields}


@given(SCHEMAS, VALUES)
def test_any_value_is_validated(source: dict[str, Any], value: Any) -> None:
    node = parse_schema(source)
    found = check_value(value, node, "spec")
    # A value that is equal to the stored value is not validated.
    assert check_value(value, node, "spec", value) == []
    assert all(one.field.startswith("spec") for one in found)


@given(SCHEMAS)
def test_generated_schemas_are_structural(source: dict[str, Any]) -> None:
    whole = {"type": "object", "properties": {"spec": source}}
    assert schema_errors(whole, "schema", has_status=True) == []


def test_metadata_has_its_own_type() -> None:
    schema = CustomSchema(WIDGET, {"type": "object"})
    kept = schema.check({"metadata": {"name": "w", "nope": 1}, "spec": {}})
    assert kept.unknown == ('unknown field "metadata.nope"', 'unknown field "spec"')
    with pytest.raises(ShapeError, match="labels"):
        schema.check({"metadata": {"labels": 1}})


def test_embedded_objects() -> None:
    inner = {
        "type": "object",
        "x-kubernetes-embedded-resource": True,
        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    schema = CustomSchema(WIDGET, {"type": "object", "properties": {"template": inner}})
    template = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "no": 1}, "spec": {"a": 1}, "b": 1}
    kept = schema.check({"metadata": {}, "template": template})
    assert kept.object["template"] == {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"a": 1}}
    assert kept.unknown == ('unknown field "template.b"', 'unknown field "template.metadata.no"')


def test_defaults() -> None:
    inner = {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 1}}}
    schema = CustomSchema(WIDGET, {"type": "object", "properties": {"a": inner}})
    assert schema.check({"metadata": {}}).object["a"] == {"b": 1}
    assert schema.check({"metadata": {}, "a": {"b": None}}).object["a"] == {"b": 1}
    stored = {"metadata": {}, "a": {}, "gone": 1}
    assert (schema.as_read(stored), stored) == ({"metadata": {}, "a": {"b": 1}}, {"metadata": {}, "a": {}, "gone": 1})


@pytest.mark.parametrize(
    ("source", "good", "bad"),
    [
        ({"type": "integer"}, [1, -1, 2.0], ["1", 1.5, True, None, [], {}]),
        ({"type": "number", "multipleOf": 0.5}, [1, 1.5], [1.25]),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, [1.1], [1]),
        ({"type": "number", "maximum": 1, "exclusiveMaximum": True}, [0], [1]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "äöü"], ["a", "abcd"]),
        ({"type": "string", "nullable": True}, [None, "a"], [1]),
        ({"type": "array", "minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3]]),
        ({"type": "object", "minProperties": 1, "maxProperties": 1}, [{"a": 1}], [{}, {"a": 1, "b": 2}]),
        ({"enum": [1, "a", None]}, [1, "a", None], [True, 2, "b"]),
        ({"type": "integer", "format": "int32"}, [2**31 - 1], [2**31]),
        ({"anyOf": [{"minimum": 5}, {"maximum": 2}]}, [6, 1], [3]),
        ({"oneOf": [{"minimum": 1}, {"maximum": 2}]}, [0, 3], [1]),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1], [0, 3]),
        ({"not": {"minimum": 1}}, [0], [1]),
        ({"x-kubernetes-int-or-string": True}, [1, "a"], [1.5, True]),
        ({"type": "object", "additionalProperties": {"type": "string"}}, [{"a": "b"}], [{"a": 1}]),
    ],
)
def test_values(source: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    node = parse_schema(source)
    assert [value for value in good if check_value(value, node, "a")] == []
    assert [value for value in bad if not check_value(value, node, "a")] == []


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("datetime", ["2026-01-31T10:11:12Z", "2026-01-31t10:11:12.5+01:00"], ["2026-02-30T10:11:12Z", "10:11", "x"]),
        ("date", ["2026-01-31"], ["2026-02-30", "20260131"]),
        ("ipv4", ["10.0.0.1"], ["10.0.0", "::1"]),
        ("ipv6", ["::1"], ["10.0.0.1"]),
        ("cidr", ["10.0.0.0/8", "fd00::/8"], ["10.0.0.0", "10.0.0.0/33"]),
        ("uuid", ["123e4567-e89b-12d3-a456-426614174000"], ["123"]),
        ("uri", ["https://a.b/c", "/a"], ["a b", "a"]),
        ("hostname", ["a.example.com"], ["-a", "a b"]),
        ("email", ["a@b.example"], ["a"]),
        ("byte", ["YQ=="], ["a"]),
        ("duration", ["1h30m", "22 ns"], ["1x"]),
        ("mac", ["00:00:5e:00:53:01"], ["00:00"]),
        ("k8sshortname", ["a-b"], ["A", "a.b"]),
    ],
)
def test_formats(name: str, good: list[str], bad: list[str]) -> None:
    assert all(map(FORMATS[name], good))
    assert not any(map(FORMATS[name], bad))


@given(st.text())
def test_formats_take_any_text(text: str) -> None:
    assert {check(text) for check in FORMATS.values()} <= {True, False}
