"""Computes oom_score_adj: the kernel first kills processes with a high score when memory is short (`qos/policy.go`).

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from hatchway.cluster.quantity import parse_quantity
from hatchway.kube.api import Object

# The scores of guaranteed pods, and the bounds for others. Kubernetes uses -997 for guaranteed pods, but only root may
# set negative values. The node agent itself has 0.
_GUARANTEED, _LEAST, _MOST = 1, 3, 1000


def oom_score(pod: Object, container: Object, allocatable: Mapping[str, str]) -> int:
    """Return a container's oom_score_adj: higher for a container that requests a smaller part of the node's memory."""
    kind = (pod.get("status") or {}).get("qosClass")
    if kind == "Guaranteed":
        return _GUARANTEED
    if kind != "Burstable":
        return _MOST
    requested = ((container.get("resources") or {}).get("requests") or {}).get("memory")
    memory = parse_quantity(allocatable.get("memory") or 0)
    if not requested or memory <= 0:
        return _MOST - 1
    return min(max(int(_MOST - _MOST * parse_quantity(str(requested)) / memory), _LEAST), _MOST - 1)
