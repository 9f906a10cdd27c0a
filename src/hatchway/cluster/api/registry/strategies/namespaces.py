"""Namespaces: Active at first, Terminating after a DELETE, and removed when they are empty.

The file also has the admission NamespaceLifecycle (`plugin/pkg/admission/namespace/lifecycle`), which checks each
creation of an object in a namespace.
"""

from __future__ import annotations

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import (
    Strategy,
    WriteContext,
    field,
    keep,
    label_name_errors,
    readers,
)
from hatchway.errors import ApiError, Cause, forbidden, not_found
from hatchway.kube.api import Object
from hatchway.kube.wellknown import NAMESPACE_NAME

# The cluster's own namespaces.
IMMORTAL = ("default", "kube-system", "kube-public", "kube-node-lease")


class NamespaceStrategy(Strategy):
    """Namespaces (`pkg/registry/core/namespace`)."""

    selectable = readers({"status.phase": field("status", "phase"), "name": field("metadata", "name")})

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        """Return the errors in the name, which is one DNS label."""
        return label_name_errors(name, prefix)

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set the label kubernetes.io/metadata.name."""
        metadata = obj["metadata"]
        name = metadata.get("name")
        if name:
            metadata["labels"] = {**(metadata.get("labels") or {}), NAMESPACE_NAME: name}

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Make the namespace Active, with the finalizer of the namespace controller."""
        obj["status"] = {"phase": "Active"}
        finalizers = (obj.get("spec") or {}).get("finalizers") or []
        if "kubernetes" not in finalizers:
            finalizers = [*finalizers, "kubernetes"]
        obj["spec"] = {"finalizers": finalizers}

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Keep spec and status, because only subresources may change them."""
        keep(obj, old, "spec")
        keep(obj, old, "status")

    def check_deletion(self, obj: Object) -> None:
        """Raise ApiError 403 for namespaces that must not be deleted."""
        name = obj["metadata"]["name"]
        if name in IMMORTAL:
            raise forbidden("namespaces", name, "this namespace may not be deleted")

    def begin_deletion(self, obj: Object) -> bool:
        """Mark the namespace as Terminating.

        The namespace is removed together with its last finalizer. Without finalizers, the next DELETE removes it.
        """
        obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
        return True

    def is_held(self, obj: Object) -> bool:
        """Return True while metadata.finalizers or spec.finalizers has an entry."""
        return bool(obj["metadata"].get("finalizers") or (obj.get("spec") or {}).get("finalizers"))

    def stays(self, obj: Object, old: Object) -> bool:
        """Return False for an update that removes the last entry of spec.finalizers, because the namespace is empty."""
        return bool((obj.get("spec") or {}).get("finalizers")) or not (old.get("spec") or {}).get("finalizers")

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return no errors: labels and annotations may change freely."""
        return []

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in the phase, which must be Terminating exactly while the namespace is being deleted."""
        phase = (obj.get("status") or {}).get("phase", "")
        going = bool(old["metadata"].get("deletionTimestamp"))
        wanted = "Terminating" if going else "Active"
        if phase == wanted:
            return []
        text = f"may only be '{wanted}' if `deletionTimestamp` is {'not ' if going else ''}empty"
        return [v.invalid("status.Phase", phase, text)]


def admit_to_namespace(ctx: WriteContext, name: str) -> None:
    """Refuse to create objects in a namespace that does not exist (404) or is being deleted (403)."""
    found = ctx.store.latest("namespaces", "", ctx.namespace)
    if found is None:
        raise not_found("namespaces", ctx.namespace)
    if found["metadata"].get("deletionTimestamp") or (found.get("status") or {}).get("phase") == "Terminating":
        error = forbidden(
            ctx.plural,
            name,
            f"unable to create new content in namespace {ctx.namespace} because it is being terminated",
            ctx.group,
        )
        causes = [
            {
                "reason": "NamespaceTerminating",
                "message": f"namespace {ctx.namespace} is being terminated",
                "field": "metadata.namespace",
            }
        ]
        raise ApiError(403, "Forbidden", error.message, {**(error.details or {}), "causes": causes})
