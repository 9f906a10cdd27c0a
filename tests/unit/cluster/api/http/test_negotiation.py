"""Accept headers, YAML bodies and answers."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api.http.negotiation import AnswerFormat, decode_body, decode_yaml, encode, negotiate
from hatchway.errors import ApiError

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("accept", "view"),
    [
        ("", AnswerFormat()),
        ("*/*", AnswerFormat()),
        ("application/json", AnswerFormat()),
        ("application/yaml", AnswerFormat("application/yaml")),
        ("application/vnd.kubernetes.protobuf,application/json", AnswerFormat()),
        ("application/vnd.kubernetes.protobuf, */*", AnswerFormat()),
        (f"{TABLE},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", AnswerFormat(as_="Table")),
        (
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            AnswerFormat(as_="PartialObjectMetadataList"),
        ),
        ("application/json;as=Nonsense;g=meta.k8s.io;v=v1,application/json", AnswerFormat()),
        ("application/json;q=0.1,application/yaml", AnswerFormat("application/yaml")),
        ("application/json;stream=watch", AnswerFormat()),
    ],
)
def test_negotiate(accept: str, view: AnswerFormat) -> None:
    assert negotiate(accept) == view


def test_no_table_for_a_type_without_columns() -> None:
    table = "application/json;as=Table;g=meta.k8s.io;v=v1"
    assert negotiate(f"{table},application/json", tables=False) == AnswerFormat()
    with pytest.raises(ApiError, match="406"):
        negotiate(table, tables=False)


@pytest.mark.parametrize(
    "accept",
    ["text/plain", "application/json;q=0", "application/vnd.kubernetes.protobuf", ",;,", "application/json;as=X"],
)
def test_not_acceptable(accept: str) -> None:
    with pytest.raises(ApiError) as caught:
        negotiate(accept)
    assert (caught.value.code, caught.value.reason) == (406, "NotAcceptable")


def test_yaml_bodies_give_the_same_objects_as_json() -> None:
    body = b"a: 2020-01-01\nb: yes\n2: x\ntrue: y\nc: [1, 1.5, null, ~]\n---\nsecond: document\n"
    assert decode_body("application/yaml", body, "ConfigMap") == {
        "a": "2020-01-01",
        "b": True,
        "2": "x",
        "true": "y",
        "c": [1, 1.5, None, None],
    }


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"\xff"),
        ("", b'{"a": "\\ud800"}'),
        ("application/json", b"[" * 100_000),
        ("application/yaml", b"a: ["),
        ("application/yaml", b"\xff\xfe\xfd"),
        ("application/yaml", b"&a [*a]"),
        ("application/yaml", b"[" * 5000),
        ("application/yaml", b"[" * 100_000 + b"]" * 100_000),
        ("application/yaml", b"{a: " * 100_000 + b"}" * 100_000),
        ("application/yaml", b"- " * 100_000),
        ("application/yaml", b"\n".join(b" " * depth + b"a:" for depth in range(1000))),
        ("application/yaml", b"[" + b"1," * 500_000 + b"1]"),
        ("application/yaml", b"!!python/object/apply:os.system [true]"),
        ("application/yaml", b"a: !!binary aGk="),
        ("application/yaml", b"".join(b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9) if i else b"x") for i in range(12))),
        ("application/vnd.kubernetes.protobuf", b"k8s\0\xff"),
        ("application/vnd.kubernetes.protobuf", b"{}"),
    ],
)  # fmt: skip
def test_bodies_that_do_not_parse(content_type: str, body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        decode_body(content_type, body, "ConfigMap")
    assert caught.value.code == 400


def test_yaml_merge_keys_cannot_multiply_data() -> None:
    levels = 12
    body = b"a0: &a0 {k: v}\n"
    for level in range(1, levels):
        body += b"a%d: &a%d {<<: [%s]}\n" % (level, level, b",".join([b"*a%d" % (level - 1)] * 10))
    try:
        found = decode_body("application/yaml", body, "ConfigMap")
    except ApiError as error:
        assert error.code == 400
    else:
        # PyYAML from 6.0.4 on merges each key once.
        assert found == {f"a{level}": {"k": "v"} for level in range(levels)}


def test_unknown_media_types() -> None:
    with pytest.raises(ApiError) as caught:
        decode_body("application/xml", b"<x/>", "ConfigMap")
    assert caught.value.code == 415


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["C"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(_values)
def test_answers_in_json_and_yaml_have_the_same_content(value: object) -> None:
    assert json.loads(encode(value, AnswerFormat(pretty=True))) == value
    assert yaml.safe_load(encode({"v": value}, AnswerFormat("application/yaml"))) == {"v": value}


def test_an_equals_sign_is_a_string_in_yaml() -> None:
    assert decode_yaml(b"enum: [=, \"=\", '!=']\n=: 1", "X") == {"enum": ["=", "=", "!="], "=": 1}
