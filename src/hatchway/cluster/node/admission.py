"""Decides if a node must refuse to run a pod (`pkg/kubelet/lifecycle`, `pkg/kubelet/sysctl`). Pure."""

from __future__ import annotations

from hatchway.cluster.amounts import Amounts
from hatchway.cluster.hostports import host_ports
from hatchway.cluster.node import sysctls
from hatchway.cluster.node.resizing import NodeLedger
from hatchway.kube.api import Object


def refusal(pod: Object, requests: Amounts, ledger: NodeLedger) -> tuple[str, str] | None:
    """Return (reason, message) for the status of a pod that this node must not run; None when it may run the pod.

    The scheduler has not checked a pod whose nodeName was set by a user, so that pod may need more than the node has.
    A pod that was admitted before the node agent was started again is never refused.

    requests: the amounts to be reserved for the pod.
    ledger: the reservations for the node's other pods.
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
