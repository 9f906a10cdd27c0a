"""The report of `hatchway status`, from the cluster's API server and from /proc (the cluster's processes)."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

from hatchway.cluster import readiness, settingsreport
from hatchway.cluster.state import StateDir
from hatchway.errors import ApiError, HatchwayError
from hatchway.kube.api import Object
from hatchway.kube.clusterinfo import LABEL_SELECTOR, NAMESPACE, built_in
from hatchway.kube.connection import Connection
from hatchway.kube.objects import is_ready
from hatchway.kube.serversettings import with_certificate
from hatchway.kube.wellknown import ENDPOINT_SLICES

StatusReport = dict[str, Any]
# Seconds to wait for the API server.
_PATIENCE = 5.0
# Free bytes on the state directory's disk: below the first number `status` prints a warning; below the second nothing
# can be stored.
_LOW_BYTES, _FULL_BYTES = 256 << 20, 64 << 10
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


async def gather(state: StateDir) -> StatusReport:
    """Return everything that `status` prints.

    `running`: a control plane holds the cluster's lock. `ready`: all parts of the cluster work. While the cluster
    starts or stops, `error` says so and the other fields are missing, except the settings (`settingsreport.settings`).
    """
    running = state.running()
    config = None
    try:
        config = state.load_config()
    except HatchwayError:
        # A cluster that does not run has nothing else to report.
        if running:
            raise
    run = state.load_run() if running else None
    report: StatusReport = {"name": state.path.name, "state": str(state.path), "running": running, "ready": False}
    if config is not None:
        report |= settingsreport.settings(config)
    if run is None:
        if running:
            report["error"] = f"it is {'stopping' if state.is_ending() else 'starting or stopping'} right now"
        return report
    processes = family(run["pid"], run["network_pid"])
    report |= {
        "pid": run["pid"],
        "server": run["server"],
        "network": run["limits"] or "private: nodes, pods and services have addresses that this host cannot route to",
        # The control plane of an earlier release did not write this field, and enforces no network policies.
        "no_policies": run.get("no_policies", "the cluster was started by an earlier release"),
        "users": run.get("users", "unknown: the cluster was started by an earlier release"),
        "resources": run.get("resources", "unknown: the cluster was started by an earlier release"),
        # No record exists on loopback, where pods use this machine's network.
        "egress": state.load_egress(),
        "processes": len(processes),
        "memory_mib": round(sum(pss_kib(pid) for pid in processes) / 1024),
        "healthy": False,
        "disk": _disk(state.path),
        # The control plane of an earlier release did not write this field.
        "addons": run.get("addons", []),
        "nodes": [],
        "built_in": [],
    }
    pki = state.pki
    own = with_certificate(run["server"], pki / "ca.crt", pki / "admin.crt", pki / "admin.key")
    async with Connection.fixed(own).client as client:
        try:
            async with asyncio.timeout(_PATIENCE):
                nodes, pods, services, slices, (stored, why) = await asyncio.gather(
                    client.list("nodes"),
                    client.list("pods"),
                    client.list("services", NAMESPACE, label_selector=LABEL_SELECTOR),
                    client.list(ENDPOINT_SLICES, NAMESPACE),
                    client.exchange("GET", "/readyz/etcd"),
                )
        except (ApiError, TimeoutError) as error:
            report["error"] = str(error) or "the API server did not answer in time"
            return report
    report["healthy"] = True
    if stored != 200:
        # The server writes "internal server error: REASON".
        report["disk"]["problem"] = why.decode(errors="replace").partition(": ")[2].strip() or "changes are not stored"
    report["nodes"] = [_node(node, pods) for node in nodes]
    urls = {service["metadata"]["name"]: found for service in services for found in built_in([service], run["server"])}
    report["built_in"] = [
        {**found.as_dict(), "ready": readiness.has_ready_endpoint(name, slices)} for name, found in sorted(urls.items())
    ]
    report["ready"] = not report["disk"]["problem"] and all(
        item["ready"] or item.get("starts_on_first_use") for item in [*report["nodes"], *report["built_in"]]
    )
    return report


def _disk(path: Path) -> StatusReport:
    """Return the free space on the disk that holds `path`: free_bytes, low (print a warning), problem ("" for none)."""
    room = os.statvfs(path)
    free = room.f_bavail * room.f_frsize
    return {
        "free_bytes": free,
        "low": free < _LOW_BYTES,
        "problem": "the disk is full: changes are not stored" if free < _FULL_BYTES else "",
    }


def _node(node: Object, pods: list[Object]) -> StatusReport:
    name = node["metadata"]["name"]
    addresses = {item["type"]: item["address"] for item in node.get("status", {}).get("addresses", ())}
    return {
        "name": name,
        "ready": is_ready(node),
        "address": addresses.get("InternalIP", ""),
        "pods": sum(pod["spec"].get("nodeName") == name for pod in pods),
    }


def family(*pids: int) -> list[int]:
    """Return the processes and all their descendants. Where there is no /proc, return only the processes."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The program's name in parentheses may contain blanks; the parent's id is the second field after it.
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found = list(dict.fromkeys(pids))
    for parent in found:
        found += [child for child in children.get(parent, ()) if child not in found]
    return found


def _unshared_kib(pid: int) -> int:
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE") // 1024


def pss_kib(pid: int) -> int:
    """Return a process's proportional share of memory in KiB; 0 when the process has ended.

    An ordinary user may not read this number for some processes, such as the private network's first process. For
    these, return the memory that the process shares with no other process.
    """
    try:
        match = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except PermissionError:
        return _unshared_kib(pid)
    except OSError:
        return 0
    return int(match[1]) if match else 0
