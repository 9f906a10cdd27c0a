"""Shared parts of the files that turn objects into kube-state-metrics' metrics (`internal/store`). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hatchway.kube.api import Object

__all__ = [
    "Family",
    "Samples",
    "boolean",
    "condition_samples",
    "conditions",
    "created",
    "deleted",
    "generation",
    "number_at",
    "owners",
    "quantity",
    "resource_samples",
    "seconds",
    "since",
    "spec_of",
    "status_of",
]

# (labels, value); the labels that name the object are added later.
Samples = Iterable[tuple[dict[str, str], float]]

_QUANTITY = re.compile(r"([+-]?[0-9.]+)(?:[eE]([+-]?[0-9]{1,3})|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?)")
_FACTORS = {
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "": 1.0,
    **{letter: 1000.0**power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)},
}
_STATUSES = ("true", "false", "unknown")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric of all objects of a type. samples: returns the samples of one object. kind: "gauge" or "counter"."""

    name: str
    help: str
    samples: Callable[[Object], Samples]
    kind: str = "gauge"


def seconds(text: str | None) -> float | None:
    """Return a timestamp as seconds since the epoch; None when it is missing or not valid."""
    if not text:
        return None
    try:
        return float(int(datetime.fromisoformat(text).timestamp()))
    except ValueError:
        return None


def since(text: str | None) -> Samples:
    """Return one sample with a timestamp as its value; no sample when the timestamp is missing or not valid."""
    found = seconds(text)
    return [({}, found)] if found is not None else []


def boolean(value: bool) -> float:
    """Return 1 for True, 0 for False."""
    return 1.0 if value else 0.0


def quantity(text: Any) -> float | None:
    """Return a resource quantity as a number; None when it is not valid."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        return None
    try:
        return float(match[1]) * (10.0 ** int(match[2]) if match[2] else _FACTORS[match[3] or ""])
    except (ValueError, OverflowError):
        return None


def condition_samples(value: str, name: str, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
    """Yield a sample for each possible status of a condition: 1 for its present status, 0 for the others.

    value: the present status. name: the name of the label with the status.
    """
    for one in _STATUSES:
        yield {**labels, name: one}, boolean(value.lower() == one)


def resource_samples(resources: Any, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
    """Yield a sample for each resource of a map such as `requests`, with the labels `resource` and `unit`."""
    for name, text in (resources or {}).items():
        value = quantity(text)
        if value is None:
            continue
        unit = "integer"
        if name == "cpu":
            unit = "core"
        elif name in ("memory", "storage", "ephemeral-storage") or name.startswith("hugepages-"):
            unit = "byte"
        elif name != "pods" and "/" not in name:
            continue
        yield {**labels, "resource": re.sub("[^a-zA-Z0-9_]", "_", name), "unit": unit}, value


def spec_of(obj: Object) -> dict[str, Any]:
    """Return an object's spec; empty without one."""
    return obj.get("spec") or {}


def status_of(obj: Object) -> dict[str, Any]:
    """Return an object's status; empty without one."""
    return obj.get("status") or {}


# Samples of one object, for `Family.samples`


def created(obj: Object) -> Samples:
    """Return a sample with the time of the object's creation."""
    return since(obj["metadata"].get("creationTimestamp"))


def deleted(obj: Object) -> Samples:
    """Return a sample with the time of the object's deletion; no sample while it is not being deleted."""
    return since(obj["metadata"].get("deletionTimestamp"))


def number_at(where: str, key: str, default: float | None = 0.0) -> Callable[[Object], Samples]:
    """Return a function that makes a sample of the number at `where.key`.

    default: the value when the number is missing; None for no sample.
    """

    def samples(obj: Object) -> Samples:
        value = (obj.get(where) or {}).get(key, default)
        return [({}, float(value))] if value is not None else []

    return samples


def conditions(obj: Object) -> Iterator[tuple[dict[str, str], float]]:
    """Yield a sample for each condition and each status that it may have."""
    for one in status_of(obj).get("conditions") or ():
        yield from condition_samples(one.get("status", ""), "status", condition=one.get("type", ""))


def owners(*, controller: bool) -> Callable[[Object], Samples]:
    """Return a function that makes a sample for each owner, or one with empty labels for an object without owners.

    controller: add the label that tells whether the owner is the object's controller.
    """

    def samples(obj: Object) -> Iterator[tuple[dict[str, str], float]]:
        for one in obj["metadata"].get("ownerReferences") or ({"kind": "", "name": ""},):
            found = {"owner_kind": one["kind"], "owner_name": one["name"]}
            if controller:
                found["owner_is_controller"] = str(bool(one.get("controller"))).lower() if one["kind"] else ""
            yield found, 1.0

    return samples


def generation(obj: Object) -> Samples:
    """Return a sample with the object's metadata.generation."""
    return [({}, float(obj["metadata"].get("generation") or 0))]
