"""The objects that every cluster has from its start.

These are namespaces, the Service `kubernetes` and the range of its address, priority classes, and others.
In Kubernetes, kube-apiserver creates them (`controlplane/controller/systemnamespaces`, `kubernetesservice`,
`reconcilers/endpointsadapter.go`, `pkg/registry/scheduling/rest`).
"""

from __future__ import annotations

from hatchway.cluster import plan
from hatchway.cluster.controllers.ensure import ensure_each
from hatchway.kube.api import Client, Object
from hatchway.kube.wellknown import (
    DEFAULT_SERVICE_CIDR,
    ENDPOINT_SLICES,
    PRIORITY_CLASSES,
    SERVICE_CIDRS,
    SERVICE_NAME,
    SKIP_MIRROR,
    SYSTEM_PRIORITIES,
)

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_RUN = {
    "system-cluster-critical": "run in the cluster, but can be moved to another node if necessary",
    "system-node-critical": "not be moved from their current node",
}
_COMPONENT = {"component": "apiserver", "provider": "kubernetes"}


def bootstrap_objects(api_ip: str, api_port: int = plan.DEFAULT_API_PORT) -> list[tuple[str, Object]]:
    """Return (resource, object) of each bootstrap object, in the order in which they must be created.

    api_ip, api_port: the API server's address and port, for the endpoint of the Service `kubernetes`.
    """
    out: list[tuple[str, Object]] = [
        ("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}) for name in NAMESPACES
    ]
    place = {"name": "kubernetes", "namespace": "default"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**place, "labels": _COMPONENT},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": plan.API_SERVICE_IP,
            "clusterIPs": [plan.API_SERVICE_IP],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": api_port}],
            "sessionAffinity": "None",
        },
    }
    port = {"name": "https", "port": api_port, "protocol": "TCP"}
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {**place, "labels": {SKIP_MIRROR: "true"}},
        "subsets": [{"addresses": [{"ip": api_ip}], "ports": [port]}],
    }
    endpoint_slice = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**place, "labels": {SERVICE_NAME: "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [api_ip], "conditions": {"ready": True}}],
        "ports": [port],
    }
    out += [(PRIORITY_CLASSES, _priority_class(name, value)) for name, value in SYSTEM_PRIORITIES.items()]
    service_cidr = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": DEFAULT_SERVICE_CIDR},
        "spec": {"cidrs": [str(plan.SERVICE_CIDR)]},
    }
    out.append((SERVICE_CIDRS, service_cidr))
    out.append(("services", service))
    out.append(("endpoints", endpoints))
    out.append((ENDPOINT_SLICES, endpoint_slice))
    return out


def _priority_class(name: str, value: int) -> Object:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
        "description": f"Used for system critical pods that must {_RUN[name]}.",
    }


async def ensure_bootstrap(client: Client, api_ip: str, api_port: int = plan.DEFAULT_API_PORT) -> list[str]:
    """Create or update the bootstrap objects. Return an error message for each object that could not be written."""
    return await ensure_each(client, bootstrap_objects(api_ip, api_port))
