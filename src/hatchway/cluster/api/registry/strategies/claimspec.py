"""The spec of a PersistentVolumeClaim, in claims and in templates (`ValidatePersistentVolumeClaimSpec`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.schema import quantity_value
from hatchway.errors import Cause

Json = dict[str, Any]

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")


def validate_claim_spec(spec: Json, at: str) -> list[Cause]:
    """Return all errors in the spec of a claim. at: its path."""
    modes = spec.get("accessModes") or []
    causes = [] if modes else [v.required(f"{at}.accessModes", "at least 1 access mode is required")]
    causes += v.label_selector(spec.get("selector"), f"{at}.selector")
    causes += access_modes(modes, f"{at}.accessModes")
    here = f"{at}.resources[storage]"
    wanted = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if wanted is None:
        causes.append(v.required(here))
    else:
        causes += positive_quantity(wanted, here)
    if name := spec.get("storageClassName"):
        causes += v.each(f"{at}.storageClassName", name, v.dns1123_subdomain(name))
    causes += volume_mode(spec.get("volumeMode"), f"{at}.volumeMode")
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    for key, found in (("dataSource", source), ("dataSourceRef", reference)):
        if found is not None:
            causes += _data_source(found, f"{at}.{key}")
    if reference is not None and reference.get("namespace"):
        # The field needs the feature gate CrossNamespaceVolumeDataSource, which is off by default.
        causes.append(v.forbidden(f"{at}.dataSourceRef.namespace", "may not be set in this cluster"))
    if source is not None and reference is not None and source != reference:
        causes.append(v.invalid(at, f"{at}.dataSource", "must match dataSourceRef"))
    if name := spec.get("volumeAttributesClassName"):
        causes += v.each(f"{at}.volumeAttributesClassName", name, v.dns1123_subdomain(name))
    return causes


def access_modes(modes: list[str], at: str) -> list[Cause]:
    """Return the errors in access modes. at: their path."""
    causes = [v.not_supported(at, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES]
    if "ReadWriteOncePod" in modes and any(mode in ACCESS_MODES[:3] for mode in modes):
        causes.append(v.forbidden(at, "may not use ReadWriteOncePod with other access modes"))
    return causes


def volume_mode(mode: str | None, at: str) -> list[Cause]:
    """Return the error in a volume mode, or []. None (no mode) is valid."""
    return [] if mode is None or mode in VOLUME_MODES else [v.not_supported(at, mode, VOLUME_MODES)]


def positive_quantity(value: str | int | float, at: str) -> list[Cause]:
    """Return the error in an amount that must be more than 0 (`ValidatePositiveQuantityValue`)."""
    return [] if quantity_value(value) > 0 else [v.invalid(at, str(value), "must be greater than zero")]


def _data_source(source: Json, at: str) -> list[Cause]:
    causes = [v.required(f"{at}.{key}") for key in ("name", "kind") if not source.get(key)]
    if not source.get("apiGroup") and source.get("kind") != "PersistentVolumeClaim":
        causes.append(v.invalid(at, source.get("kind") or "", ""))
    return causes
