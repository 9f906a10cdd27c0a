"""The order of API groups and of their versions (kube-apiserver `pkg/controlplane/apiserver/aggregator.go`).

Discovery lists groups by their priority, and clients prefer the first version of a group. The APIService objects of
built-in groups show the same numbers.
"""

from __future__ import annotations

import re

__all__ = ["group_priority", "is_builtin", "version_order", "version_priority"]

_GROUPS = {
    # The aggregator's own group has no APIService and is always listed first.
    "apiregistration.k8s.io": 20000,
    "": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "admissionregistration.k8s.io": 16700,
    "apiextensions.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "resource.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
}
_KUBE_VERSION = re.compile(r"v([1-9]\d*)(?:(alpha|beta)([1-9]\d*))?").fullmatch
_STAGES = {None: 0, "beta": 1, "alpha": 2}
# Custom resources have this priority (`crdregistration_controller.go`).
_OTHER_GROUP = 1000
_VERSIONS = {("", "v1"): 1, ("autoscaling", "v2"): 30, ("resource.k8s.io", "v1"): 21}
_OTHER_VERSION, _CUSTOM_VERSION = 15, 100


def is_builtin(group: str) -> bool:
    """Return True for a group of Kubernetes itself."""
    return group in _GROUPS


def group_priority(group: str) -> int:
    """Return the priority of an API group. The group with the highest priority is listed first."""
    return _GROUPS.get(group, _OTHER_GROUP)


def version_priority(group: str, version: str) -> int:
    """Return the priority of a version within its group. Clients prefer the version with the highest priority."""
    return _VERSIONS.get((group, version), _OTHER_VERSION if group in _GROUPS else _CUSTOM_VERSION)


def version_order(version: str) -> tuple[int, int, int, str]:
    """Return a sort key for versions of equal priority. The order is v2, v1, v1beta2, v1alpha1, other names.

    From apimachinery's `pkg/version/helpers.go`.
    """
    found = _KUBE_VERSION(version)
    if found is None:
        return 3, 0, 0, version
    return _STAGES[found[2]], -int(found[1]), -int(found[3] or 0), version
