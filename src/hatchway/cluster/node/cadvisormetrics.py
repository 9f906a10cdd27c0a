"""Renders `/metrics/cadvisor`: metrics of containers, pods and the node, a subset of cAdvisor's.

As in cAdvisor, a pod's series have an empty label `container`, and the node's have the id "/" and no pod.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from hatchway.cluster.node.measures import ContainerMeasure, NodeMeasure, PodMeasure
from hatchway.cluster.node.metricstext import MetricsText
from hatchway.cluster.node.processusage import Usage
from hatchway.cluster.node.resourcelimits import container_limit
from hatchway.cluster.quantity import parse_quantity
from hatchway.kube.api import Object

_PERIOD = 100_000
_Labels = dict[str, str]


def render_cadvisor(measure: NodeMeasure, resources: Mapping[str, str]) -> bytes:
    """Return the text of `/metrics/cadvisor`. resources: the node's capacity."""
    text = MetricsText(int(measure.moment * 1000))
    _cpu_and_memory(text, measure)
    _containers(text, measure)
    _network(text, measure)
    cores, memory = float(parse_quantity(resources["cpu"])), float(parse_quantity(resources["memory"]))
    text.family("machine_cpu_cores", "gauge", "Number of logical CPU cores.", [({}, cores)])
    text.family("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.", [({}, memory)])
    done = MetricsText()
    version = {"kernelVersion": os.uname().release, "osVersion": "", "cadvisorVersion": "", "cadvisorRevision": ""}
    done.family("cadvisor_version_info", "gauge", "Always 1.", [(version, 1)])
    return done.encode() + text.encode()


def _labels(pod: PodMeasure | None = None, container: ContainerMeasure | None = None) -> _Labels:
    """Return the labels of a container, of a pod (without a container), or of the node (without a pod)."""
    name = image = own = ""
    path = f"/kubepods/pod{pod.uid}" if pod is not None else "/"
    if container is not None:
        own = container.container.name
        name = container.container.state.container_id.rpartition("/")[2]
        image = container.container.spec.get("image", "")
        path = f"{path}/{name}"
    metadata = pod.pod["metadata"] if pod is not None else {}
    return {
        "container": own,
        "id": path,
        "image": image,
        "name": name,
        "namespace": metadata.get("namespace", ""),
        "pod": metadata.get("name", ""),
    }


def _rows(measure: NodeMeasure) -> Iterator[tuple[_Labels, ContainerMeasure]]:
    for pod in measure.pods:
        for container in pod.containers:
            yield _labels(pod, container), container


def _cpu_and_memory(text: MetricsText, measure: NodeMeasure) -> None:
    rows: list[tuple[_Labels, Usage]] = [(_labels(), measure.machine)]
    rows += [(_labels(pod), pod.total) for pod in measure.pods if pod.containers]
    rows += [(labels, container.usage) for labels, container in _rows(measure)]
    what = "Cumulative cpu time consumed in seconds."
    samples = [({**labels, "cpu": "total"}, usage.cpu) for labels, usage in rows]
    text.family("container_cpu_usage_seconds_total", "counter", what, samples)
    text.family(
        "container_cpu_user_seconds_total",
        "counter",
        "Cumulative user cpu time consumed in seconds.",
        [(labels, usage.cpu - usage.system) for labels, usage in rows],
    )
    text.family(
        "container_cpu_system_seconds_total",
        "counter",
        "Cumulative system cpu time consumed in seconds.",
        [(labels, usage.system) for labels, usage in rows],
    )
    for name, help_text in (
        ("container_memory_usage_bytes", "Current memory usage in bytes, including all memory"),
        ("container_memory_working_set_bytes", "Current working set in bytes."),
    ):
        text.family(name, "gauge", help_text, [(labels, usage.memory) for labels, usage in rows])
    anonymous = [(labels, usage.anonymous or usage.memory) for labels, usage in rows]
    text.family("container_memory_rss", "gauge", "Size of RSS in bytes.", anonymous)


def _containers(text: MetricsText, measure: NodeMeasure) -> None:
    rows = list(_rows(measure))
    for name, kind, what, read in (
        ("container_processes", "gauge", "Number of processes running inside the container.", "processes"),
        ("container_threads", "gauge", "Number of threads running inside the container", "threads"),
    ):
        text.family(name, kind, what, [(labels, getattr(row.usage, read)) for labels, row in rows])
    # The label `device` is empty, because the kernel counts the bytes of all disks together.
    for name, what, read in (
        ("container_fs_reads_bytes_total", "Cumulative count of bytes read", "read"),
        ("container_fs_writes_bytes_total", "Cumulative count of bytes written", "written"),
    ):
        samples = [({**labels, "device": ""}, float(getattr(row.usage, read))) for labels, row in rows]
        text.family(name, "counter", what, samples)
    what = "Number of bytes that are consumed by the container on this filesystem."
    written = [({**labels, "device": ""}, float(row.written_bytes)) for labels, row in rows]
    text.family("container_fs_usage_bytes", "gauge", what, written)
    what = "Start time of the container since unix epoch in seconds."
    text.family("container_start_time_seconds", "gauge", what, [(labels, row.started) for labels, row in rows])
    what = "Last time a container was seen by the exporter"
    text.family("container_last_seen", "gauge", what, [(labels, float(int(measure.moment))) for labels, _ in rows])
    specs = [(labels, row.container.spec) for labels, row in rows]
    shares = [(labels, max(2.0, _resource(spec, "requests", "cpu") * 1024)) for labels, spec in specs]
    text.family("container_spec_cpu_shares", "gauge", "CPU share of the container.", shares)
    limited = [(labels, _resource(spec, "limits", "cpu")) for labels, spec in specs]
    quotas = [(labels, cores * _PERIOD) for labels, cores in limited if cores]
    text.family("container_spec_cpu_quota", "gauge", "CPU quota of the container.", quotas)
    periods = [(labels, float(_PERIOD)) for labels, cores in limited if cores]
    text.family("container_spec_cpu_period", "gauge", "CPU period of the container.", periods)
    limits = [(labels, float(parse_quantity(container_limit(spec, "memory") or 0))) for labels, spec in specs]
    text.family("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", limits)


def _resource(spec: Object, kind: str, name: str) -> float:
    return float(parse_quantity(((spec.get("resources") or {}).get(kind) or {}).get(name) or 0))


def _network(text: MetricsText, measure: NodeMeasure) -> None:
    links = [({**_labels(pod), "interface": link.name}, link) for pod in measure.pods for link in pod.network]
    for name, what, read in (
        ("receive_bytes", "Cumulative count of bytes received", "received"),
        ("receive_errors", "Cumulative count of errors encountered while receiving", "receive_errors"),
        ("receive_packets", "Cumulative count of packets received", "received_packets"),
        ("receive_packets_dropped", "Cumulative count of packets dropped while receiving", "receive_drops"),
        ("transmit_bytes", "Cumulative count of bytes transmitted", "sent"),
        ("transmit_errors", "Cumulative count of errors encountered while transmitting", "send_errors"),
        ("transmit_packets", "Cumulative count of packets transmitted", "sent_packets"),
        ("transmit_packets_dropped", "Cumulative count of packets dropped while transmitting", "send_drops"),
    ):
        samples = [(dict(sorted(labels.items())), float(getattr(link, read))) for labels, link in links]
        text.family(f"container_network_{name}_total", "counter", what, samples)
