"""Pods without requests and constraints are spread over the nodes, too."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hatchway.cluster.controllers.placement import choose
from hatchway.cluster.controllers.scheduling.clusterstate import ClusterState
from hatchway.cluster.controllers.scheduling.podinfo import PodInfo


def node(name: str) -> dict[str, Any]:
    status = {
        "allocatable": {"cpu": "2", "memory": "8Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return {"metadata": {"name": name}, "spec": {}, "status": status}


def pod(name: str, requests: dict[str, str] | None = None) -> dict[str, Any]:
    container = {"name": "c", **({"resources": {"requests": requests}} if requests else {})}
    return {"metadata": {"name": name, "namespace": "x", "uid": name}, "spec": {"containers": [container]}}


def test_pods_without_requests_are_not_all_placed_on_one_node() -> None:
    cluster = ClusterState([node(name) for name in ("a", "b", "c")])
    cluster.place(PodInfo.of(pod("dns", {"cpu": "100m", "memory": "40Mi"})), "a")
    cluster.place(PodInfo.of(pod("logging", {"cpu": "100m", "memory": "100Mi"})), "b")
    placed: Counter[str] = Counter()
    for number in range(8):
        wanted = PodInfo.of(pod(f"bare-{number}"))
        decision = choose(wanted, cluster)
        assert decision.node, decision.message
        cluster.place(wanted, decision.node)
        placed[decision.node] += 1
    assert min(placed.values()) >= 2
