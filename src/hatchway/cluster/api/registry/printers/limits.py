"""Printers of ResourceQuotas and PodTemplates (Kubernetes' `internalversion/printers.go`).

LimitRanges have no columns of their own: their table shows the name and the age.
"""

from __future__ import annotations

from hatchway.cluster.api.registry.printers.base import (
    AGE,
    NAME,
    Cells,
    Column,
    Json,
    Printer,
    age_of,
    metadata_of,
    name_of,
    shown_labels,
)
from hatchway.cluster.api.registry.printers.workloads import containers_of

__all__ = ["POD_TEMPLATE", "RESOURCE_QUOTA"]


def _resource_quota(obj: Json, now: float) -> Cells:
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for name in sorted(hard):
        (limits if name.startswith("limits.") else requests).append(f"{name}: {used.get(name, '0')}/{hard[name]}")
    return [name_of(obj), ", ".join(requests), ", ".join(limits), age_of(obj, now)]


def _pod_template(obj: Json, now: float) -> Cells:
    template = obj.get("template") or {}
    return [name_of(obj), *containers_of(template), shown_labels(metadata_of(template).get("labels"))]


RESOURCE_QUOTA = Printer(
    _resource_quota,
    NAME,
    Column("Request", description="Used and allowed amounts of objects and of requests"),
    Column("Limit", description="Used and allowed amounts of limits"),
    AGE,
)
POD_TEMPLATE = Printer(
    _pod_template,
    NAME,
    Column("Containers", description="The names of the template's containers"),
    Column("Images", description="The images of the template's containers"),
    Column("Pod Labels", description="The labels of the template's pods"),
)
