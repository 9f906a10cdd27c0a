"""Checks that a stored object has the shape of its type, because verbs and controllers rely on the shape."""

from __future__ import annotations

from hatchway.cluster.api.registry import schema
from hatchway.cluster.api.registry.types import ROWS
from hatchway.errors import ApiError
from hatchway.kube.api import Object

_ROWS = {row.group_resource: row for row in ROWS if not row.virtual and not row.storage}


def shape_fault(resource: str, namespace: str, _name: str, obj: Object) -> str:
    """Return why an object cannot be used; "" when it can be used, or when its type is not built in."""
    row = _ROWS.get(resource)
    if row is None:
        return ""
    if bool(namespace) != row.namespaced:
        return f"a {row.kind} is {'' if row.namespaced else 'not '}in a namespace"
    for key in ("uid", "resourceVersion", "creationTimestamp"):
        if not isinstance(obj["metadata"].get(key), str):
            return f"its metadata has no {key}"
    try:
        schema.check(row.gvk, obj)
    except ApiError as error:
        return error.message
    except Exception as error:  # noqa: BLE001  one unreadable object must not prevent the start
        return f"{type(error).__name__}: {error}"
    if row.strategy.requires_spec and not isinstance(obj.get("spec"), dict):
        return f"a {row.kind} without spec"
    return ""
