"""HorizontalPodAutoscalers (autoscaling/v2): defaults and validation (`pkg/apis/autoscaling`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext
from hatchway.cluster.quantity import parse_quantity
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["HorizontalPodAutoscalerStrategy"]

Json = dict[str, Any]

# `pkg/apis/autoscaling/v2/defaults.go`
_DEFAULT_UTILIZATION = 80
_SCALE_UP: Json = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_SCALE_DOWN: Json = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}
# `pkg/apis/autoscaling/validation/validation.go`
_MAX_PERIOD, _MAX_WINDOW = 1800, 3600
# The field of each type of metric.
_SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_POSITIVE, _NOT_NEGATIVE = "must be greater than zero", "must be greater than or equal to zero"


class HorizontalPodAutoscalerStrategy(Strategy):
    """HorizontalPodAutoscalers in the form of autoscaling/v2, which is also the stored form."""

    requires_spec = True

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set the minimum (1 replica) and the target (80 % of the CPU), and complete `spec.behavior` if it is set."""
        spec = obj["spec"]
        spec.setdefault("minReplicas", 1)
        if not spec.get("metrics"):
            target = {"type": "Utilization", "averageUtilization": _DEFAULT_UTILIZATION}
            spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
        behavior = spec.get("behavior")
        if behavior is not None:
            for key, rules in (("scaleUp", _SCALE_UP), ("scaleDown", _SCALE_DOWN)):
                given = behavior.get(key) or {}
                behavior[key] = {**rules, **{name: value for name, value in given.items() if value is not None}}

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Set a status without replicas and metrics. Kubernetes always writes these fields, so clients expect them."""
        obj["status"] = {"desiredReplicas": 0, "currentMetrics": None}

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the reference, the limits, the metrics and the behavior."""
        spec = obj["spec"]
        causes = _reference(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef")
        least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
        if least < 1:
            causes.append(v.invalid("spec.minReplicas", least, "must be greater than or equal to 1"))
        if most < 1:
            causes.append(v.invalid("spec.maxReplicas", most, "must be greater than 0"))
        if most < least:
            causes.append(v.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
        for index, metric in enumerate(spec.get("metrics") or ()):
            causes += _metric(metric, f"spec.metrics[{index}]")
        for key in ("scaleUp", "scaleDown"):
            rules = (spec.get("behavior") or {}).get(key)
            if rules:
                causes += _rules(rules, f"spec.behavior.{key}")
        return causes

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in the counts of replicas."""
        status = obj.get("status") or {}
        causes = []
        for key in ("currentReplicas", "desiredReplicas"):
            causes += v.non_negative(status.get(key), f"status.{key}")
        return causes


def _reference(reference: Json, at: str) -> list[Cause]:
    causes = []
    for key in ("kind", "name"):
        value = reference.get(key) or ""
        if not value:
            causes.append(v.required(f"{at}.{key}"))
        else:
            causes += v.each(f"{at}.{key}", value, v.path_segment(value))
    return causes


def _metric(metric: Json, at: str) -> list[Cause]:
    kind = metric.get("type") or ""
    if not kind:
        return [v.required(f"{at}.type", "must specify a metric source type")]
    if kind not in _SOURCES:
        return [v.not_supported(f"{at}.type", kind, sorted(_SOURCES))]
    causes = []
    for key in _SOURCES.values():
        if metric.get(key) is not None and key != _SOURCES[kind]:
            text = "must populate the given metric source only"
            causes.append(v.forbidden(f"{at}.{key}", text))
    source = metric.get(_SOURCES[kind])
    if source is None:
        text = f"must populate information for the given metric source {kind}"
        return [*causes, v.required(f"{at}.{_SOURCES[kind]}", text)]
    return causes + _source(kind, source, f"{at}.{_SOURCES[kind]}")


def _source(kind: str, source: Json, at: str) -> list[Cause]:
    causes = []
    if kind in ("Resource", "ContainerResource"):
        if not source.get("name"):
            causes.append(v.required(f"{at}.name", "must specify a resource name"))
        if kind == "ContainerResource" and not source.get("container"):
            causes.append(v.required(f"{at}.container", "must specify a container"))
    else:
        metric = source.get("metric") or {}
        if not metric.get("name"):
            causes.append(v.required(f"{at}.metric.name", "must specify a metric name"))
        causes += v.label_selector(metric.get("selector"), f"{at}.metric.selector")
        if kind == "Object":
            causes += _reference(source.get("describedObject") or {}, f"{at}.describedObject")
    target = source.get("target") or {}
    causes += _target(target, f"{at}.target")
    utilization, average, value = (target.get(key) for key in ("averageUtilization", "averageValue", "value"))
    if kind in ("Resource", "ContainerResource"):
        if utilization is None and average is None:
            text = "must set either a target raw value or a target utilization"
            causes.append(v.required(f"{at}.target.averageUtilization", text))
        if utilization is not None and average is not None:
            text = "may not set both a target raw value and a target utilization"
            causes.append(v.forbidden(f"{at}.target.averageValue", text))
    elif kind == "Pods":
        if average is None:
            causes.append(v.required(f"{at}.target.averageValue", "must specify a positive target averageValue"))
    elif value is None and average is None:
        text = "must set either a target value or averageValue"
        causes.append(v.required(f"{at}.target.averageValue", text))
    return causes


def _target(target: Json, at: str) -> list[Cause]:
    kind = target.get("type") or ""
    causes = []
    if not kind:
        causes.append(v.required(f"{at}.type", "must specify a metric target type"))
    elif kind not in ("Utilization", "Value", "AverageValue"):
        text = "must be either Utilization, Value, or AverageValue"
        causes.append(v.invalid(f"{at}.type", kind, text))
    for key in ("value", "averageValue"):
        if target.get(key) is not None and parse_quantity(target[key]) <= 0:
            causes.append(v.invalid(f"{at}.{key}", target[key], "must be positive"))
    utilization = target.get("averageUtilization")
    if utilization is not None and utilization < 1:
        causes.append(v.invalid(f"{at}.averageUtilization", utilization, "must be greater than 0"))
    return causes


def _rules(rules: Json, at: str) -> list[Cause]:
    causes = []
    window = rules.get("stabilizationWindowSeconds")
    if window is not None and window < 0:
        causes.append(v.invalid(f"{at}.stabilizationWindowSeconds", window, _NOT_NEGATIVE))
    if window is not None and window > _MAX_WINDOW:
        text = f"must be less than or equal to {_MAX_WINDOW}"
        causes.append(v.invalid(f"{at}.stabilizationWindowSeconds", window, text))
    if rules.get("selectPolicy") not in (None, "Max", "Min", "Disabled"):
        supported = ("Disabled", "Max", "Min")
        causes.append(v.not_supported(f"{at}.selectPolicy", rules["selectPolicy"], supported))
    tolerance = rules.get("tolerance")
    if tolerance is not None and parse_quantity(tolerance) < 0:
        causes.append(v.invalid(f"{at}.tolerance", tolerance, "must be greater or equal to 0"))
    policies = rules.get("policies") or []
    if not policies:
        causes.append(v.required(f"{at}.policies", "must specify at least one Policy"))
    for index, policy in enumerate(policies):
        where = f"{at}.policies[{index}]"
        if policy.get("type") not in ("Pods", "Percent"):
            causes.append(v.not_supported(f"{where}.type", policy.get("type", ""), ("Percent", "Pods")))
        for key in ("value", "periodSeconds"):
            if policy.get(key, 0) <= 0:
                causes.append(v.invalid(f"{where}.{key}", policy.get(key, 0), _POSITIVE))
        if policy.get("periodSeconds", 0) > _MAX_PERIOD:
            text = f"must be less than or equal to {_MAX_PERIOD}"
            causes.append(v.invalid(f"{where}.periodSeconds", policy["periodSeconds"], text))
    return causes
