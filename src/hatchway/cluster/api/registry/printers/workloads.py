"""Printers of workloads (except pods and Jobs) and of their revisions (Kubernetes' `internalversion/printers.go`)."""

from __future__ import annotations

from hatchway.cluster.api.registry.printers.base import (
    AGE,
    NAME,
    Cells,
    Column,
    Json,
    Printer,
    age_of,
    name_of,
    shown_labels,
)
from hatchway.cluster.api.registry.printers.humanize import NONE

__all__ = [
    "CONTROLLER_REVISION",
    "DAEMON_SET",
    "DEPLOYMENT",
    "REPLICATION_CONTROLLER",
    "REPLICA_SET",
    "STATEFUL_SET",
    "TEMPLATE",
    "containers_of",
    "selector_text",
]


def selector_text(selector: Json | None) -> str:
    """Return a label selector in the syntax of `-l` (metav1 `FormatLabelSelector`)."""
    if not selector:
        return NONE
    parts = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or ():
        key, operator, values = one.get("key", ""), one.get("operator"), ",".join(sorted(one.get("values") or ()))
        text = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }.get(operator, "<error>")
        parts.append((key, text))
    return ",".join(text for _, text in sorted(parts)) or NONE


def containers_of(template: Json) -> tuple[str, str]:
    """Return the names and the images of a template's containers."""
    containers = template.get("spec", {}).get("containers") or []
    names = ",".join(str(one.get("name", "")) for one in containers)
    return names, ",".join(str(one.get("image", "")) for one in containers)


def _deployment(obj: Json, now: float) -> Cells:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    return [
        name_of(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age_of(obj, now),
        *containers_of(spec.get("template", {})),
        selector_text(spec.get("selector")),
    ]


def _replica_set(obj: Json, now: float) -> Cells:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    return [
        name_of(obj),
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        age_of(obj, now),
        *containers_of(spec.get("template", {})),
        selector_text(spec.get("selector")),
    ]


TEMPLATE = (
    Column("Containers", wide=True, description="The names of the template's containers"),
    Column("Images", wide=True, description="The images of the template's containers"),
    Column("Selector", wide=True, description="The selector of the pods"),
)
DEPLOYMENT = Printer(
    _deployment,
    NAME,
    Column("Ready", description="How many of the wanted pods are ready"),
    Column("Up-to-date", description="How many pods have the current template"),
    Column("Available", description="How many pods have been ready for long enough"),
    AGE,
    *TEMPLATE,
)
REPLICA_SET = Printer(
    _replica_set,
    NAME,
    Column("Desired", "integer", description="How many pods are wanted"),
    Column("Current", "integer", description="How many pods there are"),
    Column("Ready", "integer", description="How many pods are ready"),
    AGE,
    *TEMPLATE,
)


def _stateful_set(obj: Json, now: float) -> Cells:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [name_of(obj), ready, age_of(obj, now), *containers_of(spec.get("template", {}))]


STATEFUL_SET = Printer(
    _stateful_set,
    NAME,
    Column("Ready", description="How many of the wanted pods are ready"),
    AGE,
    *TEMPLATE[:2],
)


def _controller_revision(obj: Json, now: float) -> Cells:
    owners = obj.get("metadata", {}).get("ownerReferences") or ()
    owner = next((one for one in owners if one.get("controller")), None)
    group = owner["apiVersion"].rpartition("/")[0] if owner else ""
    shown = f"{owner['kind'].lower()}{'.' + group if group else ''}/{owner['name']}" if owner else NONE
    return [name_of(obj), shown, obj.get("revision", 0), age_of(obj, now)]


CONTROLLER_REVISION = Printer(
    _controller_revision,
    NAME,
    Column("Controller", description="The object to which the template belongs"),
    Column("Revision", "integer", description="The number of the revision; later revisions have higher numbers"),
    AGE,
)


def _daemon_set(obj: Json, now: float) -> Cells:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    template = spec.get("template", {})
    counts = (
        "desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable",
    )  # fmt: skip
    return [
        name_of(obj),
        *(status.get(key, 0) for key in counts),
        shown_labels(template.get("spec", {}).get("nodeSelector")),
        age_of(obj, now),
        *containers_of(template),
        selector_text(spec.get("selector")),
    ]


DAEMON_SET = Printer(
    _daemon_set,
    NAME,
    Column("Desired", "integer", description="How many nodes should have a pod"),
    Column("Current", "integer", description="How many of these nodes have a pod"),
    Column("Ready", "integer", description="How many nodes have a ready pod"),
    Column("Up-to-date", "integer", description="How many pods have the current template"),
    Column("Available", "integer", description="How many pods have been ready for long enough"),
    Column("Node Selector", description="The labels of the nodes"),
    AGE,
    *TEMPLATE,
)


def _replication_controller(obj: Json, now: float) -> Cells:
    return [*_replica_set(obj, now)[:-1], shown_labels(obj.get("spec", {}).get("selector"))]


REPLICATION_CONTROLLER = Printer(
    _replication_controller,
    NAME,
    Column("Desired", "integer", description="How many pods are wanted"),
    Column("Current", "integer", description="How many pods there are"),
    Column("Ready", "integer", description="How many pods are ready"),
    AGE,
    *TEMPLATE,
)
