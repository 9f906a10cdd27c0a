"""Rules of custom types (x-kubernetes-validations): valid and invalid definitions, and objects that they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.cluster.api.registry.custom.node import parse_schema
from hatchway.cluster.api.registry.custom.rules import RuleTree, compile_rules
from hatchway.cluster.api.registry.custom.schemacheck import schema_errors

Json = Any
STRING, INTEGER = {"type": "string"}, {"type": "integer"}


def an_object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties}


def a_list(items: Json, **more: Json) -> Json:
    return {"type": "array", "items": items, "maxItems": 10, **more}


def a_map(values: Json, **more: Json) -> Json:
    return {"type": "object", "additionalProperties": values, "maxProperties": 10, **more}


def short(most: int = 20) -> Json:
    return {"type": "string", "maxLength": most}


def ruled(spec: Json, *rules: Json) -> Json:
    """Return the schema of a type whose spec has these rules."""
    return an_object(spec={**spec, "x-kubernetes-validations": list(rules)})


def tree(schema: Json) -> RuleTree:
    # The page's examples have no limits of sizes, so their estimated cost is too high. Other tests check the cost.
    causes = schema_errors(schema, "schema", has_status=False)
    assert [one for one in causes if "exceed" not in one.message] == []
    found = compile_rules(parse_schema(schema), is_whole=True)
    assert found is not None
    return found


def errors(schema: Json, spec: Json, old: Json = None) -> list[str]:
    found, _ = tree(schema).errors({"spec": spec}, None if old is None else {"spec": old})
    return [f"{one.field}: {one.message}" for one in found]


# The examples of Kubernetes' page about validation rules: schema, rule, a valid value, and an invalid value.
DATE = {"type": "string", "format": "date-time"}
NAMED_LIST = a_list(an_object(name=short(), value=short()))
SET = a_list(short(), **{"x-kubernetes-list-type": "set"})
EXAMPLES: list[tuple[Json, str, Json, Json]] = [
    (
        an_object(minReplicas=INTEGER, replicas=INTEGER, maxReplicas=INTEGER),
        "self.minReplicas <= self.replicas && self.replicas <= self.maxReplicas",
        {"minReplicas": 1, "replicas": 2, "maxReplicas": 3},
        {"minReplicas": 1, "replicas": 4, "maxReplicas": 3},
    ),
    (
        an_object(stateCounts=a_map(INTEGER)),
        "'Available' in self.stateCounts",
        {"stateCounts": {"Available": 1}},
        {"stateCounts": {}},
    ),
    (
        an_object(list1=a_list(short()), list2=a_list(short())),
        "(self.list1.size() == 0) != (self.list2.size() == 0)",
        {"list1": ["a"], "list2": []},
        {"list1": [], "list2": []},
    ),
    (
        a_map(short()),
        "!('MY_KEY' in self) || self['MY_KEY'].matches('^[a-zA-Z]*$')",
        {"MY_KEY": "abc"},
        {"MY_KEY": "a1"},
    ),
    (
        an_object(envars=NAMED_LIST),
        "self.envars.filter(e, e.name == 'MY_ENV').all(e, e.value.matches('^[a-zA-Z]*$'))",
        {"envars": [{"name": "MY_ENV", "value": "abc"}, {"name": "OTHER", "value": "1"}]},
        {"envars": [{"name": "MY_ENV", "value": "1"}]},
    ),
    (
        an_object(expired=DATE, created=DATE, ttl={"type": "string", "format": "duration"}),
        "has(self.expired) && self.created + self.ttl < self.expired",
        {"created": "2024-01-01T00:00:00Z", "ttl": "1h", "expired": "2024-01-01T02:00:00Z"},
        {"created": "2024-01-01T00:00:00Z", "ttl": "3h", "expired": "2024-01-01T02:00:00Z"},
    ),
    (an_object(health=short()), "self.health.startsWith('ok')", {"health": "okay"}, {"health": "bad"}),
    (
        an_object(widgets=a_list(an_object(key=short(), foo=INTEGER))),
        "self.widgets.exists(w, w.key == 'x' && w.foo < 10)",
        {"widgets": [{"key": "x", "foo": 1}]},
        {"widgets": [{"key": "x", "foo": 11}]},
    ),
    ({"x-kubernetes-int-or-string": True}, "type(self) == string ? self == '100%' : self == 1000", "100%", 999),
    (an_object(set1=SET, set2=SET), "self.set1.all(e, !(e in self.set2))", {"set1": ["a"], "set2": ["b"]},
     {"set1": ["a"], "set2": ["a"]}),
    (
        an_object(names=a_list(short()), details=a_map(short())),
        "size(self.names) == size(self.details) && self.names.all(n, n in self.details)",
        {"names": ["a"], "details": {"a": "x"}},
        {"names": ["a"], "details": {"b": "x"}},
    ),
    (
        an_object(clusters=NAMED_LIST, primary=short()),
        "size(self.clusters.filter(c, c.name == self.primary)) == 1",
        {"clusters": [{"name": "a"}, {"name": "b"}], "primary": "a"},
        {"clusters": [{"name": "a"}, {"name": "b"}], "primary": "c"},
    ),
    (an_object(**{"namespace": short(), "x-prop": INTEGER, "redact__d": INTEGER}),
     "self.__namespace__ != '' && self.x__dash__prop > 0 && self.redact__underscores__d > 0",
     {"namespace": "n", "x-prop": 1, "redact__d": 1}, {"namespace": "", "x-prop": 1, "redact__d": 1}),
    (an_object(set1=SET, set2=SET), "self.set1 == self.set2", {"set1": ["a", "b"], "set2": ["b", "a"]},
     {"set1": ["a"], "set2": ["b"]}),
    ({"type": "number"}, "self > 1.5", 2, 1),
    ({"type": "string", "format": "byte", "maxLength": 8}, "self == b'ab'", "YWI=", "YWM="),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "rule", "good", "bad"), EXAMPLES, ids=[one[1][:60] for one in EXAMPLES])
def test_examples_of_the_documentation(spec: Json, rule: str, good: Json, bad: Json) -> None:
    schema = ruled(spec, {"rule": rule})
    assert errors(schema, good) == []
    (found,) = errors(schema, bad)
    assert found.startswith("spec: Invalid value") and found.endswith(f": failed rule: {rule}")


def test_rules_of_the_root_can_read_the_name() -> None:
    schema = {**an_object(prefix=short()), "x-kubernetes-validations": [
        {"rule": "self.metadata.name.startsWith(self.prefix)", "message": "wrong prefix"}]}  # fmt: skip
    found = tree(schema)
    assert found.errors({"metadata": {"name": "ab"}, "prefix": "a"}, None) == ([], [])
    (cause,), _ = found.errors({"metadata": {"name": "ab"}, "prefix": "b"}, None)
    assert (cause.field, cause.message) == ("<nil>", "Invalid value: wrong prefix")


def test_messages_reasons_and_fields() -> None:
    schema = ruled(
        an_object(size=INTEGER, most=INTEGER),
        {
            "rule": "self.size <= self.most",
            "message": "too large",
            "messageExpression": "'size is %d, at most %d'.format([self.size, self.most])",
            "reason": "FieldValueForbidden",
            "fieldPath": ".size",
        },
    )
    assert errors(schema, {"size": 3, "most": 2}) == ["spec.size: Forbidden: size is 3, at most 2"]


def test_if_a_message_expression_fails_the_fixed_message_is_used() -> None:
    rule = {"rule": "self.size < 1", "message": "plain", "messageExpression": "string(1 / (self.size - self.size))"}
    assert errors(ruled(an_object(size=INTEGER), rule), {"size": 3}) == ["spec: Invalid value: plain"]


def test_transition_rules_run_on_updates_only() -> None:
    schema = ruled(an_object(size=INTEGER), {"rule": "self.size >= oldSelf.size", "message": "never shrinks"})
    assert errors(schema, {"size": 1}) == []
    assert errors(schema, {"size": 1}, {"size": 2}) == ["spec: Invalid value: never shrinks"]
    assert errors(schema, {"size": 3}, {"size": 2}) == []


def test_optional_old_values_run_on_creation_too() -> None:
    rule = {"rule": "oldSelf.hasValue() || self == 'first'", "optionalOldSelf": True, "message": "begin with first"}
    schema = ruled(short(), rule)
    assert errors(schema, "second") == ['spec: Invalid value: "second": begin with first']
    assert errors(schema, "second", "first") == []


def test_items_of_keyed_lists_are_compared_with_the_old_items_of_their_keys() -> None:
    item = {**an_object(k=short(), v=INTEGER), "required": ["k"], "x-kubernetes-validations": [
        {"rule": "self.v >= oldSelf.v", "message": "never falls"}]}  # fmt: skip
    items = a_list(item, **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]})
    schema = an_object(spec=an_object(items=items))
    old = {"items": [{"k": "a", "v": 5}, {"k": "b", "v": 1}]}
    assert errors(schema, {"items": [{"k": "b", "v": 2}, {"k": "a", "v": 4}, {"k": "c", "v": 0}]}, old) == [
        "spec.items[1]: Invalid value: never falls"
    ]


def test_unchanged_invalid_values_only_cause_warnings() -> None:
    part = {**an_object(size=INTEGER), "x-kubernetes-validations": [{"rule": "self.size < 3", "message": "small"}]}
    found = tree(an_object(spec=an_object(part=part, other=INTEGER)))
    old = {"spec": {"part": {"size": 5}, "other": 1}}
    assert found.errors({"spec": {"part": {"size": 5}, "other": 2}}, old) == (
        [],
        ["spec.part: Invalid value: small"],
    )
    causes, warnings = found.errors({"spec": {"part": {"size": 6}, "other": 1}}, old)
    assert [one.message for one in causes] == ["Invalid value: small"] and warnings == []


def test_items_of_an_unchanged_list_only_cause_warnings() -> None:
    item = {**INTEGER, "x-kubernetes-validations": [{"rule": "self < 3", "message": "small"}]}
    found = tree(an_object(spec=an_object(sizes=a_list(item), other=INTEGER)))
    old = {"spec": {"sizes": [5], "other": 1}}
    assert found.errors({"spec": {"sizes": [5], "other": 2}}, old) == ([], ["spec.sizes[0]: Invalid value: 5: small"])
    causes, _ = found.errors({"spec": {"sizes": [5, 1], "other": 1}}, old)
    assert [one.message for one in causes] == ["Invalid value: 5: small"]


def test_errors_of_evaluation_name_the_rule() -> None:
    schema = ruled(an_object(size=INTEGER), {"rule": "self.size > 1", "message": "large"})
    assert errors(schema, {}) == ['spec: Invalid value: "object": no such key: size evaluating rule: large']
    assert errors(schema, {"size": 1.0}) == [
        'spec: Invalid value: "object": invalid data, expected int, got float64 evaluating rule: large'
    ]


def test_rules_end_when_an_object_costs_too_much() -> None:
    rule = "self.all(x, self.all(y, self.all(z, x + y + z >= 0)))"
    found = compile_rules(parse_schema(ruled(a_list(INTEGER), {"rule": rule, "message": "sums"})), is_whole=True)
    assert found is not None
    (cause,), _ = found.errors({"spec": list(range(300))}, None)
    assert cause.message == (
        "Invalid value: \"array\": 'operation cancelled: actual cost limit exceeded': no further validation rules "
        "will be run due to call cost exceeds limit for rule: sums"
    )


@pytest.mark.parametrize(
    ("rule", "field", "message"),
    [
        ({"rule": "self.nope == 1"}, "rule", "compilation failed: ERROR: <input>:1:5: undefined field 'nope'"),
        ({"rule": "self.size"}, "rule", "cel expression must evaluate to a bool"),
        ({"rule": " "}, "rule", "rule is not specified"),
        ({"rule": "true", "message": " "}, "message", "must be non-empty if specified"),
        ({"rule": "true", "message": "a\nb"}, "message", "must not contain line breaks"),
        ({"rule": "true\n&& true"}, "message", "message must be specified if rule contains line breaks"),
        (
            {"rule": "true", "messageExpression": "1"},
            "messageExpression",
            "messageExpression must evaluate to a string",
        ),
        ({"rule": "true", "reason": "Other"}, "reason", 'Unsupported value: "Other": supported values: '),
        ({"rule": "true", "fieldPath": ".nope"}, "fieldPath", "must be a valid path"),
        ({"rule": "true", "optionalOldSelf": True}, "optionalOldSelf", "may not be set if oldSelf is not used in rule"),
        ({"rule": "self.free.contains(self.free)"}, "rule", "estimated rule cost exceeds budget by factor of"),
    ],
)
def test_invalid_rules(rule: Json, field: str, message: str) -> None:
    found = schema_errors(ruled(an_object(size=INTEGER, free=STRING), rule), "s", has_status=False)
    assert found[0].field == f"s.properties[spec].x-kubernetes-validations[0].{field}"
    assert message in found[0].message


def test_old_self_is_refused_in_lists_without_keys() -> None:
    item = {**INTEGER, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}
    (found,) = schema_errors(an_object(spec=a_list(item)), "s", has_status=False)
    assert found.message == (
        'Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema within '
        "s.properties[spec]"
    )


@pytest.mark.parametrize(
    ("kind", "rule", "unlimited", "limit", "limited"),
    # From apiextensions-apiserver's `pkg/apiserver/schema/cel/compilation_test.go`.
    [
        ("number[]", "self.all(x, true)", 4718591, 10, 32),
        ("string[]", "self.all(x, true)", 3145727, 20, 62),
        ("boolean[]", "self.all(x, true)", 1887437, 5, 17),
        ("number{}", "self.all(x, true)", 1348169, 10, 32),
        ("string{}", "self.all(x, true)", 1179647, 3, 11),
        ("string", "self.contains('test')", 314574, 10, 5),
        ("string", "self.startsWith('test')", 2, 15, 2),
        ("string", 'size(self + "hello") > size("hello")', 314578, 4, 7),
        ("string", 'self.matches("x")', 314574, 50, 22),
        ("string", 'self.matches("")', 1, 100, 1),
        ("string", 'self == "x"', 2, 0, 1),
        ("number[]", "self[1] == 0.0", 2, 5000, 2),
        ("string[]", "self[1] == self[1]", 314577, 8, 314577),
        ("number[]", "self.all(x, x == 0.0)", 6291454, 3 * 1024 * 2048, 25165826),
    ],
)
def test_estimated_costs(kind: str, rule: str, unlimited: int, limit: int, limited: int) -> None:
    from hatchway.cluster.api.registry.custom.celschema import declared_type
    from hatchway.cluster.api.registry.custom.rulecompile import RuleCompiler

    def cost(**more: int) -> int:
        schema: Json = {"type": kind.rstrip("[]{}")}
        if kind.endswith("[]"):
            schema = {"type": "array", "items": schema}
        elif kind.endswith("{}"):
            schema = {"type": "object", "additionalProperties": schema}
        declared = declared_type(parse_schema({**schema, **more}), is_whole=False)
        assert declared is not None
        return RuleCompiler(declared).compile({"rule": rule}).cost

    bound = {"[]": "maxItems", "{}": "maxProperties"}.get(kind[-2:], "maxLength")
    assert (cost(), cost(**{bound: limit})) == (unlimited, limited)
