"""Laying endpoints out over EndpointSlices with as few writes as possible (staging `endpointslice/reconciler.go`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from hatchway.cluster.controllers.base import Cache
from hatchway.cluster.controllers.objects import annotations_of, clone, controller_reference, labels_of, uid_of
from hatchway.cluster.controllers.serviceports import TRIGGER_TIME
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object

RESOURCE = "endpointslices.discovery.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MAX_ENDPOINTS = 100


@dataclass(slots=True)
class Group:
    """Endpoints that serve the same ports and so may share slices."""

    ports: list[Object]
    endpoints: list[Object] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """What to write: new slices, changed copies of existing ones, slices to remove."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.create or self.update or self.delete)


def port_key(ports: Iterable[Object] | None) -> str:
    """An identity of a set of ports, whatever their order."""
    return json.dumps(sorted(json.dumps(port, sort_keys=True) for port in ports or ()))


def make_plan(
    existing: list[Object], groups: Iterable[Group], labels: dict[str, str], annotations: dict[str, str]
) -> Plan:
    """How to make `existing` slices hold exactly `groups`, each slice with `labels` and (when written) `annotations`.

    An endpoint stays in the slice it is in; new ones fill slices with room first. There is always at least one slice.
    """
    plan = Plan()
    by_ports: dict[str, list[Object]] = {}
    for found in sorted(existing, key=lambda s: (-len(s.get("endpoints") or ()), s["metadata"]["name"])):
        by_ports.setdefault(port_key(found.get("ports")), []).append(found)
    wanted = {port_key(group.ports): group for group in groups if group.endpoints}
    if not wanted:
        # A slice without endpoints tells watchers that the service is known and empty.
        wanted = {port_key(()): Group([])}
    for key, group in wanted.items():
        _plan_group(plan, by_ports.pop(key, []), group, labels, annotations)
    plan.delete += [found for slices in by_ports.values() for found in slices]
    return plan


def _plan_group(
    plan: Plan, slices: list[Object], group: Group, labels: dict[str, str], annotations: dict[str, str]
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
        plan.create.append({"metadata": metadata, "ports": clone(group.ports), "endpoints": chunk})
    placeholder_kept = False
    for found, stay in kept:
        if not stay and (group.endpoints or placeholder_kept):
            plan.delete.append(found)
            continue
        placeholder_kept = True
        if stay != (found.get("endpoints") or []) or labels_of(found) != labels:
            changed = clone(found)
            changed["metadata"]["labels"] = dict(labels)
            changed["metadata"]["annotations"] = {**annotations_of(found), **annotations}
            changed["endpoints"] = stay
            plan.update.append(changed)


def _identity(endpoint: Object) -> str:
    reference = endpoint.get("targetRef") or {}
    return f"{reference.get('uid') or ''} {','.join(endpoint['addresses'])}"


def address_type(addresses: Iterable[str]) -> str:
    return "IPv6" if any(":" in address for address in addresses) else "IPv4"


async def carry_out(client: Client, plan: Plan, cache: Cache, owner: Object, prefix: str, family: str = "IPv4") -> None:
    """Write a plan for the slices of `owner`, in its namespace. Raises ApiError.

    New endpoints are written before old ones go, so that nobody sees a service with none in between.
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
            await cache.shows(await client.create(RESOURCE, obj, namespace))
        except ApiError as error:
            if any(c.get("reason") == "NamespaceTerminating" for c in (error.details or {}).get("causes") or ()):
                return
            raise
    for changed in plan.update:
        await cache.shows(await client.update(RESOURCE, changed))
    for found in plan.delete:
        try:
            await client.delete(RESOURCE, found["metadata"]["name"], namespace, uid=uid_of(found))
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        await cache.shows_deletion(found)


def slice_annotations(moment: str) -> dict[str, str]:
    return {TRIGGER_TIME: moment} if moment else {}
