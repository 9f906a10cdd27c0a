"""The three patch formats of the PATCH verb. Pure: the functions return a new object and never change their arguments.

    application/json-patch+json              `json_patch`             RFC 6902
    application/merge-patch+json             `merge_patch`            RFC 7396
    application/strategic-merge-patch+json   `strategic_merge_patch`  apimachinery's `util/strategicpatch`

The result must still pass `schema.check`, because patches may add anything. It may share parts with the arguments.
Error statuses are those of apiserver's `endpoints/handlers/patch.go`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

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
# Server-side apply: `fields/`.
APPLY_PATCH = "application/apply-patch+yaml"

_MAX_OPERATIONS = 10_000
# Limits for all `copy` operations of a patch together, so that a small patch cannot make a huge object: bytes of JSON
# (apiserver's JSONPatchMaxCopyBytes), and the commas and brackets in it, because many small values take longer than few
# long ones.
_MAX_COPIED = 3 * 1024 * 1024
_MAX_COPIED_VALUES = 20_000
# No object is nested deeper than this, so longer pointers lead nowhere.
_MAX_POINTER = 1000


class _Rejected(Exception):
    """A JSON patch cannot be applied."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A parsed patch.

    duplicates: messages about fields that the body has twice (for fieldValidation). size: bytes of JSON that cause the
    same work as applying it.
    """

    media_type: str
    content: Json
    duplicates: tuple[str, ...] = ()
    size: int = 0

    def apply(self, gvk: tuple[str, str, str], obj: dict[str, Any]) -> dict[str, Any]:
        """Return the patched object. Raises ApiError as the function of the format does."""
        if self.media_type == JSON_PATCH:
            return json_patch(obj, self.content)
        if self.media_type == MERGE_PATCH:
            return merge_patch(obj, self.content)
        return strategic_merge_patch(gvk, obj, self.content)


def parse_patch(media_type: str, body: bytes) -> Patch:
    """Parse a PATCH body. media_type: without parameters, in lower case.

    Raises ApiError 415 for another media type, 400 for a body that is not a patch. (The recorded server, 1.20, answered
    500 `Invalid JSON Patch` to a merge patch that does not parse; newer ones 400.)
    """
    if media_type not in (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH):
        # The message of kube-apiserver's router, which refuses such a request.
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
    """Apply a JSON merge patch. Raises ApiError 400 when the patch is not an object or nested too deep."""
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
    """Apply a strategic merge patch to an object of the kind `gvk`, whose merge keys the schema table knows.

    Raises ApiError 400 for a malformed patch (Kubernetes answers some of these, such as a list item without its
    merge key, with a 500, although the client made the mistake), 415 for a kind that the table does not know.
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
    """Apply a whole JSON patch, or nothing of it.

    Raises ApiError 400 when `operations` is not a list of operations, 413 for more than 10,000 of them, 422 when one
    cannot be applied or a `test` fails; the message of a 422 is as short as Kubernetes'.
    """
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise bad_request("error decoding patch: a JSON patch is a list of operations")
    if len(operations) > _MAX_OPERATIONS:
        raise ApiError(
            413,
            "RequestEntityTooLarge",
            f"The allowed maximum operations in a JSON patch is {_MAX_OPERATIONS}, got {len(operations)}",
        )
    try:
        document: Json = _copy(obj)
        copied = values = 0
        for operation in operations:
            function = _OPERATIONS.get(operation.get("op", ""))
            if function is None:
                raise _Rejected
            if function is _duplicate:
                text = msgspec.json.encode(_get(document, _pointer(operation, "from")))
                copied += len(text)
                values += text.count(b",") + text.count(b"[") + text.count(b"{")
                if copied > _MAX_COPIED or values > _MAX_COPIED_VALUES:
                    raise _Rejected
            document = function(document, operation)
        if not isinstance(document, dict):
            raise _Rejected
        return document
    except (_Rejected, TypeError):
        # A TypeError means an "op" that is not a string, and cannot be looked up.
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {}) from None
    except RecursionError:
        raise bad_request("error decoding patch: nested too deep") from None


def _copy(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _copy(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_copy(one) for one in value]
    return value


def _pointer(operation: dict[str, Any], member: str) -> list[str]:
    """Return the reference tokens of a JSON pointer (RFC 6901)."""
    pointer = operation.get(member)
    if not isinstance(pointer, str):
        raise _Rejected
    if not pointer:
        return []
    if pointer[0] != "/" or pointer.count("/") > _MAX_POINTER:
        raise _Rejected
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def _index(token: str, limit: int) -> int:
    """Return an index below `limit`; negative ones count from the end, as in Kubernetes' library."""
    digits = token.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 9 or (len(digits) > 1 and digits[0] == "0"):
        raise _Rejected
    index = int(token)
    if index < 0:
        index += limit
    if not 0 <= index < limit:
        raise _Rejected
    return index


def _get(document: Json, tokens: list[str]) -> Json:
    for token in tokens:
        if isinstance(document, dict):
            if token not in document:
                raise _Rejected
            document = document[token]
        elif isinstance(document, list):
            document = document[_index(token, len(document))]
        else:
            raise _Rejected
    return document


def _value(operation: dict[str, Any]) -> Json:
    if "value" not in operation:
        raise _Rejected
    return _copy(operation["value"])


def _insert(document: Json, tokens: list[str], value: Json) -> Json:
    if not tokens:
        return value
    parent, last = _get(document, tokens[:-1]), tokens[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent) + 1), value)
    else:
        raise _Rejected
    return document


def _delete(document: Json, tokens: list[str]) -> Json:
    if not tokens:
        raise _Rejected
    parent, last = _get(document, tokens[:-1]), tokens[-1]
    if isinstance(parent, dict):
        if last not in parent:
            raise _Rejected
        del parent[last]
    elif isinstance(parent, list):
        del parent[_index(last, len(parent))]
    else:
        raise _Rejected
    return document


def _add(document: Json, operation: dict[str, Any]) -> Json:
    return _insert(document, _pointer(operation, "path"), _value(operation))


def _remove(document: Json, operation: dict[str, Any]) -> Json:
    return _delete(document, _pointer(operation, "path"))


def _replace(document: Json, operation: dict[str, Any]) -> Json:
    tokens, value = _pointer(operation, "path"), _value(operation)
    if not tokens:
        return value
    parent, last = _get(document, tokens[:-1]), tokens[-1]
    if isinstance(parent, dict) and last in parent:
        parent[last] = value
    elif isinstance(parent, list):
        parent[_index(last, len(parent))] = value
    else:
        raise _Rejected
    return document


def _move(document: Json, operation: dict[str, Any]) -> Json:
    source, target = _pointer(operation, "from"), _pointer(operation, "path")
    if len(target) > len(source) and target[: len(source)] == source:
        raise _Rejected
    value = _get(document, source)
    if source == target:
        return document
    return _insert(_delete(document, source), target, value)


def _duplicate(document: Json, operation: dict[str, Any]) -> Json:
    value = _get(document, _pointer(operation, "from"))
    return _insert(document, _pointer(operation, "path"), _copy(value))


def _test(document: Json, operation: dict[str, Any]) -> Json:
    tokens, wanted = _pointer(operation, "path"), operation.get("value")
    try:
        found = _get(document, tokens)
    except _Rejected:
        # As in Kubernetes' library, an absent member equals null.
        if wanted is not None or not tokens or not isinstance(_get(document, tokens[:-1]), dict):
            raise
        return document
    if not _equal(found, wanted):
        raise _Rejected
    return document


def _equal(left: Json, right: Json) -> bool:
    """Return True when JSON values are equal: true is not 1, 1 is 1.0."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(one, right[key]) for key, one in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


_OPERATIONS: dict[str, Callable[[Json, dict[str, Any]], Json]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _duplicate,
    "test": _test,
}
