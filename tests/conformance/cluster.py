"""The cluster behind `proxy.jsonl` (README.md) as objects, for any addresses of its two pods and its node."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.connect.handler import ConnectHandler, ConnectRequest
from hatchway.proxy.routing import AcceptUpgrade, App, Decision, Forward, RequestHead, Respond

Object = dict[str, Any]
NODE = "node-1"


class FakeCluster:
    """Objects by resource, namespace and name, with the interface `resourcelocation.CommittedObjects`."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.slices: dict[tuple[str, str], list[Object]] = {}
        self.version = 0
        self.gets = 0

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        self.gets += 1
        return self.objects.get((resource, namespace, name))

    def endpoint_slices(self, namespace: str, service: str) -> list[Object]:
        return self.slices.get((namespace, service), [])

    def metadata(self, name: str, namespace: str = "") -> Object:
        self.version += 1
        metadata = {"name": name, "uid": f"uid-{self.version}", "resourceVersion": str(self.version)}
        return {**metadata, "namespace": namespace} if namespace else metadata

    def add_node(self, name: str, address: str, pod_cidr: str, kubelet_port: int = 10250) -> None:
        self.objects[("nodes", "", name)] = {
            "metadata": self.metadata(name),
            "spec": {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]},
            "status": {
                "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
            },
        }

    def add_pod(self, namespace: str, name: str, address: str, *ports: Object, node: str = NODE) -> None:
        status = {"podIP": address, "podIPs": [{"ip": address}]} if address else {}
        self.objects[("pods", namespace, name)] = {
            "metadata": self.metadata(name, namespace),
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": list(ports)}]},
            "status": status,
        }

    def add_service(self, namespace: str, name: str, *ports: Object, **spec: Any) -> None:
        self.objects[("services", namespace, name)] = {
            "metadata": self.metadata(name, namespace),
            "spec": {"ports": list(ports), "type": "ClusterIP", "ipFamilies": ["IPv4"], **spec},
        }

    def add_slice(
        self, namespace: str, service: str, ports: list[Object], endpoints: list[Object], **more: Any
    ) -> None:
        made = {
            "metadata": self.metadata(f"{service}-{len(self.slices)}", namespace),
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": endpoints,
            **more,
        }
        self.slices.setdefault((namespace, service), []).append(made)


def endpoint(address: str, pod: str, namespace: str, ready: bool | None = True) -> Object:
    reference = {"kind": "Pod", "name": pod, "namespace": namespace} if pod else None
    made: Object = {"addresses": [address], "conditions": {} if ready is None else {"ready": ready}}
    return {**made, "targetRef": reference} if reference else made


def recorded_cluster(b10: str, b11: str, node: str, pod_cidr: str, kubelet_port: int) -> FakeCluster:
    """Return the recorded cluster. b10, b11: the addresses of the pods with these names."""
    cluster = FakeCluster()
    cluster.add_node(NODE, node, pod_cidr, kubelet_port)
    for namespace in ("default", "team-a", "team-b"):
        cluster.add_pod(namespace, "b10", b10)
        cluster.add_pod(namespace, "b11", b11)

    http = {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
    unnamed = {"port": 80, "targetPort": 8080, "protocol": "TCP"}
    alt = {"name": "alt", "port": 8000, "targetPort": 8081, "protocol": "TCP"}
    https = {"name": "https", "port": 443, "targetPort": 8443, "protocol": "TCP"}
    headless = {"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP"}
    dead = {"name": "http", "port": 80, "targetPort": 9, "protocol": "TCP"}

    def add(namespace: str, name: str, ports: list[Object], endpoints: list[Object], **spec: Any) -> None:
        cluster.add_service(namespace, name, *ports, **spec)
        if endpoints:
            found = [{"name": p.get("name", ""), "port": p["targetPort"], "protocol": "TCP"} for p in ports]
            cluster.add_slice(namespace, name, found, endpoints)

    one = [endpoint(b10, "b10", "default")]
    add("default", "web-named", [http], one)
    add("default", "web-unnamed", [unnamed], one)
    add("default", "web-multi", [http, alt, https], one)
    add("default", "web-https", [https], one)
    add("default", "web-two", [http], [*one, endpoint(b11, "b11", "default")])
    add("default", "web-headless", [headless], one, clusterIP="None")
    add("default", "web-empty", [http], [])
    add("default", "web-notready", [http], [endpoint(b10, "b10", "default", ready=False)])
    add("default", "web-dead", [dead], one)
    add("default", "web-external", [http], [], type="ExternalName", externalName="example.com")
    add("default", "web-noref", [http], [endpoint(b10, "", "default")])
    add("team-a", "web", [http], [endpoint(b10, "b10", "team-a")])
    add("team-a", "plain", [unnamed], [endpoint(b10, "b10", "team-a")])
    add("team-b", "web", [http], [endpoint(b11, "b11", "team-b")])
    return cluster


def decide(handler: ConnectHandler, head: RequestHead, request: ConnectRequest) -> Decision:
    """Return a handler's decision for one request."""
    found = handler.prepare(head, request)
    return found if isinstance(found, (Respond, Forward, App, AcceptUpgrade)) else found.forward()
