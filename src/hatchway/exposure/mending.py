"""Makes the command lines that correct the faults which findings report. Pure.

The names in them come from the cluster, so they are quoted for a shell.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

# Maps the short names of workloads (`target.SHORT`) to kubectl's names of their kinds.
_KINDS: Final = {
    "deploy": "deployment",
    "sts": "statefulset",
    "ds": "daemonset",
    "rs": "replicaset",
    "rc": "replicationcontroller",
    "job": "job",
}
# A placeholder, which the reader of the command line replaces.
_RANGE: Final = "YOUR-RANGE/24"


@dataclass(frozen=True, slots=True)
class BackendReference:
    """A part of an object that refers to a backend, usually a Service.

    path: JSON pointer of the part (RFC 6901). rule: JSON pointer of the rule that it belongs to; "" for none.
    name_path: JSON pointer of the Service's name, below `path`. service: that name. unwanted: True to remove the part.
    """

    path: str
    rule: str
    name_path: str
    service: str
    unwanted: bool


def patch_command(kind: str, namespace: str, name: str, change: dict[str, Any] | list[Any]) -> str:
    """Return `kubectl patch` for an object. change: a list is a JSON patch (RFC 6902), a dictionary a merge patch."""
    form = "json" if isinstance(change, list) else "merge"
    return f"kubectl patch {_object(kind, namespace, name)} --type={form} -p {shlex.quote(json.dumps(change))}"


def delete_command(kind: str, namespace: str, name: str) -> str:
    """Return `kubectl delete` for an object."""
    return f"kubectl delete {_object(kind, namespace, name)}"


def without_references(kind: str, namespace: str, name: str, references: Sequence[BackendReference]) -> str:
    """Return the command that removes the unwanted references of an object, and keeps its other references.

    references: all references of the object, in the object's order. An object that would keep none is deleted.
    """
    unwanted = [one for one in references if one.unwanted]
    if len(unwanted) == len(references):
        return delete_command(kind, namespace, name)
    kept_rules = {one.rule for one in references if not one.unwanted}
    # The operations `test` make the patch fail if the object was changed meanwhile: the indexes in the patch's paths
    # may then belong to other parts.
    tests = [{"op": "test", "path": f"{one.path}{one.name_path}", "value": one.service} for one in unwanted]
    paths = [one.path if not one.rule or one.rule in kept_rules else one.rule for one in unwanted]
    return patch_command(kind, namespace, name, [*tests, *_removals(dict.fromkeys(paths))])


def _removals(paths: Iterable[str]) -> list[dict[str, Any]]:
    """Return the operations that remove parts, the last part first, so that the paths of earlier parts stay valid."""
    return [{"op": "remove", "path": path} for path in reversed(list(paths))]


def describe_command(kind: str, namespace: str, name: str) -> str:
    """Return `kubectl describe` for an object, for findings that need a person's decision."""
    return f"kubectl describe {_object(kind, namespace, name)}"


def annotate_command(kind: str, namespace: str, name: str, annotation: str) -> str:
    """Return `kubectl annotate` that restricts an object to a range of addresses."""
    return f"kubectl annotate {_object(kind, namespace, name)} {shlex.quote(f'{annotation}={_RANGE}')}"


def only_in_cluster(namespace: str, name: str) -> str:
    """Return the command that makes a Service a ClusterIP."""
    return patch_command("service", namespace, name, {"spec": {"type": "ClusterIP", "externalTrafficPolicy": None}})


def restrict_balancer(namespace: str, name: str) -> str:
    """Return the command that restricts a load balancer to a range of addresses."""
    return patch_command("service", namespace, name, {"spec": {"loadBalancerSourceRanges": [_RANGE]}})


def without_external_ips(namespace: str, name: str) -> str:
    """Return the command that removes a Service's external IPs."""
    return patch_command("service", namespace, name, {"spec": {"externalIPs": None}})


def without_node_ports(namespace: str, name: str, ports: int) -> str:
    """Return the command that removes the node ports of a load balancer's Service. ports: how many it has."""
    removed = [{"op": "remove", "path": f"/spec/ports/{place}/nodePort"} for place in range(ports)]
    change = [{"op": "add", "path": "/spec/allocateLoadBalancerNodePorts", "value": False}, *removed]
    return patch_command("service", namespace, name, change)


def without_host_port(namespace: str, workload: str, place: tuple[int, int]) -> str:
    """Return the command that removes a container's host port.

    workload: such as `deploy/web`. place: (index of the container, index of the port).
    """
    kind, _, name = workload.partition("/")
    path = f"/spec/containers/{place[0]}/ports/{place[1]}/hostPort"
    if kind in ("pod", "job"):
        return f"{_edit_and_replace(kind, namespace, name)}  # without hostPort"
    return patch_command(_KINDS[kind], namespace, name, [{"op": "remove", "path": f"/spec/template{path}"}])


def without_host_network(namespace: str, workload: str) -> str:
    """Return the command that takes a workload's pods out of the node's network."""
    kind, _, name = workload.partition("/")
    if kind in ("pod", "job"):
        return f"{_edit_and_replace(kind, namespace, name)}  # without hostNetwork"
    change = {"spec": {"template": {"spec": {"hostNetwork": False}}}}
    return patch_command(_KINDS[kind], namespace, name, change)


def _edit_and_replace(kind: str, namespace: str, name: str) -> str:
    """Return the commands that edit and replace an object that cannot be changed in place."""
    found = _object(kind, namespace, name)
    return f"kubectl get {found} -o yaml >edit.yaml && $EDITOR edit.yaml && kubectl replace --force -f edit.yaml"


def _object(kind: str, namespace: str, name: str) -> str:
    return f"{kind} {shlex.quote(name)}" + (f" -n {shlex.quote(namespace)}" if namespace else "")
