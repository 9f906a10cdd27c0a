"""The facts about a pod that matter for network policies. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hatchway.cluster.policies.policyrules import EnforcedPolicy
from hatchway.kube.api import Object
from hatchway.kube.objects import Key


@dataclass(slots=True)
class PolicyPod:
    """A pod.

    ports: (protocol, name, number) of each port with a name.
    host_network: True when the pod uses the address of its node. Then `ip` stays "": for policies, the pod is the node.
    ip: the pod's own address; "" while it has none.
    deleted: True when the pod is no longer in the API. The pod has its address until its sandbox is removed.
    selecting: the policies that select the pod.
    """

    namespace: str
    namespace_labels: Mapping[str, str]
    labels: Mapping[str, str]
    ports: tuple[tuple[str, str, int], ...]
    host_network: bool
    ip: str = ""
    deleted: bool = False
    selecting: dict[Key, EnforcedPolicy] = field(default_factory=dict, compare=False)

    @staticmethod
    def of(pod: Object, namespace_labels: Mapping[str, str]) -> PolicyPod:
        """Read a Pod object. The fields `ip`, `deleted` and `selecting` have their defaults."""
        metadata, spec = pod["metadata"], pod["spec"]
        ports = {
            (port.get("protocol") or "TCP", port["name"], int(port["containerPort"]))
            for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
            for port in container.get("ports") or ()
            if port.get("name")
        }
        return PolicyPod(
            metadata.get("namespace", ""),
            namespace_labels,
            metadata.get("labels") or {},
            tuple(sorted(ports)),
            bool(spec.get("hostNetwork")),
        )
