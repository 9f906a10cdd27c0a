"""Printers of HorizontalPodAutoscalers (`pkg/printers/internalversion/printers.go`, `formatHPAMetrics`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry.printers.base import AGE, NAME, Cells, Column, Json, Printer, age_of, name_of
from hatchway.cluster.api.registry.printers.humanize import NONE

__all__ = ["HORIZONTAL_POD_AUTOSCALER", "HORIZONTAL_POD_AUTOSCALER_V1"]

_UNKNOWN = "<unknown>"
# How many metrics are shown.
_SHOWN = 2
_SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}


def _metric(spec: Json, status: Json) -> str:
    kind = spec.get("type", "")
    source = _SOURCES.get(kind)
    if source is None:
        return "<unknown type>"
    given, found = spec.get(source) or {}, status.get(source) or {}
    target, current = given.get("target") or {}, found.get("current") or {}

    def pair(key: str, suffix: str = "", missing: str = "") -> str:
        def shown(value: Any, instead: str) -> str:
            return instead if value is None else f"{value}{suffix}"

        return f"{shown(current.get(key), _UNKNOWN)}/{shown(target.get(key), missing)}"

    if kind in ("Resource", "ContainerResource"):
        if target.get("averageValue") is not None:
            return f"{given.get('name', '')}: {pair('averageValue')}"
        return f"{given.get('name', '')}: {pair('averageUtilization', '%', '<auto>')}"
    if kind == "Pods":
        return pair("averageValue")
    return f"{pair('averageValue')} (avg)" if target.get("averageValue") is not None else pair("value")


def _targets(spec: Json, status: Json) -> str:
    metrics, current = spec.get("metrics") or [], status.get("currentMetrics") or []
    if not metrics:
        return NONE
    shown = [
        _metric(metric, current[index] if index < len(current) else {}) for index, metric in enumerate(metrics[:_SHOWN])
    ]
    more = len(metrics) - _SHOWN
    return ", ".join(shown) + (f" + {more} more..." if more > 0 else "")


def _cells(obj: Json, now: float) -> Cells:
    spec, status = obj.get("spec", {}), obj.get("status") or {}
    return _row(obj, _targets(spec, status), now)


def _cells_v1(obj: Json, now: float) -> Cells:
    spec, status = obj.get("spec", {}), obj.get("status") or {}
    target, current = spec.get("targetCPUUtilizationPercentage"), status.get("currentCPUUtilizationPercentage")
    shown = NONE
    if target is not None:
        shown = f"cpu: {_UNKNOWN if current is None else f'{current}%'}/{target}%"
    return _row(obj, shown, now)


def _row(obj: Json, targets: str, now: float) -> Cells:
    spec, status = obj.get("spec", {}), obj.get("status") or {}
    reference = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return [
        name_of(obj),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        targets,
        "<unset>" if least is None else str(least),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age_of(obj, now),
    ]


_COLUMNS = (
    NAME,
    Column("Reference", description="The object that is scaled"),
    Column("Targets", description="The value and the target of each metric"),
    Column("MinPods", description="The lowest allowed number of pods"),
    Column("MaxPods", description="The highest allowed number of pods"),
    Column("Replicas", description="The current number of pods"),
    AGE,
)
HORIZONTAL_POD_AUTOSCALER = Printer(_cells, *_COLUMNS)
HORIZONTAL_POD_AUTOSCALER_V1 = Printer(_cells_v1, *_COLUMNS)
