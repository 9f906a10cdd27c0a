"""Names that Kubernetes defines and that several rooms use: labels, annotations, taints, resources.

https://kubernetes.io/docs/reference/labels-annotations-taints/
"""

from __future__ import annotations

from typing import Any, Final

API_SERVICES: Final = "apiservices.apiregistration.k8s.io"
ENDPOINT_SLICES: Final = "endpointslices.discovery.k8s.io"

# Labels: the Service of an EndpointSlice; the controller of an EndpointSlice; a mark on Endpoints that are not mirrored
# to EndpointSlices; the name of a namespace.
SERVICE_NAME: Final = "kubernetes.io/service-name"
MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
SKIP_MIRROR: Final = "endpointslice.kubernetes.io/skip-mirror"
NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
# The value of MANAGED_BY in the EndpointSlices of Services with a selector.
SLICE_CONTROLLER: Final = "endpointslice-controller.k8s.io"

# Annotations: marks the mirror pod of a static pod; holds the object that `kubectl apply` has applied last.
MIRROR_POD: Final = "kubernetes.io/config.mirror"
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"

# CONTROL_PLANE is both a label and a taint of nodes; the other names are taints.
CONTROL_PLANE: Final = "node-role.kubernetes.io/control-plane"
NOT_READY: Final = "node.kubernetes.io/not-ready"
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"

PRIORITY_CLASSES: Final = "priorityclasses.scheduling.k8s.io"
RUNTIME_CLASSES: Final = "runtimeclasses.node.k8s.io"
# The PriorityClasses that every cluster has, with their values (`pkg/apis/scheduling/v1/helpers.go`).
SYSTEM_PRIORITIES: Final = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}

# The types for ranges and addresses of Services; the name of the ServiceCIDR that every cluster has; two labels of
# IPAddresses, and the value of the first label for addresses that the API server has allocated.
SERVICE_CIDRS: Final = "servicecidrs.networking.k8s.io"
IP_ADDRESSES: Final = "ipaddresses.networking.k8s.io"
DEFAULT_SERVICE_CIDR: Final = "kubernetes"
ADDRESS_MANAGED_BY: Final = "ipaddress.kubernetes.io/managed-by"
ADDRESS_FAMILY: Final = "ipaddress.kubernetes.io/ip-family"
ADDRESS_ALLOCATOR: Final = "ipallocator.k8s.io"


def is_service_address(address: dict[str, Any]) -> bool:
    """Return True for an IPAddress that the API server has allocated for a Service."""
    parent = (address.get("spec") or {}).get("parentRef") or {}
    managed = (address["metadata"].get("labels") or {}).get(ADDRESS_MANAGED_BY) == ADDRESS_ALLOCATOR
    return managed and (parent.get("group") or "", parent.get("resource")) == ("", "services")
