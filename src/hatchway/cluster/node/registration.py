"""Keeps a node's object and lease (`pkg/kubelet/kubelet_node_status.go`, `nodestatus/setters.go`, `nodelease`)."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from hatchway import __version__
from hatchway.cluster import plan
from hatchway.cluster.node import clock
from hatchway.cluster.node.config import NodeSpec
from hatchway.cluster.node.runtimehandlers import HANDLERS
from hatchway.cluster.release import GIT_VERSION
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.events import EventRecorder
from hatchway.kube.wellknown import CONTROL_PLANE

log = logging.getLogger(__name__)

LEASES = "leases.coordination.k8s.io"
LEASE_NAMESPACE = "kube-node-lease"
MAX_PODS = 110
LEASE_SECONDS = 40
RENEW_SECONDS = 10.0
# The seconds after which an unchanged status is reported again (nodeStatusReportFrequency).
REPORT_SECONDS = 300.0
_RETRY_SECONDS = 0.2
# The annotation with a sentence about the users of containers, for `kubectl describe node`.
USERS = "hatchway.dev/users"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def capacity() -> dict[str, str]:
    """Return the capacity of this machine, as quantities. All nodes share it."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    disk = os.statvfs("/")
    return {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{pages * size // 1024}Ki",
        "pods": str(MAX_PODS),
        "ephemeral-storage": f"{disk.f_blocks * disk.f_frsize // 1024}Ki",
    }


def architecture() -> str:
    """Return the machine's architecture by Go's name (`amd64`)."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def labels(node: NodeSpec) -> dict[str, str]:
    """Return the labels that a kubelet sets on its node. (The label of the role is set by the control plane.)"""
    return {
        "beta.kubernetes.io/arch": architecture(),
        "beta.kubernetes.io/os": platform.system().lower(),
        "kubernetes.io/arch": architecture(),
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": platform.system().lower(),
    }


def node_object(node: NodeSpec, *, loopback: bool) -> Object:
    """Return the Node object without a status, which is written separately."""
    cidr = str(plan.pod_cidr(node.index, loopback=loopback))
    spec: Object = {"podCIDR": cidr, "podCIDRs": [cidr], "providerID": f"hatchway://{node.name}"}
    if node.index == 0:
        spec["taints"] = [{"key": CONTROL_PLANE, "effect": "NoSchedule"}]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels(node)},
        "spec": spec,
    }


def control_plane_object(node: NodeSpec, *, loopback: bool) -> Object:
    """Return the Node object of the control plane's node.

    It has the label of the control plane's role, which a kubelet may not set itself.
    """
    found = node_object(node, loopback=loopback)
    found["metadata"]["labels"][CONTROL_PLANE] = ""
    return found


def node_status(
    node: NodeSpec,
    resources: Mapping[str, str],
    facts: Mapping[str, str],
    now: str,
    port: int = plan.KUBELET_PORT,
    images: Sequence[Object] = (),
) -> Object:
    """Return the complete status, except the conditions' transition times.

    port: the kubelet's port. images: the container images that are on the node.
    """
    return {
        "addresses": [{"type": "InternalIP", "address": node.ip}, {"type": "Hostname", "address": node.name}],
        "allocatable": dict(resources),
        "capacity": dict(resources),
        "conditions": [
            _condition(
                "MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available", now
            ),
            _condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure", now),
            _condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available", now),
            _condition("Ready", "True", "KubeletReady", "kubelet is posting ready status", now),
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "images": list(images),
        "nodeInfo": dict(facts),
        "runtimeHandlers": [{"name": name} for name in HANDLERS],
    }


def _condition(kind: str, status: str, reason: str, message: str, now: str) -> Object:
    return {
        "type": kind,
        "status": status,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }


def machine_facts() -> dict[str, str]:
    """Return `status.nodeInfo`, which describes this machine, for all nodes."""
    return {
        "architecture": architecture(),
        "bootID": _read("/proc/sys/kernel/random/boot_id"),
        "containerRuntimeVersion": f"hatchway://{__version__}",
        "kernelVersion": platform.release(),
        "kubeProxyVersion": "",
        "kubeletVersion": GIT_VERSION,
        "machineID": _read("/etc/machine-id"),
        "operatingSystem": platform.system().lower(),
        "osImage": _os_image(),
        "systemUUID": "",
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        # Not every platform has this file, and the value is only informative.
        return ""


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return f"{platform.system()} {platform.release()}"


def with_transitions(known: Object, wanted: Object, report_after: float = REPORT_SECONDS) -> Object:
    """Return the status `wanted` with the times that unchanged conditions have in the status `known`.

    Unchanged conditions keep their transition times. Their heartbeat times are replaced only when they are older than
    `report_after` seconds. Extended resources, which other clients have written, are kept.
    """
    old = {condition["type"]: condition for condition in known.get("conditions") or ()}
    conditions = []
    for condition in wanted["conditions"]:
        before = old.pop(condition["type"], None)
        if before is not None and before.get("status") == condition["status"]:
            condition = {**condition, "lastTransitionTime": before.get("lastTransitionTime")}
            try:
                age = clock.parse(condition["lastHeartbeatTime"]) - clock.parse(before["lastHeartbeatTime"])
                if 0 <= age.total_seconds() < report_after:
                    condition["lastHeartbeatTime"] = before["lastHeartbeatTime"]
            except (KeyError, ValueError, TypeError):
                # The time is not valid; another client may have written it. Keep the new time.
                pass
        conditions.append(condition)
    extended = {kind: _extended(known.get(kind) or {}) for kind in ("capacity", "allocatable")}
    resources = {kind: {**found, **wanted[kind]} for kind, found in extended.items() if found}
    return {**wanted, **resources, "conditions": [*conditions, *old.values()]}


def _extended(resources: Mapping[str, str]) -> dict[str, str]:
    return {name: amount for name, amount in resources.items() if "/" in name}


class Registration:
    """Registers one node, and keeps its status and its lease up to date.

    port: the kubelet's port. annotations: additional annotations of the node, which `run` writes.
    images: returns the container images that are on the node.
    """

    def __init__(
        self,
        client: Client,
        node: NodeSpec,
        events: EventRecorder,
        *,
        loopback: bool,
        images: Callable[[], Awaitable[list[Object]]] | None = None,
    ) -> None:
        self._client = client
        self._node = node
        self._events = events
        self._loopback = loopback
        self._images = images
        self.resources = capacity()
        self._facts = machine_facts()
        self.port = plan.KUBELET_PORT
        self.annotations: dict[str, str] = {}
        self.registered = asyncio.Event()

    async def run(self) -> None:
        """Register, then renew until cancelled. Retries while the API server does not answer."""
        while True:
            try:
                # The lease comes first: controllers must not see an old lease together with a Ready status.
                await self._renew_lease()
                await self._report()
                wait = RENEW_SECONDS
            except (ApiError, OSError) as error:
                log.warning("node %s: %s", self._node.name, error)
                wait = _RETRY_SECONDS if not self.registered.is_set() else 1.0
            await asyncio.sleep(wait)

    async def _report(self) -> None:
        node = await self._ensure()
        now = clock.rfc3339(clock.now())
        images = await self._images() if self._images is not None else []
        wanted = node_status(self._node, self.resources, self._facts, now, self.port, images)
        first = not self.registered.is_set()
        merged = with_transitions(node.get("status") or {}, wanted, 0.0 if first else REPORT_SECONDS)
        known = node.get("status") or {}
        changes = {key: value for key, value in merged.items() if known.get(key) != value}
        if changes:
            await self._client.patch("nodes", self._node.name, {"status": changes}, subresource="status")
        if first:
            self.registered.set()
            # Events about nodes have the node's name in place of its UID, because a kubelet may not know the UID yet.
            about = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._node.name, "uid": self._node.name}}
            self._events.event(about, "Normal", "Starting", "Starting kubelet.")
            message = f"Node {self._node.name} status is now: NodeReady"
            self._events.event(about, "Normal", "NodeReady", message)

    async def _ensure(self) -> Object:
        """Create the Node, or correct its labels and its pod range, and return it."""
        wanted = node_object(self._node, loopback=self._loopback)
        try:
            node = await self._client.get("nodes", self._node.name)
        except ApiError as error:
            if error.code != 404:
                raise
            try:
                wanted["metadata"]["annotations"] = dict(self.annotations)
                return await self._client.create("nodes", wanted)
            except ApiError as race:
                if race.code != 409:
                    raise
                node = await self._client.get("nodes", self._node.name)
        missing = {}
        for kind, right in (("labels", wanted["metadata"]["labels"]), ("annotations", self.annotations)):
            known = node["metadata"].get(kind) or {}
            if found := {key: value for key, value in right.items() if known.get(key) != value}:
                missing[kind] = found
        changes: Object = {"metadata": missing} if missing else {}
        if node.get("spec", {}).get("podCIDR") != wanted["spec"]["podCIDR"]:
            changes["spec"] = {key: wanted["spec"][key] for key in ("podCIDR", "podCIDRs")}
        if changes:
            node = await self._client.patch("nodes", self._node.name, changes)
        return node

    async def _renew_lease(self) -> None:
        renewed = {"spec": {"renewTime": clock.rfc3339_micro(clock.now()), "holderIdentity": self._node.name}}
        try:
            await self._client.patch(LEASES, self._node.name, renewed, LEASE_NAMESPACE)
        except ApiError as error:
            if error.code != 404:
                raise
            lease: Object = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._node.name, "namespace": LEASE_NAMESPACE},
                "spec": {
                    **renewed["spec"],
                    "acquireTime": renewed["spec"]["renewTime"],
                    "leaseDurationSeconds": LEASE_SECONDS,
                },
            }
            await self._client.create(LEASES, lease, LEASE_NAMESPACE)
