"""StorageClasses and VolumeAttributesClasses (storage.k8s.io/v1): validation (`pkg/apis/storage/validation`)."""

from __future__ import annotations

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy
from hatchway.errors import Cause
from hatchway.kube.api import Object

_MODES = ("Immediate", "WaitForFirstConsumer")
_MAX_PARAMETERS, _MAX_PARAMETER_BYTES = 512, 256 * 1024


class StorageClassStrategy(Strategy):
    """StorageClasses (`pkg/registry/storage/storageclass/strategy.go`)."""

    def has_status(self, obj: Object) -> bool:
        """Return False: the type has no status."""
        return False

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in a class."""
        causes = _provisioner(obj.get("provisioner") or "", "provisioner") + _parameters(obj.get("parameters") or {})
        policy = obj.get("reclaimPolicy")
        if policy and policy not in ("Delete", "Retain"):
            causes.append(v.not_supported("reclaimPolicy", policy, ("Delete", "Retain")))
        mode = obj.get("volumeBindingMode")
        if mode is None:
            causes.append(v.required("volumeBindingMode"))
        elif mode not in _MODES:
            causes.append(v.not_supported("volumeBindingMode", mode, _MODES))
        return causes + _topologies(obj.get("allowedTopologies") or [])

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: provisioner, parameters, reclaim policy and binding mode never change."""
        causes = self.validate(obj)
        for key in ("parameters", "provisioner", "reclaimPolicy"):
            if (obj.get(key) or None) != (old.get(key) or None):
                causes.append(v.forbidden(key, f"updates to {key} are forbidden."))
        return causes + v.immutable(obj.get("volumeBindingMode"), old.get("volumeBindingMode"), "volumeBindingMode")


class VolumeAttributesClassStrategy(Strategy):
    """VolumeAttributesClasses (`pkg/registry/storage/volumeattributesclass/strategy.go`). They never change."""

    def has_status(self, obj: Object) -> bool:
        """Return False: the type has no status."""
        return False

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the driver's name and in the parameters."""
        parameters = obj.get("parameters") or {}
        causes = _provisioner(obj.get("driverName") or "", "driverName") + _parameters(parameters)
        return causes if parameters else [*causes, v.required("parameters", "must contain at least one key/value pair")]

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change."""
        return [
            v.forbidden(key, f"updates to {key} are forbidden.")
            for key in ("driverName", "parameters")
            if (obj.get(key) or None) != (old.get(key) or None)
        ] + self.validate(obj)


def _provisioner(name: str, at: str) -> list[Cause]:
    return v.each(at, name.lower(), v.qualified_name(name.lower())) if name else [v.required(at)]


def _parameters(parameters: dict[str, str]) -> list[Cause]:
    if len(parameters) > _MAX_PARAMETERS:
        return [v.too_long("parameters", _MAX_PARAMETERS)]
    if any(not key for key in parameters):
        return [v.invalid("parameters", "", "field can not be empty.")]
    if sum(len(key.encode()) + len(value.encode()) for key, value in parameters.items()) > _MAX_PARAMETER_BYTES:
        return [v.too_long("parameters", _MAX_PARAMETER_BYTES)]
    return []


def _topologies(terms: list[Object]) -> list[Cause]:
    total = sum(
        1 + len(one.get("values") or ()) for term in terms for one in term.get("matchLabelExpressions") or ()
    ) + len(terms)
    if total > v.MAX_SELECTOR_TERMS:
        # The number is limited because the scheduler compares the terms with every node, many times.
        return [v.too_many("allowedTopologies", total, v.MAX_SELECTOR_TERMS)]
    causes = []
    for index, term in enumerate(terms):
        for number, requirement in enumerate(term.get("matchLabelExpressions") or ()):
            at = f"allowedTopologies[{index}].matchLabelExpressions[{number}]"
            key, values = requirement.get("key") or "", requirement.get("values") or []
            causes += v.each(f"{at}.key", key, v.qualified_name(key))
            if not values:
                causes.append(v.required(f"{at}.values"))
            seen: set[str] = set()
            for place, value in enumerate(values):
                if value in seen:
                    causes.append(v.duplicate(f"{at}.values[{place}]", value))
                seen.add(value)
    return causes
