"""ResourceSlices (resource.k8s.io/v1), by which drivers publish devices: `pkg/apis/resource/validation`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from hatchway.cluster.amounts import Amount
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies import deviceparts as parts
from hatchway.cluster.api.registry.strategies.base import Strategy, field, readers
from hatchway.cluster.api.registry.strategies.capacitypolicies import validate_policy
from hatchway.cluster.api.registry.strategies.claimallocations import binding_conditions
from hatchway.cluster.api.registry.strategies.devicetaints import validate_device_taint
from hatchway.cluster.api.registry.strategies.podplacement import validate_node_selector
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["ResourceSliceStrategy"]

Json = dict[str, Any]

_MAX_DEVICES, _MAX_ADVANCED, _MAX_SETS, _MAX_COUNTERS = 128, 64, 8, 32
_MAX_ATTRIBUTES, _MAX_TAINTS, _MAX_CONSUMPTIONS, _MAX_VALUE = 32, 16, 2, 64
_NUMBER = r"(0|[1-9]\d*)"
_semver = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{{0}}(\.{{0}})*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?".replace(
        "{0}", r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
    ),
    re.ASCII,
).fullmatch
_PLACES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_VALUES = ("bool", "int", "string", "version")


class ResourceSliceStrategy(Strategy):
    """ResourceSlices (`pkg/registry/resource/resourceslice/strategy.go`)."""

    generation = True
    selectable = readers({"spec.nodeName": field("spec", "nodeName"), "spec.driver": field("spec", "driver")})

    def has_status(self, obj: Object) -> bool:
        """Return False: the type has no status."""
        return False

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set missing times of taints to the present time (`SetDefaults_DeviceTaint`)."""
        former = {one.get("name"): one for one in ((old or {}).get("spec") or {}).get("devices") or ()}
        for device in (obj.get("spec") or {}).get("devices") or ():
            known = {_without_time(one): one for one in (former.get(device.get("name")) or {}).get("taints") or ()}
            for taint in device.get("taints") or ():
                if taint.get("timeAdded") is None:
                    before = known.get(_without_time(taint)) or {}
                    taint["timeAdded"] = before.get("timeAdded") or _now()

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        """Return the warning about a driver's name with capital letters."""
        driver = obj["spec"].get("driver") or ""
        if driver == driver.lower():
            return []
        text = f"driver names should be lowercase; {v.quote(driver)} contains uppercase characters"
        return [f"spec.driver: {text}"]

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the pool, the place and the devices."""
        spec = obj.get("spec") or {}
        causes = parts.driver_name(spec.get("driver") or "", "spec.driver") + _pool(spec.get("pool") or {})
        causes += _place(spec, "spec", _PLACES)
        counters, devices = spec.get("sharedCounters"), spec.get("devices")
        if counters is not None and devices is not None:
            causes.append(v.invalid("spec", "", "only one of `sharedCounters` or `devices` is allowed"))
        advanced = any(one.get("taints") or one.get("consumesCounters") for one in devices or ())
        most, at = _MAX_ADVANCED if advanced else _MAX_DEVICES, "spec.devices"
        per_device = bool(spec.get("perDeviceNodeSelection"))
        causes += parts.each_item(devices, most, lambda one, here: _device(one, here, per_device), at)
        causes += parts.unique(devices, lambda one: one.get("name"), at, most)
        causes += parts.each_item(counters, _MAX_SETS, _counter_set, "spec.sharedCounters")
        return causes + parts.unique(counters, lambda one: one.get("name"), "spec.sharedCounters", _MAX_SETS)

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: driver, pool and node never change."""
        spec, former = obj.get("spec") or {}, old.get("spec") or {}
        pool, before = (spec.get("pool") or {}).get("name"), (former.get("pool") or {}).get("name")
        causes = v.immutable(pool, before, "spec.pool.name")
        for key in ("driver", "nodeName"):
            causes += v.immutable(spec.get(key), former.get(key), f"spec.{key}")
        return causes + self.validate(obj)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _without_time(taint: Json) -> tuple[str, str, str]:
    return taint.get("key") or "", taint.get("value") or "", taint.get("effect") or ""


def _pool(pool: Json) -> list[Cause]:
    at = "spec.pool"
    causes = parts.pool_name(pool.get("name") or "", f"{at}.name")
    count, generation = pool.get("resourceSliceCount") or 0, pool.get("generation") or 0
    if count <= 0:
        causes.append(v.invalid(f"{at}.resourceSliceCount", count, "must be greater than zero"))
    if generation < 0:
        causes.append(v.invalid(f"{at}.generation", generation, "must be greater than or equal to zero"))
    return causes


def _place(found: Json, at: str, keys: tuple[str, ...]) -> list[Cause]:
    """Return the errors in the fields that say where devices can be used. keys: the fields; one of them must be set."""
    causes: list[Cause] = []
    given = []
    name, selector = found.get("nodeName"), found.get("nodeSelector")
    is_slice = "perDeviceNodeSelection" in keys
    if name:
        given.append("`nodeName`")
        causes += v.each(f"{at}.nodeName", name, v.dns1123_subdomain(name))
    elif name is not None:
        text = "must be either unset or set to a non-empty string" if is_slice else "must not be empty"
        causes.append(v.invalid(f"{at}.nodeName", name, text))
    if selector is not None:
        given.append("`nodeSelector`")
        validate_node_selector(selector, f"{at}.nodeSelector", causes)
        terms = selector.get("nodeSelectorTerms") or []
        if is_slice and len(terms) != 1:
            text = "must have exactly one node selector term"
            causes.append(v.invalid(f"{at}.nodeSelector.nodeSelectorTerms", terms, text))
    for key in keys[2:]:
        if found.get(key):
            given.append(f"`{key}`")
        elif found.get(key) is not None:
            causes.append(v.invalid(f"{at}.{key}", False, "must be either unset or set to true"))
    names = [f"`{key}`" for key in keys]
    if is_slice:
        text = f"exactly one of {', '.join(names)} is required"
        several = f"{text}, but multiple fields are set"
    else:
        where = "is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
        text = several = f"exactly one of {', '.join(names[:-1])}, or {names[-1]} {where}"
    if not given:
        causes.append(v.required(at, text))
    elif len(given) > 1:
        causes.append(v.invalid(at, f"{{{', '.join(given)}}}", several))
    return causes


def _device(device: Json, at: str, per_device: bool) -> list[Cause]:
    causes = parts.label(device.get("name") or "", f"{at}.name")
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    total = len(attributes) + len(capacity)
    if total > _MAX_ATTRIBUTES:
        text = f"the total number of attributes and capacities must not exceed {_MAX_ATTRIBUTES}"
        # The items of a list that is too long are not checked.
        return [*causes, v.invalid(at, total, text)]
    for name, attribute in attributes.items():
        causes += parts.qualified_name(name, f"{at}.attributes")
        causes += _attribute(attribute, f"{at}.attributes[{_short(name)}]")
    shared = bool(device.get("allowMultipleAllocations"))
    for name, found in capacity.items():
        causes += parts.qualified_name(name, f"{at}.capacity")
        here, policy = f"{at}.capacity[{_short(name)}].requestPolicy", found.get("requestPolicy")
        if policy is not None:
            refused = [v.forbidden(here, "allowMultipleAllocations must be true")]
            causes += validate_policy(policy, Amount.parse(found.get("value", "0")), here) if shared else refused
    causes += parts.each_item(device.get("taints"), _MAX_TAINTS, validate_device_taint, f"{at}.taints")
    consumed, here = device.get("consumesCounters"), f"{at}.consumesCounters"
    causes += parts.each_item(consumed, _MAX_CONSUMPTIONS, _consumption, here)
    causes += parts.unique(consumed, lambda one: one.get("counterSet"), here, _MAX_CONSUMPTIONS)
    if per_device:
        causes += _place(device, at, _PLACES[:3])
    elif any(device.get(key) is not None for key in _PLACES[:3]):
        text = (
            "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in "
            "the ResourceSlice spec"
        )
        causes.append(v.invalid(at, None, text))
    return causes + binding_conditions(device, at)


def _short(name: str) -> str:
    return name if len(name) <= 96 else f"{name[:47]}...{name[-46:]}"


def _attribute(attribute: Json, at: str) -> list[Cause]:
    given = [key for key in _VALUES if attribute.get(key) is not None]
    causes: list[Cause] = []
    version = attribute.get("version")
    if version is not None and not _semver(version):
        text = "must be a string compatible with semver.org spec 2.0.0"
        causes.append(v.invalid(f"{at}.version", version, text))
    causes += [
        v.too_long(f"{at}.{key}", _MAX_VALUE)
        for key in ("string", "version")
        if len((attribute.get(key) or "").encode()) > _MAX_VALUE
    ]
    if len(given) != 1:
        causes.append(v.invalid(at, attribute if given else "", "exactly one value must be specified"))
    return causes


def _counters(found: Json, at: str) -> list[Cause]:
    counters = found.get("counters") or {}
    if not counters:
        return [v.required(f"{at}.counters")]
    if len(counters) > _MAX_COUNTERS:
        return [v.too_many(f"{at}.counters", len(counters), _MAX_COUNTERS)]
    return [cause for name in counters for cause in parts.label(name, f"{at}.counters")]


def _named(found: Json, key: str, at: str) -> list[Cause]:
    name = found.get(key) or ""
    return parts.label(name, f"{at}.{key}") if name else [v.required(f"{at}.{key}")]


def _counter_set(found: Json, at: str) -> list[Cause]:
    return _named(found, "name", at) + _counters(found, at)


def _consumption(found: Json, at: str) -> list[Cause]:
    return _named(found, "counterSet", at) + _counters(found, at)
