"""AdmissionReviews: makes the request for a webhook, and checks the response.

Source: apiserver's `pkg/admission/plugin/webhook/request/admissionreview.go` and `errors/statuserror.go`. The versions
v1 and v1beta1 of `admission.k8s.io` differ only in the checks of the response.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.admission.webhooks.configurations import Webhook
from hatchway.cluster.api.admission.webhooks.matching import Invocation, request_namespace
from hatchway.cluster.api.registry.objectnames import new_uid
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.validation import quote
from hatchway.cluster.api.work import check_values, run_sized
from hatchway.errors import ApiError, internal
from hatchway.kube.api import Object

__all__ = [
    "CallFailed",
    "ReviewResponse",
    "VersionedObjects",
    "decode_response",
    "kind_fields",
    "make_review",
    "refusal",
    "resource_fields",
    "typed_object",
    "versioned_objects",
]

_GROUP = "admission.k8s.io"
# The maximum number of warnings and audit annotations that one response may add, and the maximum number of characters
# of each.
_MOST, _LONGEST = 20, 4096


class VersionedObjects(NamedTuple):
    """The objects of a write in the version that a webhook or a policy matches."""

    object: Object | None
    old_object: Object | None


class CallFailed(Exception):
    """Raised when a webhook gives no valid response. `failurePolicy` decides whether to refuse the write."""


class ReviewResponse(msgspec.Struct, gc=False):
    """The part `response` of an AdmissionReview."""

    uid: str = ""
    allowed: bool = False
    status: dict[str, Any] | None = None
    patch: bytes | None = None
    patch_type: str | None = msgspec.field(default=None, name="patchType")
    audit_annotations: dict[str, str] | None = msgspec.field(default=None, name="auditAnnotations")
    warnings: list[str] | None = None

    def kept_warnings(self) -> list[str]:
        """Return the warnings for the client, limited in number and length."""
        return [one[:_LONGEST] for one in (self.warnings or ())[:_MOST]]

    def kept_annotations(self, hook: Webhook) -> dict[str, str]:
        """Return the annotations for the audit event. Their keys begin with the webhook's name."""
        some = list((self.audit_annotations or {}).items())[:_MOST]
        return {f"{hook.name}/{key[:_LONGEST]}": value[:_LONGEST] for key, value in some}


class _Review(msgspec.Struct, gc=False):
    api_version: str = msgspec.field(default="", name="apiVersion")
    kind: str = ""
    response: ReviewResponse | None = None


_decoder = msgspec.json.Decoder(_Review)


async def versioned_objects(row: Resource, attributes: AdmissionAttributes) -> VersionedObjects:
    """Return the objects of a write in the version of `row`. Objects of other kinds (`Scale`) are not converted.

    Raises ApiError 500 when they cannot be converted (`NewVersionedAttributes`).
    """
    own, objects = attributes.row, VersionedObjects(attributes.object, attributes.old_object)
    if own.conversion is None:
        if row.from_storage is None:
            return objects
        kind = row.gvk if attributes.kind == own.gvk else attributes.kind
        return await run_sized(attributes.size, _from_storage, row, kind, objects)
    if row.gvk == own.gvk or attributes.kind != own.gvk:
        return objects
    try:
        found = [one and await own.conversion.translate(one, row.api_version) for one in objects]
    except ApiError as error:
        raise internal(error.message) from None
    return VersionedObjects(*found)


def _from_storage(row: Resource, kind: tuple[str, str, str], objects: VersionedObjects) -> VersionedObjects:
    convert = row.from_storage
    if convert is None or kind[0] == "meta.k8s.io" or not _is_own(row, kind):
        return objects
    return VersionedObjects(*(one and convert(one) for one in objects))


def _is_own(row: Resource, kind: tuple[str, str, str]) -> bool:
    return (row.group, row.kind) == (kind[0], kind[2]) or bool(row.storage and row.kind == kind[2])


def make_review(
    invocation: Invocation, attributes: AdmissionAttributes, objects: VersionedObjects
) -> tuple[str, Object]:
    """Return the request's uid, and the AdmissionReview for the webhook.

    objects: the objects of the write in the webhook's version.
    """
    row, own = invocation.row, attributes.row
    uid = new_uid()
    subresource = attributes.subresource
    kind = row.gvk if attributes.kind == own.gvk else attributes.kind
    request: Object = {
        "uid": uid,
        "kind": kind_fields(kind),
        "resource": resource_fields(row),
        **({"subResource": subresource} if subresource else {}),
        "requestKind": kind_fields(attributes.kind),
        "requestResource": resource_fields(own),
        **({"requestSubResource": subresource} if subresource else {}),
    }
    if attributes.name:
        request["name"] = attributes.name
    if namespace := request_namespace(attributes):
        request["namespace"] = namespace
    request["operation"] = attributes.operation
    request["userInfo"] = attributes.user.as_object()
    request["object"] = typed_object(kind, objects.object)
    request["oldObject"] = typed_object(kind, objects.old_object)
    request["dryRun"] = attributes.dry_run
    request["options"] = attributes.make_options()
    return uid, {"kind": "AdmissionReview", "apiVersion": f"{_GROUP}/{invocation.hook.version}", "request": request}


def typed_object(kind: tuple[str, str, str], obj: Object | None) -> Object | None:
    """Return an object with kind and apiVersion, for webhooks and policies."""
    if obj is None:
        return None
    group, version, name = kind
    return {**obj, "kind": name, "apiVersion": f"{group}/{version}" if group else version}


def kind_fields(kind: tuple[str, str, str]) -> Object:
    """Return a kind (group, version, kind) in the form that reviews use."""
    return dict(zip(("group", "version", "kind"), kind, strict=True))


def resource_fields(row: Resource) -> Object:
    """Return a resource in the form that reviews use."""
    return {"group": row.group, "version": row.version, "resource": row.plural}


def decode_response(body: bytes, hook: Webhook, uid: str, *, mutating: bool) -> ReviewResponse:
    """Return the field `response` of a webhook's review (`VerifyAdmissionResponse`). Raises CallFailed."""
    try:
        check_values(body)
        review = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ApiError) as error:
        raise CallFailed(f"failed to call webhook: couldn't get version/kind; json parse error: {error}") from None
    response, wanted = review.response, f"{_GROUP}/{hook.version}"
    problem = ""
    if review.kind not in ("", "AdmissionReview"):
        known = quote(review.kind), quote(review.api_version)
        raise CallFailed(f"failed to call webhook: no kind {known[0]} is registered for version {known[1]}")
    if response is None:
        problem = "webhook response was absent"
    elif hook.version == "v1":
        if response.uid != uid:
            problem = f"expected response.uid={quote(uid)}, got {quote(response.uid[:_LONGEST])}"
        elif (review.api_version, review.kind) != (wanted, "AdmissionReview"):
            group, _, version = review.api_version.rpartition("/")
            found = f"{group}/{version}, Kind={review.kind}"
            problem = f"expected webhook response of {wanted}, Kind=AdmissionReview, got {found}"
        else:
            problem = _patch_problem(response, mutating)
    if problem:
        raise CallFailed(f"received invalid webhook response: {problem}")
    assert response is not None
    return response


def _patch_problem(response: ReviewResponse, mutating: bool) -> str:
    patch, kind = response.patch, response.patch_type
    if not mutating:
        if patch:
            return "validating webhook may not return response.patch"
        return "" if kind is None else "validating webhook may not return response.patchType"
    if patch and kind is None:
        return "webhook returned response.patch but not response.patchType"
    if not patch and kind is not None:
        return "webhook returned response.patchType but not response.patch"
    return f"webhook returned invalid response.patchType of {quote(kind)}" if kind == "" else ""


def refusal(hook: Webhook, status: dict[str, Any] | None) -> ApiError:
    """Return the error for a request that a webhook has denied (`ToStatusErr`)."""
    found = status or {}
    code, reason, message = found.get("code"), found.get("reason"), found.get("message")
    if not isinstance(code, int) or isinstance(code, bool) or not 400 <= code <= 599:
        code = 400
    reason = reason[:_LONGEST] if isinstance(reason, str) else ""
    message = message[:_LONGEST] if isinstance(message, str) else ""
    denied = f"admission webhook {quote(hook.name)} denied the request"
    text = f"{denied}: {message or reason}" if message or reason else f"{denied} without explanation"
    details = found.get("details")
    return ApiError(code, reason, text, _details(details) if isinstance(details, dict) else None)


def _details(found: dict[str, Any]) -> dict[str, Any]:
    """Return the details of a webhook's status. Values of wrong types are left out."""
    kept: dict[str, Any] = {
        key: found[key][:_LONGEST] for key in ("name", "group", "kind", "uid") if isinstance(found.get(key), str)
    }
    seconds = found.get("retryAfterSeconds")
    if isinstance(seconds, int) and not isinstance(seconds, bool) and 0 < seconds < 2**31:
        kept["retryAfterSeconds"] = seconds
    given = found.get("causes")
    causes = [
        {key: one[key][:_LONGEST] for key in ("reason", "message", "field") if isinstance(one.get(key), str)}
        for one in (given if isinstance(given, list) else [])[:_MOST]
        if isinstance(one, dict)
    ]
    if causes:
        kept["causes"] = causes
    return kept
