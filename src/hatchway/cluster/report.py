"""What `hatchway status` says: the cluster's own account of itself, and the machine's account of its processes."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from hatchway.cluster.addons import readiness
from hatchway.cluster.state import StateDir
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.clusterinfo import LABEL_SELECTOR, NAMESPACE, built_in
from hatchway.kube.http import HttpClient

Report = dict[str, Any]
_PATIENCE = 5.0
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


async def gather(state: StateDir) -> Report:
    """Everything `status` prints. `running`: a control plane holds the lock; `ready`: all of it works. While it is
    starting or stopping there is only an `error` beside these."""
    running = state.running()
    run = state.load_run() if running else None
    report: Report = {"name": state.path.name, "state": str(state.path), "running": running, "ready": False}
    if run is None:
        if running:
            report["error"] = "it is starting or stopping right now"
        return report
    processes = family(run["pid"], run["network_pid"])
    report |= {
        "pid": run["pid"],
        "server": run["server"],
        "network": run["limits"] or "private: nodes, pods and services have addresses that this host cannot route to",
        "processes": len(processes),
        "memory_mib": round(sum(pss_kib(pid) for pid in processes) / 1024),
        "healthy": False,
        "nodes": [],
        "built_in": [],
    }
    pki = state.pki
    async with HttpClient(
        run["server"], pki / "ca.crt", cert=(str(pki / "admin.crt"), str(pki / "admin.key"))
    ) as client:
        try:
            async with asyncio.timeout(_PATIENCE):
                nodes, pods, services, slices = await asyncio.gather(
                    client.list("nodes"),
                    client.list("pods"),
                    client.list("services", NAMESPACE, label_selector=LABEL_SELECTOR),
                    client.list("endpointslices.discovery.k8s.io", NAMESPACE),
                )
        except (ApiError, TimeoutError) as error:
            report["error"] = str(error) or "the API server did not answer in time"
            return report
    report["healthy"] = True
    report["nodes"] = [_node(node, pods) for node in nodes]
    urls = {service["metadata"]["name"]: found for service in services for found in built_in([service], run["server"])}
    report["built_in"] = [
        {"name": found.name, "url": found.url, "ready": readiness.has_ready_endpoint(name, slices)}
        for name, found in sorted(urls.items())
    ]
    report["ready"] = all(item["ready"] for item in [*report["nodes"], *report["built_in"]])
    return report


def _node(node: Object, pods: list[Object]) -> Report:
    name = node["metadata"]["name"]
    addresses = {item["type"]: item["address"] for item in node.get("status", {}).get("addresses", ())}
    return {
        "name": name,
        "ready": readiness.node_ready(node),
        "address": addresses.get("InternalIP", ""),
        "pods": sum(pod["spec"].get("nodeName") == name for pod in pods),
    }


def family(*pids: int) -> list[int]:
    """The processes and all their descendants, as far as this platform tells (Linux: /proc)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold blanks; the parent's id is the second field behind it.
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found = list(dict.fromkeys(pids))
    for parent in found:
        found += [child for child in children.get(parent, ()) if child not in found]
    return found


def pss_kib(pid: int) -> int:
    """A process's proportional share of memory in KiB; 0 when it is gone or may not be read."""
    try:
        match = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except OSError:
        return 0
    return int(match[1]) if match else 0
