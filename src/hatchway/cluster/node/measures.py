"""Measures one node's pods, for the summary API and the metrics."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hatchway.cluster.node import clock, processusage
from hatchway.cluster.node.container import ContainerWorker
from hatchway.cluster.node.logfiles import log_bytes, pod_log_directory
from hatchway.cluster.node.processusage import Meter, NetworkUsage, Usage
from hatchway.cluster.node.worker import PodWorker
from hatchway.cluster.runtime import GroupUsage
from hatchway.kube.api import Object

# A rate is the average over at least this many seconds.
_RATE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ContainerMeasure:
    """The measurement of one running container.

    rate: the average number of cores in use over the last second or more.
    started: its start, in POSIX seconds.
    log_bytes: the total size of its logs in bytes.
    written_bytes: the total size of its files outside of volumes, in bytes.
    """

    container: ContainerWorker
    usage: Usage
    rate: float
    started: float
    log_bytes: int
    written_bytes: int


@dataclass(frozen=True, slots=True)
class PodMeasure:
    """The measurement of one pod that has a sandbox. containers: its running containers."""

    pod: Object
    uid: str
    containers: list[ContainerMeasure]
    network: list[NetworkUsage]

    @property
    def total(self) -> Usage:
        """Return the sum over all running containers."""
        return sum((measure.usage for measure in self.containers), Usage())


@dataclass(frozen=True, slots=True)
class NodeMeasure:
    """The measurement of one node.

    moment: the time of the measurement, in POSIX seconds.
    machine_rate: the number of cores in use on this machine.
    """

    moment: float
    machine: Usage
    machine_rate: float
    pods: list[PodMeasure]


@dataclass(slots=True)
class _Sample:
    moment: float
    usage: Usage
    rate: float


class Measures:
    """Measures one node.

    The counters of a container never decrease, although /proc no longer counts the processes of a finished exec. After
    a restart they begin at zero.

    logs: the directory of the node's logs.
    """

    def __init__(self, meter: Meter, workers: Mapping[str, PodWorker], logs: Path) -> None:
        self._meter = meter
        self._workers = workers
        self._logs = logs
        # The key is the container ID; "" for the machine.
        self._samples: dict[str, _Sample] = {}

    def take(self) -> NodeMeasure:
        """Measure the node now. Blocks, and is not thread-safe."""
        snapshot = self._meter.snapshot()
        machine = processusage.machine()
        kept = {"": self._sample("", snapshot.moment, machine, processusage.boot_time())}
        pods = []
        for worker in list(self._workers.values()):
            containers = []
            network: list[NetworkUsage] = []
            for container in worker.containers.all:
                process = container.process
                if process is None:
                    continue
                found = _of_group(snapshot.of(process.pid), container.group.usage())
                started = _epoch(container.state.state.get("running", {}).get("startedAt")) or snapshot.moment
                sample = self._sample(container.state.container_id, snapshot.moment, found, started)
                kept[container.state.container_id] = sample
                found = found.at_least(sample.usage)
                logs = self._log_bytes(worker, container.name)
                written = process.written_bytes()
                containers.append(ContainerMeasure(container, found, sample.rate, started, logs, written))
                # A pod in the node's network has no traffic counters of its own.
                if not network and not worker.pod["spec"].get("hostNetwork"):
                    network = processusage.network_of(process.pid)
            if worker.has_sandbox:
                pods.append(PodMeasure(worker.pod, worker.uid, containers, network))
        self._samples = kept
        return NodeMeasure(snapshot.moment, machine, kept[""].rate, pods)

    def _sample(self, key: str, moment: float, usage: Usage, since: float) -> _Sample:
        """Return the previous sample if it is recent, else a new one. The first rate is the average since the start."""
        last = self._samples.get(key)
        if last is not None and moment - last.moment < _RATE_SECONDS:
            return last
        begun, before = (last.moment, last.usage) if last is not None else (since, Usage())
        usage = usage.at_least(before)
        elapsed = moment - begun
        return _Sample(moment, usage, max(0.0, (usage.cpu - before.cpu) / elapsed) if elapsed > 0 else 0.0)

    def _log_bytes(self, worker: PodWorker, container: str) -> int:
        metadata = worker.pod["metadata"]
        directory = pod_log_directory(self._logs, metadata.get("namespace", ""), metadata["name"], metadata["uid"])
        return log_bytes(directory / container)


def _epoch(text: str | None) -> float:
    try:
        return clock.parse(text).timestamp() if text else 0.0
    except ValueError:
        # The status in the API may be invalid: users with the right to write statuses may have changed it.
        return 0.0


def summary(node: str, measure: NodeMeasure, disk: Path, started: float) -> Object:
    """Return `/stats/summary` (`kubelet/pkg/apis/stats/v1alpha1`).

    disk: the directory of pods' files.
    started: the start of the node agent, in POSIX seconds.
    """
    now = clock.rfc3339_epoch(measure.moment)
    files = _disk(disk, now)
    machine = measure.machine
    memory = {**_memory(machine, now), "availableBytes": processusage.available_memory()}
    own: Object = {
        "nodeName": node,
        "startTime": clock.rfc3339_epoch(processusage.boot_time() or started),
        "cpu": _cpu(machine, measure.machine_rate, now),
        "memory": memory,
        "fs": files,
        "runtime": {"imageFs": files, "containerFs": files},
        "rlimit": {"time": now, "maxpid": _pid_limit(), "curproc": len(_pids())},
    }
    return {"node": own, "pods": [_pod(pod, files, now) for pod in measure.pods]}


def _pod(measure: PodMeasure, files: Object, now: str) -> Object:
    metadata, total = measure.pod["metadata"], measure.total
    shown: Object = {
        "podRef": {"name": metadata["name"], "namespace": metadata.get("namespace", ""), "uid": measure.uid},
        "startTime": (measure.pod.get("status") or {}).get("startTime") or now,
        "containers": [_container(container, files, now) for container in measure.containers],
        "cpu": _cpu(total, sum(container.rate for container in measure.containers), now),
        "memory": _memory(total, now),
        "process_stats": {"process_count": total.processes},
        "ephemeral-storage": {
            **files,
            "usedBytes": sum(one.log_bytes + one.written_bytes for one in measure.containers),
        },
    }
    if measure.network:
        interfaces = [
            {
                "name": found.name,
                "rxBytes": found.received,
                "rxErrors": found.receive_errors,
                "txBytes": found.sent,
                "txErrors": found.send_errors,
            }
            for found in measure.network
        ]
        shown["network"] = {"time": now, **interfaces[0], "interfaces": interfaces}
    return shown


def _container(measure: ContainerMeasure, files: Object, now: str) -> Object:
    return {
        "name": measure.container.name,
        "startTime": clock.rfc3339_epoch(measure.started),
        "cpu": _cpu(measure.usage, measure.rate, now),
        "memory": _memory(measure.usage, now),
        "rootfs": {**files, "usedBytes": measure.written_bytes},
        "logs": {**files, "usedBytes": measure.log_bytes},
    }


def _cpu(found: Usage, rate: float, now: str) -> Object:
    return {"time": now, "usageNanoCores": int(rate * 1e9), "usageCoreNanoSeconds": int(found.cpu * 1e9)}


def _memory(found: Usage, now: str) -> Object:
    return {
        "time": now,
        "usageBytes": found.memory,
        "workingSetBytes": found.memory,
        "rssBytes": found.anonymous or found.memory,
        "pageFaults": found.page_faults,
        "majorPageFaults": found.major_page_faults,
    }


def _disk(path: Path, now: str) -> Object:
    found = os.statvfs(path)
    return {
        "time": now,
        "availableBytes": found.f_bavail * found.f_frsize,
        "capacityBytes": found.f_blocks * found.f_frsize,
        "usedBytes": (found.f_blocks - found.f_bfree) * found.f_frsize,
        "inodesFree": found.f_favail,
        "inodes": found.f_files,
        "inodesUsed": found.f_files - found.f_ffree,
    }


def _pids() -> list[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []


def _pid_limit() -> int:
    try:
        return int(Path("/proc/sys/kernel/pid_max").read_text())
    except OSError:
        return 0


def _of_group(found: Usage, group: GroupUsage | None) -> Usage:
    """Return a container's usage with the counters of its control group, which include ended processes."""
    if group is None:
        return found
    return replace(found, cpu=group.cpu, system=group.system, memory=group.memory, anonymous=group.anonymous)
