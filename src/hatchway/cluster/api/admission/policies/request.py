"""Makes the values of variables in a policy's expressions (apiserver `pkg/admission/plugin/cel/activation.go`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.admission.webhooks.matching import request_namespace
from hatchway.cluster.api.admission.webhooks.review import (
    VersionedObjects,
    kind_fields,
    resource_fields,
    typed_object,
)
from hatchway.cluster.api.registry.resource import Resource
from hatchway.kube.api import Object

if TYPE_CHECKING:
    from hatchway.cluster.api.registry.custom.celauthorization import AskAccess

__all__ = ["request_variables"]

Json = dict[str, Any]
# The fields of a namespace that expressions can use (`CreateNamespaceObject`).
_METADATA = (
    "name", "generateName", "namespace", "labels", "annotations", "creationTimestamp", "deletionTimestamp",
    "deletionGracePeriodSeconds", "generation", "resourceVersion", "finalizers",
)  # fmt: skip


def request_variables(
    attributes: AdmissionAttributes, row: Resource, objects: VersionedObjects, namespace: Object | None, ask: AskAccess
) -> Json:
    """Return the variables of a write.

    row: the resource that the policy matches.
    objects: the objects of the write in the version of `row`.
    namespace: the namespace of the object; None outside of namespaces.
    ask: a function that returns the authorizer's decisions.
    """
    # Imported here, because only clusters with policies need the code of expressions.
    from hatchway.cluster.api.registry.custom.celauthorization import AuthorizerValue, ResourceCheck

    own = attributes.row
    kind = row.gvk if attributes.kind == own.gvk else attributes.kind
    request: Json = {
        "kind": kind_fields(kind),
        "resource": resource_fields(row),
        "subResource": attributes.subresource,
        "requestKind": kind_fields(attributes.kind),
        "requestResource": resource_fields(own),
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
        "object": typed_object(kind, objects.object),
        "oldObject": typed_object(kind, objects.old_object),
        "request": request,
        "namespaceObject": _namespace(namespace) if namespace is not None else None,
    }


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
