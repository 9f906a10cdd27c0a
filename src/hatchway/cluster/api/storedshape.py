"""Whether an object that the store holds has the shape of its type: what the verbs and the controllers rely on."""

from __future__ import annotations

from hatchway.cluster.api import schema
from hatchway.cluster.api.registry import ROWS
from hatchway.errors import ApiError
from hatchway.kube.api import Object

_ROWS = {row.group_resource: row for row in ROWS if not row.virtual and not row.storage}
# What everything that reads such objects takes for granted.
_WITH_SPEC = frozenset({"pods", "services", "deployments.apps", "replicasets.apps"})


def shape_fault(resource: str, namespace: str, _name: str, obj: Object) -> str:
    """Why the object cannot be used; "" when it can. One of a type that is not served is left as it is."""
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
    except Exception as error:  # noqa: BLE001  whatever it is that cannot be read, the others must be
        return f"{type(error).__name__}: {error}"
    if resource in _WITH_SPEC and not isinstance(obj.get("spec"), dict):
        return f"a {row.kind} without spec"
    return ""
