"""The scheduler's part of devices: finds the nodes that a pod's ResourceClaims allow, and allocates their devices.

It works like kube-scheduler's plugin `dynamicresources`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from hatchway.cluster.controllers.controller import ControllerContext
from hatchway.cluster.controllers.objectfields import is_deleting, uid_of
from hatchway.cluster.controllers.resourceclaims import CLAIM_FINALIZER, MOST_CONSUMERS
from hatchway.cluster.controllers.scheduling.deviceallocation import DeviceProblem, SelectDevice, allocate_claims
from hatchway.cluster.controllers.scheduling.devicepools import DeviceId, DevicePool, device_pools
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.nodeselectors import node_selector_matches
from hatchway.kube.objects import key_of
from hatchway.kube.resourceclaims import (
    DEVICE_CLAIMS,
    DEVICE_CLASSES,
    DEVICE_SLICES,
    by_device_claim,
    device_claims_of,
    is_reserved_for,
    ownership_problem,
)

__all__ = ["ClaimsChanged", "DevicesOfPod", "PodDevices"]

_NOT_THERE = "resourceclaim not available on the node"
_NONE = "cannot allocate all claims"
# The maximum number of seconds of processor time for the expressions of one decision.
_MOST_SECONDS = 5.0


class ClaimsChanged(ApiError):
    """The claims or devices have changed since the decision."""

    def __init__(self) -> None:
        super().__init__(409, "Conflict", "ResourceClaims or devices have changed meanwhile")


@dataclass(slots=True)
class DevicesOfPod:
    """The state, at one moment, of the claims of a pod that has no node yet.

    problem: why no node can run the pod; "" when the nodes must be checked.
    is_early: True when a claim from a template does not exist yet. When it is created, the pod's status changes, and
    this change queues the pod again. claims: all claims.
    unallocated: the claims without devices.
    unavailable: the claims whose devices are not available on some node, by uid.
    results: the allocations for `unallocated`, by node.
    pools: the devices. classes: the DeviceClasses by name. taken: the devices that are allocated to other claims.
    select: evaluates the expressions that select devices; None to allocate no devices.
    """

    problem: str = ""
    is_early: bool = False
    claims: list[Object] = field(default_factory=list)
    unallocated: list[Object] = field(default_factory=list)
    unavailable: dict[str, Object] = field(default_factory=dict)
    results: dict[str, list[Object]] = field(default_factory=dict)
    pools: list[DevicePool] = field(default_factory=list)
    classes: Mapping[str, Object] = field(default_factory=dict)
    taken: frozenset[DeviceId] = frozenset()
    select: SelectDevice | None = None

    def refusals(self, node: Object) -> list[str]:
        """Return why the pod cannot have its devices on the node; [] when it can. May be called on another thread.

        The result for this node is also recorded, in `unavailable` or `results`.
        """
        for claim in self.claims:
            selector = ((claim.get("status") or {}).get("allocation") or {}).get("nodeSelector")
            if selector is not None and not node_selector_matches(selector, node):
                self.unavailable[uid_of(claim)] = claim
                return [_NOT_THERE]
        if not self.unallocated:
            return []
        if self.select is None:
            return [_NONE]
        try:
            results = allocate_claims(self.unallocated, node, self.pools, self.classes, self.taken, self.select)
        except DeviceProblem as error:
            return [str(error)]
        if results is None:
            return [_NONE]
        self.results[node["metadata"]["name"]] = results
        return []


class _TimedSelector:
    """Selects devices for one pod. Evaluates each expression at most once for each device, within a limit of time."""

    def __init__(self, select: SelectDevice) -> None:
        self._select = select
        # (expression, id() of the device) → result. The ids stay unique because the pools keep the devices.
        self._known: dict[tuple[str, int], bool] = {}
        self._seconds = 0.0

    def __call__(self, text: str, driver: str, device: Object) -> bool:
        key = text, id(device)
        if (found := self._known.get(key)) is not None:
            return found
        if self._seconds > _MOST_SECONDS:
            raise ValueError("selecting devices for the pod takes too long")
        began = time.thread_time()
        try:
            found = self._known[key] = self._select(text, driver, device)
        finally:
            self._seconds += time.thread_time() - began
        return found


class PodDevices:
    """Reads and allocates claims for the scheduler. changed: called with pods that must be scheduled again."""

    def __init__(self, context: ControllerContext, changed: Callable[[Iterable[Object]], None]) -> None:
        self._client = context.client
        self._select = context.config.select_device
        self._pods = context.cache("pods")
        self._claims = context.cache(DEVICE_CLAIMS)
        self._classes = context.cache(DEVICE_CLASSES)
        self._slices = context.cache(DEVICE_SLICES)
        self._changed = changed
        self._reserving = asyncio.Lock()
        # Devices of allocations that are being written: uid of the claim → devices.
        self._pending: dict[str, frozenset[DeviceId]] = {}
        self._claims.subscribe(self._claim_changed)
        self._classes.subscribe(self._devices_changed)
        self._slices.subscribe(self._devices_changed)

    def _claim_changed(self, kind: str, claim: Object, before: Object | None) -> None:
        self._changed(self._pods.index(by_device_claim).get(key_of(claim)))
        if before is not None and (kind == "DELETED" or _devices_of(before) != _devices_of(claim)):
            # The devices that this claim had before are free now, so other claims may get them.
            self._devices_changed(kind, claim, before)

    def _devices_changed(self, _kind: str, _obj: Object, _before: Object | None) -> None:
        self._changed(self._pods.index(_waits_for_devices).get(True))

    def devices_of(self, pod: Object) -> DevicesOfPod:
        """Return the state of the pod's claims, which decides where the pod can run."""
        found = DevicesOfPod()
        if not pod["spec"].get("resourceClaims"):
            return found
        namespace, pod_name = key_of(pod)
        for one in device_claims_of(pod):
            if not one.is_needed:
                continue
            claim = self._claims.get((namespace, one.name)) if one.name else None
            if not one.name:
                return DevicesOfPod(f'pod "{namespace}/{pod_name}": ResourceClaim not created yet', is_early=True)
            if claim is None:
                return DevicesOfPod(f'{DEVICE_CLAIMS} "{one.name}" not found')
            problem = ownership_problem(claim, pod) if one.template else ""
            status = claim.get("status") or {}
            if is_deleting(claim):
                problem = f'resourceclaim "{one.name}" is being deleted'
            elif status.get("allocation") is not None:
                if not is_reserved_for(claim, pod) and len(status.get("reservedFor") or ()) >= MOST_CONSUMERS:
                    problem = "resourceclaim in use"
            elif uid_of(claim) in self._pending:
                problem = f"resource claim {namespace}/{one.name} is in the process of being allocated"
            else:
                found.unallocated.append(claim)
            if problem:
                return DevicesOfPod(problem)
            found.claims.append(claim)
        if found.unallocated:
            found.pools = device_pools(self._slices)
            found.classes = {one["metadata"]["name"]: one for one in self._classes}
            self.refresh(found)
            found.select = _TimedSelector(self._select) if self._select is not None else None
        return found

    def refresh(self, found: DevicesOfPod) -> None:
        """Update `found.taken`, because other pods may have got devices since `found` was made."""
        found.taken = self._taken()

    def _taken(self) -> frozenset[DeviceId]:
        devices = {device for claim in self._claims for device in _devices_of(claim)}
        return frozenset(devices.union(*self._pending.values()))

    async def reserve(self, found: DevicesOfPod, pod: Object, node: str) -> None:
        """Allocate the claims of a pod for which a node was chosen, and reserve them for it.

        The chosen devices count as taken at once. Raises ClaimsChanged or another ApiError: the scheduler must then
        decide again.
        """
        if not found.claims:
            return
        chosen = self._chosen(found, node)
        self._pending |= {uid: _devices_in(one) for uid, one in chosen.items()}
        try:
            # Reserve for one pod at a time, because pods may share claims.
            async with self._reserving:
                for claim in found.claims:
                    current = self._claims.get(key_of(claim))
                    if current is None or _facts(current) != _facts(claim):
                        raise ClaimsChanged
                    await self._bind(current, chosen.get(uid_of(claim)), pod)
        except ApiError as error:
            if error.code == 409:
                raise ClaimsChanged from error
            raise
        finally:
            for uid in chosen:
                self._pending.pop(uid, None)

    def _chosen(self, found: DevicesOfPod, node: str) -> dict[str, Object]:
        """Return the allocations to write, by claim. Raises ClaimsChanged."""
        results = found.results.get(node) or []
        devices = frozenset[DeviceId]().union(*(_devices_in(one) for one in results))
        claims = [self._claims.get(key_of(claim)) for claim in found.claims]
        facts, current = ([_facts(claim) for claim in each] for each in (found.claims, claims))
        pending = any(uid_of(claim) in self._pending for claim in found.claims)
        if pending or facts != current or len(results) < len(found.unallocated) or devices & self._taken():
            raise ClaimsChanged
        return {uid_of(claim): one for claim, one in zip(found.unallocated, results, strict=True)}

    async def free_unavailable(self, found: DevicesOfPod, pod: Object) -> None:
        """Free one claim whose devices are not available on some node, if no other pod uses the claim (`PostFilter`).

        The claim can then get other devices.
        """
        for claim in found.unavailable.values():
            consumers = claim["status"].get("reservedFor") or ()
            if all(one.get("uid") == uid_of(pod) for one in consumers):
                status = {key: one for key, one in claim["status"].items() if key not in ("allocation", "reservedFor")}
                written = await self._client.update(DEVICE_CLAIMS, {**claim, "status": status}, subresource="status")
                await self._claims.wait_for_write(written)
                return

    async def _bind(self, claim: Object, allocation: Object | None, pod: Object) -> None:
        """Write one claim's allocation and its reservation (`bindClaim`)."""
        finalizers = claim["metadata"].get("finalizers") or []
        if allocation is not None and CLAIM_FINALIZER not in finalizers:
            metadata = {**claim["metadata"], "finalizers": [*finalizers, CLAIM_FINALIZER]}
            claim = await self._client.update(DEVICE_CLAIMS, {**claim, "metadata": metadata})
        status = dict(claim.get("status") or {})
        if allocation is not None:
            status["allocation"] = allocation
        if not is_reserved_for(claim, pod):
            consumer = {"resource": "pods", "name": key_of(pod)[1], "uid": uid_of(pod)}
            status["reservedFor"] = [*(status.get("reservedFor") or ()), consumer]
        if status != (claim.get("status") or {}):
            claim = await self._client.update(DEVICE_CLAIMS, {**claim, "status": status}, subresource="status")
        await self._claims.wait_for_write(claim)


def _facts(claim: Object | None) -> tuple[object, ...]:
    """Return the parts of a claim on which a decision depends."""
    if claim is None:
        return ()
    return uid_of(claim), is_deleting(claim), (claim.get("status") or {}).get("allocation")


def _devices_in(allocation: Object | None) -> frozenset[DeviceId]:
    results = ((allocation or {}).get("devices") or {}).get("results") or ()
    # A device that is allocated for administration can still be allocated to other claims.
    return frozenset(
        DeviceId(one["driver"], one["pool"], one["device"]) for one in results if not one.get("adminAccess")
    )


def _devices_of(claim: Object) -> frozenset[DeviceId]:
    return _devices_in((claim.get("status") or {}).get("allocation"))


def _waits_for_devices(pod: Object) -> Iterable[Hashable]:
    waits = bool(pod["spec"].get("resourceClaims")) and not pod["spec"].get("nodeName")
    return (True,) if waits else ()
