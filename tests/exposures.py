"""A cluster with seeded faults in its exposure, and with safe objects that resemble them.

`FAULTS` and `SAFE` are lists of cases. A case has objects. A fault also has the expected finding: an object and a rule.
The objects of each case are in a separate namespace; nodes, classes and controllers are shared.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hatchway.kube.api import Object

PUBLIC_1, PUBLIC_2 = "203.0.113.11", "203.0.113.12"
CONTROLLER_ADDRESS, GATEWAY_ADDRESS = "198.51.100.80", "198.51.100.90"


@dataclass(frozen=True)
class Case:
    """One seeded fault, or one safe look-alike (rule "")."""

    name: str
    objects: tuple[Object, ...]
    found: str = ""
    rule: str = ""


def node(name: str, internal: str, external: str = "") -> Object:
    addresses = [{"type": "InternalIP", "address": internal}, {"type": "Hostname", "address": name}]
    if external:
        addresses.append({"type": "ExternalIP", "address": external})
    return _object("v1", "Node", name, "", status={"addresses": addresses})


def _object(version: str, kind: str, name: str, namespace: str, **more: Any) -> Object:
    metadata: dict[str, Any] = {"name": name, **({"namespace": namespace} if namespace else {})}
    for key in ("labels", "annotations", "ownerReferences"):
        if value := more.pop(key, None):
            metadata[key] = value
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def pod(
    name: str,
    *,
    app: str = "a",
    port: int = 8080,
    node: str = "public-1",
    owner: tuple[str, str] | None = None,
    host_network: bool = False,
    host_port: int = 0,
    host_ip: str = "",
    phase: str = "Running",
    critical: bool = False,
    declared: bool = True,
) -> Object:
    entry: dict[str, Any] = {"name": "main", "containerPort": port}
    if host_port:
        entry["hostPort"] = host_port
    if host_ip:
        entry["hostIP"] = host_ip
    container = {
        "name": "c",
        "image": "hatchway/host",
        "command": ["sleep", "9999"],
        "ports": [entry] if declared else [],
    }
    spec: dict[str, Any] = {"containers": [container], "nodeName": node}
    if host_network:
        spec["hostNetwork"] = True
    if critical:
        spec["priorityClassName"] = "system-node-critical"
    conditions = [{"type": "Ready", "status": "True"}]
    more: dict[str, Any] = {"labels": {"app": app}, "spec": spec, "status": {"phase": phase, "conditions": conditions}}
    if owner:
        reference = {"apiVersion": "apps/v1", "kind": owner[0], "name": owner[1], "uid": "u", "controller": True}
        more["ownerReferences"] = [reference]
    return _object("v1", "Pod", name, "", **more)


def service(
    kind: str = "ClusterIP",
    *,
    port: int = 80,
    target: int | str = 8080,
    node_port: int = 0,
    hosts: tuple[str, ...] = (),
    annotations: dict[str, str] | None = None,
    app: str = "a",
    name: str = "s",
    **spec: Any,
) -> Object:
    entry: dict[str, Any] = {"port": port, "targetPort": target, "protocol": "TCP"}
    if node_port:
        entry["nodePort"] = node_port
    if kind == "LoadBalancer":
        # No controller serves this class, so none replaces the recorded addresses.
        spec.setdefault("loadBalancerClass", "example.com/recorded")
        spec["allocateLoadBalancerNodePorts"] = bool(node_port)
    selector = {} if kind == "ExternalName" else {"selector": {"app": app}}
    ingress = [{"ip" if host[-1].isdigit() else "hostname": host} for host in hosts]
    more: dict[str, Any] = {"status": {"loadBalancer": {"ingress": ingress}}} if hosts else {}
    return _object(
        "v1",
        "Service",
        name,
        "",
        annotations=annotations,
        spec={"type": kind, "ports": [entry], **selector, **spec},
        **more,
    )


def policy(*rules: dict[str, Any], selector: dict[str, Any] | None = None, name: str = "p", **spec: Any) -> Object:
    found = {"podSelector": selector or {}, "policyTypes": ["Ingress"], "ingress": list(rules), **spec}
    return _object("networking.k8s.io/v1", "NetworkPolicy", name, "", spec=found)


def block(cidr: str, *excepted: str) -> dict[str, Any]:
    return {"ipBlock": {"cidr": cidr, **({"except": list(excepted)} if excepted else {})}}


def ingress(
    *,
    host: str = "shop.example",
    backend: str = "s",
    port: int = 80,
    tls: tuple[str, ...] | None = None,
    of_class: str = "nginx",
    hosts: tuple[str, ...] = (CONTROLLER_ADDRESS,),
    annotations: dict[str, str] | None = None,
) -> Object:
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": backend, "port": {"number": port}}}}
    rule: dict[str, Any] = {**({"host": host} if host else {}), "http": {"paths": [path]}}
    spec: dict[str, Any] = {"ingressClassName": of_class, "rules": [rule]}
    if tls is not None:
        spec["tls"] = [{"hosts": list(tls), "secretName": "t"}]
    entries = [{"ip" if one[-1].isdigit() else "hostname": one} for one in hosts]
    status = {"loadBalancer": {"ingress": entries}}
    return _object("networking.k8s.io/v1", "Ingress", "i", "", annotations=annotations, spec=spec, status=status)


def route(section: str, *, port: int = 80, accepted: str = "True", redirects: bool = False) -> Object:
    parent = {"name": "door", "namespace": "gateways", "sectionName": section}
    rule: dict[str, Any] = {"backendRefs": [{"name": "s", "port": port}]}
    if redirects:
        rule = {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]}
    conditions = [{"type": "Accepted", "status": accepted}]
    return _object(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        "r",
        "",
        spec={"parentRefs": [parent], "hostnames": ["shop.example"], "rules": [rule]},
        status={"parents": [{"parentRef": parent, "controllerName": "x.example/y", "conditions": conditions}]},
    )


def gateway(name: str, address: str, routes_from: str) -> Object:
    allowed = {"namespaces": {"from": routes_from}}
    listeners = [
        {"name": "web", "port": 80, "protocol": "HTTP", "allowedRoutes": allowed},
        {"name": "websecure", "port": 443, "protocol": "HTTPS", "allowedRoutes": allowed},
    ]
    return _object(
        "gateway.networking.k8s.io/v1",
        "Gateway",
        name,
        "gateways",
        spec={"gatewayClassName": "x", "listeners": listeners},
        status={"addresses": [{"type": "IPAddress", "value": address}]},
    )


def ingress_class(name: str, controller: str) -> Object:
    return _object("networking.k8s.io/v1", "IngressClass", name, "", spec={"controller": controller})


def _in(namespace: str, obj: Object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


NODES = [
    node("public-1", "10.0.0.11", PUBLIC_1),
    node("public-2", "10.0.0.12", PUBLIC_2),
    node("private", "10.0.0.13"),
]
SHARED: list[Object] = [
    ingress_class("nginx", "k8s.io/ingress-nginx"),
    ingress_class("traefik", "traefik.io/ingress-controller"),
    ingress_class("alb", "ingress.k8s.aws/alb"),
    _in("ingress", pod("controller", app="controller", port=8080)),
    _in("ingress", service("LoadBalancer", app="controller", hosts=(CONTROLLER_ADDRESS,), name="controller")),
    gateway("door", GATEWAY_ADDRESS, "Same"),
    _in("gateways", pod("envoy", app="envoy")),
    _in("gateways", service("LoadBalancer", app="envoy", hosts=(GATEWAY_ADDRESS,), name="envoy")),
]
_AWS_INTERNAL = {"service.beta.kubernetes.io/aws-load-balancer-internal": "true"}
_AZURE_INTERNAL = {"service.beta.kubernetes.io/azure-load-balancer-internal": "true"}
_NGINX_LIST = {"nginx.ingress.kubernetes.io/allowlist-source-range": "192.0.2.0/24"}
_NGINX_LOGIN = {"nginx.ingress.kubernetes.io/auth-url": "https://login.example/"}
_PEERS_ONLY = {"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}}]}
_DENY = policy()

FAULTS = [
    Case("np-open", (pod("p"), service("NodePort", node_port=30001)), "service/s", "open-node-port"),
    Case(
        "np-database",
        (pod("p", port=5432), service("NodePort", port=5432, target="main", node_port=30002)),
        "service/s",
        "sensitive-port",
    ),
    Case("lb-open", (pod("p"), service("LoadBalancer", hosts=("198.51.100.1",))), "service/s", "open-load-balancer"),
    Case(
        "lb-redis",
        (pod("p", port=6379), service("LoadBalancer", target=6379, hosts=("198.51.100.2",))),
        "service/s",
        "sensitive-port",
    ),
    Case(
        "lb-hostname",
        (pod("p"), service("LoadBalancer", hosts=("a1b2.eu-west-1.elb.amazonaws.com",))),
        "service/s",
        "open-load-balancer",
    ),
    Case(
        "lb-nlb",
        (
            pod("p"),
            service(
                "LoadBalancer",
                hosts=("k8s-a2.elb.eu-west-1.amazonaws.com",),
                loadBalancerClass="service.k8s.aws/nlb",
                annotations={"service.beta.kubernetes.io/aws-load-balancer-scheme": "internet-facing"},
            ),
        ),
        "service/s",
        "open-load-balancer",
    ),
    Case("lb-v6", (pod("p"), service("LoadBalancer", hosts=("2001:4860::8",))), "service/s", "open-load-balancer"),
    Case(
        "lb-everybody",
        (pod("p"), service("LoadBalancer", hosts=("198.51.100.3",), loadBalancerSourceRanges=["0.0.0.0/0"])),
        "service/s",
        "wide-source-ranges",
    ),
    Case(
        "lb-two-halves",
        (
            pod("p"),
            service("LoadBalancer", hosts=("198.51.100.4",), loadBalancerSourceRanges=["0.0.0.0/1", "128.0.0.0/1"]),
        ),
        "service/s",
        "wide-source-ranges",
    ),
    Case(
        "lb-mark-of-another-cloud",
        (pod("p"), service("LoadBalancer", hosts=("198.51.100.5",), annotations=_AZURE_INTERNAL)),
        "service/s",
        "internal-but-public",
    ),
    Case(
        "lb-bypassed",
        (
            pod("p"),
            service(
                "LoadBalancer", hosts=("198.51.100.6",), node_port=30006, loadBalancerSourceRanges=["192.0.2.0/24"]
            ),
        ),
        "service/s",
        "node-port-bypasses-load-balancer",
    ),
    Case("eip-of-another", (pod("p"), service(externalIPs=["9.9.9.9"])), "service/s", "external-ip-not-a-node"),
    Case("eip-of-a-node", (pod("p"), service(externalIPs=[PUBLIC_1])), "service/s", "open-external-ip"),
    Case("np-left-over", (service("NodePort", node_port=30007),), "service/s", "no-endpoints"),
    Case(
        "hp-open",
        (pod("p", host_port=8443, owner=("DaemonSet", "agent")),),
        "daemonset/agent",
        "open-host-port",
    ),
    Case(
        "hp-database",
        (pod("p", port=27017, host_port=27017),),
        "pod/p",
        "sensitive-port",
    ),
    Case("hn-open", (pod("p", host_network=True, owner=("DaemonSet", "net")),), "daemonset/net", "open-host-network"),
    Case("hn-silent", (pod("p", host_network=True, declared=False),), "pod/p", "open-host-network"),
    Case(
        "np-policy-for-all",
        (pod("p"), service("NodePort", node_port=30008), policy({"ports": [{"port": "main"}]})),
        "service/s",
        "open-node-port",
    ),
    Case(
        "np-policy-with-exceptions",
        (
            pod("p"),
            service("NodePort", node_port=30009),
            policy({"from": [block("0.0.0.0/0", "10.0.0.0/8", "192.168.0.0/16")]}),
        ),
        "service/s",
        "open-node-port",
    ),
    Case(
        "np-one-pod-unshielded",
        (
            pod("p"),
            {**pod("q"), "metadata": {"name": "q", "labels": {"app": "a", "tier": "new"}}},
            service("NodePort", node_port=30010),
            policy(selector={"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}),
        ),
        "service/s",
        "open-node-port",
    ),
    Case(
        "np-policy-admits-nodes",
        (pod("p"), service("NodePort", node_port=30011), policy({"from": [block("10.0.0.0/8")]})),
        "service/s",
        "policy-sees-node-address",
    ),
    Case(
        "np-policy-of-egress",
        (pod("p"), service("NodePort", node_port=30012), policy(policyTypes=["Egress"])),
        "service/s",
        "open-node-port",
    ),
    Case("ing-plain", (pod("p"), service(), ingress()), "ingress/i", "no-tls"),
    Case("ing-other-host", (pod("p"), service(), ingress(tls=("www.example",))), "ingress/i", "no-tls"),
    Case("ing-any-host", (pod("p"), service(), ingress(host="")), "ingress/i", "any-host"),
    Case(
        "ing-prometheus",
        (pod("p", port=9090), service(target=9090), ingress(tls=("shop.example",))),
        "ingress/i",
        "sensitive-port",
    ),
    Case("ing-nothing", (ingress(tls=("shop.example",), backend="gone"),), "ingress/i", "no-backend"),
    Case(
        "ing-other-controller",
        (pod("p"), service(), ingress(tls=("shop.example",), of_class="traefik", annotations=_NGINX_LIST)),
        "ingress/i",
        "ineffective-allowlist",
    ),
    Case("gw-plain", (pod("p"), service(), route("web")), "httproute/r", "no-tls"),
    Case(
        "gw-etcd",
        (pod("p", port=2379), service(target=2379), route("websecure")),
        "httproute/r",
        "sensitive-port",
    ),
]

SAFE = [
    Case("s-cluster-ip", (pod("p", port=5432), service(target=5432))),
    Case("s-external-name", (service("ExternalName", externalName="db.example"),)),
    Case("s-headless", (pod("p"), service(clusterIP="None"))),
    Case("s-lb-internal", (pod("p"), service("LoadBalancer", hosts=("10.1.1.1",)))),
    Case("s-lb-internal-v6", (pod("p"), service("LoadBalancer", hosts=("fd00::8",)))),
    Case("s-lb-aws-internal", (pod("p"), service("LoadBalancer", hosts=("internal-a1.eu-west-1.elb.amazonaws.com",)))),
    Case(
        "s-lb-marked",
        (pod("p"), service("LoadBalancer", hosts=("a1.elb.eu-west-1.amazonaws.com",), annotations=_AWS_INTERNAL)),
    ),
    Case(
        "s-lb-nlb",
        (
            pod("p"),
            service(
                "LoadBalancer", hosts=("k8s-a1.elb.eu-west-1.amazonaws.com",), loadBalancerClass="service.k8s.aws/nlb"
            ),
        ),
    ),
    Case(
        "s-lb-ranges",
        (pod("p"), service("LoadBalancer", hosts=("198.51.100.21",), loadBalancerSourceRanges=["192.0.2.0/24"])),
    ),
    Case("s-lb-pending", (pod("p"), service("LoadBalancer"))),
    Case("s-lb-loopback", (pod("p"), service("LoadBalancer", hosts=("127.1.2.3",)))),
    Case("s-lb-denied", (pod("p"), service("LoadBalancer", hosts=("198.51.100.22",)), _DENY)),
    Case("s-np-denied", (pod("p"), service("NodePort", node_port=30021), _DENY)),
    Case(
        "s-np-ranges",
        (
            pod("p"),
            service("NodePort", node_port=30022, externalTrafficPolicy="Local"),
            policy({"from": [block("192.0.2.0/24")]}),
        ),
    ),
    Case(
        "s-np-end-port",
        (pod("p"), service("NodePort", node_port=30023), policy({"ports": [{"port": 9000, "endPort": 9100}]})),
    ),
    Case("s-np-udp-only", (pod("p"), service("NodePort", node_port=30024), policy({"ports": [{"protocol": "UDP"}]}))),
    Case("s-np-peers", (pod("p"), service("NodePort", node_port=30025), policy(_PEERS_ONLY))),
    Case(
        "s-np-excluded-nodes",
        (
            pod("p"),
            service("NodePort", node_port=30026),
            policy({"from": [block("10.0.0.0/8", "10.0.0.0/24")]}),
        ),
    ),
    Case(
        "s-np-private-node",
        (pod("p", node="private"), service("NodePort", node_port=30027, externalTrafficPolicy="Local")),
    ),
    Case(
        "s-np-on-purpose",
        (pod("p"), service("NodePort", node_port=30028, annotations={"hatchway.dev/exposed-on-purpose": "our shop"})),
    ),
    Case("s-eip-private", (pod("p"), service(externalIPs=["10.0.0.11"]))),
    Case("s-hp-loopback", (pod("p", host_port=9, host_ip="127.0.0.1"),)),
    Case("s-hp-private-node", (pod("p", host_port=8443, node="private"),)),
    Case("s-hp-ended", (pod("p", host_port=8443, phase="Succeeded"),)),
    Case("s-hp-denied", (pod("p", host_port=8443), _DENY)),
    Case("s-hn-private-node", (pod("p", host_network=True, node="private"),)),
    Case("kube-system", (pod("p", host_network=True, critical=True, owner=("DaemonSet", "kube-proxy")),)),
    Case("s-ing-tls", (pod("p"), service(), ingress(tls=("shop.example",)))),
    Case("s-ing-wildcard", (pod("p"), service(), ingress(tls=("*.example",)))),
    Case(
        "s-ing-internal",
        (pod("p"), service(), ingress(of_class="alb", hosts=("internal-k8s.eu-west-1.elb.amazonaws.com",))),
    ),
    Case(
        "s-ing-allowlist",
        (pod("p", port=9090), service(target=9090), ingress(tls=("shop.example",), annotations=_NGINX_LIST)),
    ),
    Case(
        "s-ing-login",
        (pod("p", port=9090), service(target=9090), ingress(tls=("shop.example",), annotations=_NGINX_LOGIN)),
    ),
    Case(
        "s-ing-denied",
        (pod("p"), service(), ingress(), policy(_PEERS_ONLY)),
    ),
    Case("s-gw-tls", (pod("p"), service(), route("websecure"))),
    Case("s-gw-redirect", (pod("p"), service(), route("web", redirects=True))),
    Case("s-gw-refused", (pod("p"), service(), route("web", accepted="False"))),
]


def objects(*kinds: str) -> list[Object]:
    """Return copies of all objects, each in its namespace. kinds: return only these kinds; empty for all kinds."""
    spaces = [_object("v1", "Namespace", name, "", labels={}) for name in ("ingress", "gateways")]
    found = [*NODES, *spaces, *SHARED]
    for case in (*FAULTS, *SAFE):
        found.append(_object("v1", "Namespace", case.name, "", labels={}))
        found += [_in(case.name, obj) for obj in case.objects]
    return [json.loads(json.dumps(one)) for one in found if not kinds or one["kind"] in kinds]


def expected() -> set[tuple[str, str, str]]:
    """Return (namespace, object, rule) of all seeded faults."""
    return {(case.name, case.found, case.rule) for case in FAULTS}
