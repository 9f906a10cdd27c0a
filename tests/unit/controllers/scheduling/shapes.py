"""Makes nodes and pods for tests of the scheduler's rules."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.controllers.placement import Decision, choose
from hatchway.cluster.controllers.scheduling.clusterstate import ClusterState
from hatchway.cluster.controllers.scheduling.podinfo import PodInfo
from hatchway.kube.api import Object

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def node(name: str, *, labels: dict[str, str] | None = None, allocatable: Object | None = None, **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "labels": {HOST: name, **(labels or {})}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110", **(allocatable or {})},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str, labels: dict[str, str] | None = None, *, cpu: str = "", namespace: str = "d", **spec: Any) -> Object:
    container: Object = {"name": "c", "image": "x"}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": labels or {}},
        "spec": {"containers": [container], **spec},
    }


def term(topology: str = HOST, **labels: str) -> Object:
    return {"topologyKey": topology, "labelSelector": {"matchLabels": labels}}


def cluster_of(nodes: list[Object], placed: dict[str, list[Object]] | None = None, **more: Any) -> ClusterState:
    found = ClusterState(nodes, **more)
    for name, pods in (placed or {}).items():
        for one in pods:
            found.place(PodInfo.of(one), name)
    return found


def decide(wanted: Object, cluster: ClusterState, **more: Any) -> Decision:
    return choose(PodInfo.of(wanted), cluster, **more)
