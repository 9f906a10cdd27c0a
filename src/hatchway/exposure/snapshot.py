"""The objects of a cluster that decide what is reachable, reduced to the fields that are needed. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hatchway.exposure.findings import ON_PURPOSE
from hatchway.exposure.tolerant import mapping, mappings, number, pairs, text, texts
from hatchway.kube.api import Object
from hatchway.target import SHORT, Kind

_OWNERS: dict[str, Kind] = {
    "StatefulSet": "statefulsets.apps",
    "DaemonSet": "daemonsets.apps",
    "ReplicationController": "replicationcontrollers",
    "Job": "jobs.batch",
    "ReplicaSet": "replicasets.apps",
}
_HASH = "pod-template-hash"
# Labels of the pods that K3s and RKE2 run for a Service (ServiceLB, `pkg/cloudprovider/servicelb.go`).
_SERVICE_BALANCERS = ("svccontroller.k3s.cattle.io", "svccontroller.rke2.cattle.io")
# The prefix of `status.nodeInfo.containerRuntimeVersion` of an embedded cluster's nodes.
EMBEDDED_RUNTIME = "hatchway://"


@dataclass(frozen=True, slots=True)
class DeclaredPort:
    """A port that a container declares.

    place: its place in the pod's spec: (index of the container, index of the port).
    host_port: 0 for none. host_ip: the only node address with the host port; "" for all addresses.
    """

    number: int
    protocol: str
    name: str
    place: tuple[int, int]
    host_port: int
    host_ip: str


@dataclass(frozen=True, slots=True)
class ObservedPod:
    """The fields of a pod that are needed.

    workload: its owner, such as `deploy/web`; `pod/NAME` for a pod without an owner.
    active: True when its containers run or will run (its phase is not Succeeded or Failed).
    accepted: the owner's reason, if it is exposed on purpose (`findings.ON_PURPOSE`); else "".
    """

    namespace: str
    name: str
    labels: Mapping[str, str]
    workload: str
    node: str
    host_network: bool
    priority_class: str
    active: bool
    ready: bool
    accepted: str
    ports: tuple[DeclaredPort, ...]

    @classmethod
    def of(cls, pod: Object) -> ObservedPod:
        """Reduce a pod's object to the fields that are needed."""
        metadata, spec, status = mapping(pod.get("metadata")), mapping(pod.get("spec")), mapping(pod.get("status"))
        labels = pairs(metadata.get("labels"))
        ready = any(
            one.get("type") == "Ready" and one.get("status") == "True" for one in mappings(status.get("conditions"))
        )
        return cls(
            namespace=text(metadata.get("namespace")),
            name=text(metadata.get("name")),
            labels=labels,
            workload=_workload(metadata, labels),
            node=text(spec.get("nodeName")),
            host_network=spec.get("hostNetwork") is True,
            priority_class=text(spec.get("priorityClassName")),
            active=status.get("phase") not in ("Succeeded", "Failed"),
            ready=ready,
            accepted=pairs(metadata.get("annotations")).get(ON_PURPOSE, ""),
            ports=tuple(_ports(spec)),
        )

    def find_port(self, target: int | str, protocol: str) -> int:
        """Return the number of a Service's target port; 0 when no container has a port of this name."""
        if isinstance(target, int):
            return target
        return next((port.number for port in self.ports if (port.name, port.protocol) == (target, protocol)), 0)


def _workload(metadata: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    owner = next((one for one in mappings(metadata.get("ownerReferences")) if one.get("controller")), {})
    kind, name = text(owner.get("kind")), text(owner.get("name"))
    suffix = f"-{labels.get(_HASH, '')}"
    if kind == "ReplicaSet" and _HASH in labels and name.endswith(suffix):
        return f"{SHORT['deployments.apps']}/{name.removesuffix(suffix)}"
    # Other owners are ignored: a Node, for example, owns the mirror pods of its static pods.
    return f"{SHORT[_OWNERS[kind]]}/{name}" if kind in _OWNERS else f"pod/{text(metadata.get('name'))}"


def _ports(spec: Mapping[str, Any]) -> Iterable[DeclaredPort]:
    sidecars = [one for one in mappings(spec.get("initContainers")) if one.get("restartPolicy") == "Always"]
    for index, container in enumerate([*mappings(spec.get("containers")), *sidecars]):
        for place, port in enumerate(mappings(container.get("ports"))):
            yield DeclaredPort(
                number=number(port.get("containerPort")),
                protocol=text(port.get("protocol")) or "TCP",
                name=text(port.get("name")),
                place=(index, place),
                host_port=number(port.get("hostPort")),
                host_ip=text(port.get("hostIP")),
            )


@dataclass(frozen=True, slots=True)
class ObservedNode:
    """A node's addresses, by their type in `status.addresses`.

    embedded: True for a node of an embedded cluster, whose addresses exist only in the cluster's private network.
    """

    name: str
    external: tuple[str, ...]
    internal: tuple[str, ...]
    embedded: bool = False

    @classmethod
    def of(cls, node: Object) -> ObservedNode:
        """Reduce a node's object to the fields that are needed."""
        status = mapping(node.get("status"))
        addresses = mappings(status.get("addresses"))

        def of_kind(kind: str) -> tuple[str, ...]:
            # Clouds may write an empty external address for a private node.
            return tuple(found for one in addresses if one.get("type") == kind and (found := text(one.get("address"))))

        name, runtime = text(mapping(node.get("metadata")).get("name")), mapping(status.get("nodeInfo"))
        embedded = text(runtime.get("containerRuntimeVersion")).startswith(EMBEDDED_RUNTIME)
        return cls(name, of_kind("ExternalIP"), of_kind("InternalIP"), embedded)


@dataclass(frozen=True, slots=True)
class Unread:
    """Objects that could not be read.

    resource: the plural. reason: why, in one sentence.
    where: the namespaces in which they could not be read; () for all.
    """

    resource: str
    reason: str
    where: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.where:
            place = ""
        elif len(self.where) > 3:
            place = f" in {len(self.where)} namespaces"
        else:
            place = f" in {', '.join(self.where)}"
        return f"{self.resource}{place} could not be read: {self.reason}"


@dataclass
class ClusterSnapshot:
    """The objects that were read. Pods and nodes are reduced; the others are objects of the API.

    namespaces: the labels of each namespace. routes: objects of all kinds of routes (HTTPRoute, TCPRoute ...).
    traefik_routes, middlewares: Traefik's objects (IngressRoute, IngressRouteTCP, IngressRouteUDP; Middleware ...).
    traefik_services: Traefik's Services in other namespaces, when only one namespace was read.
    endpoints: the addresses of endpoints that are not pods, by Service (namespace, name).
    unread: the objects that could not be read.
    published: the addresses of this machine at which an embedded cluster opens its node ports.
    ingress_service: the Service of an embedded cluster's ingress controller, when only another namespace was read.
    """

    services: list[Object] = field(default_factory=list)
    pods: list[ObservedPod] = field(default_factory=list)
    nodes: list[ObservedNode] = field(default_factory=list)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    policies: list[Object] = field(default_factory=list)
    ingresses: list[Object] = field(default_factory=list)
    ingress_classes: list[Object] = field(default_factory=list)
    gateways: list[Object] = field(default_factory=list)
    routes: list[Object] = field(default_factory=list)
    traefik_routes: list[Object] = field(default_factory=list)
    middlewares: list[Object] = field(default_factory=list)
    traefik_services: list[Object] = field(default_factory=list)
    endpoints: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    unread: list[Unread] = field(default_factory=list)
    published: tuple[str, ...] = ("127.0.0.1",)
    ingress_service: Object | None = None
    _selected: dict[tuple[str, str], list[ObservedPod]] = field(default_factory=dict, repr=False)

    def has_read(self, resource: str, namespace: str = "") -> bool:
        """Return True when all objects of a resource were read. namespace: one namespace; "" for all."""
        return not any(
            one.resource == resource and (not one.where or not namespace or namespace in one.where)
            for one in self.unread
        )

    @cached_property
    def pods_by_namespace(self) -> dict[str, list[ObservedPod]]:
        """Return the active pods of each namespace."""
        found: dict[str, list[ObservedPod]] = defaultdict(list)
        for pod in self.pods:
            if pod.active:
                found[pod.namespace].append(pod)
        return found

    @cached_property
    def services_by_key(self) -> dict[tuple[str, str], Object]:
        """Return the Services by namespace and name."""
        return {key(service): service for service in self.services}

    @cached_property
    def _pods_by_label(self) -> dict[tuple[str, str, str], list[ObservedPod]]:
        """Return the active pods by namespace, key and value of each of their labels."""
        found: dict[tuple[str, str, str], list[ObservedPod]] = defaultdict(list)
        for namespace, pods in self.pods_by_namespace.items():
            for pod in pods:
                for label, value in pod.labels.items():
                    found[namespace, label, value].append(pod)
        return found

    def pods_of(self, service: Object) -> list[ObservedPod]:
        """Return the active pods that a Service selects; [] for a Service without a selector."""
        identity = key(service)
        if identity not in self._selected:
            selector = pairs(mapping(service.get("spec")).get("selector"))
            lists = [self._pods_by_label.get((identity[0], *pair), []) for pair in selector.items()]
            shortest = min(lists, key=len, default=[])
            self._selected[identity] = [pod for pod in shortest if selector.items() <= pod.labels.items()]
        return self._selected[identity]


def balanced_service(pod: ObservedPod) -> tuple[str, str] | None:
    """Return (namespace, name) of the Service for which a pod is the load balancer (K3s); None for other pods."""
    for prefix in _SERVICE_BALANCERS:
        if f"{prefix}/svcname" in pod.labels:
            return pod.labels.get(f"{prefix}/svcnamespace", ""), pod.labels[f"{prefix}/svcname"]
    return None


def key(obj: Object) -> tuple[str, str]:
    """Return (namespace, name) of any object."""
    metadata = mapping(obj.get("metadata"))
    return text(metadata.get("namespace")), text(metadata.get("name"))


def foreign_endpoints(slices: Iterable[Object], label: str) -> dict[tuple[str, str], list[str]]:
    """Return the addresses of endpoints that are not pods, by Service. label: the label with the Service's name."""
    found: dict[tuple[str, str], list[str]] = {}
    for piece in slices:
        name = pairs(mapping(piece.get("metadata")).get("labels")).get(label)
        for endpoint in mappings(piece.get("endpoints")) if name else ():
            if mapping(endpoint.get("targetRef")).get("kind") != "Pod":
                found.setdefault((key(piece)[0], name or ""), []).extend(texts(endpoint.get("addresses")))
    return found
