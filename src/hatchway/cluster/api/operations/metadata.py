"""Fills in, keeps and validates the fields of `metadata`.

Source: apiserver's `registry/rest/{create,update,meta}.go` and apimachinery's `pkg/api/validation/objectmeta.go`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.objectnames import generate_name, new_uid
from hatchway.cluster.api.registry.resource import Resource
from hatchway.errors import Cause, bad_request
from hatchway.kube.api import Object

Metadata = dict[str, Any]

_ANNOTATIONS_LIMIT = 256 * 1024
_LONGEST_SUBRESOURCE = 256
# The maximum number of errors that are reported for one list.
_MOST_CAUSES = 100
# Fields that only the server sets: an update keeps them as they are.
_SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
)
# The order in which Kubernetes writes the fields, for people who read YAML.
_ORDER = ("name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp")


def timestamp(at: datetime | None = None) -> str:
    """Return a time as metav1.Time: RFC 3339 in whole seconds, UTC."""
    if at is None:
        return _formatted(int(time.time()))
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=2)
def _formatted(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ordered(metadata: Metadata) -> Metadata:
    head = {key: metadata[key] for key in _ORDER if key in metadata}
    return {**head, **{key: value for key, value in metadata.items() if key not in head}}


def match_namespace(row: Resource, obj: Object, namespace: str) -> None:
    """Set the object's namespace to the request's namespace. Raises ApiError 400 when the object names another."""
    metadata = obj["metadata"]
    found = metadata.get("namespace") or ""
    if not row.namespaced:
        metadata.pop("namespace", None)
    elif found and found != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    else:
        metadata["namespace"] = namespace


def match_name(obj: Object, name: str) -> None:
    """Raise ApiError 400 when an object has another name than the URL of the PUT."""
    found = obj["metadata"].get("name") or ""
    if not found:
        raise bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if found != name:
        raise bad_request(f"the name of the object ({found}) does not match the name on the URL ({name})")


def fill_created(row: Resource, obj: Object, now: str) -> None:
    """Set the fields that identify a new object."""
    metadata = obj["metadata"]
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"):
        metadata.pop(key, None)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = generate_name(metadata["generateName"])
    metadata["uid"] = new_uid()
    metadata["creationTimestamp"] = now
    if row.strategy.generation:
        metadata["generation"] = 1
    obj["metadata"] = _ordered(metadata)


def keep_owned(obj: Object, old: Object) -> None:
    """Restore the metadata that only the server sets, in an updated object."""
    metadata, former = obj["metadata"], old["metadata"]
    metadata.pop("managedFields", None)
    for key in _SERVER_OWNED:
        if key in former:
            metadata[key] = former[key]
        else:
            metadata.pop(key, None)
    obj["metadata"] = _ordered(metadata)


def validate_created(row: Resource, obj: Object) -> list[Cause]:
    """Return the errors in a new object's metadata (`ValidateObjectMeta`)."""
    metadata = obj["metadata"]
    name, prefix = metadata.get("name") or "", metadata.get("generateName") or ""
    causes = []
    if prefix:
        causes += v.each("metadata.generateName", prefix, row.strategy.name_errors(prefix, True))
    if not name:
        causes.append(v.required("metadata.name", "name or generateName is required"))
    else:
        causes += v.each("metadata.name", name, row.strategy.name_errors(name, False))
    if row.namespaced and not metadata.get("namespace"):
        causes.append(v.required("metadata.namespace"))
    return causes + _validate_common(row, metadata)


def validate_updated(row: Resource, obj: Object, old: Object) -> list[Cause]:
    """Return the errors in a change of metadata (`ValidateObjectMetaUpdate`), after `keep_owned`."""
    metadata, former = obj["metadata"], old["metadata"]
    causes = _validate_common(row, metadata)
    if former.get("deletionTimestamp"):
        extra = sorted(set(metadata.get("finalizers") or ()) - set(former.get("finalizers") or ()))
        if extra:
            shown = ", ".join(map(v.quote, extra))
            causes.append(
                v.forbidden(
                    "metadata.finalizers",
                    "no new finalizers can be added if the object is being deleted, found new finalizers "
                    f"[]string{{{shown}}}",
                )
            )
    return causes


def _validate_common(row: Resource, metadata: Metadata) -> list[Cause]:
    causes = v.labels(metadata.get("labels"), "metadata.labels")
    annotations = metadata.get("annotations") or {}
    for key in annotations:
        causes += v.each("metadata.annotations", key, v.qualified_name(key.lower()))
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        causes.append(v.too_long("metadata.annotations", _ANNOTATIONS_LIMIT))
    causes += _validate_owners(metadata.get("ownerReferences") or [])
    causes += _validate_managed(metadata.get("managedFields") or [])
    finalizers = metadata.get("finalizers") or []
    for finalizer in finalizers:
        causes += v.each("metadata.finalizers", finalizer, v.qualified_name(finalizer))
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        causes.append(
            v.invalid("metadata.finalizers", finalizers, "finalizer orphan and foregroundDeletion cannot be both set")
        )
    for index, finalizer in enumerate(finalizers if row.strategy.qualifies_finalizers else ()):
        causes += v.standard_finalizer(finalizer, f"metadata.finalizers[{index}]")
    return causes


def _validate_managed(entries: list[dict[str, Any]]) -> list[Cause]:
    """Return the errors in managed fields (`ValidateManagedFields`)."""
    causes = []
    for index, one in enumerate(entries):
        at = f"metadata.managedFields[{index}]"
        causes += v.field_manager(one.get("manager") or "", f"{at}.manager")
        if len(one.get("subresource") or "") > _LONGEST_SUBRESOURCE:
            causes.append(v.too_long(f"{at}.subresource", _LONGEST_SUBRESOURCE))
        if len(causes) >= _MOST_CAUSES:
            break
    return causes


def _validate_owners(owners: list[dict[str, Any]]) -> list[Cause]:
    causes = []
    controller = ""
    for index, owner in enumerate(owners):
        at = f"metadata.ownerReferences[{index}]"
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                causes.append(v.required(f"{at}.{key}", "must not be empty"))
        if owner.get("apiVersion") == "v1" and owner.get("kind") == "Event":
            causes.append(v.invalid(at, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            current = f"{owner.get('kind', '')}/{owner.get('name', '')}"
            if controller:
                causes.append(
                    v.invalid(
                        "metadata.ownerReferences",
                        owners,
                        'Only one reference can have Controller set to true. Found "true" in references for '
                        f"{controller} "
                        f"and {current}",
                    )
                )
                # Each further error would quote all references again.
                break
            controller = current
    return causes
