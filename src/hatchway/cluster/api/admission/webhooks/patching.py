"""Applies the JSON patch of a webhook to the object of a write.

The result is decoded like the body of a request, so it has the shape and the defaults of its type. Source:
`pkg/admission/plugin/webhook/mutating/dispatcher.go` (`callAttrMutatingHook`).
"""

from __future__ import annotations

import msgspec

from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.admission.webhooks.matching import Invocation
from hatchway.cluster.api.admission.webhooks.review import CallFailed, ReviewResponse
from hatchway.cluster.api.patch.patches import JSON_PATCH, Patch, parse_patch
from hatchway.cluster.api.registry import schema
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.validation import quote
from hatchway.cluster.api.work import check_object, run_sized
from hatchway.errors import ApiError, internal
from hatchway.kube.api import Object

__all__ = ["apply_response", "decode_patched", "take_changed"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


async def apply_response(
    invocation: Invocation, attributes: AdmissionAttributes, response: ReviewResponse, shown: Object | None
) -> bool:
    """Apply the patch in a response to the object. Return True when the object has changed; False without a patch.

    shown: the object that was sent to the webhook.

    Raises CallFailed for a patch that cannot be decoded; ApiError 500 for a patch that cannot be applied, and 413 when
    the object becomes too large.
    """
    hook, data = invocation.hook, response.patch
    if not data:
        return False
    if response.patch_type is not None and response.patch_type != "JSONPatch":
        raise CallFailed(f"unsupported patch type {quote(response.patch_type)}")
    try:
        patch = await run_sized(len(data), parse_patch, JSON_PATCH, data)
    except ApiError as error:
        raise CallFailed(f"received undecodable patch in webhook response: {error.message}") from None
    if not patch.content:
        return False
    if attributes.object is None or attributes.operation == "CONNECT":
        raise internal(
            f"admission webhook {quote(hook.name)} attempted to modify the object, which is not supported for this "
            "operation"
        )
    size = attributes.row.weight_of(max(patch.size, attributes.size, len(data)))
    found, size = await run_sized(size, _patched, invocation.row, attributes, patch, shown)
    return await take_changed(invocation.row, attributes, found, size)


async def take_changed(row: Resource, attributes: AdmissionAttributes, found: Object, size: int) -> bool:
    """Replace the object of a write by a new object. Return True when the objects differ.

    found: the new object, in the version of `row`.
    size: the new object's bytes of JSON.

    Raises ApiError 500 when the new object cannot be converted.
    """
    own, conversion = attributes.row, row.conversion
    if attributes.kind == own.gvk:
        if row.to_storage is not None:
            found = await run_sized(size, row.to_storage, found)
        elif conversion is not None and row.gvk != own.gvk:
            try:
                found = await conversion.translate(found, own.api_version)
            except ApiError as error:
                raise internal(error.message) from None
    changed = found != attributes.object
    attributes.object = found
    attributes.size = max(attributes.size, size)
    return changed


def _patched(row: Resource, attributes: AdmissionAttributes, patch: Patch, shown: Object | None) -> tuple[Object, int]:
    """Return the patched object, and its bytes of JSON."""
    kind, own = attributes.kind, attributes.kind == attributes.row.gvk
    gvk = row.gvk if own else kind
    group, version, name = gvk
    typed = {**_decode(_encode(shown)), "kind": name, "apiVersion": f"{group}/{version}" if group else version}
    try:
        result = patch.apply(gvk, typed)
        data = _encode(result)
    except ApiError as error:
        raise internal(error.message) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise internal(f"the patched object is not valid JSON: {error}") from None
    check_object(data)
    if (result.get("kind"), result.get("apiVersion")) != (typed["kind"], typed["apiVersion"]):
        raise internal("the patch of an admission webhook changes kind or apiVersion of the object")
    try:
        return decode_patched(row, gvk, own, _decode(data)), len(data)
    except schema.ShapeError as error:
        raise internal(error.message) from None


def decode_patched(row: Resource, gvk: tuple[str, str, str], own: bool, obj: Object, *, strict: bool = False) -> Object:
    """Return a patched object with the shape and the defaults of its type.

    row: the resource of the object's version.
    gvk: the object's kind.
    own: True if `gvk` is the row's kind, False if it is the kind of a subresource.
    strict: True if unknown fields of built-in types are errors.

    Raises ShapeError.
    """
    if not own:
        checked = schema.check(gvk, obj)
        if strict:
            checked.require_strict(gvk)
        checked.object.setdefault("metadata", {})
        return checked.object
    checked = row.schema.check(obj)
    if strict and row.own_schema is None:
        checked.require_strict(gvk)
    found = row.schema.apply_defaults(checked.object)
    found.setdefault("metadata", {})
    return found
