"""Chooses devices for ResourceClaims on one node (`dynamic-resource-allocation/structured`). Pure.

Devices are tried in the order of their pools (backtracking). Devices are not supported if several claims share them, if
they use counters of their pool, or if they have conditions for binding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from hatchway.cluster.controllers.scheduling.devicepools import DeviceId, DevicePool, PooledDevice
from hatchway.kube.api import Object

__all__ = ["DeviceProblem", "SelectDevice", "allocate_claims"]

# Returns True when a CEL expression selects a device. Arguments: expression, driver, device. Raises ValueError.
SelectDevice = Callable[[str, str, Object], bool]

# The maximum number of devices of one claim, and the maximum number of choices that are tried for a pod on a node.
_MOST_RESULTS, _MOST_STEPS = 32, 5_000
# The maximum number of seconds of processor time for a pod on a node. A limit of the number of choices is not enough,
# because one choice may take many comparisons.
_MOST_SECONDS = 1.0
# The number of devices that are compared between two checks of the time.
_BETWEEN_CHECKS = 64
_TOO_MUCH = "allocating devices for the pod takes too many attempts"


class DeviceProblem(Exception):
    """Claims cannot be allocated on any node, or only with more work than is allowed. The message says why."""


@dataclass(slots=True)
class _Alternative:
    """One request of a claim, or one of its alternatives.

    name: the name in results: REQUEST, or REQUEST/ALTERNATIVE.
    spec: the request.
    count: how many devices; None for all.
    selectors: the CEL expressions of the class and the request.
    """

    name: str
    spec: Object
    count: int | None
    selectors: list[str]

    @property
    def is_admin(self) -> bool:
        return bool(self.spec.get("adminAccess"))


@dataclass(slots=True)
class _Claim:
    claim: Object
    # The alternatives of each request.
    requests: list[list[_Alternative]]
    constraints: list[Object]
    chosen: list[tuple[_Alternative, PooledDevice]] = field(default_factory=list)


def allocate_claims(
    claims: Iterable[Object],
    node: Object,
    pools: list[DevicePool],
    classes: Mapping[str, Object],
    taken: Set[DeviceId],
    select: SelectDevice,
) -> list[Object] | None:
    """Return an AllocationResult for each claim; None when the node does not have the devices.

    classes: the DeviceClasses by name. taken: devices of other claims. Raises DeviceProblem.
    """
    prepared = [_prepared(one, classes) for one in claims]
    work = _Allocation(node, pools, taken, select)
    try:
        if not work.assign(prepared):
            return None
    except RecursionError:
        # `_next` and `_pick` call each other recursively, for each chosen device.
        raise DeviceProblem(_TOO_MUCH) from None
    return [_result(one, node, classes) for one in prepared]


def _prepared(claim: Object, classes: Mapping[str, Object]) -> _Claim:
    devices = (claim.get("spec") or {}).get("devices") or {}
    requests = []
    for request in devices.get("requests") or ():
        name = request["name"]
        if request.get("exactly") is not None:
            requests.append([_wanted(name, request["exactly"], classes)])
        else:
            found = request.get("firstAvailable") or ()
            requests.append([_wanted(f"{name}/{one['name']}", one, classes) for one in found])
    return _Claim(claim, requests, devices.get("constraints") or [])


def _wanted(name: str, spec: Object, classes: Mapping[str, Object]) -> _Alternative:
    found = classes.get(spec.get("deviceClassName") or "")
    if found is None:
        raise DeviceProblem(f"request {name}: device class {spec.get('deviceClassName')} does not exist")
    selectors = [*((found.get("spec") or {}).get("selectors") or ()), *(spec.get("selectors") or ())]
    texts = [(one.get("cel") or {}).get("expression") or "" for one in selectors]
    return _Alternative(name, spec, None if spec.get("allocationMode") == "All" else spec.get("count") or 1, texts)


class _Allocation:
    def __init__(self, node: Object, pools: list[DevicePool], taken: Set[DeviceId], select: SelectDevice) -> None:
        self._pools = [(pool, [one for one in pool.devices if one.is_supported and one.fits(node)]) for pool in pools]
        self._taken = set(taken)
        self._select = select
        self._selected: dict[tuple[str, DeviceId], bool] = {}
        # The devices that each alternative may have, by the id() of the alternative, which is unique while the claims
        # exist.
        self._found: dict[int, list[PooledDevice]] = {}
        self._steps = 0
        self._until = time.thread_time() + _MOST_SECONDS

    def assign(self, claims: list[_Claim]) -> bool:
        """Choose devices for all requests of all claims."""
        return self._next([(claim, one) for claim in claims for one in claim.requests], 0)

    def _next(self, requests: list[tuple[_Claim, list[_Alternative]]], at: int) -> bool:
        if at == len(requests):
            return True
        claim, alternatives = requests[at]
        return any(self._request(requests, at, claim, wanted) for wanted in alternatives)

    def _request(
        self, requests: list[tuple[_Claim, list[_Alternative]]], at: int, claim: _Claim, wanted: _Alternative
    ) -> bool:
        self._step()
        if wanted.count is not None:
            usable = self._usable(wanted, complete=False)
            return self._pick(requests, at, claim, wanted, usable, 0, wanted.count)
        if any(not pool.is_complete and devices for pool, devices in self._pools):
            # Further slices of an incomplete pool may have more devices that match.
            return False
        usable = self._usable(wanted, complete=True)
        if not usable or len(claim.chosen) + len(usable) > _MOST_RESULTS:
            return False
        if not wanted.is_admin and any(one.identity in self._taken for one in usable):
            return False
        added = 0
        for one in usable:
            if not self._allowed(claim, wanted, one):
                break
            self._add(claim, wanted, one)
            added += 1
        if added == len(usable) and self._next(requests, at + 1):
            return True
        for _ in range(added):
            self._remove(claim)
        return False

    def _pick(
        self,
        requests: list[tuple[_Claim, list[_Alternative]]],
        at: int,
        claim: _Claim,
        wanted: _Alternative,
        usable: list[PooledDevice],
        begin: int,
        left: int,
    ) -> bool:
        """Choose `left` more devices for a request, from position `begin` on, and then for the following requests."""
        if not left:
            return self._next(requests, at + 1)
        if len(claim.chosen) + left > _MOST_RESULTS:
            return False
        for index in range(begin, len(usable) - left + 1):
            self._step()
            one = usable[index]
            if (one.identity in self._taken and not wanted.is_admin) or not self._allowed(claim, wanted, one):
                continue
            self._add(claim, wanted, one)
            if self._pick(requests, at, claim, wanted, usable, index + 1, left - 1):
                return True
            self._remove(claim)
        return False

    def _step(self) -> None:
        """Count a choice that is tried. Raises DeviceProblem when there are too many, or they take too long."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise DeviceProblem(_TOO_MUCH)
        self._check_time()

    def _check_time(self) -> None:
        if time.thread_time() > self._until:
            raise DeviceProblem(_TOO_MUCH)

    def _add(self, claim: _Claim, wanted: _Alternative, one: PooledDevice) -> None:
        claim.chosen.append((wanted, one))
        if not wanted.is_admin:
            self._taken.add(one.identity)

    def _remove(self, claim: _Claim) -> None:
        wanted, one = claim.chosen.pop()
        if not wanted.is_admin:
            self._taken.discard(one.identity)

    def _usable(self, wanted: _Alternative, *, complete: bool) -> list[PooledDevice]:
        """Return the devices that a request may have, whether they are free or not."""
        found = self._found.get(id(wanted))
        if found is None:
            found = self._found[id(wanted)] = list(self._fitting(wanted, complete=complete))
        return found

    def _fitting(self, wanted: _Alternative, *, complete: bool) -> Iterator[PooledDevice]:
        for pool, devices in self._pools:
            if complete and not pool.is_complete:
                continue
            for number, one in enumerate(devices):
                if not number % _BETWEEN_CHECKS:
                    self._check_time()
                if _tolerates(wanted.spec, one.device) and all(self._selects(text, one) for text in wanted.selectors):
                    yield one

    def _selects(self, text: str, one: PooledDevice) -> bool:
        key = text, one.identity
        found = self._selected.get(key)
        if found is None:
            try:
                found = self._select(text, one.identity.driver, one.device)
            except ValueError as error:
                name = "/".join(one.identity)
                raise DeviceProblem(f"device {name}: CEL runtime error: {error}") from None
            self._selected[key] = found
        return found

    def _allowed(self, claim: _Claim, wanted: _Alternative, device: PooledDevice) -> bool:
        """Return True when the constraints of a claim allow one more device."""
        for constraint in claim.constraints:
            if not _applies(constraint, wanted.name):
                continue
            others = [one for other, one in claim.chosen if _applies(constraint, other.name)]
            same = constraint.get("matchAttribute")
            name = same if same is not None else constraint.get("distinctAttribute") or ""
            value = _attribute(device, name)
            if value is None:
                return False
            values = [_attribute(one, name) for one in others]
            if any((one != value) if same is not None else (one == value) for one in values):
                return False
        return True


def _applies(constraint: Object, name: str) -> bool:
    requests = constraint.get("requests") or ()
    return not requests or name in requests or name.partition("/")[0] in requests


def _attribute(device: PooledDevice, name: str) -> Object | None:
    """Return an attribute as {type: value}; None when the device does not have it."""
    attributes = device.device.get("attributes") or {}
    found = attributes.get(name)
    domain, _, short = name.partition("/")
    if found is None and domain == device.identity.driver:
        found = attributes.get(short)
    return found if isinstance(found, dict) else None


def _tolerates(request: Object, device: Object) -> bool:
    tolerations = request.get("tolerations") or ()
    return all(
        taint.get("effect") not in ("NoSchedule", "NoExecute") or any(_matches(one, taint) for one in tolerations)
        for taint in device.get("taints") or ()
    )


def _matches(toleration: Object, taint: Object) -> bool:
    # In a pod, a toleration without a key must have the operator Exists (`tolerations.py`). A device's toleration
    # without a key may also compare values.
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return (toleration.get("value") or "") == (taint.get("value") or "")


def _result(claim: _Claim, node: Object, classes: Mapping[str, Object]) -> Object:
    results: list[Object] = []
    for wanted, one in claim.chosen:
        found: Object = {"request": wanted.name, **one.identity._asdict()}
        for key in ("adminAccess", "tolerations"):
            if wanted.spec.get(key):
                found[key] = wanted.spec[key]
        results.append(found)
    devices: dict[str, Any] = {"results": results}
    if config := list(_configs(claim, classes)):
        devices["config"] = config
    allocation: Object = {"devices": devices}
    selector = _node_selector([one.place for _, one in claim.chosen], node)
    return {**allocation, "nodeSelector": selector} if selector is not None else allocation


def _configs(claim: _Claim, classes: Mapping[str, Object]) -> Iterator[Object]:
    names = list(dict.fromkeys(wanted.name for wanted, _ in claim.chosen))
    chosen = {wanted.name: wanted for wanted, _ in claim.chosen}
    for name in names:
        spec = classes[chosen[name].spec["deviceClassName"]].get("spec") or {}
        for one in spec.get("config") or ():
            yield {"source": "FromClass", "requests": [name], **one}
    for one in ((claim.claim.get("spec") or {}).get("devices") or {}).get("config") or ():
        if any(_applies(one, name) for name in names):
            yield {"source": "FromClaim", **one}


def _node_selector(places: list[Object], node: Object) -> Object | None:
    """Return where the devices can be used; None for everywhere (`createNodeSelector`)."""
    if any(one.get("nodeName") for one in places):
        name = {"key": "metadata.name", "operator": "In", "values": [node["metadata"]["name"]]}
        return {"nodeSelectorTerms": [{"matchFields": [name]}]}
    merged: dict[str, list[Object]] = {}
    for place in places:
        for term in ((place.get("nodeSelector") or {}).get("nodeSelectorTerms") or ())[:1]:
            for key in ("matchExpressions", "matchFields"):
                merged.setdefault(key, []).extend(one for one in term.get(key) or () if one not in merged.get(key, []))
    term = {key: found for key, found in merged.items() if found}
    return {"nodeSelectorTerms": [term]} if term else None
