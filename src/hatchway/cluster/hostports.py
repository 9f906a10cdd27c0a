"""The ports that a pod needs on its node (`GetHostPorts`, and `HostPortInfo` of the scheduler framework). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["HostPort", "host_ports", "ports_clash"]

# (hostIP, protocol, port)
HostPort = tuple[str, str, int]
_EVERY_ADDRESS = "0.0.0.0"


def host_ports(pod: dict[str, Any]) -> frozenset[HostPort]:
    """Return the ports that the pod's containers and sidecars need on its node."""
    sidecars = [one for one in pod["spec"].get("initContainers") or () if one.get("restartPolicy") == "Always"]
    return frozenset(
        (port.get("hostIP") or _EVERY_ADDRESS, port.get("protocol") or "TCP", port["hostPort"])
        for container in [*sidecars, *(pod["spec"].get("containers") or ())]
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def ports_clash(wanted: Iterable[HostPort], used: Iterable[HostPort]) -> bool:
    """Return True when a wanted port is used already, with the same protocol and on the same address (or on all)."""
    taken = list(used)
    return any(
        one[1:] == other[1:] and (one[0] == other[0] or _EVERY_ADDRESS in (one[0], other[0]))
        for one in wanted
        for other in taken
    )
