"""Decides which of its pods a node refuses to run (`pkg/kubelet/lifecycle`, `pkg/kubelet/sysctl`). Pure."""

from __future__ import annotations

from hatchway.cluster.amounts import Amounts
from hatchway.cluster.hostports import host_ports
from hatchway.cluster.node import sysctls
from hatchway.cluster.node.resizing import NodeLedger
from hatchway.kube.api import Object


def refusal(pod: Object, requests: Amounts, ledger: NodeLedger) -> tuple[str, str] | None:
    """Return (reason, message) for the status of a pod that this node must not run; None for a pod that is admitted.

    Resources and ports are checked, because not all pods are placed by the scheduler. They are not checked for a pod
    that a former agent has admitted.

    requests: what is to be reserved for it. ledger: what is reserved for the node's other pods.
    """
    system = (pod["spec"].get("os") or {}).get("name")
    if system not in (None, "", "linux"):
        return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    if message := sysctls.refusal(pod):
        return "SysctlForbidden", message
    if (pod.get("status") or {}).get("startTime"):
        return None
    uid = pod["metadata"]["uid"]
    if found := ledger.shortage(uid, requests):
        return f"OutOf{found.resource}", found.message
    if ledger.clashes(uid, host_ports(pod)):
        return "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    return None
