"""Decodes objects from clients: checks their kind and their shape, and sets defaults."""

from __future__ import annotations

from typing import Any

import msgspec

from hatchway.cluster.api.operations.operation import Operation
from hatchway.cluster.api.registry import schema, validation
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.schema import ShapeError
from hatchway.errors import ApiError, Cause, bad_request, invalid
from hatchway.kube.api import Object

__all__ = ["bad_result", "check_kind", "decode_object", "decode_typed"]

# When the result of a patch is refused, the error quotes at most this many characters of the result.
_MAX_SHOWN = 4096
_encode = msgspec.json.Encoder().encode


def decode_object(request: Operation, obj: Any, *, row: Resource | None = None) -> Object:
    """Decode an object from a client: check its kind and its shape, and set defaults.

    The caller may change the result. row: the object's type; None for the type of the operation.

    Raises ApiError 400.
    """
    row = row or request.row
    obj = check_kind(row, obj)
    checked = row.schema.check(obj)
    request.check_strict(checked, row.gvk)
    found = row.schema.apply_defaults(checked.object)
    if row.to_storage:
        found = row.to_storage(found)
    found.setdefault("metadata", {})
    return found


def check_kind(row: Resource, obj: Any) -> Object:
    """Check that an object is of the URL's type, and return it. Raises ApiError 400."""
    if not isinstance(obj, dict):
        raise bad_request(
            f"the object provided is unrecognized (must be of type {row.kind}): couldn't get version/kind"
        )
    version, kind = obj.get("apiVersion") or row.api_version, obj.get("kind") or row.kind
    if version == row.api_version and kind == row.kind:
        return obj
    if not isinstance(version, str) or not isinstance(kind, str):
        raise bad_request(
            f"the object provided is unrecognized (must be of type {row.kind}): couldn't get version/kind"
        )
    bare = version.rpartition("/")[2]
    why = f'no kind "{kind}" is registered for version "{version}"'
    if kind != row.kind:
        why = f"the object is a {kind}, not a {row.kind}"
    raise bad_request(f'{kind} in version "{bare}" cannot be handled as a {row.kind}: {why}')


def decode_typed(gvk: tuple[str, str, str], request: Operation, obj: Any) -> Object:
    """Decode an object of another type than the row's: a Scale, a Binding, an Eviction. Raises ApiError 400."""
    group, version, kind = gvk
    wanted = f"{group}/{version}" if group else version
    if not isinstance(obj, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind")
    found = obj.get("apiVersion") or wanted, obj.get("kind") or kind
    # Evictions are served as policy/v1. Old clients send v1beta1, which has the same shape.
    if found not in ((wanted, kind), (f"{group}/v1beta1", kind)):
        raise bad_request(f'{found[1]} in version "{found[0]}" cannot be handled as a {kind}')
    checked = schema.check(gvk, {**obj, "apiVersion": wanted, "kind": kind})
    request.check_strict(checked, gvk)
    result = checked.object
    result.setdefault("metadata", {})
    return result


def bad_result(request: Operation, patched: Any, error: ApiError) -> ApiError:
    """Return the error 422 for a patch whose result cannot be decoded (apiserver's `endpoints/handlers/patch.go`)."""
    why = error.why if isinstance(error, ShapeError) else error.message
    only_patch = why == f"strict decoding error: {', '.join(request.patch_errors)}"
    shown = request.patch_body.decode(errors="replace") if only_patch else _encode(patched).decode()
    if len(shown) > _MAX_SHOWN:
        shown = shown[:_MAX_SHOWN] + "..."
    cause = Cause("FieldValueInvalid", f"Invalid value: {validation.quote(shown)}: {why}", "patch")
    return invalid("", "", [cause])
