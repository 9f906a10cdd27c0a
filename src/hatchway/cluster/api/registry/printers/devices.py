"""Printers of the types of resource.k8s.io (`pkg/printers/internalversion/printers.go`)."""

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
)

__all__ = ["DEVICE_CLASS", "RESOURCE_CLAIM", "RESOURCE_SLICE"]


def _plain(obj: Json, now: float) -> Cells:
    return [name_of(obj), age_of(obj, now)]


def _claim(obj: Json, now: float) -> Cells:
    status = obj.get("status") or {}
    deleting = bool(metadata_of(obj).get("deletionTimestamp"))
    states = ["deleted"] if deleting else []
    if status.get("allocation") is None:
        states += [] if deleting else ["pending"]
    else:
        states += ["allocated", *(["reserved"] if status.get("reservedFor") else [])]
    return [name_of(obj), ",".join(states), age_of(obj, now)]


def _slice(obj: Json, now: float) -> Cells:
    spec = obj.get("spec") or {}
    pool = (spec.get("pool") or {}).get("name", "")
    return [name_of(obj), spec.get("nodeName") or "", spec.get("driver", ""), pool, age_of(obj, now)]


DEVICE_CLASS = Printer(_plain, NAME, AGE)
RESOURCE_CLAIM = Printer(
    _claim, NAME, Column("State", description="Pending, allocated, reserved for pods, or deleted"), AGE
)
RESOURCE_SLICE = Printer(
    _slice,
    NAME,
    Column("Node", description="The node on which the devices can be used"),
    Column("Driver", description="The driver of the devices"),
    Column("Pool", description="The pool to which the devices belong"),
    AGE,
)
