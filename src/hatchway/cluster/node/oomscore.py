"""Decides which containers' processes the kernel ends first when memory is short (`pkg/kubelet/qos/policy.go`).

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from hatchway.cluster.quantity import parse_quantity
from hatchway.kube.api import Object

# Kubernetes gives containers of guaranteed pods -997, which only root may set; the node agent has 0.
_GUARANTEED, _LEAST, _MOST = 1, 3, 1000


def oom_score(pod: Object, container: Object, allocatable: Mapping[str, str]) -> int:
    """Return a container's oom_score_adj: the less of the node's memory it requests, the higher."""
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
