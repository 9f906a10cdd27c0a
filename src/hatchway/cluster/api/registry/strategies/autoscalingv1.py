"""Conversion between autoscaling/v1 and autoscaling/v2 (`pkg/apis/autoscaling/v1/conversion.go`).

Objects are stored as v2. A v1 object has annotations for the fields that v1 lacks. Their values are JSON, in the types
of v1. A client of v1 can therefore read an object and write it back without loss.
"""

from __future__ import annotations

import json
from typing import Any

from hatchway.kube.api import Object

__all__ = ["v1_to_v2", "v2_to_v1"]

Json = dict[str, Any]

_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_CURRENT = "autoscaling.alpha.kubernetes.io/current-metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_ANNOTATIONS = (_METRICS, _CURRENT, _CONDITIONS, _BEHAVIOR)


def v2_to_v1(obj: Object) -> Object:
    """Convert an autoscaling/v2 object to autoscaling/v1. The argument is not changed."""
    spec, status = obj["spec"], obj.get("status") or {}
    metrics, cpu = _without_cpu(spec.get("metrics") or [], "target")
    current, used = _without_cpu(status.get("currentMetrics") or [], "current")
    annotations = dict(obj["metadata"].get("annotations") or {})
    for key, value in (
        (_METRICS, [_metric_to_v1(one) for one in metrics]),
        (_CURRENT, [_status_to_v1(one) for one in current]),
        (_CONDITIONS, status.get("conditions")),
        (_BEHAVIOR, spec.get("behavior")),
    ):
        if value:
            annotations[key] = json.dumps(value, separators=(",", ":"))
    metadata = {**obj["metadata"], "annotations": annotations}
    if not annotations:
        del metadata["annotations"]
    new_spec = {key: spec[key] for key in ("scaleTargetRef", "minReplicas", "maxReplicas") if key in spec}
    if cpu is not None:
        new_spec["targetCPUUtilizationPercentage"] = cpu
    kept = ("observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas")
    new_status = {"currentReplicas": 0, "desiredReplicas": 0}
    new_status |= {key: status[key] for key in kept if key in status}
    if used is not None:
        new_status["currentCPUUtilizationPercentage"] = used
    found = {"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v1", "metadata": metadata}
    return {**found, "spec": new_spec, "status": new_status}


def v1_to_v2(obj: Object) -> Object:
    """Convert an autoscaling/v1 object to autoscaling/v2. As in Kubernetes, unreadable annotations are dropped."""
    spec, status, metadata = obj.get("spec") or {}, obj.get("status") or {}, obj.setdefault("metadata", {})
    annotations = dict(metadata.get("annotations") or {})
    kept = {key: _parsed(annotations.pop(key, "")) for key in _ANNOTATIONS}
    if annotations:
        metadata["annotations"] = annotations
    else:
        metadata.pop("annotations", None)
    metrics = [_metric_to_v2(one) for one in kept[_METRICS] or () if isinstance(one, dict)]
    cpu = spec.get("targetCPUUtilizationPercentage")
    if cpu is not None:
        target = {"type": "Utilization", "averageUtilization": cpu}
        metrics = [*metrics, {"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    new_spec = {key: spec[key] for key in ("scaleTargetRef", "minReplicas", "maxReplicas") if key in spec}
    if metrics:
        new_spec["metrics"] = metrics
    if isinstance(kept[_BEHAVIOR], dict):
        new_spec["behavior"] = kept[_BEHAVIOR]
    counts = ("observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas")
    new_status: Json = {"desiredReplicas": 0}
    new_status |= {key: status[key] for key in counts if key in status}
    if isinstance(kept[_CONDITIONS], list):
        new_status["conditions"] = kept[_CONDITIONS]
    found = {"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2", "metadata": metadata}
    return {**found, "spec": new_spec, "status": new_status}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _without_cpu(metrics: list[Json], key: str) -> tuple[list[Json], int | None]:
    """Return the metrics without the first metric of CPU utilization, and the value of this metric (or None)."""
    for index, one in enumerate(metrics):
        source = one.get("resource") or {}
        value = (source.get(key) or {}).get("averageUtilization")
        if one.get("type") == "Resource" and source.get("name") == "cpu" and value is not None:
            return [*metrics[:index], *metrics[index + 1 :]], value
    return metrics, None


# The fields of metric sources: the name in v1 and the path in v2.
_TARGETS: dict[str, dict[str, tuple[str, ...]]] = {
    "resource": {
        "name": ("name",),
        "targetAverageUtilization": ("target", "averageUtilization"),
        "targetAverageValue": ("target", "averageValue"),
    },
    "containerResource": {
        "name": ("name",),
        "container": ("container",),
        "targetAverageUtilization": ("target", "averageUtilization"),
        "targetAverageValue": ("target", "averageValue"),
    },
    "pods": {
        "metricName": ("metric", "name"),
        "selector": ("metric", "selector"),
        "targetAverageValue": ("target", "averageValue"),
    },
    "object": {
        "target": ("describedObject",),
        "metricName": ("metric", "name"),
        "selector": ("metric", "selector"),
        "targetValue": ("target", "value"),
        "averageValue": ("target", "averageValue"),
    },
    "external": {
        "metricName": ("metric", "name"),
        "metricSelector": ("metric", "selector"),
        "targetValue": ("target", "value"),
        "targetAverageValue": ("target", "averageValue"),
    },
}


def _metric_to_v1(metric: Json) -> Json:
    return _flattened(metric, _TARGETS)


def _status_to_v1(metric: Json) -> Json:
    fields = {
        source: {
            key.replace("target", "current", 1) if key != "target" else key: ("current", *path[1:])
            if path[0] == "target"
            else path
            for key, path in rows.items()
        }
        for source, rows in _TARGETS.items()
    }
    return _flattened(metric, fields)


def _flattened(metric: Json, fields: dict[str, dict[str, tuple[str, ...]]]) -> Json:
    out: Json = {"type": metric.get("type", "")}
    for source, rows in fields.items():
        given = metric.get(source)
        if given is None:
            continue
        flat = out[source] = {}
        for key, path in rows.items():
            value: Any = given
            for step in path:
                value = value.get(step) if isinstance(value, dict) else None
            if value is not None:
                flat[key] = value
    return out


def _metric_to_v2(metric: Json) -> Json:
    out: Json = {"type": metric.get("type", "")}
    for source, rows in _TARGETS.items():
        given = metric.get(source)
        if not isinstance(given, dict):
            continue
        built: Json = {}
        for key, path in rows.items():
            if key not in given:
                continue
            place = built
            for step in path[:-1]:
                place = place.setdefault(step, {})
            place[path[-1]] = given[key]
        target = built.get("target")
        if target is not None:
            kinds = (("averageUtilization", "Utilization"), ("averageValue", "AverageValue"), ("value", "Value"))
            target["type"] = next((kind for key, kind in kinds if key in target), "")
        out[source] = built
    return out
