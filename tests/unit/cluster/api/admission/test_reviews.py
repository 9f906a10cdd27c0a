"""Each answer of a webhook becomes a response, a failed call, or an error for the client."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api.admission.webhooks.configurations import Webhook
from hatchway.cluster.api.admission.webhooks.review import CallFailed, decode_response, refusal

HOOK = Webhook.of(
    "c", {"name": "a.example.com", "clientConfig": {"url": "https://h/"}, "admissionReviewVersions": ["v1"]}
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_STATUS_FIELDS = ("status", "code", "reason", "message", "details", "metadata")
_DETAILS = ("name", "group", "kind", "uid", "causes", "retryAfterSeconds")
_RESPONSE = ("uid", "allowed", "status", "patch", "patchType", "auditAnnotations", "warnings")


def _objects(fields: tuple[str, ...], inner: Any) -> Any:
    return st.dictionaries(st.sampled_from(fields), inner, max_size=len(fields))


@given(_objects(_STATUS_FIELDS, _values | _objects(_DETAILS, _values)))
def test_any_status_becomes_an_error_that_can_be_sent(status: dict[str, Any]) -> None:
    error = refusal(HOOK, status)
    assert 400 <= error.code <= 599
    assert error.message.startswith('admission webhook "a.example.com" denied the request')
    assert json.loads(json.dumps(error.status()))["status"] == "Failure"
    assert all(isinstance(value, bytes) for _, value in error.headers())


@given(
    st.binary(max_size=40)
    | st.builds(
        lambda response, more: json.dumps(
            {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response, **more}
        ).encode(),
        _values | _objects(_RESPONSE, _values | st.sampled_from(["u", "W10=", "JSONPatch", True])),
        _objects(("kind", "apiVersion", "request"), _values),
    ),
    st.booleans(),
)
def test_any_answer_is_a_response_or_a_failed_call(body: bytes, mutating: bool) -> None:
    try:
        found = decode_response(body, HOOK, "u", mutating=mutating)
    except CallFailed as error:
        assert str(error).startswith(("failed to call webhook: ", "received invalid webhook response: "))
        return
    assert found.uid == "u"
    assert isinstance(found.allowed, bool)
    assert mutating or not found.patch
    assert all(isinstance(one, str) for one in (*found.kept_warnings(), *found.kept_annotations(HOOK).values()))


def test_a_whole_response() -> None:
    answer = {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "response": {"uid": "u", "allowed": True, "patch": "W10=", "patchType": "JSONPatch", "warnings": ["w"]},
    }
    found = decode_response(json.dumps(answer).encode(), HOOK, "u", mutating=True)
    assert (found.allowed, found.patch, found.patch_type, found.warnings) == (True, b"[]", "JSONPatch", ["w"])
