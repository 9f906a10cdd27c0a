"""Two hours of samples of a small cluster, as if scraped by the add-on, for tests of the dashboards.

The samples continue for ten minutes after the present, so that "now" has values as long as the tests run.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hatchway.addons.monitoring.tsdb.labels import make_labels
from hatchway.addons.monitoring.tsdb.store import TimeSeriesStore

STEP = 15
# Values are functions of the time since this moment, so that each run begins with the same values.
_BEGAN = time.time()
HOSTILE = "<img src=x onerror=alert(1)>\u202egnp\x07\n\"'\\"
NODES = ("control-plane", "node-1", "node-2")
# Namespace, pod, container, node, cores, MiB, limit of memory in MiB.
PODS = (
    ("kube-system", "kube-dns-6d4b-x2", "dns", "control-plane", 0.02, 38, 0),
    ("kube-system", "elasticsearch-logging-77-pl", "logging", "control-plane", 0.06, 150, 0),
    ("kube-system", "metrics-server-5f-k9", "metrics-server", "node-1", 0.015, 27, 0),
    ("kube-system", "prometheus-9c-2d", "monitoring", "node-2", 0.05, 74, 0),
    ("shop", "web-7c9d-a1", "web", "node-1", 0.22, 96, 256),
    ("shop", "web-7c9d-b2", "web", "node-2", 0.19, 91, 256),
    ("shop", "web-7c9d-c3", "web", "node-2", 0.24, 99, 256),
    ("shop", "cart-58-q7", "cart", "node-1", 0.11, 60, 64),
    ("shop", "crasher-4f-zz", "main", "node-1", 0.03, 12, 0),
    ("data", "db-0", "postgres", "node-1", 0.31, 410, 1024),
    ("data", "worker-6b-1", "worker", "node-1", 0.40, 120, 0),
    ("data", "worker-6b-2", "worker", "node-2", 0.36, 118, 0),
)
PENDING = ("data", "too-big", "main")
SERVICES = (("shop", "web", 4.0, 0.02), ("shop", "cart", 1.5, 0.0), ("kube-system", "kibana-logging", 0.4, 0.0))
Value = Callable[[float], float | None]


def _wave(seed: str, size: float) -> Callable[[float], float]:
    """Return a function of time whose values change slowly around `size`; equal seeds give equal functions."""
    chance = random.Random(seed)
    phases = [(chance.uniform(0, 6.3), chance.uniform(400, 3000), chance.uniform(0.05, 0.22)) for _ in range(4)]
    return lambda at: (
        size * max(0.05, 1 + sum(part * math.sin((at - _BEGAN) / period + phase) for phase, period, part in phases))
    )


def _sum_of(level: Callable[[float], float]) -> Value:
    """Return a counter that grows by `level` per second."""
    total, before = [0.0], [0.0]

    def value(at: float) -> float:
        if before[0]:
            total[0] += level(at) * (at - before[0])
        before[0] = at
        return total[0]

    return value


def _nodes() -> Iterator[tuple[str, dict[str, str], Value]]:
    for name in NODES:
        kubelet = {"job": "kubelet", "instance": f"{name}:10250", "node": name}
        root = {**kubelet, "metrics_path": "/metrics/cadvisor", "id": "/"}
        for path in ("/metrics", "/metrics/cadvisor"):
            yield "up", {**kubelet, "metrics_path": path}, lambda at: 1
        yield "container_cpu_usage_seconds_total", {**root, "cpu": "total"}, _sum_of(_wave(name, 1.1))
        yield "container_memory_working_set_bytes", root, _wave(name + "m", 5.2e9)
        yield "machine_cpu_cores", {**kubelet, "metrics_path": "/metrics/cadvisor"}, lambda at: 4
        yield "machine_memory_bytes", {**kubelet, "metrics_path": "/metrics/cadvisor"}, lambda at: 16 * 2.0**30
        count = sum(pod[3] == name for pod in PODS)
        yield "kubelet_running_pods", {**kubelet, "metrics_path": "/metrics"}, lambda at, count=count: count
        state = {"job": "kube-state-metrics", "instance": "10.244.1.2:8080", "node": name}
        yield "kube_node_info", {**state, "kubelet_version": "v1.37.0"}, lambda at: 1
        for condition, value in (("Ready", 1.0), ("MemoryPressure", 0.0), ("DiskPressure", 0.0)):
            labels = {**state, "condition": condition, "status": "true"}
            yield "kube_node_status_condition", labels, lambda at, value=value: value
        for resource, unit, value in (
            ("cpu", "core", 4.0),
            ("memory", "byte", 16 * 2.0**30),
            ("pods", "integer", 110.0),
        ):
            labels = {**state, "resource": resource, "unit": unit}
            yield "kube_node_status_allocatable", labels, lambda at, value=value: value


def _pods(now: float) -> Iterator[tuple[str, dict[str, str], Value]]:
    state = {"job": "kube-state-metrics", "instance": "10.244.1.2:8080"}
    for namespace, pod, container, node, cores, size, limit in PODS:
        kubelet = {"job": "kubelet", "instance": f"{node}:10250", "metrics_path": "/metrics/cadvisor", "node": node}
        names = {"namespace": namespace, "pod": pod}
        one = {**kubelet, **names, "container": container, "id": f"/kubepods/{pod}/{container}"}
        whole = {**kubelet, **names, "id": f"/kubepods/{pod}", "interface": "eth0"}

        def alive(at: float, pod: str = pod) -> bool:
            # One pod did not run for 15 minutes, so its series have a gap. Another pod restarts repeatedly.
            if pod == "worker-6b-2":
                return not now - 2400 < at < now - 1500
            return pod != "crasher-4f-zz" or at % 300 < 40

        def only(value: Value, alive: Callable[[float], bool] = alive) -> Value:
            return lambda at: value(at) if alive(at) else None

        yield "container_cpu_usage_seconds_total", {**one, "cpu": "total"}, only(_sum_of(_wave(pod, cores)))
        most = limit * 0.97 * 2.0**20 if limit else math.inf
        used = _wave(pod + "m", size * 2.0**20)
        yield "container_memory_working_set_bytes", one, only(lambda at, used=used, most=most: min(used(at), most))
        yield "container_fs_usage_bytes", one, only(_wave(pod + "f", 98304))
        yield "container_processes", one, only(lambda at: 3)
        for way in ("receive", "transmit"):
            level = _wave(pod + way, 40_000 * cores)
            yield f"container_network_{way}_bytes_total", whole, only(_sum_of(level))
        crashing = pod == "crasher-4f-zz"
        labels = {**state, **names, "node": node, "uid": pod}
        yield "kube_pod_info", {**labels, "created_by_kind": "ReplicaSet", "pod_ip": "10.244.1.9"}, lambda at: 1
        yield "kube_pod_start_time", labels, lambda at: now - 7000
        yield "kube_pod_container_info", {**labels, "container": container, "image": "shop/" + container}, lambda at: 1
        restarts: Value = (lambda at: math.floor((at - now + 7200) / 300)) if crashing else (lambda at: 0)
        yield "kube_pod_container_status_restarts_total", {**labels, "container": container}, restarts
        yield "kube_pod_container_status_ready", {**labels, "container": container}, lambda at, c=crashing: float(not c)
        for condition in ("true", "false"):
            value = float((condition == "true") is not crashing)
            yield "kube_pod_status_ready", {**labels, "condition": condition}, lambda at, value=value: value
        for phase in ("Running", "Pending", "Failed", "Succeeded"):
            yield "kube_pod_status_phase", {**labels, "phase": phase}, lambda at, v=float(phase == "Running"): v
        if crashing:
            waits = {**labels, "container": container, "reason": "CrashLoopBackOff"}
            yield "kube_pod_container_status_waiting_reason", waits, lambda at: 1
        if limit:
            memory = {**labels, "container": container, "resource": "memory", "unit": "byte"}
            yield "kube_pod_container_resource_limits", memory, lambda at, limit=limit: limit * 2.0**20
            yield "kube_pod_container_resource_requests", memory, lambda at, limit=limit: limit * 2.0**19
    namespace, pod, _ = PENDING
    labels = {**state, "namespace": namespace, "pod": pod, "uid": pod}
    yield "kube_pod_info", {**labels, "node": ""}, lambda at: 1
    yield "kube_pod_status_unschedulable", labels, lambda at: 1
    for phase in ("Running", "Pending", "Failed", "Succeeded"):
        yield "kube_pod_status_phase", {**labels, "phase": phase}, lambda at, v=float(phase == "Pending"): v
    for namespace in ("kube-system", "shop", "data", "default"):
        yield "kube_namespace_created", {**state, "namespace": namespace}, lambda at: now - 7200
    yield "up", {**state, "namespace": "kube-system", "service": "kube-state-metrics"}, lambda at: 1


def _requests() -> Iterator[tuple[str, dict[str, str], Value]]:
    api = {"job": "apiserver", "instance": "kubernetes.default.svc:443"}
    state = {"job": "kube-state-metrics", "instance": "10.244.1.2:8080"}
    yield "up", api, lambda at: 1
    yield "process_resident_memory_bytes", api, _wave("api", 82e6)
    yield "process_cpu_seconds_total", api, _sum_of(_wave("apic", 0.12))
    yield "process_open_fds", api, lambda at: 88
    for kind, level in (("readOnly", 1.2), ("mutating", 0.3)):
        yield "apiserver_current_inflight_requests", {**api, "request_kind": kind}, _wave(kind, level)
    rows = (("GET", "pods", 2.0, "200"), ("LIST", "pods", 0.8, "200"), ("UPDATE", "leases", 1.5, "200"),
            ("PATCH", "pods", 0.5, "200"), ("GET", "secrets", 0.3, "403"), ("CREATE", "events", 0.2, "201"),
            ("GET", "nodes", 0.05, "500"))  # fmt: skip
    for verb, resource, level, code in rows:
        group = "coordination.k8s.io" if resource == "leases" else ""
        labels = {**api, "verb": verb, "resource": resource, "group": group, "version": "v1", "subresource": ""}
        yield "apiserver_request_total", {**labels, "code": code}, _sum_of(_wave(verb + resource, level))
        yield from _histogram("apiserver_request_duration_seconds", labels, level, 0.002 if verb != "LIST" else 0.02)
    for resource, level in (("pods", 7), ("configmaps", 5), ("endpointslices", 4), ("nodes", 3), ("services", 6)):
        labels = {**api, "group": "", "version": "v1", "resource": resource}
        yield "apiserver_registered_watchers", labels, lambda at, level=level: level
        yield "apiserver_longrunning_requests", {**labels, "verb": "WATCH"}, lambda at, level=level: level
    for namespace, name, level, errors in SERVICES:
        labels = {**api, "namespace": namespace, "service": name}
        yield "hatchway_proxy_requests_total", {**labels, "code": "200"}, _sum_of(_wave(name, level))
        if errors:
            yield "hatchway_proxy_requests_total", {**labels, "code": "502"}, _sum_of(_wave(name + "5", level * errors))
        yield from _histogram("hatchway_proxy_request_duration_seconds", labels, level, 0.03)
        of = {**state, "namespace": namespace, "service": name}
        yield "kube_service_info", {**of, "cluster_ip": "10.96.0.7"}, lambda at: 1
        yield "kube_service_spec_type", {**of, "type": "ClusterIP"}, lambda at: 1
        for place, pod in enumerate(pod[1] for pod in PODS if pod[0] == namespace and pod[1].startswith(name)):
            piece = {"endpointslice": f"{name}-bx2k4", "address": f"10.244.1.{place}", "ready": "true"}
            more = {"targetref_kind": "Pod", "targetref_name": pod}
            yield "kube_endpointslice_endpoints", {**state, "namespace": namespace, **piece, **more}, lambda at: 1
    web = {"job": "web", "namespace": "shop", "service": "web", "pod": "web-7c9d-a1", "instance": "10.244.1.0:8080"}
    for code, level in (("200", 6.0), ("404", 0.3)):
        yield "http_requests_total", {**web, "code": code, "page": HOSTILE}, _sum_of(_wave("own" + code, level))
    yield from _histogram("http_request_duration_seconds", web, 6.3, 0.02)
    # A pod may export any series, also with the names of the cluster's own metrics.
    yield "machine_cpu_cores", web, lambda at: 1e9
    yield "kube_pod_status_phase", {**web, "phase": "Running"}, lambda at: 1000


def _histogram(
    name: str, labels: dict[str, str], level: float, usual: float
) -> Iterator[tuple[str, dict[str, str], Value]]:
    wave = _wave(name + str(labels), level)
    for bound in (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, math.inf):
        part = 1 - math.exp(-bound / usual)
        text = "+Inf" if bound == math.inf else f"{bound:g}"
        yield f"{name}_bucket", {**labels, "le": text}, _sum_of(lambda at, part=part: wave(at) * part)


def fill_first(directory: Path, pod: str) -> None:
    """Write the samples of the first scrape of a new cluster. pod: the add-on's own pod, which is not ready yet."""
    store = TimeSeriesStore(directory=directory)
    own, job = {"namespace": "kube-system", "pod": pod}, {"job": "kube-state-metrics"}
    samples = [
        ("kube_pod_status_ready", {**own, "condition": "false"}),
        ("kube_pod_status_phase", {**own, "phase": "Running"}),
        ("kube_deployment_status_replicas_unavailable", {"namespace": "kube-system", "deployment": "prometheus"}),
        ("kube_deployment_status_replicas_unavailable", {"namespace": "shop", "deployment": "web"}),
    ]
    for metric, labels in samples:
        series = store.series(make_labels({"__name__": metric, **labels, **job}.items()))
        assert series is not None
        store.append([(series, int(time.time() * 1000), 1.0)])
    for _ in store.compact():
        pass
    store.close()


def fill(directory: Path, *, many: int = 0) -> None:
    """Write the samples into a store's directory. many: the number of additional series of a metric `many`."""
    store = TimeSeriesStore(directory=directory)
    now = time.time()
    first = int(now - 7200) // STEP * STEP
    for metric, labels, value in (*_nodes(), *_pods(now), *_requests()):
        series = store.series(make_labels({"__name__": metric, **labels}.items()))
        assert series is not None
        samples = [(at, value(at)) for at in range(first, int(now) + 600, STEP)]
        store.append([(series, at * 1000, sample) for at, sample in samples if sample is not None])
    for number in range(many):
        series = store.series(make_labels({"__name__": "many", "n": str(number), "hostile": HOSTILE}.items()))
        assert series is not None
        store.append([(series, at * 1000, float(number)) for at in range(int(now) - 60, int(now) + 600, 60)])
    for _ in store.compact():
        pass
    store.close()
