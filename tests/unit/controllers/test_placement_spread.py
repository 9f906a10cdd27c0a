"""Pods that ask for nothing are spread over nodes all the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hatchway.cluster.controllers.placement import NodeState, choose


def node(name: str) -> dict[str, Any]:
    status = {
        "allocatable": {"cpu": "2", "memory": "8Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return {"metadata": {"name": name}, "spec": {}, "status": status}


def pod(name: str, requests: dict[str, str] | None = None) -> dict[str, Any]:
    container = {"name": "c", **({"resources": {"requests": requests}} if requests else {})}
    return {"metadata": {"name": name, "namespace": "x", "uid": name}, "spec": {"containers": [container]}}


def test_pods_without_requests_do_not_all_go_to_the_node_whose_pods_request_nothing() -> None:
    states = [NodeState(node(name)) for name in ("a", "b", "c")]
    states[0].add(pod("dns", {"cpu": "100m", "memory": "40Mi"}))
    states[1].add(pod("logging", {"cpu": "100m", "memory": "100Mi"}))
    placed: Counter[str] = Counter()
    for number in range(8):
        wanted = pod(f"bare-{number}")
        chosen, why = choose(wanted, states)
        assert chosen is not None, why
        chosen.add(wanted)
        placed[chosen.name] += 1
    assert min(placed.values()) >= 2
