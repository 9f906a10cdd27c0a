"""What a kubelet measures: Prometheus' text format and the summary API, by hand."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from hatchway.cluster.node import clock
from hatchway.cluster.node.registration import KUBELET_VERSION
from hatchway.cluster.node.worker import PodWorker
from hatchway.kube.api import Object

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_STARTED = time.time()


def render(node: str, workers: Mapping[str, PodWorker]) -> str:
    """The node's metrics, with Kubernetes' names (`pkg/kubelet/metrics/metrics.go`)."""
    states = {"running": 0, "waiting": 0, "exited": 0}
    restarts = []
    for worker in workers.values():
        metadata = worker.pod["metadata"]
        for container in [*worker.init, *worker.main]:
            state = container.state.state
            states["running" if "running" in state else "exited" if "terminated" in state else "waiting"] += 1
            labels = (
                f'container="{container.name}",namespace="{metadata.get("namespace", "")}",pod="{metadata["name"]}"'
            )
            restarts.append((labels, container.state.restarts))
    lines: list[str] = []

    def family(name: str, kind: str, text: str, samples: Sequence[tuple[str, float]]) -> None:
        lines.extend((f"# HELP {name} {text}", f"# TYPE {name} {kind}"))
        lines.extend(f"{name}{{{labels}}} {value:g}" if labels else f"{name} {value:g}" for labels, value in samples)

    running = sum(worker.running_containers > 0 for worker in workers.values())
    family("kubelet_node_name", "gauge", "The node's name. The count is always 1.", [(f'node="{node}"', 1)])
    family("kubelet_running_pods", "gauge", "Number of pods that have a running container", [("", running)])
    family(
        "kubelet_running_containers",
        "gauge",
        "Number of containers by state",
        [(f'container_state="{state}"', count) for state, count in states.items()],
    )
    family("kubelet_container_restarts", "counter", "Number of restarts of a container", restarts)
    family("kubernetes_build_info", "gauge", "Always 1.", [(f'git_version="{KUBELET_VERSION}"', 1)])
    family(
        "process_cpu_seconds_total",
        "counter",
        "CPU time of the agent of all nodes in seconds",
        [("", sum(os.times()[:2]))],
    )
    family("process_start_time_seconds", "gauge", "Start of the agent since the epoch in seconds", [("", _STARTED)])
    return "\n".join(lines) + "\n"


def summary(node: str, workers: Mapping[str, PodWorker]) -> Object:
    """`/stats/summary` (`pkg/kubelet/apis/stats/v1alpha1`): which pods there are; usage is not measured."""
    now = clock.rfc3339(clock.now())
    return {
        "node": {"nodeName": node, "startTime": clock.rfc3339_epoch(_STARTED)},
        "pods": [
            {
                "podRef": {
                    "name": worker.pod["metadata"]["name"],
                    "namespace": worker.pod["metadata"].get("namespace", ""),
                    "uid": worker.uid,
                },
                "startTime": (worker.pod.get("status") or {}).get("startTime") or now,
                "containers": [
                    {"name": container.name, "startTime": container.state.state["running"].get("startedAt") or now}
                    for container in [*worker.init, *worker.main]
                    if container.state.running
                ],
            }
            for worker in workers.values()
        ],
    }
