"""The values that the expressions of a policy see (apiserver `pkg/admission/plugin/cel/activation.go`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.admission.webhooks.matching import request_namespace
from hatchway.cluster.api.admission.webhooks.review import VersionedObjects
from hatchway.cluster.api.registry.resource import Resource
from hatchway.kube.api import Object

if TYPE_CHECKING:
    from hatchway.cluster.api.registry.custom.celauthorization import AskAccess

__all__ = ["request_variables"]

Json = dict[str, Any]
# The fields of a namespace that expressions see (`CreateNamespaceObject`).
_METADATA = (
    "name", "generateName", "namespace", "labels", "annotations", "creationTimestamp", "deletionTimestamp",
    "deletionGracePeriodSeconds", "generation", "resourceVersion", "finalizers",
)  # fmt: skip


def request_variables(
    attributes: AdmissionAttributes, row: Resource, objects: VersionedObjects, namespace: Object | None, ask: AskAccess
) -> Json:
    """Return the variables of a write.

    row: the resource as which the policy wants the request. objects: those of the write in its version. namespace: that
    of the object. ask: the authorizer.
    """
    # Imported here, like all of the room of expressions: only clusters with policies need it.
    from hatchway.cluster.api.registry.custom.celauthorization import AuthorizerValue, ResourceCheck

    own = attributes.row
    kind = row.gvk if attributes.kind == own.gvk else attributes.kind
    request: Json = {
        "kind": _kind(kind),
        "resource": _resource(row),
        "subResource": attributes.subresource,
        "requestKind": _kind(attributes.kind),
        "requestResource": _resource(own),
        "requestSubResource": attributes.subresource,
        "name": attributes.name,
        "namespace": request_namespace(attributes),
        "operation": attributes.operation,
        "userInfo": {"username": "", "uid": "", "groups": [], "extra": {}, **attributes.user.as_object()},
        "dryRun": attributes.dry_run,
        "options": attributes.make_options(),
    }
    authorizer = AuthorizerValue(attributes.user, ask)
    return {
        "authorizer": authorizer,
        "authorizer.requestResource": ResourceCheck(
            authorizer, own.group, own.plural, attributes.subresource, request_namespace(attributes), attributes.name
        ),
        "object": _typed(kind, objects.object),
        "oldObject": _typed(kind, objects.old_object),
        "request": request,
        "namespaceObject": _namespace(namespace) if namespace is not None else None,
    }


def _typed(kind: tuple[str, str, str], obj: Object | None) -> Object | None:
    """Return an object with kind and apiVersion."""
    if obj is None:
        return None
    group, version, name = kind
    return {**obj, "kind": name, "apiVersion": f"{group}/{version}" if group else version}


def _kind(kind: tuple[str, str, str]) -> Json:
    group, version, name = kind
    return {"group": group, "version": version, "kind": name}


def _resource(row: Resource) -> Json:
    return {"group": row.group, "version": row.version, "resource": row.plural}


def _namespace(namespace: Object) -> Json:
    from hatchway.cluster.api.cel.values import parse_timestamp

    source = namespace.get("metadata") or {}
    metadata: Json = {key: source[key] for key in _METADATA if key in source}
    if "uid" in source:
        metadata["UID"] = source["uid"]
    for key in ("creationTimestamp", "deletionTimestamp"):
        if key in metadata:
            metadata[key] = parse_timestamp(metadata[key])
    spec, status = namespace.get("spec") or {}, namespace.get("status") or {}
    return {
        "metadata": metadata,
        "spec": {"finalizers": spec.get("finalizers") or []},
        "status": {"phase": status.get("phase") or ""},
    }
