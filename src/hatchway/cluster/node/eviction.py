"""Decides which pods exceed their limits of disk use (localStorageEviction in the kubelet's `eviction_manager.go`).

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from hatchway.cluster.node.resourcelimits import container_limit
from hatchway.cluster.quantity import format_quantity, parse_quantity
from hatchway.kube.api import Object

REASON = "Evicted"
# The grace period of an evicted pod's containers, in seconds (immediateEvictionGracePeriodSeconds).
GRACE_SECONDS = 1.0
_RESOURCE = "ephemeral-storage"
# SystemCriticalPriority (pkg/apis/scheduling): such pods are not evicted.
_CRITICAL_PRIORITY = 2_000_000_000


@dataclass(slots=True)
class StorageUse:
    """The bytes that one pod uses on disk.

    volumes: the bytes of each measured emptyDir, by name.
    in_memory: the names of the emptyDirs that are in memory (tmpfs).
    containers: for each running container, by name, the bytes of its logs and of its files outside of volumes.
    other: all other bytes that count for the pod (termination logs, logs of ended containers).
    """

    volumes: dict[str, int] = field(default_factory=dict)
    in_memory: frozenset[str] = frozenset()
    containers: dict[str, int] = field(default_factory=dict)
    other: int = 0

    @property
    def total(self) -> int:
        """Return the bytes that count for the limit of all containers together."""
        volumes = sum(size for name, size in self.volumes.items() if name not in self.in_memory)
        return volumes + sum(self.containers.values()) + self.other


def limited_volumes(pod: Object) -> dict[str, str]:
    """Return the sizeLimits of the pod's emptyDirs, by volume name. A sizeLimit of 0 means no limit and is left out."""
    found = {
        volume["name"]: (volume.get("emptyDir") or {}).get("sizeLimit") for volume in pod["spec"].get("volumes") or ()
    }
    return {name: str(limit) for name, limit in found.items() if limit and parse_quantity(limit) > 0}


def has_storage_limit(pod: Object) -> bool:
    """Return True when a container of the pod has a limit of ephemeral storage."""
    return _pod_limit(pod) is not None


def is_critical(pod: Object) -> bool:
    """Return True for a pod that is never evicted (IsCriticalPod; this cluster has no static pods)."""
    return int(pod["spec"].get("priority") or 0) >= _CRITICAL_PRIORITY


def exceeded_limit(pod: Object, use: StorageUse) -> str:
    """Return the kubelet's message about the first limit that is exceeded, "" when none is."""
    for name, limit in limited_volumes(pod).items():
        if use.volumes.get(name, 0) > parse_quantity(limit):
            return f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". '
    together = _pod_limit(pod)
    if together is not None and use.total > parse_quantity(together):
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {together}. "
    for container in pod["spec"].get("containers") or ():
        own = container_limit(container, _RESOURCE)
        if own and 0 < parse_quantity(own) < use.containers.get(container["name"], 0):
            return f'Container {container["name"]} exceeded its local ephemeral storage limit "{own}". '
    return ""


def _pod_limit(pod: Object) -> str | None:
    """Return the limit of all containers together (PodLimits of component-helpers); None without any limit.

    It is the larger of two numbers: the sum of the limits of all containers and sidecars; and the largest limit of an
    init container plus the limits of the sidecars that start before it.
    """
    spec = pod["spec"]
    limits: list[str] = []

    def limit(container: Object) -> Fraction:
        found = container_limit(container, _RESOURCE)
        if found:
            limits.append(found)
        return parse_quantity(found or 0)

    running = sum((limit(container) for container in spec.get("containers") or ()), Fraction(0))
    sidecars, greatest = Fraction(0), Fraction(0)
    for container in spec.get("initContainers") or ():
        own = limit(container)
        if container.get("restartPolicy") == "Always":
            sidecars += own
            own = Fraction(0)
        greatest = max(greatest, sidecars + own)
    if not limits:
        return None
    return format_quantity(max(running + sidecars, greatest), like=limits[0])
