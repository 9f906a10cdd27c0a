"""Distributes endpoints over EndpointSlices with few writes (`k8s.io/endpointslice/reconciler.go`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hatchway.cluster.controllers.objectcache import ObjectCache
from hatchway.cluster.controllers.objectfields import annotations_of, controller_reference, labels_of
from hatchway.cluster.controllers.serviceports import TRIGGER_TIME
from hatchway.cluster.controllers.writes import delete_unless_gone, is_namespace_terminating
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.wellknown import ENDPOINT_SLICES

# The maximum number of endpoints of one slice (kube-controller-manager's --max-endpoints-per-slice).
MAX_ENDPOINTS = 100


@dataclass(slots=True)
class EndpointGroup:
    """Endpoints that serve the same ports, and may therefore be in the same slices."""

    ports: list[Object]
    endpoints: list[Object] = field(default_factory=list)


@dataclass(slots=True)
class SlicePlan:
    """The changes to make: new slices, changed copies of existing ones, slices to remove."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.create or self.update or self.delete)


PortKey = tuple[tuple[str, int, str, str], ...]


def port_key(ports: Iterable[Object] | None) -> PortKey:
    """Return a key that is equal for equal sets of ports, in any order."""
    return tuple(
        sorted(
            (port.get("name") or "", port.get("port") or 0, port.get("protocol") or "", port.get("appProtocol") or "")
            for port in ports or ()
        )
    )


def make_plan(
    existing: list[Object], groups: Iterable[EndpointGroup], labels: dict[str, str], annotations: dict[str, str]
) -> SlicePlan:
    """Plan the changes after which the slices have exactly the endpoints of `groups`.

    An endpoint stays in its slice. New endpoints are first added to slices that have room. At least one slice is kept.

    labels: the labels of every slice.
    annotations: the annotations of new and changed slices. A slice is not written only to change its annotations.
    """
    plan = SlicePlan()
    by_ports: dict[PortKey, list[Object]] = {}
    # There can be thousands of ports. Nearly all slices have the same ports, so the key of equal ports is computed
    # once.
    ports, key = None, port_key(())
    for found in sorted(existing, key=lambda s: (-len(s.get("endpoints") or ()), s["metadata"]["name"])):
        if found.get("ports") != ports:
            ports = found.get("ports")
            key = port_key(ports)
        by_ports.setdefault(key, []).append(found)
    wanted = {port_key(group.ports): group for group in groups if group.endpoints}
    if not wanted:
        # Without endpoints there is an empty slice: it shows the Service to clients that watch only slices.
        wanted = {port_key(()): EndpointGroup([])}
    for key, group in wanted.items():
        _plan_group(plan, by_ports.pop(key, []), group, labels, annotations)
    plan.delete += [found for slices in by_ports.values() for found in slices]
    return plan


def _plan_group(
    plan: SlicePlan, slices: list[Object], group: EndpointGroup, labels: dict[str, str], annotations: dict[str, str]
) -> None:
    missing = {_identity(endpoint): endpoint for endpoint in group.endpoints}
    kept: list[tuple[Object, list[Object]]] = []
    for found in slices:
        stay = [missing.pop(key) for e in found.get("endpoints") or () if (key := _identity(e)) in missing]
        kept.append((found, stay))
    rest = list(missing.values())
    for _, stay in kept:
        room = MAX_ENDPOINTS - len(stay)
        stay += rest[:room]
        rest = rest[room:]
    chunks = [rest[i : i + MAX_ENDPOINTS] for i in range(0, len(rest), MAX_ENDPOINTS)]
    if not group.endpoints and not kept:
        chunks = [[]]
    for chunk in chunks:
        metadata = {"labels": dict(labels), "annotations": dict(annotations)}
        plan.create.append({"metadata": metadata, "ports": group.ports, "endpoints": chunk})
    placeholder_kept = False
    for found, stay in kept:
        if not stay and (group.endpoints or placeholder_kept):
            plan.delete.append(found)
            continue
        placeholder_kept = True
        if stay != (found.get("endpoints") or []) or labels_of(found) != labels:
            metadata = {**found["metadata"], "labels": dict(labels)}
            metadata["annotations"] = {**annotations_of(found), **annotations}
            plan.update.append({**found, "metadata": metadata, "endpoints": stay})


def _identity(endpoint: Object) -> str:
    reference = endpoint.get("targetRef") or {}
    return f"{reference.get('uid') or ''} {','.join(endpoint['addresses'])}"


def address_type(addresses: Iterable[str]) -> str:
    """Return the addressType of a slice with these addresses: "IPv6" when one is an IPv6 address, else "IPv4"."""
    return "IPv6" if any(":" in address for address in addresses) else "IPv4"


async def carry_out(
    client: Client, plan: SlicePlan, cache: ObjectCache, owner: Object, prefix: str, family: str = "IPv4"
) -> None:
    """Write the changes of a plan to the slices of `owner`, in the owner's namespace. Raises ApiError.

    New endpoints are written before old ones are removed, so that the Service always has endpoints.
    """
    namespace = owner["metadata"]["namespace"]
    for wanted in plan.create:
        obj = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "generateName": prefix + "-",
                "namespace": namespace,
                "ownerReferences": [controller_reference(owner)],
                **wanted["metadata"],
            },
            "addressType": family,
            "ports": wanted["ports"],
            "endpoints": wanted["endpoints"],
        }
        try:
            await cache.wait_for_write(await client.create(ENDPOINT_SLICES, obj, namespace))
        except ApiError as error:
            if is_namespace_terminating(error):
                return
            raise
    for changed in plan.update:
        await cache.wait_for_write(await client.update(ENDPOINT_SLICES, changed))
    for found in plan.delete:
        await delete_unless_gone(client, ENDPOINT_SLICES, found)
        await cache.wait_for_deletion(found)


def slice_annotations(moment: str) -> dict[str, str]:
    """Return the annotation with the time of the event that caused the change (RFC 3339); {} for ""."""
    return {TRIGGER_TIME: moment} if moment else {}
