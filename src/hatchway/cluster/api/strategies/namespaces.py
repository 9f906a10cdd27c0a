"""Namespaces: born Active, Terminating once deleted, gone when nothing of them is left.

Also the NamespaceLifecycle admission (`plugin/pkg/admission/namespace/lifecycle`), which guards every namespaced create.
"""

from __future__ import annotations

from hatchway.cluster.api import validation as v
from hatchway.cluster.api.strategies.base import Context, Strategy, field, keep, label_name_errors, readers
from hatchway.errors import ApiError, Cause, forbidden, not_found
from hatchway.kube.api import Object

# They hold the cluster itself.
IMMORTAL = ("default", "kube-system", "kube-public", "kube-node-lease")


class NamespaceStrategy(Strategy):
    selectable = readers({"status.phase": field("status", "phase"), "name": field("metadata", "name")})

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        return label_name_errors(name, prefix)

    def default(self, obj: Object, old: Object | None = None) -> None:
        metadata = obj["metadata"]
        name = metadata.get("name")
        if name:
            metadata["labels"] = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": name}

    def prepare_create(self, ctx: Context, obj: Object) -> None:
        obj["status"] = {"phase": "Active"}
        finalizers = (obj.get("spec") or {}).get("finalizers") or []
        if "kubernetes" not in finalizers:
            finalizers = [*finalizers, "kubernetes"]
        obj["spec"] = {"finalizers": finalizers}

    def prepare_update(self, ctx: Context, obj: Object, old: Object) -> None:
        keep(obj, old, "spec")
        keep(obj, old, "status")

    def may_delete(self, obj: Object) -> None:
        """Raises ApiError 403 for the namespaces that must stay."""
        name = obj["metadata"]["name"]
        if name in IMMORTAL:
            raise forbidden("namespaces", name, "this namespace may not be deleted")

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        return []

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        phase = (obj.get("status") or {}).get("phase", "")
        going = bool(old["metadata"].get("deletionTimestamp"))
        wanted = "Terminating" if going else "Active"
        if phase == wanted:
            return []
        text = f"may only be '{wanted}' if `deletionTimestamp` is {'not ' if going else ''}empty"
        return [v.invalid("status.Phase", phase, text)]


def admit_to_namespace(ctx: Context, name: str) -> None:
    """Refuse a create in a namespace that is missing (404) or going away (403)."""
    found = ctx.store.latest("namespaces", "", ctx.namespace)
    if found is None:
        raise not_found("namespaces", ctx.namespace)
    if found["metadata"].get("deletionTimestamp") or (found.get("status") or {}).get("phase") == "Terminating":
        error = forbidden(
            ctx.row.plural,
            name,
            f"unable to create new content in namespace {ctx.namespace} because it is being terminated",
            ctx.row.group,
        )
        causes = [
            {
                "reason": "NamespaceTerminating",
                "message": f"namespace {ctx.namespace} is being terminated",
                "field": "metadata.namespace",
            }
        ]
        raise ApiError(403, "Forbidden", error.message, {**(error.details or {}), "causes": causes})
