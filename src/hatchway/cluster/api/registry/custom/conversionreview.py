"""ConversionReviews: makes the request to a conversion webhook, and checks the response.

From apiextensions-apiserver's `pkg/apiserver/conversion/webhook_converter.go`. The versions v1 and v1beta1 of
ConversionReview differ only in the checks of the response. Errors have Kubernetes' words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.validation import quote
from hatchway.cluster.api.work import check_values
from hatchway.errors import ApiError, Cause
from hatchway.kube.api import Object

__all__ = ["REVIEW_VERSIONS", "ConversionFailed", "converted_objects", "review_body"]

Json = Any

REVIEW_VERSIONS = ("v1", "v1beta1")
_GROUP = "apiextensions.k8s.io"
_KIND = "ConversionReview"
# The maximum number of characters of a webhook's own message, and of a value quoted in a message.
_LONGEST, _SHOWN = 64 * 1024, 1024
_ANNOTATIONS_LIMIT = 256 * 1024
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
# Types of failures, with their names in the metrics.
CALL_FAILURE = "conversion_webhook_call_failure"
MALFORMED = "conversion_webhook_malformed_response_failure"
PARTIAL = "conversion_webhook_partial_response_failure"
INVALID = "conversion_webhook_invalid_converted_object_failure"


class ConversionFailed(Exception):
    """Raised when a conversion fails, with the message for the client. failure: the failure's type in the metrics."""

    def __init__(self, message: str, failure: str) -> None:
        super().__init__(message)
        self.failure = failure


class _ConversionResult(msgspec.Struct, gc=False):
    status: str = ""
    message: str = ""


class _ConversionResponse(msgspec.Struct, gc=False):
    uid: str = ""
    result: _ConversionResult = msgspec.field(default_factory=_ConversionResult)
    objects: list[msgspec.Raw] | None = msgspec.field(default=None, name="convertedObjects")


class _ReviewAnswer(msgspec.Struct, gc=False):
    api_version: str = msgspec.field(default="", name="apiVersion")
    kind: str = ""
    response: _ConversionResponse | None = None


_decoder = msgspec.json.Decoder(_ReviewAnswer)


def review_body(version: str, uid: str, api_version: str, objects: Sequence[bytes]) -> bytes:
    """Return the ConversionReview to send, as JSON.

    version: the version of ConversionReview.
    uid: identifies the request.
    api_version: the version to which the objects are converted.
    objects: the objects as JSON.
    """
    request = {"uid": uid, "desiredAPIVersion": api_version, "objects": [msgspec.Raw(one) for one in objects]}
    # As in Kubernetes, the request contains an empty response.
    response: Object = {"uid": "", "convertedObjects": None, "result": {"metadata": {}}}
    review = {"kind": _KIND, "apiVersion": f"{_GROUP}/{version}", "request": request, "response": response}
    return _encode(review)


def converted_objects(
    body: bytes, version: str, uid: str, api_version: str, originals: Sequence[Object], head: str
) -> list[Object]:
    """Return the objects in a webhook's response. Metadata that a webhook may not change is restored.

    originals: the objects that were sent. head: the beginning of error messages, `conversion webhook for GVK`. The
    other parameters have the same meaning as in `review_body`. Raises ConversionFailed.
    """
    found = _checked(body, version, uid, head)
    if len(found) != len(originals):
        raise ConversionFailed(f"{head} returned {len(found)} objects, expected {len(originals)}", PARTIAL)
    return [
        _checked_object(raw, original, api_version, head, index if len(originals) > 1 else None)
        for index, (raw, original) in enumerate(zip(found, originals, strict=True))
    ]


def _checked(body: bytes, version: str, uid: str, head: str) -> list[msgspec.Raw]:
    """Check a response, and return its converted objects (`getConvertedObjectsFromResponse`)."""
    try:
        check_values(body)
        review = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ApiError) as error:
        why = f"couldn't get version/kind; json parse error: {error}"
        raise ConversionFailed(f"{head} failed: {why}", CALL_FAILURE) from None
    if review.kind not in ("", _KIND):
        why = f"no kind {quote(review.kind[:_SHOWN])} is registered for version {quote(review.api_version[:_SHOWN])}"
        raise ConversionFailed(f"{head} failed: {why}", CALL_FAILURE)
    response, problem = review.response, ""
    if version == "v1" and (review.api_version, review.kind) != (f"{_GROUP}/v1", _KIND):
        group, _, received = review.api_version[:_SHOWN].rpartition("/")
        problem = f"expected webhook response of {_GROUP}/v1, Kind={_KIND}, got {group}/{received}, Kind={review.kind}"
    elif response is None:
        problem = "no response provided"
    elif version == "v1" and response.uid != uid:
        problem = f"expected response.uid={quote(uid)}, got {quote(response.uid[:_SHOWN])}"
    elif response.result.status != "Success":
        status = response.result.status[:_SHOWN]
        problem = response.result.message[:_LONGEST] or f"response.result.status was '{status}', not 'Success'"
    if problem:
        raise ConversionFailed(f"{head} failed: {problem}", MALFORMED)
    assert response is not None
    return response.objects or []


def _checked_object(raw: msgspec.Raw, original: Object, api_version: str, head: str, index: int | None) -> Object:
    """Check and return a converted object. index: its place in the list that was sent; None if it was sent alone."""
    at = f"converted object at index {index}" if index is not None else "object"
    problem = ""
    try:
        converted: Json = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # The decoder of the review skips objects (msgspec.Raw), so their JSON may be invalid.
        raise ConversionFailed(f"{head} returned invalid {at}: json parse error: {error}", INVALID) from None
    if not isinstance(converted, dict) or not _text(converted, "kind"):
        problem = f"Object 'Kind' is missing in '{bytes(raw)[:_SHOWN].decode(errors='replace')}'"
        raise ConversionFailed(problem if index is None else f"{head} returned invalid {at}: {problem}", INVALID)
    place = at if index is not None else "object at index 0"
    received = _text(converted, "apiVersion")
    if received != api_version:
        problem = f"invalid groupVersion (expected {api_version}, received {received[:_SHOWN]})"
    elif converted["kind"] != original["kind"]:
        problem = f"invalid kind (expected {original['kind']}, received {converted['kind'][:_SHOWN]})"
    if problem:
        raise ConversionFailed(f"{head} returned invalid {place}: {problem}", INVALID)
    if problem := _identity_problem(original, converted):
        raise ConversionFailed(f"{head} returned invalid {at}: {problem}", INVALID)
    try:
        return _with_restored_metadata(original, converted)
    except ValueError as error:
        where = f"metadata in object at index {index}" if index is not None else "metadata"
        raise ConversionFailed(f"{head} returned invalid {where}: {error}", INVALID) from None


def _text(obj: Json, key: str) -> str:
    found = obj.get(key) if isinstance(obj, dict) else None
    return found if isinstance(found, str) else ""


def _identity_problem(original: Object, converted: Object) -> str:
    """Return how name, namespace or UID differ from the original's, "" if they do not (`validateConvertedObject`)."""
    mine, theirs = original.get("metadata"), converted.get("metadata")
    for key, shown in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        expected, received = _text(mine, key), _text(theirs, key)
        if expected != received:
            return f"must have the same {shown}: {expected} != {received[:_SHOWN]}"
    return ""


def _with_restored_metadata(original: Object, converted: Object) -> Object:
    """Return a converted object with the original's metadata. Only labels and annotations are those of the webhook.

    Like Kubernetes' `restoreObjectMeta`. Raises ValueError when the converted object's metadata is malformed.
    """
    if "metadata" not in converted:
        raise ValueError("missing metadata in converted object")
    theirs = converted["metadata"]
    if not isinstance(theirs, dict):
        raise ValueError(f"invalid metadata of type {_go_type(theirs)} in converted object")
    metadata = dict(original.get("metadata") or {})
    for field in ("labels", "annotations"):
        given = theirs.get(field)
        if given is None:
            metadata.pop(field, None)
            continue
        if not isinstance(given, dict):
            raise ValueError(f"invalid metadata.{field} of type {_go_type(given)} in converted object")
        for key, value in given.items():
            if not isinstance(value, str):
                name = f"metadata.{field}[{key[:_SHOWN]}]"
                raise ValueError(f"{name} must be a string, but is {_go_type(value)} in converted object")
        if given != (metadata.get(field) or {}):
            _require_valid(field, given)
        metadata[field] = given
    return {**converted, "metadata": metadata}


def _require_valid(field: str, given: dict[str, str]) -> None:
    """Raise ValueError when labels or annotations are not valid."""
    causes: list[Cause] = []
    if field == "labels":
        causes = v.labels(given, "metadata.labels")
    else:
        for key in given:
            causes += v.each("metadata.annotation", key, v.qualified_name(key.lower()))
        if sum(len(key.encode()) + len(value.encode()) for key, value in given.items()) > _ANNOTATIONS_LIMIT:
            causes.append(v.too_long("metadata.annotation", _ANNOTATIONS_LIMIT))
    texts = [f"{one.field}: {one.message}" for one in causes]
    if texts:
        raise ValueError((texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")[:_LONGEST])


def _go_type(value: Json) -> str:
    """Return the name of a JSON value's type in Go."""
    if value is None:
        return "<nil>"
    names = {bool: "bool", int: "int64", float: "float64", str: "string", list: "[]interface {}"}
    return names.get(type(value), "map[string]interface {}")
