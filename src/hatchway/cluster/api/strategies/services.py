"""Services: what a change keeps and drops (`pkg/registry/core/service/{strategy.go,storage/storage.go}`).

Addresses and ports are in `serviceaddresses.py`, validation is in `servicevalidation.py`.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.strategies import serviceaddresses as addresses
from hatchway.cluster.api.strategies.base import Context, Strategy, field, keep, label_name_errors, readers
from hatchway.cluster.api.strategies.servicevalidation import (
    EXTERNAL,
    is_externally_accessible,
    needs_health_check,
    validate_change,
    validate_service,
    validate_status,
)
from hatchway.cluster.api.strategies.warnings import service_warnings
from hatchway.errors import Cause
from hatchway.kube.api import Object

Spec = dict[str, Any]


class ServiceStrategy(Strategy):
    return_deleted = True
    selectable = readers({"spec.clusterIP": field("spec", "clusterIP"), "spec.type": field("spec", "type")})

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        # A DNS label that may begin with a digit (RelaxedServiceNameValidation, on in this release).
        return label_name_errors(name, prefix)

    def prepare_create(self, ctx: Context, obj: Object) -> None:
        obj["status"] = {"loadBalancer": {}}
        spec = obj["spec"]
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        addresses.choose_families(obj, None)
        addresses.allocate(ctx, obj, None)

    def prepare_update(self, ctx: Context, obj: Object, old: Object) -> None:
        keep(obj, old, "status")
        new, before = obj["spec"], old["spec"]
        _normalize_addresses(new, before)
        _drop_dependent(new, before)
        _keep_allocated(new, before)
        addresses.choose_families(obj, old)
        addresses.allocate(ctx, obj, old)

    def validate(self, obj: Object) -> list[Cause]:
        return validate_service(obj)

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        return validate_change(obj, old) + validate_service(obj)

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        return service_warnings(obj)

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        return validate_status(obj)


def _normalize_addresses(new: Spec, before: Spec) -> None:
    # Clients that know clusterIP only and such that know clusterIPs too (`NormalizeClusterIPs`).
    former, former_all = before.get("clusterIP"), before.get("clusterIPs") or []
    if new.get("clusterIP") != former:
        if new.get("clusterIP") and (new.get("clusterIPs") or []) == former_all:
            new["clusterIPs"] = [new["clusterIP"]]
        elif not new.get("clusterIP") and (new.get("clusterIPs") or []) == former_all and former:
            new.pop("clusterIPs", None)
    if new.get("clusterIPs") and not new.get("clusterIP"):
        new["clusterIP"] = new["clusterIPs"][0]


def _drop_dependent(new: Spec, before: Spec) -> None:
    """Drop what the new type has no use for and the client left as it was (`dropTypeDependentFields`)."""

    def drop_same(*keys: str) -> None:
        for key in keys:
            if new.get(key) == before.get(key):
                new.pop(key, None)

    if new["type"] == "ExternalName" and before["type"] != "ExternalName":
        drop_same("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
    if before["type"] in EXTERNAL and new["type"] not in EXTERNAL:
        ports = new.get("ports") or []
        if _node_ports(new) == _node_ports(before):
            for port in ports:
                port.pop("nodePort", None)
    if needs_health_check(before) and not needs_health_check(new):
        drop_same("healthCheckNodePort")
    if before["type"] == "LoadBalancer" and new["type"] != "LoadBalancer":
        drop_same("allocateLoadBalancerNodePorts", "loadBalancerClass")
    if is_externally_accessible(before) and not is_externally_accessible(new):
        drop_same("externalTrafficPolicy")


def _node_ports(spec: Spec) -> list[int | None]:
    return [port.get("nodePort") or None for port in spec.get("ports") or ()]


def _keep_allocated(new: Spec, before: Spec) -> None:
    """Keep what a PUT left out of what was allocated before (`patchAllocatedValues`)."""
    if new["type"] != "ExternalName" and before["type"] != "ExternalName" and not new.get("clusterIP"):
        for key in ("clusterIP", "clusterIPs"):
            if before.get(key):
                new[key] = before[key]
    if new["type"] in EXTERNAL and before["type"] in EXTERNAL:
        former = {(port.get("protocol"), port.get("port")): port.get("nodePort") for port in before.get("ports") or ()}
        for port in new.get("ports") or ():
            number = former.get((port.get("protocol"), port.get("port")))
            if not port.get("nodePort") and number:
                port["nodePort"] = number
    if needs_health_check(new) and needs_health_check(before) and not new.get("healthCheckNodePort"):
        keep(new, before, "healthCheckNodePort")
