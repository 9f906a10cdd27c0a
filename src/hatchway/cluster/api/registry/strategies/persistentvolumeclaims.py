"""PersistentVolumeClaims: validation, permitted changes (`pkg/registry/core/persistentvolumeclaim/strategy.go`)."""

from __future__ import annotations

from decimal import Decimal

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.schema import quantity_value
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext, keep
from hatchway.cluster.api.registry.strategies.claimspec import validate_claim_spec
from hatchway.errors import Cause
from hatchway.kube.api import Object

_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_IMMUTABLE = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"


class PersistentVolumeClaimStrategy(Strategy):
    """PersistentVolumeClaims."""

    requires_spec = True

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Make `dataSource` and `dataSourceRef` equal (`NormalizeDataSources`)."""
        spec = obj["spec"]
        source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
        if source is not None and reference is None:
            spec["dataSourceRef"] = dict(source)
        elif reference is not None and source is None and not reference.get("namespace"):
            spec["dataSource"] = dict(reference)

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Make the claim Pending."""
        obj["status"] = {"phase": "Pending"}

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Keep the status."""
        keep(obj, old, "status")

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in a claim."""
        return validate_claim_spec(obj["spec"], "spec")

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change. The volume may be set once, and a bound claim may request more storage."""
        causes = self.validate(obj)
        spec, former = dict(obj["spec"]), dict(old["spec"])
        if not former.get("volumeName"):
            spec.pop("volumeName", None)
            former.pop("volumeName", None)
        bound = (old.get("status") or {}).get("phase") == "Bound"
        if bound:
            for one in (spec, former):
                resources = dict(one.get("resources") or {})
                requests = dict(resources.pop("requests", None) or {})
                requests.pop("storage", None)
                one["resources"] = {**resources, "requests": requests}
                one.pop("volumeAttributesClassName", None)
        changed = sorted(key for key in {*spec, *former} if spec.get(key) != former.get(key))
        if changed:
            causes.append(v.forbidden("spec", f"{_IMMUTABLE}\n(changed: {', '.join(changed)})"))
        size, before = _storage(obj), _storage(old)
        if size < before:
            capacity = ((old.get("status") or {}).get("capacity") or {}).get("storage")
            if capacity is None or size <= quantity_value(capacity):
                at = "spec.resources.requests.storage"
                causes.append(v.forbidden(at, "field can not be less than status.capacity"))
        name = obj["spec"].get("volumeAttributesClassName")
        if (
            not name
            and (old.get("status") or {}).get("currentVolumeAttributesClassName") is not None
            and (name != old["spec"].get("volumeAttributesClassName"))
        ):
            what = "nil" if name is None else "empty string"
            text = f"update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
            causes.append(v.forbidden("spec.volumeAttributesClassName", text))
        annotation = (obj["metadata"].get("annotations") or {}).get(_CLASS_ANNOTATION)
        if annotation != (old["metadata"].get("annotations") or {}).get(_CLASS_ANNOTATION):
            at = f"metadata.annotations.{_CLASS_ANNOTATION}"
            causes.append(v.invalid(at, annotation or "", "field is immutable"))
        return causes

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in the capacity."""
        causes = []
        status = obj.get("status") or {}
        for name, value in (status.get("capacity") or {}).items():
            if quantity_value(value) < 0:
                causes.append(v.invalid(f"status.capacity[{name}]", str(value), "must be greater than or equal to 0"))
        for name, value in (status.get("allocatedResources") or {}).items():
            at = f"status.allocatedResources[{name}]"
            if name != "storage":
                causes.append(v.not_supported("status.allocatedResources", name, ("storage",)))
            elif quantity_value(value) < 0:
                causes.append(v.invalid(at, str(value), "must be greater than or equal to 0"))
        return causes


def _storage(claim: Object) -> Decimal:
    """Return how many bytes a claim requests; 0 if it has no request."""
    found = ((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage")
    return quantity_value(found) if found is not None else Decimal(0)
