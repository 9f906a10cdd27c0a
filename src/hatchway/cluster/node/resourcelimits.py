"""Reads limits of containers and volumes from a pod's spec. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hatchway.cluster.quantity import parse_quantity
from hatchway.kube.api import Object


def container_limit(container: Object, resource: str) -> str | None:
    """Return a container's limit as a quantity (`64Mi`); None when it has none."""
    found = ((container.get("resources") or {}).get("limits") or {}).get(resource)
    return None if found is None else str(found)


def memory_limit(pod: Object, size_limit: str | None, allocatable: Mapping[str, str]) -> int | None:
    """Return the maximum number of bytes in an emptyDir in memory (calculateEmptyDirMemorySize); None for no limit.

    This is the smallest of its sizeLimit, the sum of the containers' memory limits (if all have one), and the node's
    memory.
    """
    limits = [size_limit, allocatable.get("memory")]
    containers = pod["spec"].get("containers") or ()
    own = [container_limit(container, "memory") for container in containers]
    sizes = [int(parse_quantity(limit)) for limit in limits if limit]
    if own and all(own):
        sizes.append(sum(int(parse_quantity(limit or 0)) for limit in own))
    # A tmpfs of size 0 would have no limit.
    return min((size for size in sizes if size > 0), default=None)
