"""The three patch formats of the PATCH verb. Pure: the functions return a new object and never change their arguments.

    application/json-patch+json              `json_patch`             RFC 6902
    application/merge-patch+json             `merge_patch`            RFC 7396
    application/strategic-merge-patch+json   `strategic_merge_patch`  apimachinery's `util/strategicpatch`

The result must still pass `schema.check`, because patches may add anything. It may share parts with the arguments.
Error statuses are those of apiserver's `endpoints/handlers/patch.go`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from hatchway.cluster.api.patch.jsonpatch import MOST_OPERATIONS, PatchRejected, apply_operations
from hatchway.cluster.api.patch.strategic import BadPatch, merge_map
from hatchway.cluster.api.registry.schema.strict import strict_errors
from hatchway.cluster.api.registry.schema.table import UnknownKind, load
from hatchway.cluster.api.work import HEAVY, check_values
from hatchway.errors import ApiError, bad_request, unsupported_media_type

__all__ = [
    "APPLY_PATCH",
    "JSON_PATCH",
    "MERGE_PATCH",
    "STRATEGIC_MERGE_PATCH",
    "Patch",
    "json_patch",
    "merge_patch",
    "parse_patch",
    "strategic_merge_patch",
]

Json = Any

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
# A server-side apply. `fields/` applies it, not this file.
APPLY_PATCH = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Patch:
    """A parsed patch.

    duplicates: messages about fields that the body has twice (for fieldValidation).
    size: a measure of the work to apply the patch: the bytes of JSON that cause the same work.
    """

    media_type: str
    content: Json
    duplicates: tuple[str, ...] = ()
    size: int = 0

    def apply(self, gvk: tuple[str, str, str], obj: dict[str, Any]) -> dict[str, Any]:
        """Return the patched object. Raises ApiError like the function of the format."""
        if self.media_type == JSON_PATCH:
            return json_patch(obj, self.content)
        if self.media_type == MERGE_PATCH:
            return merge_patch(obj, self.content)
        return strategic_merge_patch(gvk, obj, self.content)


def parse_patch(media_type: str, body: bytes) -> Patch:
    """Parse a PATCH body.

    media_type: the media type without parameters, in lower case.

    Raises ApiError 415 for another media type, 400 for a body that is not a patch. (Old releases of Kubernetes, such as
    1.20, answer 500 `Invalid JSON Patch` to a merge patch that cannot be parsed.)
    """
    if media_type not in (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH):
        # The message of kube-apiserver's router, which refuses requests with such a media type.
        raise ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    check_values(body)
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"error decoding patch: {error}") from None
    expected: type = list if media_type == JSON_PATCH else dict
    if not isinstance(content, expected):
        wanted = "a list of operations" if expected is list else "an object"
        raise bad_request(f"error decoding patch: the patch must be {wanted}")
    duplicates = strict_errors(None, body)
    if media_type == JSON_PATCH:
        duplicates = tuple(f"json patch {one}" for one in duplicates)
    return Patch(media_type, content, duplicates, _size(media_type, content, body))


def _size(media_type: str, content: Json, body: bytes) -> int:
    if media_type != JSON_PATCH:
        return len(body)
    # An operation takes more work than its length suggests, and `copy` multiplies data.
    multiplies = any(isinstance(one, dict) and one.get("op") == "copy" for one in content)
    return max(HEAVY if multiplies else 0, 4 * len(body))


# RFC 7396


def merge_patch(obj: dict[str, Any], patch: Json) -> dict[str, Any]:
    """Apply a JSON merge patch. Raises ApiError 400 when the patch is not an object, or nested too deeply."""
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: the patch must be an object")
    try:
        return _merge(obj, patch)
    except RecursionError:
        raise bad_request("error decoding patch: nested too deep") from None


def _merge(target: Json, patch: dict[str, Any]) -> dict[str, Any]:
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merge(merged.get(key), value)
        else:
            merged[key] = value
    return merged


# Strategic merge patch


def strategic_merge_patch(gvk: tuple[str, str, str], obj: dict[str, Any], patch: Json) -> dict[str, Any]:
    """Apply a strategic merge patch to an object of the kind `gvk`. The schema table has the kind's merge keys.

    Raises ApiError 400 for a malformed patch, and 415 for a kind that is not in the table. (Kubernetes answers 500 to
    some malformed patches, such as a patch with a list item without its merge key.)
    """
    if not isinstance(patch, dict):
        raise bad_request("invalid JSON document")
    try:
        message = load().message(gvk)
    except UnknownKind:
        raise unsupported_media_type("strategic merge patch format is not supported") from None
    try:
        return merge_map(obj, patch, message)
    except BadPatch as error:
        raise bad_request(str(error)) from None
    except RecursionError:
        raise bad_request("error decoding patch: nested too deep") from None


# RFC 6902


def json_patch(obj: dict[str, Any], operations: Json) -> dict[str, Any]:
    """Apply all operations of a JSON patch. If one fails, nothing is applied.

    Raises ApiError 400 when `operations` is not a list of operations, 413 for more than 10,000 operations, and 422 when
    an operation cannot be applied or a `test` fails. As in Kubernetes, a 422 does not name the operation.
    """
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise bad_request("error decoding patch: a JSON patch is a list of operations")
    if len(operations) > MOST_OPERATIONS:
        raise ApiError(
            413,
            "RequestEntityTooLarge",
            f"The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {len(operations)}",
        )
    try:
        return apply_operations(obj, operations)
    except PatchRejected:
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {}) from None
    except RecursionError:
        raise bad_request("error decoding patch: nested too deep") from None
