"""A pod, as network policies see it. Pure."""

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
    host_network: True when it uses the address of its node. Policies see it as its node, so `ip` stays "".
    ip: its own address; "" while it has none.
    deleted: True when it is no longer in the API. Its address is known until its sandbox is removed.
    selecting: the policies that select it.
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
