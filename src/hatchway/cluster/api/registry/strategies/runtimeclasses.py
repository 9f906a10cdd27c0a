"""RuntimeClasses (node.k8s.io/v1): validation (`pkg/apis/node/validation`)."""

from __future__ import annotations

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy
from hatchway.cluster.api.registry.strategies.podcontainers import validate_quantity
from hatchway.cluster.api.registry.strategies.podplacement import validate_tolerations
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["RuntimeClassStrategy"]


class RuntimeClassStrategy(Strategy):
    """RuntimeClasses (`pkg/registry/node/runtimeclass/strategy.go`)."""

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in a new class (`ValidateRuntimeClass`)."""
        handler = obj.get("handler") or ""
        causes = v.each("handler", handler, v.dns1123_label(handler))
        for name, value in ((obj.get("overhead") or {}).get("podFixed") or {}).items():
            validate_quantity(name, value, f"overhead.limits[{name}]", causes)
        scheduling = obj.get("scheduling") or {}
        causes += v.labels(scheduling.get("nodeSelector"), "scheduling.nodeSelector")
        return causes + validate_tolerations(scheduling.get("tolerations") or [], "scheduling.tolerations")

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: the handler never changes (`ValidateRuntimeClassUpdate`)."""
        return v.immutable(obj.get("handler"), old.get("handler"), "handler")
