"""Validates the status of ResourceClaims: allocations, consumers, and the statuses of devices from their drivers.

From `ValidateResourceClaimStatusUpdate` in `pkg/apis/resource/validation`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies import deviceparts as parts
from hatchway.cluster.api.registry.strategies.podplacement import validate_node_selector
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["drop_deallocated", "request_names", "request_reference", "validate_claim_status"]

Json = dict[str, Any]
# Maps the name of each request to the names of its alternatives (subrequests).
RequestNames = Mapping[str, frozenset[str]]
_Device = tuple[str, str, str, str]

_MAX_CONSUMERS, _MAX_RESULTS, _MAX_CONFIG, _MAX_CONDITIONS, _MAX_BINDING = 256, 32, 64, 8, 4
_MAX_ADDRESSES, _MAX_INTERFACE, _MAX_HARDWARE = 16, 256, 128
_SOURCES = ("FromClaim", "FromClass")
_REFERENCE = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"


def request_names(devices: Json) -> RequestNames:
    """Return the names of a claim's requests, each with the names of its alternatives."""
    return {
        one.get("name") or "": frozenset(sub.get("name") or "" for sub in one.get("firstAvailable") or ())
        for one in devices.get("requests") or ()
    }


def request_reference(name: str, at: str, names: RequestNames) -> list[Cause]:
    """Return the errors in a reference to a request (`validateRequestNameRef`)."""
    segments = name.split("/")
    if len(segments) > 2:
        return [v.invalid(at, name, _REFERENCE)]
    causes = [cause for one in segments for cause in parts.label(one, at)]
    known = segments[0] in names and (len(segments) == 1 or segments[1] in names[segments[0]])
    return causes if known else [*causes, v.invalid(at, name, _REFERENCE)]


def _device_of(found: Json) -> _Device:
    driver, pool, device, share = (str(found.get(key) or "") for key in ("driver", "pool", "device", "shareID"))
    return driver, pool, device, share


def _allocated(claim: Object) -> set[_Device]:
    allocation = (claim.get("status") or {}).get("allocation") or {}
    return {_device_of(one) for one in (allocation.get("devices") or {}).get("results") or ()}


def drop_deallocated(obj: Object, old: Object) -> None:
    """Drop the statuses of devices that are no longer allocated to the claim (`dropDeallocatedStatusDevices`)."""
    gone = _allocated(old) - _allocated(obj)
    status = obj.get("status") or {}
    if gone and status.get("devices"):
        status["devices"] = [one for one in status["devices"] if _device_of(one) not in gone]
        if not status["devices"]:
            del status["devices"]


def validate_claim_status(obj: Object, old: Object) -> list[Cause]:
    """Return the errors in a change of a claim's status."""
    status, former = obj.get("status") or {}, old.get("status") or {}
    names = request_names((obj.get("spec") or {}).get("devices") or {})
    consumers, allocation = status.get("reservedFor") or [], status.get("allocation")
    at = "status.reservedFor"
    causes = parts.each_item(consumers, _MAX_CONSUMERS, _consumer, at)
    causes += parts.unique(consumers, lambda one: one.get("uid"), at, _MAX_CONSUMERS)
    allocated = _allocated(obj)
    devices = status.get("devices")
    causes += parts.each_item(devices, -1, lambda one, here: _device_status(one, here, allocated), "status.devices")
    causes += parts.unique(devices, lambda one: "/".join(filter(None, _device_of(one))), "status.devices")
    if consumers and allocation is None:
        causes.append(v.forbidden(at, "may not be specified when `allocated` is not set"))
    elif obj["metadata"].get("deletionTimestamp") and any(
        one not in (former.get("reservedFor") or ()) for one in consumers
    ):
        text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        causes.append(v.forbidden(at, text))
    if allocation is not None and former.get("allocation") is not None:
        causes += v.immutable(allocation, former["allocation"], "status.allocation")
    elif allocation is not None:
        causes += _allocation(allocation, names)
    return causes


def _consumer(found: Json, at: str) -> list[Cause]:
    return [v.required(f"{at}.{key}") for key in ("resource", "name", "uid") if not found.get(key)]


def _allocation(allocation: Json, names: RequestNames) -> list[Cause]:
    at, devices = "status.allocation.devices", allocation.get("devices") or {}
    causes = parts.each_item(
        devices.get("results"), _MAX_RESULTS, lambda one, here: _result(one, here, names), f"{at}.results"
    )
    causes += parts.each_item(
        devices.get("config"), _MAX_CONFIG, lambda one, here: _config(one, here, names), f"{at}.config"
    )
    selector = allocation.get("nodeSelector")
    if selector is not None:
        validate_node_selector(selector, "status.allocation.nodeSelector", causes)
    return causes


def _result(result: Json, at: str, names: RequestNames) -> list[Cause]:
    causes = request_reference(result.get("request") or "", f"{at}.request", names)
    causes += parts.driver_name(result.get("driver") or "", f"{at}.driver")
    causes += parts.pool_name(result.get("pool") or "", f"{at}.pool")
    causes += parts.label(result.get("device") or "", f"{at}.device")
    causes += binding_conditions(result, at)
    share = result.get("shareID")
    return causes + (parts.uuid(share, f"{at}.shareID") if share is not None else [])


def _config(found: Json, at: str, names: RequestNames) -> list[Cause]:
    source = found.get("source") or ""
    causes = [v.required(f"{at}.source")] if not source else []
    if source and source not in _SOURCES:
        causes.append(v.not_supported(f"{at}.source", source, _SOURCES))
    requests = found.get("requests")
    causes += parts.each_item(
        requests, _MAX_RESULTS, lambda one, here: request_reference(one, here, names), f"{at}.requests"
    )
    causes += parts.unique(requests, lambda one: one, f"{at}.requests", _MAX_RESULTS)
    return causes + parts.config(found, at)


def binding_conditions(found: Json, at: str) -> list[Cause]:
    """Return the errors in bindingConditions and bindingFailureConditions (`validateDeviceBindingParameters`)."""
    good, bad = found.get("bindingConditions") or [], found.get("bindingFailureConditions") or []
    causes: list[Cause] = []
    for key, names in (("bindingConditions", good), ("bindingFailureConditions", bad)):
        here = f"{at}.{key}"
        causes += parts.each_item(names, _MAX_BINDING, lambda one, here: v.each(here, one, v.qualified_name(one)), here)
        causes += parts.unique(names, lambda one: one, here, _MAX_BINDING)
    here = f"{at}.bindingFailureConditions"
    for index, name in enumerate(bad[:_MAX_BINDING]):
        if name in good:
            text = "bindingFailureConditions must not overlap with bindingConditions"
            causes.append(v.invalid(f"{here}[{index}]", name, text))
    if bad and not good:
        text = "bindingConditions are required to use bindingFailureConditions"
        causes.append(v.invalid(f"{at}.bindingConditions", good or None, text))
    if good and not bad:
        causes.append(v.invalid(here, bad or None, "bindingFailureConditions are required to use bindingConditions"))
    return causes


def _device_status(found: Json, at: str, allocated: set[_Device]) -> list[Cause]:
    causes = parts.driver_name(found.get("driver") or "", f"{at}.driver")
    causes += parts.pool_name(found.get("pool") or "", f"{at}.pool")
    causes += parts.label(found.get("device") or "", f"{at}.device")
    if found.get("shareID") is not None:
        causes += parts.uuid(found["shareID"], f"{at}.shareID")
    device = _device_of(found)
    if device not in allocated:
        causes.append(v.invalid(at, "/".join(filter(None, device)), "must be an allocated device in the claim"))
    conditions = found.get("conditions")
    causes += parts.each_item(conditions, _MAX_CONDITIONS, _condition, f"{at}.conditions")
    causes += parts.unique(conditions, lambda one: one.get("type"), f"{at}.conditions", _MAX_CONDITIONS)
    if found.get("data") is not None:
        causes += parts.json_object(found["data"], f"{at}.data", parts.MAX_PARAMETERS)
    network, here = found.get("networkData") or {}, f"{at}.networkData"
    for key, most in (("interfaceName", _MAX_INTERFACE), ("hardwareAddress", _MAX_HARDWARE)):
        if len((network.get(key) or "").encode()) > most:
            causes.append(v.too_long(f"{here}.{key}", most))
    causes += parts.each_item(network.get("ips"), _MAX_ADDRESSES, _interface_address, f"{here}.ips")
    return causes + parts.unique(network.get("ips"), lambda one: one, f"{here}.ips", _MAX_ADDRESSES)


def _condition(found: Json, at: str) -> list[Cause]:
    kind, status = found.get("type") or "", found.get("status") or ""
    causes = v.each(f"{at}.type", kind, v.qualified_name(kind)) if kind else [v.required(f"{at}.type")]
    if status not in ("True", "False", "Unknown"):
        causes.append(v.not_supported(f"{at}.status", status, ("False", "True", "Unknown")))
    if not found.get("lastTransitionTime"):
        causes.append(v.required(f"{at}.lastTransitionTime"))
    return causes if found.get("reason") else [*causes, v.required(f"{at}.reason")]


def _interface_address(text: str, at: str) -> list[Cause]:
    """Return the errors in an address with the length of its network's prefix (`IsValidInterfaceAddress`)."""
    if v.cidr(at, text):
        return [v.invalid(at, text, "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)")]
    canonical = str(ipaddress.ip_interface(text))
    return [] if text == canonical else [v.invalid(at, text, f"must be in canonical form ({v.quote(canonical)})")]
