"""The admission plugin PodResizeValidator: a pod's requests cannot become larger than the capacity of its node.

Source: `plugin/pkg/admission/podresize`.
"""

from __future__ import annotations

from hatchway.cluster.amounts import ZERO, Amount, amounts_of
from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.podresources import pod_resources
from hatchway.errors import forbidden

__all__ = ["PodResizeValidator"]

_MILLI = 10**6


class PodResizeValidator(AdmissionPlugin):
    """Compares the requests of a resized pod with its node's `status.allocatable`. store: has the nodes."""

    name = "PodResizeValidator"

    def __init__(self, store: Store) -> None:
        self._store = store

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for resizes."""
        return (operation, resource, subresource) == ("UPDATE", "pods", "resize")

    def validate(self, attributes: AdmissionAttributes) -> None:
        """Raise ApiError 403 when the requests exceed the node's `status.allocatable`, or the node does not exist."""
        pod, old = attributes.object, attributes.old_object
        assert pod is not None and old is not None
        node_name = pod["spec"].get("nodeName")
        if not node_name or pod["spec"] == old["spec"]:
            return
        node = self._store.latest("nodes", "", node_name)
        if node is None:
            raise forbidden("pods", attributes.object_name, f'node "{node_name}" not found')
        system = (node["metadata"].get("labels") or {}).get("kubernetes.io/os", "linux")
        if system != "linux":
            why = f'pod resize is only supported on linux nodes, node "{node_name}" is "{system}"'
            raise forbidden("pods", attributes.object_name, why)
        requested = pod_resources(pod["spec"], "requests", with_overhead=True)
        allocatable = amounts_of((node.get("status") or {}).get("allocatable"))
        problems = []
        for name, unit in (("cpu", _MILLI), ("memory", _MILLI * 1000)):
            wanted, there = requested.get(name, ZERO), allocatable.get(name, ZERO)
            if wanted.nano > there.nano:
                problems.append(f"{name}, requested: {_shown(wanted, unit)}, allocatable: {_shown(there, unit)}")
        if problems:
            why = f"node didn't have enough allocatable resources: {'; '.join(problems)}"
            raise forbidden("pods", attributes.object_name, why)


def _shown(amount: Amount, unit: int) -> int:
    return -(-amount.nano // unit)
