"""kube-state-metrics' metrics of autoscalers (`internal/store/horizontalpodautoscaler.go`). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hatchway.addons.metrics.statefamilies import (
    Family,
    Samples,
    conditions,
    created,
    generation,
    number_at,
    quantity,
    spec_of,
)
from hatchway.kube.api import Object

__all__ = ["AUTOSCALER_FAMILIES"]

_SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_TARGETS = (("value", "value"), ("averageUtilization", "utilization"), ("averageValue", "average"))


def _autoscaler_info(obj: Object) -> Samples:
    reference = spec_of(obj).get("scaleTargetRef") or {}
    version = {"scaletargetref_api_version": reference["apiVersion"]} if reference.get("apiVersion") else {}
    labels = {"scaletargetref_kind": reference.get("kind", ""), "scaletargetref_name": reference.get("name", "")}
    return [({**version, **labels}, 1.0)]


def _metrics(where: str, key: str, inner: str) -> Callable[[Object], Samples]:
    """Return a function that makes a sample for each metric of an autoscaler.

    where, key: the field `where.key` has the metrics. inner: `target` for the metrics' targets, `current` for their
    present values.
    """

    def samples(obj: Object) -> Iterator[tuple[dict[str, str], float]]:
        for metric in (obj.get(where) or {}).get(key) or ():
            source = metric.get(_SOURCES.get(metric.get("type", ""), "")) or {}
            name = source.get("name") or (source.get("metric") or {}).get("name") or ""
            for field, kind in _TARGETS:
                value = quantity((source.get(inner) or {}).get(field))
                if value is not None:
                    container = source.get("container", "")
                    yield {"metric_name": name, "metric_target_type": kind, "container": container}, value

    return samples


_AUTOSCALER = "kube_horizontalpodautoscaler"
AUTOSCALER_FAMILIES = (
    Family(f"{_AUTOSCALER}_info", "Information about this autoscaler.", _autoscaler_info),
    Family(f"{_AUTOSCALER}_created", "Unix creation timestamp", created),
    Family(
        f"{_AUTOSCALER}_metadata_generation",
        "The generation observed by the HorizontalPodAutoscaler controller.",
        generation,
    ),
    Family(
        f"{_AUTOSCALER}_spec_max_replicas",
        "Upper limit for the number of pods that can be set by the autoscaler; cannot be smaller than MinReplicas.",
        number_at("spec", "maxReplicas"),
    ),
    Family(
        f"{_AUTOSCALER}_spec_min_replicas",
        "Lower limit for the number of pods that can be set by the autoscaler, default 1.",
        number_at("spec", "minReplicas", 1.0),
    ),
    Family(
        f"{_AUTOSCALER}_spec_target_metric",
        "The metric specifications used by this autoscaler when calculating the desired replica count.",
        _metrics("spec", "metrics", "target"),
    ),
    Family(
        f"{_AUTOSCALER}_status_target_metric",
        "The current metric status used by this autoscaler when calculating the desired replica count.",
        _metrics("status", "currentMetrics", "current"),
    ),
    Family(
        f"{_AUTOSCALER}_status_current_replicas",
        "Current number of replicas of pods managed by this autoscaler.",
        number_at("status", "currentReplicas"),
    ),
    Family(
        f"{_AUTOSCALER}_status_desired_replicas",
        "Desired number of replicas of pods managed by this autoscaler.",
        number_at("status", "desiredReplicas"),
    ),
    Family(f"{_AUTOSCALER}_status_condition", "The condition of this autoscaler.", conditions),
)
