"""Services: which fields a change keeps and drops (`pkg/registry/core/service/{strategy.go,storage/storage.go}`).

Addresses and ports are in `serviceaddresses.py`, validation is in `servicevalidation.py`.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry.strategies import serviceaddresses as addresses
from hatchway.cluster.api.registry.strategies.base import (
    Strategy,
    WriteContext,
    field,
    keep,
    label_name_errors,
    readers,
)
from hatchway.cluster.api.registry.strategies.servicevalidation import (
    EXTERNAL,
    is_externally_accessible,
    needs_health_check,
    validate_change,
    validate_service,
    validate_status,
)
from hatchway.cluster.api.registry.strategies.warnings import service_warnings
from hatchway.errors import Cause
from hatchway.kube.api import Object

Spec = dict[str, Any]


class ServiceStrategy(Strategy):
    """Services (`pkg/registry/core/service`): addresses and ports are allocated with the object."""

    requires_spec = True
    return_deleted = True
    selectable = readers({"spec.clusterIP": field("spec", "clusterIP"), "spec.type": field("spec", "type")})

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        """Return the errors in the name: a DNS label that may begin with a digit."""
        # The feature gate RelaxedServiceNameValidation is on in this release.
        return label_name_errors(name, prefix)

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Empty the status and choose the IP families."""
        obj["status"] = {"loadBalancer": {}}
        spec = obj["spec"]
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        addresses.choose_families(obj, None)

    def allocate(self, ctx: WriteContext, obj: Object, old: Object | None) -> None:
        """Allocate cluster addresses and node ports."""
        addresses.allocate(ctx, obj, old)

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Keep the status, and the allocated values that a Service of the new type needs."""
        keep(obj, old, "status")
        new, before = obj["spec"], old["spec"]
        _normalize_addresses(new, before)
        _drop_dependent(new, before)
        _keep_allocated(new, before)
        addresses.choose_families(obj, old)

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the service."""
        return validate_service(obj)

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in the service and in the change: allocated addresses never change."""
        return validate_change(obj, old) + validate_service(obj)

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        """Return the warnings for the writer of a service."""
        return service_warnings(obj)

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in the load balancer's status."""
        return validate_status(obj)


def _normalize_addresses(new: Spec, before: Spec) -> None:
    # Some clients write only clusterIP. The field clusterIPs is set to the same value (`NormalizeClusterIPs`).
    former, former_all = before.get("clusterIP"), before.get("clusterIPs") or []
    if new.get("clusterIP") != former:
        if new.get("clusterIP") and (new.get("clusterIPs") or []) == former_all:
            new["clusterIPs"] = [new["clusterIP"]]
        elif not new.get("clusterIP") and (new.get("clusterIPs") or []) == former_all and former:
            new.pop("clusterIPs", None)
    if new.get("clusterIPs") and not new.get("clusterIP"):
        new["clusterIP"] = new["clusterIPs"][0]


def _drop_dependent(new: Spec, before: Spec) -> None:
    """Drop fields that the new type does not use and the client has not changed (`dropTypeDependentFields`)."""

    def drop_same(*keys: str) -> None:
        for key in keys:
            if new.get(key) == before.get(key):
                new.pop(key, None)

    if new["type"] == "ExternalName" and before["type"] != "ExternalName":
        drop_same("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
    external_no_more = before["type"] in EXTERNAL and new["type"] not in EXTERNAL
    # If any node port is new, the client has set node ports on purpose, so all of them are kept.
    if external_no_more and _node_ports(new) <= _node_ports(before):
        for port in new.get("ports") or ():
            port.pop("nodePort", None)
    if needs_health_check(before) and not needs_health_check(new):
        drop_same("healthCheckNodePort")
    if before["type"] == "LoadBalancer" and new["type"] != "LoadBalancer":
        drop_same("allocateLoadBalancerNodePorts", "loadBalancerClass")
    if is_externally_accessible(before) and not is_externally_accessible(new):
        drop_same("externalTrafficPolicy")


def _node_ports(spec: Spec) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


def _gets_node_ports(spec: Spec) -> bool:
    """Return True when ports without a node port get one (`needsNodePort`)."""
    return spec["type"] == "NodePort" or (
        spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
    )


def _keep_allocated(new: Spec, before: Spec) -> None:
    """Keep allocated values that a PUT has left out (`patchAllocatedValues`)."""
    if new["type"] != "ExternalName" and before["type"] != "ExternalName" and not new.get("clusterIP"):
        for key in ("clusterIP", "clusterIPs"):
            if before.get(key):
                new[key] = before[key]
    if _gets_node_ports(new) and _gets_node_ports(before):
        # Ports are matched by name, because their other fields may have changed. If the client has moved a number to
        # another port, the former port does not keep it.
        former = {port.get("name") or "": port.get("nodePort") for port in before.get("ports") or ()}
        used = _node_ports(before) & _node_ports(new)
        for port in new.get("ports") or ():
            number = former.get(port.get("name") or "")
            if not port.get("nodePort") and number and number not in used:
                port["nodePort"] = number
    if needs_health_check(new) and needs_health_check(before) and not new.get("healthCheckNodePort"):
        keep(new, before, "healthCheckNodePort")
