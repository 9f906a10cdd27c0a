"""Bodies that would multiply their data are refused; bodies that Kubernetes accepts are accepted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api import work
from hatchway.cluster.api.http.negotiation import decode_body
from hatchway.cluster.api.patch.patches import json_patch, parse_patch
from hatchway.errors import ApiError

_MIB = 1024 * 1024


@pytest.mark.parametrize("body", [b"[" + b"[]," * 100_001 + b"[]]", b"{" + b'"a":1,' * 100_001 + b'"a":1}'])
def test_too_many_values(body: bytes) -> None:
    for read in (
        lambda: decode_body("application/json", body, "X"),
        lambda: parse_patch("application/merge-patch+json", body),
    ):
        with pytest.raises(ApiError) as caught:
            read()
        assert caught.value.code == 413


def test_long_texts_are_single_values() -> None:
    text = 'a,b[{"\\' * (3 * _MIB // 12)
    body = json.dumps({"data": {"a": text}}).encode()
    assert decode_body("application/json", body, "X") == {"data": {"a": text}}


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a,[{"\\é'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet=',["\\'), inner),
)


@given(JSON, st.integers(3, 40), st.booleans())
def test_characters_inside_strings_do_not_count_as_values(value: Any, chunk: int, compact: bool) -> None:
    body = json.dumps(value, ensure_ascii=compact, separators=(",", ":")).encode()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(work, "_CHUNK", chunk)
        patched.setattr(work, "MAX_VALUES", 5)
        too_many = False
        try:
            work.check_values(body)
        except ApiError:
            too_many = True
    assert too_many == (_separators(value) > 5)


def _separators(value: Any) -> int:
    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(0, len(value) - 1) + sum(map(_separators, inner))
    return 0


@pytest.mark.parametrize("source", ["", "/metadata", "/data"])
def test_copies_of_copies_are_refused(source: str) -> None:
    obj = {"metadata": {"annotations": {str(number): "x" for number in range(1000)}}, "data": {"a": "x" * 100_000}}
    patch = [{"op": "copy", "from": source, "path": f"{source}/copy{number}"} for number in range(40)]
    with pytest.raises(ApiError) as caught:
        json_patch(obj, patch)
    assert caught.value.code == 422


def test_a_large_object_may_be_copied_once() -> None:
    patched = json_patch({"data": {"a": "x" * _MIB}}, [{"op": "copy", "from": "/data/a", "path": "/data/b"}])
    assert patched["data"]["b"] == "x" * _MIB


@pytest.mark.parametrize(
    "body",
    [
        b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [%s*a0]\n" % (n, n, b"*a%d, " % (n - 1) * 9) for n in range(1, 12)),
        b"a: " + b"1" * 5000,
        b"a: 0x" + b"f" * 100_000,
        b"x:\n" + b"- a\n" * 100_001,
        b"[" * 1000,
    ],
)
def test_yaml_that_multiplies(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        decode_body("application/yaml", body, "X")
    assert caught.value.code == 400


def test_yaml_numbers_in_base_60_are_strings() -> None:
    assert decode_body("application/yaml", b"a: 1:30\nb: 190:20:30.15\nc: 12\nd: 0x1f", "X") == {
        "a": "1:30",
        "b": "190:20:30.15",
        "c": 12,
        "d": 31,
    }
