"""ConversionReviews (apiextensions-apiserver `webhook_converter.go` and its test)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api.registry.custom.conversionreview import ConversionFailed, converted_objects, review_body

V2 = "example.com/v2"
HEAD = "conversion webhook for example.com/v1, Kind=Foo"
KEEP = ("uid", "resourceVersion", "generation", "finalizers", "name", "namespace")
ORIGINAL: dict[str, Any] = {
    "apiVersion": "example.com/v1",
    "kind": "Foo",
    "metadata": {
        "name": "a",
        "namespace": "n",
        "uid": "u",
        "resourceVersion": "1",
        "generation": 3,
        "labels": {"x": "y"},
        "finalizers": ["example.com/f"],
    },
}
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def answer(objects: Any, *, uid: str = "r", version: str = "v1", result: Any = None) -> bytes:
    response = {"uid": uid, "convertedObjects": objects, "result": result or {"status": "Success"}}
    review = {"apiVersion": f"apiextensions.k8s.io/{version}", "kind": "ConversionReview", "response": response}
    return json.dumps(review).encode()


def good(**metadata: Any) -> dict[str, Any]:
    return {**ORIGINAL, "apiVersion": V2, "metadata": {**ORIGINAL["metadata"], **metadata}}


def converted(body: bytes, version: str = "v1", count: int = 1) -> Any:
    return converted_objects(body, version, "r", V2, [ORIGINAL] * count, HEAD)


def why(body: bytes, version: str = "v1") -> str:
    with pytest.raises(ConversionFailed) as error:
        converted(body, version)
    return str(error.value)


def test_the_request() -> None:
    found = json.loads(review_body("v1", "r", V2, [b'{"a": 1}']))
    # Go's encoding includes an empty response.
    assert found == {
        "kind": "ConversionReview",
        "apiVersion": "apiextensions.k8s.io/v1",
        "request": {"uid": "r", "desiredAPIVersion": V2, "objects": [{"a": 1}]},
        "response": {"uid": "", "convertedObjects": None, "result": {"metadata": {}}},
    }


def test_uid_and_version_are_checked_in_v1_only() -> None:
    assert why(answer([good()], uid="other")) == f'{HEAD} failed: expected response.uid="r", got "other"'
    assert why(answer([good()], version="v1beta1")) == (
        f"{HEAD} failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, "
        "got apiextensions.k8s.io/v1beta1, Kind=ConversionReview"
    )
    assert converted(answer([good()], uid="other", version="v1beta1"), "v1beta1") == [good()]
    assert why(b'{"response": null}', "v1beta1") == f"{HEAD} failed: no response provided"


def test_an_object_without_a_kind() -> None:
    assert why(answer([{"apiVersion": V2}])) == f"Object 'Kind' is missing in '{{\"apiVersion\": \"{V2}\"}}'"
    with pytest.raises(
        ConversionFailed, match="returned invalid converted object at index 1: Object 'Kind' is missing"
    ):
        converted(answer([good(), None]), count=2)


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({"labels": {"a b": "x"}}, "metadata.labels: Invalid value:"),
        ({"annotations": {"a b": "x"}}, "metadata.annotation: Invalid value:"),
        ({"annotations": {"a": "x" * 300_000}}, "metadata.annotation: Too long:"),
        ({"labels": 5}, "invalid metadata.labels of type int64 in converted object"),
        ({"annotations": {"a": None}}, "metadata.annotations[a] must be a string, but is <nil> in converted object"),
    ],
)
def test_labels_and_annotations_are_checked(metadata: dict[str, Any], text: str) -> None:
    assert why(answer([good(**metadata)])).startswith(f"{HEAD} returned invalid metadata: {text}")


@given(
    st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
    st.dictionaries(st.text(max_size=8), values, max_size=3),
)
def test_only_labels_and_annotations_come_from_the_webhook(labels: dict[str, str], more: dict[str, Any]) -> None:
    found = {**more, **{key: ORIGINAL["metadata"][key] for key in ("name", "namespace", "uid")}, "labels": labels}
    found.pop("annotations", None)
    obj = {**ORIGINAL, "apiVersion": V2, "metadata": found, "spec": more}
    try:
        (result,) = converted(answer([obj]))
    except ConversionFailed as error:
        assert "returned invalid metadata: metadata.labels" in str(error) or "[metadata.labels" in str(error)
        return
    assert result["metadata"] == {**ORIGINAL["metadata"], "labels": labels}
    assert result["spec"] == more


@given(values)
def test_any_answer_is_an_error_or_has_the_objects(found: Any) -> None:
    for body in (json.dumps(found).encode(), answer(found), answer([found]), answer([good()], result=found or 1)):
        with pytest.raises(ConversionFailed):
            converted(body)


@given(st.binary(max_size=64))
def test_any_bytes_are_an_error(body: bytes) -> None:
    with pytest.raises(ConversionFailed):
        converted(body)


@pytest.mark.parametrize("value", [b'"\xff"', b"1" * 5000, b"1e999999"])
def test_values_that_json_does_not_have_are_an_error(value: bytes) -> None:
    body = answer([{**good(), "spec": 0}]).replace(b'"spec": 0', b'"spec": ' + value)
    assert why(body).startswith(f"{HEAD} returned invalid object: json parse error: ")
