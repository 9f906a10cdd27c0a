"""NetworkPolicies with real sockets: three namespaces with three pods each (Kubernetes' test/e2e/network/netpol)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hatchway.cluster import plan
from tests.conftest import Cluster, wait_for
from tests.integration.services.echoes import apply, ask_from_host, free_node_ports, service
from tests.integration.services.reaching import WAYS, Reach, Way, pod, policy

X, Y, Z = "netpol-x", "netpol-y", "netpol-z"
NAMESPACES = (X, Y, Z)
TCP_80, TCP_81, UDP_80 = WAYS
Allowed = Callable[[str, str, Way], bool]


def _in(namespace: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}


def _pods(**labels: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": labels}}


@pytest.fixture(scope="module")
def world(cluster: Cluster) -> Iterator[Reach]:
    """Yield pods a, b and c in each namespace; b is on another node than a and c."""
    if not cluster.run["private"]:
        pytest.skip("on loopback there are no networks of pods")
    for namespace in NAMESPACES:
        labels = {"team": namespace[-1]}
        apply(
            cluster,
            "default",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
        )
    found = Reach(cluster)
    nodes = {"a": "node-1", "b": "node-2", "c": "node-1"}
    found.start(pod(namespace, name, node) for namespace in NAMESPACES for name, node in nodes.items())
    yield found
    cluster.kubectl("delete", "namespace", *NAMESPACES, "--wait=false")


@pytest.fixture
def reach(world: Reach) -> Iterator[Reach]:
    """Yield the pods; delete all policies at the end."""
    yield world
    for namespace in NAMESPACES:
        world.cluster.kubectl("delete", "networkpolicies", "-n", namespace, "--all")


def into(*targets: str) -> Callable[[str], bool]:
    return lambda target: target in targets


def _write(reach: Reach, namespace: str, *policies: dict[str, Any]) -> None:
    apply(reach.cluster, namespace, *policies)


def test_policies_of_ingress_by_selectors(reach: Reach) -> None:
    """Deny all, pods of the same namespace, pods of others, both in one peer, and the union of several policies."""
    _write(reach, X, policy("all", {}))
    reach.expect(lambda source, target, way: not target.startswith(X))
    _write(reach, X, policy("same", {"pod": "a"}, ingress=[{"from": [_pods(pod="b")]}]))
    reach.expect(lambda source, target, way: not target.startswith(X) or (source, target) == (f"{X}/b", f"{X}/a"))
    both = {**_in(Y), **_pods(pod="b")}
    expressions = {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["z"]}]}}
    _write(reach, X, policy("others", {"pod": "a"}, ingress=[{"from": [both, expressions]}]))
    reach.expect(
        lambda source, target, way: (
            not target.startswith(X)
            or (target == f"{X}/a" and (source.startswith(Z) or source in (f"{X}/b", f"{Y}/b")))
        )
    )
    # Changes of the labels of pods and namespaces, and the deletion of a policy, have an effect.
    _exchange_labels(reach)
    reach.cluster.kubectl("label", "namespace", Z, "team=other", "--overwrite")
    reach.cluster.kubectl("delete", "networkpolicy", "-n", X, "same")
    reach.expect(lambda source, target, way: not target.startswith(X) or (source, target) == (f"{Y}/c", f"{X}/a"))
    _exchange_labels(reach, back=True)
    reach.cluster.kubectl("label", "namespace", Z, "team=z", "--overwrite")
    reach.cluster.kubectl("delete", "networkpolicy", "-n", X, "--all")
    reach.expect(lambda source, target, way: True)


def _exchange_labels(reach: Reach, *, back: bool = False) -> None:
    """Give the pods b and c of one namespace each other's labels."""
    for name, label in ("b", "c"), ("c", "b"):
        reach.cluster.kubectl("label", "pod", "-n", Y, name, f"pod={name if back else label}", "--overwrite")


def test_policies_of_ports(reach: Reach) -> None:
    """Numbers, names, ranges, protocols; the ports of a rule apply only to the peers of the same rule."""
    ingress = [
        {"ports": [{"port": "second"}], "from": [_in(Y)]},
        {"ports": [{"port": 80, "protocol": "UDP"}], "from": [_in(Z)]},
        {"ports": [{"port": 79, "endPort": 80}], "from": [_pods()]},
        {"ports": [{"port": 80, "protocol": "SCTP"}, {"port": "first", "protocol": "UDP"}]},
    ]
    _write(reach, X, policy("ports", {"pod": "a"}, ingress=ingress))
    wanted: dict[str, tuple[Way, ...]] = {X: (TCP_80,), Y: (TCP_81,), Z: (UDP_80,)}
    reach.expect(lambda source, target, way: target != f"{X}/a" or way in wanted[source.split("/")[0]])
    _write(reach, X, policy("ports", {"pod": "a"}, ingress=[{"ports": [{"protocol": "TCP"}]}]))
    reach.expect(lambda source, target, way: target != f"{X}/a" or way != UDP_80)
    _write(reach, X, policy("ports", {"pod": "a"}, ingress=[{}]))
    reach.expect(lambda source, target, way: True)


def test_policies_of_egress(reach: Reach) -> None:
    """Egress: selectors, names of ports and address ranges; both ends must allow a connection."""
    ip = reach.ips
    egress = [
        {"to": [{**_in(Y), **_pods(pod="b")}], "ports": [{"port": "first"}]},
        {
            "to": [
                {
                    "ipBlock": {
                        "cidr": "10.244.0.0/16",
                        "except": [f"{ip[target]}/32" for target in ip if Z not in target],
                    }
                }
            ]
        },
    ]
    _write(reach, X, policy("out", {"pod": "a"}, policyTypes=["Egress"], egress=egress))

    def out(source: str, target: str, way: Way) -> bool:
        return source != f"{X}/a" or target.startswith(Z) or (target == f"{Y}/b" and way == TCP_80)

    reach.expect(out)
    # Without policyTypes, a policy is one of Ingress; if it has egress rules, also of Egress. Here the policy of the
    # target forbids connections, too.
    _write(reach, Z, policy("in", {"pod": "b"}, ingress=[{"from": [{"ipBlock": {"cidr": f"{ip[f'{X}/b']}/32"}}]}]))
    reach.expect(lambda source, target, way: out(source, target, way) and (target != f"{Z}/b" or source == f"{X}/b"))
    _write(reach, X, policy("both", {"pod": "a"}, egress=[{}]))
    reach.expect(lambda source, target, way: target != f"{X}/a" and (target != f"{Z}/b" or source == f"{X}/b"))


def test_connections_through_services(reach: Reach) -> None:
    """ClusterIPs, node ports and load balancers: policies see the client, and apply to the pod behind the Service."""
    first, ask = free_node_ports(2)
    ports = (
        {"name": "tcp", "port": 8000, "targetPort": 80, "nodePort": first},
        {"name": "udp", "port": 8000, "targetPort": 80, "nodePort": ask, "protocol": "UDP"},
    )
    _write(reach, X, service("web", *ports, selector={"pod": "a"}, type="LoadBalancer"))
    cluster = reach.cluster
    found = wait_for(lambda: _balanced(cluster))
    cluster_ip, balancer = found["spec"]["clusterIP"], found["status"]["loadBalancer"]["ingress"][0]["ip"]
    node_1, target = plan.node_ip(1), f"{X}/a"
    questions = [(kind, ip, port) for kind, port in (("tcp", first), ("udp", ask)) for ip in (node_1, plan.node_ip(2))]
    questions += [("tcp", cluster_ip, 8000), ("udp", cluster_ip, 8000), ("tcp", reach.ips[target], 80)]

    def asked(source: str) -> set[str]:
        return set(reach.order(source, "ask", *questions))

    outside = [("tcp", plan.HOST_IP, first), ("udp", plan.HOST_IP, ask), ("tcp", balancer, 8000)]
    wait_for(lambda: {ask_from_host(*one) for one in outside} == {target} and asked(f"{Y}/a") == {target})
    _write(reach, X, policy("some", {"pod": "a"}, ingress=[{"from": [{**_in(Y), **_pods(pod="b")}]}]))
    refused = {"ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "closed", "timed out"}
    wait_for(lambda: asked(f"{Y}/a") <= refused)
    # The test waits for the allowed answers, because datagrams may be late on a busy machine.
    wait_for(lambda: asked(f"{Y}/b") == {target})
    # A pod always reaches itself, also through its Service.
    wait_for(lambda: asked(target) == {target})
    # Policies see 127.0.0.1 as the source of connections from this machine, for any pod.
    assert ask_from_host(*outside[0]) != target
    assert ask_from_host(*outside[2]) != target
    _write(reach, X, policy("outside", {"pod": "a"}, ingress=[{"from": [{"ipBlock": {"cidr": "127.0.0.0/8"}}]}]))
    wait_for(lambda: {ask_from_host(*one) for one in outside} == {target})
    assert asked(f"{Y}/a") <= refused
    # Egress policies are checked against the endpoint behind a Service. This includes DNS: without a rule for its pods,
    # names do not resolve.
    cluster.kubectl("delete", "networkpolicy", "-n", X, "--all")
    to_a = {"to": [{**_in(X), **_pods(pod="a")}]}
    _write(reach, Y, policy("out", {"pod": "a"}, policyTypes=["Egress"], egress=[to_a]))
    by_name = "tcp", f"web.{X}.svc.cluster.local", 8000
    wait_for(lambda: reach.order(f"{Y}/a", "ask", by_name) == ["no such name"])
    wait_for(lambda: reach.order(f"{Y}/a", "ask", questions[4], questions[5]) == [target, target])
    # Pods always reach their own node, and through its node ports the allowed pods, but no other node.
    wait_for(lambda: reach.order(f"{Y}/a", "ask", questions[0], questions[2]) == [target, target])
    assert target not in reach.order(f"{Y}/a", "ask", questions[1], questions[3])
    dns = {"to": [_in("kube-system")], "ports": [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]}
    _write(reach, Y, policy("dns", {}, policyTypes=["Egress"], egress=[dns]))
    wait_for(lambda: reach.order(f"{Y}/a", "ask", by_name)[0] == target)
    cluster.kubectl("delete", "service", "-n", X, "web")


def _balanced(cluster: Cluster) -> dict[str, Any] | None:
    found: dict[str, Any] = json.loads(cluster.kubectl("get", "service", "-n", X, "web", "-o", "json"))
    return found if found["status"]["loadBalancer"].get("ingress") else None


def test_connections_that_exist_already(reach: Reach) -> None:
    """TCP connections continue when a policy begins to forbid them; UDP datagrams and pings are checked one by one."""
    source, target = f"{Y}/a", f"{X}/b"
    ports = [{"name": kind, "port": 80, "protocol": kind.upper()} for kind in ("tcp", "udp")]
    _write(reach, X, service("kept", *ports, selector={"pod": "b"}))
    ip = json.loads(reach.cluster.kubectl("get", "service", "-n", X, "kept", "-o", "json"))["spec"]["clusterIP"]
    connections = [(kind, address, 80) for kind in ("tcp", "udp") for address in (reach.ips[target], ip)]
    wait_for(lambda: reach.order(source, "open", *connections) == [target] * 4)
    ping = "ping", reach.ips[target], 0
    assert reach.order(source, "open", ping) == ["answer"]
    _write(reach, X, policy("all", {}))
    reach.expect(lambda _, to, __: not to.startswith(X), sources=[source])
    wait_for(lambda: reach.order(source, "use", *connections) == ["again", "again", "EHOSTUNREACH", "timed out"])
    wait_for(lambda: reach.order(source, "use", ping) in (["timed out"], ["EHOSTUNREACH"]))
    reach.cluster.kubectl("delete", "service", "-n", X, "kept")


def test_the_node_always_reaches_its_pods(reach: Reach) -> None:
    """Probes, exec, port-forward and the proxy verb work under all policies."""
    cluster = reach.cluster
    types = ["Ingress", "Egress"]
    _write(reach, X, policy("nothing", {}, policyTypes=types))
    reach.expect(lambda source, target, way: X not in source and X not in target)
    # `reach.expect` has used the proxy verb for its orders. Readiness probes run once a second.
    assert cluster.kubectl("exec", "-n", X, "a", "--", "echo", "works") == "works\n"
    ready = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"
    assert cluster.kubectl("get", "pods", "-n", X, "-o", ready) == "True True True"
    server = "connect", plan.API_SERVICE_IP, 443
    assert reach.order(f"{X}/a", "ask", server) == ["ECONNREFUSED"]
    allowed = [{"to": [{"ipBlock": {"cidr": f"{plan.node_ip(0)}/32"}}], "ports": [{"port": plan.DEFAULT_API_PORT}]}]
    _write(reach, X, policy("api", {"pod": "a"}, policyTypes=["Egress"], egress=allowed))
    wait_for(lambda: reach.order(f"{X}/a", "ask", server) == ["connected"])
    assert reach.order(f"{X}/b", "ask", server) == ["ECONNREFUSED"]


def test_the_pages_policies_deny_all_but_dns(reach: Reach) -> None:
    """The policies of docs/network-policies.md, "Default deny, with DNS"."""
    page = (Path(__file__).parents[3] / "docs/network-policies.md").read_text()
    (example,) = re.findall(r"### Default deny, with DNS\n.*?```yaml\n(.*?)```", page, re.DOTALL)
    _write(reach, X, *yaml.safe_load_all(example))
    reach.expect(lambda source, target, way: X not in source and X not in target)
    look_up = "import socket; print(socket.gethostbyname('kubernetes.default'))"
    found = reach.cluster.kubectl("exec", "-n", X, "a", "--", "python3", "-c", look_up)
    assert found.strip() == plan.API_SERVICE_IP


def test_a_pod_on_its_nodes_network_is_its_node(reach: Reach) -> None:
    """The pod reaches the pods of its node, and pods of other nodes if a policy allows the node's address."""
    host = Reach(reach.cluster)
    host.start([pod(Z, "host", "node-1", host_network=True)])
    host.ips = {name: ip for name, ip in reach.ips.items() if name.startswith(X)}
    _write(reach, X, policy("all", {}))
    # The pods a and c are on the same node.
    host.expect(lambda _, target, __: target != f"{X}/b", sources=[f"{Z}/host"])
    _write(reach, X, policy("node", {}, ingress=[{"from": [{"ipBlock": {"cidr": f"{plan.node_ip(1)}/32"}}]}]))
    host.expect(lambda *_: True, sources=[f"{Z}/host"])
    # A policy that selects the pod has no effect.
    _write(reach, Z, policy("host", {"pod": "host"}, policyTypes=["Ingress", "Egress"]))
    reach.expect(lambda source, target, way: not target.startswith(X), sources=[f"{Y}/a"])
    host.expect(lambda *_: True, sources=[f"{Z}/host"])
    reach.cluster.kubectl("delete", "pod", "-n", Z, "host", "--wait=false")


def test_a_forged_source_address_does_not_pass_a_policy(reach: Reach) -> None:
    """A container may send any packet (CAP_NET_RAW), but not with the address of a pod that is allowed."""
    target, allowed, other = f"{X}/a", f"{Y}/a", f"{Z}/a"
    ip = reach.ips
    _write(reach, X, policy("some", {"pod": "a"}, ingress=[{"from": [{**_in(Y), **_pods(pod="a")}]}]))
    reach.expect(lambda source, to, _: to != target or source == allowed, sources=[allowed, other], ways=[TCP_80])
    for source in (allowed, other):
        reach.order(source, "forge", (ip[allowed], ip[target], f"from {source} as the allowed one"))
        reach.order(source, "forge", (plan.node_ip(1), ip[target], f"from {source} as the node"))
        reach.order(source, "forge", (plan.gateway(1), ip[target], f"from {source} as the router"))
    # An allowed datagram that is sent after the forged ones arrives.
    reach.order(allowed, "forge", (ip[allowed], ip[target], "the last one"))
    wait_for(lambda: "the last one" in reach.order(target, "seen", ())[0])
    found = [text for text in reach.order(target, "seen", ())[0] if text.startswith("from")]
    assert found == [f"from {allowed} as the allowed one"]


def test_policies_apply_to_a_new_pod_from_its_start(reach: Reach) -> None:
    """The policies of a new pod are in effect before its first connection."""
    # The pod connects at once, and prints only the result of that first attempt.
    script = f"""
import socket
for ip in {[reach.ips[f"{Y}/a"], reach.ips[f"{X}/a"]]!r}:
    try:
        with socket.create_connection((ip, 81), timeout=20) as sock:
            print(sock.makefile().readline().strip())
    except OSError as error:
        print("refused")
"""
    container = {"name": "first", "image": "hatchway/host", "command": ["python3", "-c", script]}
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "first", "labels": {"new": "yes"}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    out = [{"to": [_pods(pod="a")]}]
    _write(reach, X, policy("new", {"new": "yes"}, policyTypes=["Egress"], egress=out), made)
    wait_for(
        lambda: "Succeeded" in reach.cluster.kubectl("get", "pod", "-n", X, "first", "-o", "jsonpath={.status.phase}")
    )
    assert reach.cluster.kubectl("logs", "-n", X, "first") == f"refused\n{X}/a\n"
    reach.cluster.kubectl("delete", "pod", "-n", X, "first", "--wait=false")
