"""PersistentVolumes: validation, permitted changes (`pkg/registry/core/persistentvolume/strategy.go`)."""

from __future__ import annotations

import posixpath
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.schema import load
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext, keep
from hatchway.cluster.api.registry.strategies.claimspec import access_modes, positive_quantity, volume_mode
from hatchway.cluster.api.registry.strategies.podplacement import validate_node_selector
from hatchway.cluster.api.registry.strategies.podvolumes import validate_host_path
from hatchway.errors import Cause
from hatchway.kube.api import Object

Json = dict[str, Any]

_POLICIES = ("Delete", "Recycle", "Retain")
# The fields of the spec that are not the volume's source.
_COMMON = frozenset(
    (
        "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy",
        "storageClassName", "volumeAttributesClassName", "volumeMode",
    )
)  # fmt: skip


class PersistentVolumeStrategy(Strategy):
    """PersistentVolumes."""

    requires_spec = True

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Make the volume Pending."""
        obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": ctx.now}

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Keep the status."""
        keep(obj, old, "status")

    def prepare_status(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Set the time of the last change of the phase."""
        super().prepare_status(ctx, obj, old)
        status, former = obj.setdefault("status", {}), old.get("status") or {}
        if status.get("phase") == former.get("phase"):
            keep(status, former, "lastPhaseTransitionTime")
        elif status.get("lastPhaseTransitionTime") in (None, former.get("lastPhaseTransitionTime")):
            status["lastPhaseTransitionTime"] = ctx.now

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in a volume."""
        return validate_volume_spec(obj["spec"], "spec")

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change. Source and mode never change, and a node affinity may be set only once."""
        causes = self.validate(obj)
        spec, former = obj["spec"], old["spec"]
        sources = [{key: value for key, value in one.items() if key not in _COMMON} for one in (spec, former)]
        if sources[0] != sources[1]:
            text = "spec.persistentvolumesource is immutable after creation"
            causes.append(v.forbidden("spec.persistentvolumesource", text))
        causes += v.immutable(spec.get("volumeMode"), former.get("volumeMode"), "volumeMode")
        if former.get("nodeAffinity") is not None:
            causes += v.immutable(spec.get("nodeAffinity"), former["nodeAffinity"], "nodeAffinity")
        if former.get("volumeAttributesClassName") is not None and spec.get("volumeAttributesClassName") is None:
            text = "update from non-nil value to nil is forbidden"
            causes.append(v.forbidden("spec.volumeAttributesClassName", text))
        return causes


def validate_volume_spec(spec: Json, at: str) -> list[Cause]:
    """Return all errors in the spec of a volume (`ValidatePersistentVolumeSpec`). at: its path."""
    modes = spec.get("accessModes") or []
    causes = [] if modes else [v.required(f"{at}.accessModes")]
    causes += access_modes(modes, f"{at}.accessModes")
    capacity = spec.get("capacity") or {}
    if not capacity:
        causes.append(v.required(f"{at}.capacity"))
    if "storage" not in capacity or len(capacity) > 1:
        causes.append(v.not_supported(f"{at}.capacity", capacity, ("storage",)))
    for name, amount in capacity.items():
        causes += positive_quantity(amount, f"{at}.capacity[{name}]")
    policy = spec.get("persistentVolumeReclaimPolicy")
    if policy and policy not in _POLICIES:
        causes.append(v.not_supported(f"{at}.persistentVolumeReclaimPolicy", policy, _POLICIES))
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        if affinity.get("required") is None:
            causes.append(v.required(f"{at}.nodeAffinity.required", "must specify required node constraints"))
        else:
            # The number is limited because the scheduler compares the terms with each node, many times.
            terms = _count_terms(affinity["required"])
            if terms > v.MAX_SELECTOR_TERMS:
                causes.append(v.too_many(f"{at}.nodeAffinity.required", terms, v.MAX_SELECTOR_TERMS))
            else:
                validate_node_selector(affinity["required"], f"{at}.nodeAffinity.required", causes)
    causes += _source(spec, at)
    if name := spec.get("storageClassName"):
        causes += v.each(f"{at}.storageClassName", name, v.dns1123_subdomain(name))
    causes += volume_mode(spec.get("volumeMode"), f"{at}.volumeMode")
    name = spec.get("volumeAttributesClassName")
    if name is not None:
        here = f"{at}.volumeAttributesClassName"
        text = "an empty string is disallowed"
        causes += v.each(here, name, v.dns1123_subdomain(name)) if name else [v.required(here, text)]
        if spec.get("csi") is None:
            causes.append(v.required(f"{at}.csi", "has to be specified when using volumeAttributesClassName"))
    return causes


def _count_terms(selector: Json) -> int:
    """Return how many terms, requirements and values a NodeSelector has."""
    total = 0
    for term in selector.get("nodeSelectorTerms") or ():
        requirements = [*(term.get("matchExpressions") or ()), *(term.get("matchFields") or ())]
        total += 1 + sum(1 + len(one.get("values") or ()) for one in requirements)
    return total


def _source(spec: Json, at: str) -> list[Cause]:
    order = list(load().definitions["core.v1.PersistentVolumeSpec"].fields)
    found = [key for key in order if key not in _COMMON and spec.get(key) is not None]
    causes = [v.forbidden(f"{at}.{key}", "may not specify more than 1 volume type") for key in found[1:]]
    if not found:
        return [v.required(at, "must specify a volume type")]
    kind = found[0]
    source = spec[kind]
    if kind == "hostPath":
        validate_host_path(source, f"{at}.hostPath", causes)
        # Python's normpath keeps two slashes at the beginning of a path. Go's path.Clean does not.
        is_root = posixpath.normpath(source.get("path") or ".") in ("/", "//")
        if is_root and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
            text = "may not be 'recycle' for a hostPath mount of '/'"
            causes.append(v.forbidden(f"{at}.persistentVolumeReclaimPolicy", text))
    elif kind == "local":
        path = source.get("path") or ""
        if not path:
            causes.append(v.required(f"{at}.local.path"))
        elif ".." in path.split("/"):
            causes.append(v.invalid(f"{at}.local.path", path, "must not contain '..'"))
        if ((spec.get("nodeAffinity") or {}).get("required")) is None:
            causes.append(v.required(f"{at}.nodeAffinity", "Local volume requires node affinity"))
    elif kind == "nfs":
        causes += [v.required(f"{at}.nfs.{key}") for key in ("server", "path") if not source.get(key)]
        if not (source.get("path") or "").startswith("/"):
            causes.append(v.invalid(f"{at}.nfs.path", source.get("path") or "", "must be an absolute path"))
    elif kind == "csi":
        if not source.get("driver"):
            causes.append(v.required(f"{at}.csi.driver"))
        if not source.get("volumeHandle"):
            causes.append(v.required(f"{at}.csi.volumeHandle"))
    return causes
