"""Decides if a node must refuse to run a pod (`pkg/kubelet/lifecycle`, `pkg/kubelet/sysctl`). Pure."""

from __future__ import annotations

from hatchway.cluster.node import sysctls
from hatchway.kube.api import Object


def refusal(pod: Object) -> tuple[str, str] | None:
    """Return (reason, message) for the status of a pod that this node must not run; None when it may run the pod."""
    system = (pod["spec"].get("os") or {}).get("name")
    if system not in (None, "", "linux"):
        return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    if message := sysctls.refusal(pod):
        return "SysctlForbidden", message
    return None
