"""Renders a kubelet's metrics in Prometheus' text format. (`cadvisormetrics.py` renders cAdvisor's.)"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from hatchway.cluster.node.measures import NodeMeasure
from hatchway.cluster.node.metricstext import MetricsText
from hatchway.cluster.node.worker import PodWorker
from hatchway.cluster.release import GIT_VERSION
from hatchway.kube.api import Object

STARTED = time.time()


def _pod_labels(pod: Object) -> dict[str, str]:
    return {"namespace": pod["metadata"].get("namespace", ""), "pod": pod["metadata"]["name"]}


def render(node: str, workers: Mapping[str, PodWorker]) -> bytes:
    """Return the text of `/metrics`: the kubelet's own metrics (`pkg/kubelet/metrics/metrics.go`)."""
    states = {"running": 0, "waiting": 0, "exited": 0}
    for worker in workers.values():
        for container in worker.containers.all:
            state = container.state.state
            states["running" if "running" in state else "exited" if "terminated" in state else "waiting"] += 1
    running = sum(worker.containers.running_count > 0 for worker in workers.values())
    of_process = resource.getrusage(resource.RUSAGE_SELF)
    text = MetricsText()
    text.family("kubelet_node_name", "gauge", "The node's name. The count is always 1.", [({"node": node}, 1)])
    text.family("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox", [({}, running)])
    text.family(
        "kubelet_running_containers",
        "gauge",
        "Number of containers currently running",
        [({"container_state": state}, count) for state, count in states.items()],
    )
    text.family("kubernetes_build_info", "gauge", "Always 1.", [({"git_version": GIT_VERSION}, 1)])
    text.family(
        "process_cpu_seconds_total",
        "counter",
        "CPU time of the agent of all nodes in seconds",
        [({}, of_process.ru_utime + of_process.ru_stime)],
    )
    # ru_maxrss is in KiB on Linux, in bytes on macOS.
    peak = of_process.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    text.family("process_max_resident_memory_bytes", "gauge", "Most memory that the agent has had", [({}, peak)])
    resident = _resident_bytes()
    if resident:
        text.family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", [({}, resident)])
    _start_time(text)
    return text.encode()


def _resident_bytes() -> int:
    """Return the resident memory of this process in bytes; 0 on platforms without /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _start_time(text: MetricsText) -> None:
    what = "Start time of the process since unix epoch in seconds."
    text.family("process_start_time_seconds", "gauge", what, [({}, STARTED)])


def render_probes(workers: Mapping[str, PodWorker]) -> bytes:
    """Return the text of `/metrics/probes` (`pkg/kubelet/prober/prober_manager.go`)."""
    text = MetricsText()
    _start_time(text)
    what = "Cumulative number of a liveness, readiness or startup probe for a container by result."
    samples = [
        (
            {
                "container": container.name,
                **_pod_labels(worker.pod),
                "pod_uid": worker.uid,
                "probe_type": kind.capitalize(),
                "result": result,
            },
            count,
        )
        for worker in workers.values()
        for container in worker.containers.all
        for (kind, result), count in container.probed.items()
    ]
    text.family("prober_probe_total", "counter", f"[BETA] {what}", samples)
    return text.encode()


def render_resources(measure: NodeMeasure) -> bytes:
    """Return the text of `/metrics/resource`, for metrics-server (`metrics/collectors/resource_metrics.go`)."""
    text = MetricsText(int(measure.moment * 1000))
    containers = [
        ({"container": found.container.name, **_pod_labels(pod.pod)}, found)
        for pod in measure.pods
        for found in pod.containers
    ]
    pods = [(_pod_labels(pod.pod), pod.total) for pod in measure.pods]
    cpu, memory = "Cumulative cpu time consumed by the {} in core-seconds", "Current working set of the {} in bytes"
    text.family(
        "container_cpu_usage_seconds_total",
        "counter",
        f"[STABLE] {cpu.format('container')}",
        [(labels, found.usage.cpu) for labels, found in containers],
    )
    text.family(
        "container_memory_working_set_bytes",
        "gauge",
        f"[STABLE] {memory.format('container')}",
        [(labels, found.usage.memory) for labels, found in containers],
    )
    text.family(
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
        [(labels, found.started) for labels, found in containers],
    )
    node = measure.machine
    text.family("node_cpu_usage_seconds_total", "counter", f"[STABLE] {cpu.format('node')}", [({}, node.cpu)])
    text.family("node_memory_working_set_bytes", "gauge", f"[STABLE] {memory.format('node')}", [({}, node.memory)])
    text.family(
        "pod_cpu_usage_seconds_total",
        "counter",
        f"[STABLE] {cpu.format('pod')}",
        [(labels, found.cpu) for labels, found in pods],
    )
    text.family(
        "pod_memory_working_set_bytes",
        "gauge",
        f"[STABLE] {memory.format('pod')}",
        [(labels, found.memory) for labels, found in pods],
    )
    done = MetricsText()
    why = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise"
    done.family("resource_scrape_error", "gauge", why, [({}, 0)])
    return text.encode() + done.encode()
