"""Decides whether a container is started again after its end (`kuberuntime_manager.go`, computePodActions). Pure."""

from __future__ import annotations

from typing import Literal

from hatchway.kube.api import Object

ContainerKind = Literal["init", "sidecar", "main", "ephemeral"]


def is_restarted(pod: Object, kind: ContainerKind, code: int) -> bool:
    """Return True when a container that has ended with exit code `code` is started again."""
    policy = pod["spec"].get("restartPolicy") or "Always"
    if kind == "sidecar":
        return True
    if kind == "init":
        return code != 0 and policy != "Never"
    if kind == "ephemeral":
        return False
    return policy == "Always" or (policy == "OnFailure" and code != 0)
