"""Pods: permitted changes, graceful deletion. Admission is in `api/admission/`.

From `pkg/registry/core/pod/strategy.go` and `pkg/apis/core/validation/validation.go` (ValidatePodUpdate).
"""

from __future__ import annotations

import asyncio
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.schema import quantity_value
from hatchway.cluster.api.registry.strategies.addresses import several_addresses
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext, field, keep, readers
from hatchway.cluster.api.registry.strategies.podclaims import validate_claim_statuses
from hatchway.cluster.api.registry.strategies.podspec import containers, validate_spec
from hatchway.cluster.api.registry.strategies.podupdate import validate_pod_change
from hatchway.cluster.api.registry.strategies.warnings import pod_warnings
from hatchway.errors import Cause
from hatchway.kube.api import Object

# How many seconds the creation of a pod waits for the service account `default` of a new namespace.
_ACCOUNT_WAIT = 1.0
_SYSTEM_CONDITIONS = frozenset(("PodScheduled", "Ready", "Initialized"))


class PodStrategy(Strategy):
    """Pods (`pkg/registry/core/pod/strategy.go`)."""

    requires_spec = True
    return_deleted = True
    generation = True
    selectable = readers(
        {
            "spec.nodeName": field("spec", "nodeName"),
            "spec.restartPolicy": field("spec", "restartPolicy"),
            "spec.schedulerName": field("spec", "schedulerName"),
            "spec.serviceAccountName": field("spec", "serviceAccountName"),
            "spec.hostNetwork": lambda obj: "true" if obj["spec"].get("hostNetwork") else "false",
            "status.phase": field("status", "phase"),
            "status.podIP": field("status", "podIP"),
            "status.podIPs": field("status", "podIP"),
            "status.nominatedNodeName": field("status", "nominatedNodeName"),
        }
    )

    async def before_create(self, ctx: WriteContext, obj: Object) -> None:
        """Wait a short time for the default service account of a new namespace."""
        spec = obj.get("spec") or {}
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        if name != "default" or ctx.store.latest("namespaces", "", ctx.namespace) is None:
            return
        cursor = ctx.store.history("serviceaccounts").cursor(ctx.store.revision)
        try:
            async with asyncio.timeout(_ACCOUNT_WAIT):
                while ctx.store.latest("serviceaccounts", ctx.namespace, name) is None and not cursor.closed:
                    await cursor.wait()
                    cursor.read()
        except TimeoutError:
            return  # The admission plugin ServiceAccount will raise the error.

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Make the pod Pending. If it has scheduling gates, set the condition that it is not scheduled."""
        spec = obj["spec"]
        if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
            spec["terminationGracePeriodSeconds"] = 1
        _merge_label_keys(obj)
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
        if spec.get("schedulingGates"):
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": ctx.now,
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }
            obj["status"]["conditions"] = [condition]

    def prepare_status(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Undo changes outside of status and metadata, and changes of ownerReferences and of the QoS class."""
        super().prepare_status(ctx, obj, old)
        keep(obj["metadata"], old["metadata"], "ownerReferences")
        status = obj.setdefault("status", {})
        status["qosClass"] = (old.get("status") or {}).get("qosClass", qos_class(old["spec"]))
        _agree_on_address(status)

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in a new pod."""
        spec = obj["spec"]
        causes = validate_spec(spec, "spec", is_pod=True)
        if spec.get("ephemeralContainers"):
            causes.append(v.forbidden("spec.ephemeralContainers", "cannot be set on create"))
        if spec.get("nodeName") and spec.get("schedulingGates"):
            text = "cannot be set until all schedulingGates have been cleared"
            causes.append(v.forbidden("spec.nodeName", text))
        return causes

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        """Return the warnings for the writer of a new pod."""
        # Updates get no warnings, because they would repeat the warnings of the creation.
        return pod_warnings(obj["metadata"], obj["spec"]) if old is None else []

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: few fields of a pod's spec may change."""
        return validate_spec(obj["spec"], "spec", is_pod=True) + validate_pod_change(obj["spec"], old["spec"])

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in addresses and container states of the status."""
        status, former = obj.get("status") or {}, old.get("status") or {}
        causes = []
        for key in ("podIPs", "hostIPs"):
            # Only changes are checked. Otherwise, the kubelet could not write the status of an older, invalid pod.
            if status.get(key) != former.get(key):
                causes += several_addresses(status.get(key) or [], f"status.{key}")
        hosts = status.get("hostIPs") or []
        if hosts and hosts[0].get("ip", "") != status.get("hostIP", ""):
            causes.append(v.invalid("status.hostIPs[0]", hosts[0].get("ip", ""), "must be equal to `hostIP`"))
        elif not hosts and status.get("hostIP") and v.parse_ip(status["hostIP"]) is None:
            causes.append(v.invalid("status.hostIP", status["hostIP"], v.IP_ERROR))
        nominated = status.get("nominatedNodeName")
        if nominated and nominated != former.get("nominatedNodeName"):
            causes += v.each("status.nominatedNodeName", nominated, v.dns1123_subdomain(nominated))
        made = status.get("resourceClaimStatuses") or []
        causes += validate_claim_statuses(made, obj["spec"].get("resourceClaims") or [], "status.resourceClaimStatuses")
        for index, condition in enumerate(status.get("conditions") or ()):
            kind = condition.get("type", "")
            if kind not in _SYSTEM_CONDITIONS:
                causes += v.each(f"status.conditions[{index}].Type", kind, v.qualified_name(kind))
        return causes

    def grace_period(self, obj: Object, asked: int | None) -> int | None:
        """Return the seconds until the pod is killed; 0 for a pod that does not run on a node."""
        period = asked if asked is not None else obj["spec"].get("terminationGracePeriodSeconds", 30)
        phase = (obj.get("status") or {}).get("phase")
        if not obj["spec"].get("nodeName") or phase in ("Failed", "Succeeded"):
            return 0
        return 1 if period < 0 else int(period)


def _merge_label_keys(obj: Object) -> None:
    """Add the pod's labels in matchLabelKeys to the selectors of its affinity terms.

    From `applyMatchLabelKeysAndMismatchLabelKeys` of `pkg/registry/core/pod/strategy.go`.
    """
    labels = obj["metadata"].get("labels") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        affinity = (obj["spec"].get("affinity") or {}).get(kind) or {}
        terms = list(affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        weighted = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms += [one["podAffinityTerm"] for one in weighted if one.get("podAffinityTerm")]
        for term in terms:
            selector = term.get("labelSelector")
            for field_name, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
                keys = [key for key in term.get(field_name) or () if key in labels]
                if selector is not None and keys:
                    added = [{"key": key, "operator": operator, "values": [labels[key]]} for key in keys]
                    selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), *added]


def _agree_on_address(status: dict[str, Any]) -> None:
    """Make `podIP` equal to the first entry of `podIPs`. If they differ, change `podIPs`.

    From `Convert_v1_PodStatus_To_core_PodStatus`.
    """
    single, many = status.get("podIP") or "", status.get("podIPs") or []
    if single and (not many or many[0].get("ip") != single):
        status["podIPs"] = [{"ip": single}]
    elif many and not single:
        status["podIP"] = many[0].get("ip", "")


def qos_class(spec: dict[str, Any]) -> str:
    """Return `Guaranteed`, `Burstable` or `BestEffort`, from cpu and memory only (`pkg/apis/core/v1/helper/qos`)."""
    guaranteed, anything = True, False
    for container in containers(spec):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            limit, request = limits.get(name), requests.get(name)
            has_limit = limit is not None and quantity_value(limit) > 0
            anything = anything or has_limit or (request is not None and quantity_value(request) > 0)
            if (
                limit is None
                or not has_limit
                or (request is not None and quantity_value(request) != quantity_value(limit))
            ):
                guaranteed = False
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
