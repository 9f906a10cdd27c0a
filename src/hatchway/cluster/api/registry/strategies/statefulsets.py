"""StatefulSets and ControllerRevisions (apps/v1): validation (`pkg/apis/apps/validation`, `pkg/registry/apps`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext
from hatchway.cluster.api.registry.strategies.podtemplate import validate_template_of
from hatchway.cluster.api.registry.strategies.workloads import WorkloadStrategy, validate_share
from hatchway.errors import Cause
from hatchway.kube.api import Object

Json = dict[str, Any]

_CHANGEABLE = (
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
)  # fmt: skip
_UPDATES = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


_MAX_CLAIMS = 128


class StatefulSetStrategy(WorkloadStrategy):
    """StatefulSets."""

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Set a status without replicas. Kubernetes always writes these counts, so clients expect them."""
        obj["status"] = {"replicas": 0, "availableReplicas": 0}

    def validate(self, obj: Object) -> list[Cause]:
        """Return all errors in a StatefulSet."""
        spec = obj["spec"]
        causes = _management(spec.get("podManagementPolicy")) + _strategy(spec.get("updateStrategy") or {})
        for key, value in (spec.get("persistentVolumeClaimRetentionPolicy") or {}).items():
            if value not in ("Retain", "Delete"):
                at = f"spec.persistentVolumeClaimRetentionPolicy.{key}"
                causes.append(v.not_supported(at, value, ("Delete", "Retain")))
        for key in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
            causes += v.non_negative(spec.get(key), f"spec.{key}")
        causes += v.non_negative((spec.get("ordinals") or {}).get("start"), "spec.ordinals.start")
        service = spec.get("serviceName")
        if service:
            causes += v.each("spec.serviceName", service, v.dns1123_label(service))
        templates = len(spec.get("volumeClaimTemplates") or ())
        if templates > _MAX_CLAIMS:
            # Kubernetes has no such limit. Hatchway cannot run pods with more claims (`controllers/podvolumes.py`).
            causes.append(v.too_many("spec.volumeClaimTemplates", templates, _MAX_CLAIMS))
        selector, at = spec.get("selector"), "spec.selector"
        if selector is None:
            return [*causes, v.required(at)]
        wrong = v.label_selector(selector, at)
        if wrong:
            return [*causes, *wrong, v.invalid(at, selector, "")]
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            causes.append(v.invalid(at, selector, "empty selector is invalid for statefulset"))
        return causes + validate_template_of(selector, _with_claims(spec), "StatefulSet")

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: few fields may change."""
        causes = self.validate(obj)
        spec, former = obj["spec"], old["spec"]
        changed = [key for key in {*spec, *former} if spec.get(key) != former.get(key)]
        if any(key not in _CHANGEABLE for key in changed):
            causes.append(v.forbidden("spec", _UPDATES))
        return causes


def _with_claims(spec: Json) -> Json | None:
    """Return the pod template with the volumes that pods get from the claim templates; None without a template.

    As in Kubernetes, names are not checked: a claim template replaces the volume with the same name.
    """
    template: Json | None = spec.get("template")
    names = [(one.get("metadata") or {}).get("name") or "" for one in spec.get("volumeClaimTemplates") or ()]
    if template is None or not names:
        return template
    pod = template.get("spec") or {}
    volumes = [one for one in pod.get("volumes") or () if one.get("name") not in names]
    claimed = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in dict.fromkeys(names)]
    return {**template, "spec": {**pod, "volumes": volumes + claimed}}


def _management(policy: str | None) -> list[Cause]:
    at = "spec.podManagementPolicy"
    if not policy:
        return [v.required(at)]
    return (
        []
        if policy in ("OrderedReady", "Parallel")
        else [v.invalid(at, policy, "must be 'OrderedReady' or 'Parallel'")]
    )


def _strategy(strategy: Json) -> list[Cause]:
    at = "spec.updateStrategy"
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if not kind:
        return [v.required(f"{at}.type")]
    if kind == "OnDelete":
        text = "only allowed for updateStrategy 'RollingUpdate'"
        return [] if rolling is None else [v.invalid(f"{at}.rollingUpdate", rolling, text)]
    if kind != "RollingUpdate":
        return [v.invalid(f"{at}.type", kind, "must be 'RollingUpdate' or 'OnDelete'")]
    rolling = rolling or {}
    causes = v.non_negative(rolling.get("partition"), f"{at}.rollingUpdate.partition")
    most = rolling.get("maxUnavailable")
    if most is not None:
        where = f"{at}.rollingUpdate.maxUnavailable"
        causes += validate_share(most, where, at_most_all=True)
        if most in (0, "0%"):
            causes.append(v.invalid(where, most, "cannot be 0"))
    return causes


class ControllerRevisionStrategy(Strategy):
    """ControllerRevisions: their data never changes."""

    def has_status(self, obj: Object) -> bool:
        """Return False: the type has no status."""
        return False

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in data and revision."""
        causes = [] if isinstance(obj.get("data"), dict) else [v.required("data", "data is mandatory")]
        return causes + v.non_negative(obj.get("revision"), "revision")

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change."""
        return self.validate(obj) + v.immutable(obj.get("data"), old.get("data"), "data")
