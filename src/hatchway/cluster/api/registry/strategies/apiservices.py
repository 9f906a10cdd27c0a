"""APIServices (apiregistration.k8s.io/v1): groups that this API server serves, and groups that other servers serve."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["LOCAL_CONDITION", "APIServiceStrategy"]

# kube-aggregator `apis/apiregistration/helpers.go`: NewLocalAvailableAPIServiceCondition.
LOCAL_CONDITION = {
    "type": "Available",
    "status": "True",
    "reason": "Local",
    "message": "Local APIServices are always available",
}
_STATUSES = ("False", "True", "Unknown")


class APIServiceStrategy(Strategy):
    """APIServices (kube-aggregator `registry/apiservice/strategy.go`, `apis/apiregistration/validation`)."""

    unconditional_update = False

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        """Return the errors in a name, which must be one path segment. `validate` compares the name with the spec."""
        return v.path_segment(name)

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Drop the client's status. A local APIService gets the condition that it is available."""
        obj["status"] = {}
        if not (obj.get("spec") or {}).get("service"):
            obj["status"] = {"conditions": [{**LOCAL_CONDITION, "lastTransitionTime": ctx.now}]}

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in name, group, version, priorities and the reference to the service."""
        spec: dict[str, Any] = obj.get("spec") or {}
        group, version = spec.get("group") or "", spec.get("version") or ""
        wanted, name = f"{version}.{group}", obj["metadata"].get("name") or ""
        causes = []
        if name != wanted:
            text = f'must be `spec.version+"."+spec.group`: {v.quote(wanted)}'
            causes.append(v.invalid("metadata.name", name, text))
        if not group and version != "v1":
            text = "only v1 may have an empty group and it better be legacy kube"
            causes.append(v.required("spec.group", text))
        if group:
            causes += v.each("spec.group", group, v.dns1123_subdomain(group))
        causes += v.each("spec.version", version, v.dns1035_label(version))
        for key, limit in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
            number = spec.get(key) or 0
            if not 0 < number <= limit:
                causes.append(v.invalid(f"spec.{key}", number, f"must be positive and less than {limit}"))
        return causes + _service_errors(spec)

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in the conditions: their status must be True, False or Unknown."""
        conditions = (obj.get("status") or {}).get("conditions") or ()
        return [
            v.not_supported(f"status.conditions[{index}].status", one.get("status", ""), _STATUSES)
            for index, one in enumerate(conditions)
            if one.get("status") not in _STATUSES
        ]


def _service_errors(spec: dict[str, Any]) -> list[Cause]:
    service, bundle, insecure = spec.get("service"), spec.get("caBundle"), bool(spec.get("insecureSkipTLSVerify"))
    causes = []
    if service is None:
        if bundle:
            shown = f"{len(bundle) * 3 // 4} bytes"
            causes.append(v.invalid("spec.caBundle", shown, "local APIServices may not have a caBundle"))
        if insecure:
            text = "local APIServices may not have insecureSkipTLSVerify"
            causes.append(v.invalid("spec.insecureSkipTLSVerify", insecure, text))
        return causes
    for key in ("namespace", "name"):
        if not service.get(key):
            causes.append(v.required(f"spec.service.{key}"))
    port = service.get("port", 0)
    if errors := v.port_number(port):
        causes.append(v.invalid("spec.service.port", port, f"port is not valid: {', '.join(errors)}"))
    if insecure and bundle:
        text = "may not be true if caBundle is present"
        causes.append(v.invalid("spec.insecureSkipTLSVerify", insecure, text))
    return causes
