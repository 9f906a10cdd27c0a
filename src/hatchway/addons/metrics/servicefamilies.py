"""kube-state-metrics' metrics of Services and EndpointSlices (`internal/store`). Pure."""

from __future__ import annotations

from collections.abc import Iterator

from hatchway.addons.metrics.statefamilies import (
    Family,
    Samples,
    created,
    deleted,
    spec_of,
    status_of,
)
from hatchway.kube.api import Object

__all__ = ["ENDPOINT_SLICE_FAMILIES", "SERVICE_FAMILIES"]


def _service_info(service: Object) -> Samples:
    spec = spec_of(service)
    labels = {
        "cluster_ip": spec.get("clusterIP", ""),
        "external_name": spec.get("externalName", ""),
        "load_balancer_ip": spec.get("loadBalancerIP", ""),
        "external_traffic_policy": spec.get("externalTrafficPolicy", ""),
    }
    return [(labels, 1.0)]


def _ingress(service: Object) -> Samples:
    found = (status_of(service).get("loadBalancer") or {}).get("ingress") or ()
    return [({"ip": one.get("ip", ""), "hostname": one.get("hostname", "")}, 1.0) for one in found]


SERVICE_FAMILIES = (
    Family("kube_service_info", "Information about service.", _service_info),
    Family("kube_service_created", "Unix creation timestamp", created),
    Family("kube_service_deletion_timestamp", "Unix deletion timestamp", deleted),
    Family(
        "kube_service_spec_type",
        "Type about service.",
        lambda one: [({"type": spec_of(one).get("type", "ClusterIP")}, 1.0)],
    ),
    Family(
        "kube_service_spec_external_ip",
        "Service external ips. One series for each ip",
        lambda one: [({"external_ip": ip}, 1.0) for ip in spec_of(one).get("externalIPs") or ()],
    ),
    Family("kube_service_status_load_balancer_ingress", "Service load balancer ingress status", _ingress),
)


def _endpoints(piece: Object) -> Iterator[tuple[dict[str, str], float]]:
    for one in piece.get("endpoints") or ():
        conditions, target = one.get("conditions") or {}, one.get("targetRef") or {}
        shown = {
            key: str(conditions[key]).lower() if key in conditions else ""
            for key in ("ready", "serving", "terminating")
        }
        labels = {
            "ready": shown["ready"],
            "serving": shown["serving"],
            "hostname": one.get("hostname", ""),
            "terminating": shown["terminating"],
            "targetref_kind": target.get("kind", ""),
            "targetref_name": target.get("name", ""),
            "targetref_namespace": target.get("namespace", ""),
            "endpoint_nodename": one.get("nodeName", ""),
            "endpoint_zone": one.get("zone", ""),
        }
        for address in one.get("addresses") or ():
            yield {**labels, "address": address}, 1.0


def _slice_ports(piece: Object) -> Iterator[tuple[dict[str, str], float]]:
    for one in piece.get("ports") or ():
        number = str(one["port"]) if one.get("port") is not None else ""
        yield {"port_name": one.get("name") or "", "port_protocol": one.get("protocol", ""), "port_number": number}, 1.0


ENDPOINT_SLICE_FAMILIES = (
    Family(
        "kube_endpointslice_info",
        "Information about endpointslice.",
        lambda one: [({"addresstype": one.get("addressType", "")}, 1.0)],
    ),
    Family("kube_endpointslice_created", "Unix creation timestamp", created),
    Family("kube_endpointslice_endpoints", "Endpoints attached to the endpointslice.", _endpoints),
    Family("kube_endpointslice_ports", "Ports attached to the endpointslice.", _slice_ports),
)
