"""kube-state-metrics' metrics of nodes and namespaces (`internal/store/node.go`, `namespace.go`). Pure."""

from __future__ import annotations

from hatchway.addons.metrics.statefamilies import (
    Family,
    Samples,
    boolean,
    conditions,
    created,
    deleted,
    resource_samples,
    spec_of,
    status_of,
)
from hatchway.kube.api import Object

__all__ = ["NAMESPACE_FAMILIES", "NODE_FAMILIES"]

_ROLE = "node-role.kubernetes.io/"


def _node_info(node: Object) -> Samples:
    info, spec = status_of(node).get("nodeInfo") or {}, spec_of(node)
    addresses = status_of(node).get("addresses") or ()
    labels = {
        "kernel_version": info.get("kernelVersion", ""),
        "os_image": info.get("osImage", ""),
        "container_runtime_version": info.get("containerRuntimeVersion", ""),
        "kubelet_version": info.get("kubeletVersion", ""),
        "kubeproxy_version": "deprecated",
        "provider_id": spec.get("providerID", ""),
        "pod_cidr": spec.get("podCIDR", ""),
        "system_uuid": info.get("systemUUID", ""),
        "internal_ip": next((one.get("address", "") for one in addresses if one.get("type") == "InternalIP"), ""),
    }
    return [(labels, 1.0)]


def _roles(node: Object) -> Samples:
    labels = node["metadata"].get("labels") or {}
    return [({"role": key.removeprefix(_ROLE)}, 1.0) for key in labels if key.startswith(_ROLE)]


def _taints(node: Object) -> Samples:
    taints = spec_of(node).get("taints") or ()
    return [({key: one.get(key, "") for key in ("key", "value", "effect")}, 1.0) for one in taints]


def _addresses(node: Object) -> Samples:
    found = status_of(node).get("addresses") or ()
    return [({"type": one.get("type", ""), "address": one.get("address", "")}, 1.0) for one in found]


NODE_FAMILIES = (
    Family("kube_node_info", "Information about a cluster node.", _node_info),
    Family("kube_node_created", "Unix creation timestamp", created),
    Family("kube_node_deletion_timestamp", "Unix deletion timestamp", deleted),
    Family("kube_node_role", "The role of a cluster node.", _roles),
    Family(
        "kube_node_spec_unschedulable",
        "Whether a node can schedule new pods.",
        lambda node: [({}, boolean(bool(spec_of(node).get("unschedulable"))))],
    ),
    Family("kube_node_spec_taint", "The taint of a cluster node.", _taints),
    Family("kube_node_status_addresses", "Node address information.", _addresses),
    Family(
        "kube_node_status_capacity",
        "The capacity for different resources of a node.",
        lambda node: resource_samples(status_of(node).get("capacity")),
    ),
    Family(
        "kube_node_status_allocatable",
        "The allocatable for different resources of a node that are available for scheduling.",
        lambda node: resource_samples(status_of(node).get("allocatable")),
    ),
    Family("kube_node_status_condition", "The condition of a cluster node.", conditions),
)


def _phase(namespace: Object) -> Samples:
    found = status_of(namespace).get("phase")
    return [({"phase": one}, boolean(one == found)) for one in ("Active", "Terminating")]


NAMESPACE_FAMILIES = (
    Family("kube_namespace_created", "Unix creation timestamp", created),
    Family("kube_namespace_status_phase", "kubernetes namespace status phase.", _phase),
    Family("kube_namespace_status_condition", "The condition of a namespace.", conditions),
)
