"""DeviceClasses (resource.k8s.io/v1): validation (`pkg/apis/resource/validation`)."""

from __future__ import annotations

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies import deviceparts as parts
from hatchway.cluster.api.registry.strategies.base import Strategy
from hatchway.cluster.api.registry.strategies.resourcenames import is_extended
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["DeviceClassStrategy"]

_MAX_CONFIG = 32


class DeviceClassStrategy(Strategy):
    """DeviceClasses (`pkg/registry/resource/deviceclass/strategy.go`)."""

    generation = True
    # Even a short expression takes long to compile.
    is_costly = True

    def has_status(self, obj: Object) -> bool:
        """Return False: the type has no status."""
        return False

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the selectors, the configurations and the name of the extended resource."""
        spec = obj.get("spec") or {}
        causes = parts.selectors(spec.get("selectors"), "spec.selectors")
        causes += parts.each_item(spec.get("config"), _MAX_CONFIG, parts.config, "spec.config")
        name = spec.get("extendedResourceName")
        if name is not None and not is_extended(name):
            causes.append(v.invalid("spec.extendedResourceName", name, "must be a valid extended resource name"))
        return causes
