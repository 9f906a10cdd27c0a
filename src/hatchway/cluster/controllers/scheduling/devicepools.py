"""The devices that drivers publish, as pools, and which of them can be used on a node (`pools_stable.go`). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from hatchway.kube.api import Object
from hatchway.kube.nodeselectors import node_selector_matches

__all__ = ["DeviceId", "DevicePool", "PooledDevice", "device_pools"]

_SHARED = ("allowMultipleAllocations", "consumesCounters", "bindingConditions")


class DeviceId(NamedTuple):
    """The full name of a device."""

    driver: str
    pool: str
    device: str


@dataclass(frozen=True, slots=True, eq=False)
class PooledDevice:
    """One device.

    identity: its name.
    device: its entry in the slice.
    place: the object with the fields that select its nodes: the device's entry if the slice has
        `perDeviceNodeSelection`, else the slice's spec.
    """

    identity: DeviceId
    device: Object
    place: Object

    @property
    def is_supported(self) -> bool:
        """Return False for a device that is shared, uses counters, or has conditions for binding."""
        return not any(self.device.get(key) for key in _SHARED)

    def fits(self, node: Object) -> bool:
        """Return True when the device can be used on a node."""
        if self.place.get("nodeName"):
            return bool(self.place["nodeName"] == node["metadata"]["name"])
        selector = self.place.get("nodeSelector")
        return bool(self.place.get("allNodes")) or (selector is not None and node_selector_matches(selector, node))


@dataclass(frozen=True, slots=True)
class DevicePool:
    """The devices of one pool in its newest generation.

    is_complete: True when all slices of this generation exist.
    """

    devices: tuple[PooledDevice, ...]
    is_complete: bool


def device_pools(slices: Iterable[Object]) -> list[DevicePool]:
    """Return the pools that ResourceSlices describe, ordered by driver and name."""
    found: dict[tuple[str, str], list[Object]] = {}
    for one in slices:
        pool = one["spec"].get("pool") or {}
        found.setdefault((one["spec"].get("driver") or "", pool.get("name") or ""), []).append(one)
    pools = []
    for (driver, name), members in sorted(found.items()):
        newest = max((one["spec"]["pool"].get("generation") or 0) for one in members)
        current = [one for one in members if (one["spec"]["pool"].get("generation") or 0) == newest]
        current.sort(key=lambda one: str(one["metadata"]["name"]))
        devices = tuple(
            PooledDevice(DeviceId(driver, name, device["name"]), device, _place(one["spec"], device))
            for one in current
            for device in one["spec"].get("devices") or ()
        )
        wanted = current[0]["spec"]["pool"].get("resourceSliceCount") or 0
        pools.append(DevicePool(devices, len(current) == wanted))
    return pools


def _place(spec: Object, device: Object) -> Object:
    return device if spec.get("perDeviceNodeSelection") else spec
