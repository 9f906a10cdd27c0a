"""The order in which a controller deletes surplus pods (`ActivePodsWithRanks` in `controller_utils.go`). Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hatchway.cluster.controllers.objectfields import annotations_of, is_active, parse_time, pod_phase
from hatchway.kube.api import Object
from hatchway.kube.objects import is_ready
from hatchway.numerals import parse_int

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def deletion_order(related: list[Object], moment: datetime) -> Any:
    """Return a sort key for pods. The pods that should be deleted first come first.

    The order is that of `ActivePodsWithRanks` in controller_utils.go. related: all pods of the ReplicaSet.
    """
    per_node: dict[str, int] = {}
    for pod in related:
        if is_active(pod):
            node = pod["spec"].get("nodeName", "")
            per_node[node] = per_node.get(node, 0) + 1
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}

    def key(pod: Object) -> tuple[Any, ...]:
        ready_since = next(
            (
                parse_time(c.get("lastTransitionTime"))
                for c in (pod.get("status") or {}).get("conditions") or ()
                if c.get("type") == "Ready" and c.get("status") == "True"
            ),
            None,
        )
        statuses = (pod.get("status") or {}).get("containerStatuses") or ()
        restarts = max((status.get("restartCount", 0) for status in statuses), default=0)
        created = parse_time(pod["metadata"].get("creationTimestamp")) or moment
        node = pod["spec"].get("nodeName", "")
        return (
            bool(node),
            phases.get(pod_phase(pod), 0),
            is_ready(pod),
            _deletion_cost(pod),
            -per_node.get(node, 0),
            -ready_since.timestamp() if ready_since else 0.0,
            -restarts,
            -created.timestamp(),
        )

    return key


def _deletion_cost(pod: Object) -> int:
    return parse_int(annotations_of(pod).get(DELETION_COST)) or 0
