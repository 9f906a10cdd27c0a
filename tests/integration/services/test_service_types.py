"""Services of every type, used with real sockets inside pods and on this machine."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator

import pytest

from hatchway.cluster import plan
from tests.conftest import Cluster, wait_for
from tests.integration.services.echoes import (
    Question,
    apply,
    ask_from_host,
    ask_from_pod,
    echo_pod,
    free_node_ports,
    get,
    messages,
    service,
)

NS = "service-types"
WEB = {"app": "web"}
HOST = plan.HOST_IP
CONTROL_PLANE, NODE_1, NODE_2 = (plan.node_ip(index) for index in range(3))
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
HTTP = {"name": "http", "port": 80, "targetPort": "web"}


@pytest.fixture(scope="module")
def world(cluster: Cluster) -> Iterator[Cluster]:
    """Create the pods `one` on node-1 and `two` on node-2. The label `only` of each has its name."""
    if not cluster.run["private"]:
        pytest.skip("on loopback there are no service addresses")
    cluster.kubectl("create", "namespace", NS)
    pods = [
        echo_pod(name, node, {**WEB, "only": name}, ports=[*_ports(), *extra])
        for name, node, extra in (
            ("one", "node-1", [{"containerPort": 8080, "hostPort": 18080}]),
            ("two", "node-2", [{"containerPort": 5353, "hostPort": 18053, "protocol": "UDP"}]),
        )
    ]
    apply(cluster, NS, *pods)
    cluster.kubectl("wait", "-n", NS, "--for=condition=Ready", "pod", "--all", "--timeout=60s")
    yield cluster
    cluster.kubectl("delete", "namespace", NS, "--wait=false")


def _ports() -> list[dict[str, object]]:
    ports: list[dict[str, object]] = echo_pod("", "", {})["spec"]["containers"][0]["ports"]
    return ports


def inside(world: Cluster, pod: str, *questions: Question) -> list[str]:
    return ask_from_pod(world, NS, pod, questions)


def eventually(answers: set[str], *question: object) -> None:
    """Send requests from this machine until all expected answers have come. After the first, no others may come."""
    kind, host, port = question
    assert isinstance(kind, str)
    assert isinstance(host, str)
    assert isinstance(port, int)
    wait_for(lambda: ask_from_host(kind, host, port) in answers)
    found: set[str] = set()
    wait_for(lambda: found.add(ask_from_host(kind, host, port)) or found >= answers)
    assert found == answers


def test_node_ports_on_every_node_and_on_this_machine(world: Cluster) -> None:
    web, talk, ask = free_node_ports(3)
    ports = (
        {**HTTP, "nodePort": web},
        {"name": "talk", "port": 90, "targetPort": 9090, "nodePort": talk},
        {"name": "ask", "port": 53, "targetPort": "ask", "protocol": "UDP", "nodePort": ask},
    )
    apply(world, NS, service("nodeport", *ports, selector=WEB, type="NodePort"))
    eventually({"200 one", "200 two"}, "http", HOST, web)
    eventually({"one", "two"}, "tcp", HOST, talk)
    assert ask_from_host("udp", HOST, ask) in ("one", "two")
    nodes = (CONTROL_PLANE, NODE_1, NODE_2)
    asked = [(kind, ip, port) for ip in nodes for kind, port in (("http", web), ("tcp", talk), ("udp", ask))]
    answers = inside(world, "one", *asked, ("http", "nodeport", 80), ("tcp", "nodeport", 90), ("udp", "nodeport", 53))
    assert {answer.removeprefix("200 ") for answer in answers} <= {"one", "two"}
    # Only loopback addresses have listeners.
    others = [found for found in _own_addresses() if found != HOST]
    assert {ask_from_host("tcp", ip, talk) for ip in others} <= {"ECONNREFUSED"}
    world.kubectl("delete", "service", "-n", NS, "nodeport")
    wait_for(lambda: ask_from_host("http", HOST, web) == "ECONNREFUSED")
    assert inside(world, "one", ("http", NODE_2, web)) == ["ECONNREFUSED"]


def _own_addresses() -> list[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # connect(2) on UDP sends nothing.
        except OSError:
            return []
        return [sock.getsockname()[0]]


def test_a_port_that_another_program_uses_is_reported_and_retried(world: Cluster) -> None:
    (port,) = free_node_ports(1)
    with socket.create_server((HOST, port)):
        apply(world, NS, service("taken", {**HTTP, "nodePort": port}, selector=WEB, type="NodePort"))
        (message,) = wait_for(lambda: messages(world, NS, "taken", "PortNotAvailable"))
        assert f"{HOST}:{port} (TCP) is not served: another program on this machine has this port" in message
        assert inside(world, "one", ("http", NODE_1, port), ("http", "taken", 80))[0].startswith("200 ")
    eventually({"200 one", "200 two"}, "http", HOST, port)
    assert wait_for(lambda: messages(world, NS, "taken", "PortAvailable")) == [f"{HOST}:{port} (TCP) is served now"]
    world.kubectl("delete", "service", "-n", NS, "taken")


def balancer_ip(world: Cluster, name: str) -> str:
    def find() -> str:
        ingress = get(world, NS, name)["status"]["loadBalancer"].get("ingress") or [{}]
        return str(ingress[0].get("ip") or "")

    return str(wait_for(find))


def test_load_balancers_have_an_address_of_their_own(world: Cluster) -> None:
    apply(
        world,
        NS,
        service("lb", {**HTTP, "port": 8001}, selector=WEB, type="LoadBalancer"),
        service("lb2", {**HTTP, "port": 8001}, selector={"only": "two"}, type="LoadBalancer"),
    )
    first, second = balancer_ip(world, "lb"), balancer_ip(world, "lb2")
    assert first != second
    assert get(world, NS, "lb")["status"]["loadBalancer"]["ingress"] == [{"ip": first, "ipMode": "Proxy"}]
    eventually({"200 one", "200 two"}, "http", first, 8001)
    eventually({"200 two"}, "http", second, 8001)
    assert FINALIZER in get(world, NS, "lb")["metadata"]["finalizers"]
    # The node port of the Service works, too.
    port = get(world, NS, "lb")["spec"]["ports"][0]["nodePort"]
    assert inside(world, "one", ("http", NODE_1, port))[0].startswith("200 ")
    # After a change of the type, the address is released, and the Service still works.
    world.kubectl("patch", "service", "-n", NS, "lb", "-p", '{"spec": {"type": "ClusterIP"}}')
    wait_for(lambda: get(world, NS, "lb")["status"]["loadBalancer"] == {})
    wait_for(lambda: FINALIZER not in get(world, NS, "lb")["metadata"].get("finalizers", []))
    wait_for(lambda: ask_from_host("http", first, 8001) == "ECONNREFUSED")
    assert inside(world, "one", ("http", "lb", 8001))[0].startswith("200 ")
    wait_for(lambda: messages(world, NS, "lb", "DeletedLoadBalancer"))
    world.kubectl("delete", "service", "-n", NS, "lb", "lb2", "--timeout=20s")
    wait_for(lambda: ask_from_host("http", second, 8001) == "ECONNREFUSED")


def test_load_balancers_settings(world: Cluster) -> None:
    wanted, outside = "127.16.255.7", "192.0.2.5"
    port = {**HTTP, "port": 8002}
    options = {"selector": WEB, "type": "LoadBalancer"}
    apply(
        world,
        NS,
        service("chosen", port, loadBalancerIP=wanted, allocateLoadBalancerNodePorts=False, **options),
        service("elsewhere", port, loadBalancerIP=outside, **options),
        service("foreign", port, loadBalancerClass="example.com/other", **options),
        service("closed", port, loadBalancerSourceRanges=["10.0.0.0/8"], **options),
        service("ranged", port, loadBalancerSourceRanges=["127.0.0.0/8"], **options),
    )
    assert balancer_ip(world, "chosen") == wanted
    assert "nodePort" not in get(world, NS, "chosen")["spec"]["ports"][0]
    eventually({"200 one", "200 two"}, "http", wanted, 8002)
    (message,) = wait_for(lambda: messages(world, NS, "elsewhere", "SyncLoadBalancerFailed"))
    assert f"loadBalancerIP {outside} is not in 127.16.0.0/16" in message
    eventually({"200 one", "200 two"}, "http", balancer_ip(world, "ranged"), 8002)
    wait_for(lambda: ask_from_host("http", balancer_ip(world, "closed"), 8002) == "ECONNRESET")
    # Source ranges apply only to the load balancer.
    node_port = get(world, NS, "closed")["spec"]["ports"][0]["nodePort"]
    assert ask_from_host("http", HOST, node_port).startswith("200 ")
    # A Service that waits for an address gets it when another Service releases it.
    apply(world, NS, service("waits", port, loadBalancerIP=wanted, **options))
    (message,) = wait_for(lambda: messages(world, NS, "waits", "SyncLoadBalancerFailed"))
    assert f"loadBalancerIP {wanted} belongs to {NS}/chosen" in message
    world.kubectl("delete", "service", "-n", NS, "chosen")
    assert balancer_ip(world, "waits") == wanted
    foreign = get(world, NS, "foreign")
    assert foreign["status"]["loadBalancer"] == {}
    assert "finalizers" not in foreign["metadata"]
    names = ("elsewhere", "foreign", "closed", "ranged", "waits")
    world.kubectl("delete", "service", "-n", NS, *names, "--timeout=20s")


def test_session_affinity(world: Cluster) -> None:
    (node_port,) = free_node_ports(1)
    port = {**HTTP, "nodePort": node_port}
    apply(world, NS, service("sticky", port, selector=WEB, type="NodePort", sessionAffinity="ClientIP"))
    wait_for(lambda: ask_from_host("http", HOST, node_port).startswith("200 "))
    assert len({ask_from_host("http", HOST, node_port) for _ in range(20)}) == 1
    # Node ports and the cluster address of a port share their session affinity.
    asked = [("http", "sticky", 80), ("http", NODE_1, node_port), ("http", NODE_2, node_port)]
    assert len(set(inside(world, "one", *(asked * 5)))) == 1
    world.kubectl("delete", "service", "-n", NS, "sticky")


def test_traffic_policies_local(world: Cluster) -> None:
    (node_port,) = free_node_ports(1)
    local = {"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}
    apply(
        world,
        NS,
        service("local", {**HTTP, "nodePort": node_port}, selector={"only": "two"}, type="LoadBalancer", **local),
    )
    eventually({"200 two"}, "http", HOST, node_port)
    check = get(world, NS, "local")["spec"]["healthCheckNodePort"]
    asked: list[Question] = [
        ("http", "local", 80),
        ("http", CONTROL_PLANE, node_port),
        ("http", NODE_1, node_port),
        ("http", NODE_2, node_port),
    ]
    # On the pod's own node, the node port leads to all endpoints; on other nodes, only to those on that node.
    assert inside(world, "one", *asked) == ["ECONNRESET", "ECONNRESET", "200 two", "200 two"]
    assert inside(world, "two", *asked) == ["200 two", "ECONNRESET", "ECONNRESET", "200 two"]
    script = (
        "import sys, urllib.request as u, urllib.error as e\n"
        "for url in sys.argv[1:]:\n"
        "    try: found = u.urlopen(url)\n"
        "    except e.HTTPError as error: found = error\n"
        "    print(found.status, found.headers['X-Load-Balancing-Endpoint-Weight'], found.read().decode())"
    )
    urls = [f"http://{ip}:{check}/healthz" for ip in (NODE_1, NODE_2)]
    answers = world.kubectl("exec", "-n", NS, "one", "--", "python3", "-c", script, *urls).splitlines()
    assert [line.split()[:2] for line in answers] == [["503", "0"], ["200", "1"]]
    assert json.loads(answers[1].split(" ", 2)[2]) == {
        "service": {"namespace": NS, "name": "local"},
        "localEndpoints": 1,
        "serviceProxyHealthy": True,
    }
    world.kubectl("delete", "service", "-n", NS, "local", "--timeout=20s")


def test_pods_that_are_not_ready_with_publish_not_ready_addresses(world: Cluster) -> None:
    never = {"exec": {"command": ["false"]}, "periodSeconds": 1}
    port = {"port": 80, "targetPort": "web"}
    apply(
        world,
        NS,
        echo_pod("unready", "node-1", {"app": "unready"}, readinessProbe=never),
        service("hides", port, selector={"app": "unready"}),
        service("publishes", port, selector={"app": "unready"}, publishNotReadyAddresses=True),
    )
    wait_for(lambda: inside(world, "one", ("http", "publishes", 80)) == ["200 unready"])
    assert inside(world, "one", ("http", "hides", 80)) == ["ECONNREFUSED"]
    world.kubectl("delete", "-n", NS, "pod/unready", "service/hides", "service/publishes", "--now")


def test_external_addresses_work_inside_the_cluster(world: Cluster) -> None:
    port = {"port": 8003, "targetPort": "web"}
    apply(
        world,
        NS,
        service("external", port, selector=WEB, externalIPs=["192.0.2.77"]),
        service("thief", port, selector=WEB, externalIPs=["10.244.1.99"]),
    )
    wait_for(lambda: inside(world, "one", ("http", "192.0.2.77", 8003))[0].startswith("200 "))
    # No Service may take the address of a pod.
    (message,) = wait_for(lambda: messages(world, NS, "thief", "PortNotAvailable"))
    assert "10.244.1.99:8003 (TCP) is not served: the address belongs to the cluster's own network" in message
    world.kubectl("delete", "service", "-n", NS, "external", "thief")
    wait_for(lambda: not inside(world, "one", ("http", "192.0.2.77", 8003))[0].startswith("200 "))


def test_host_ports_of_pods(world: Cluster) -> None:
    asked: list[Question] = [("http", NODE_1, 18080), ("udp", NODE_2, 18053), ("http", NODE_2, 18080)]
    for pod in ("one", "two"):
        assert inside(world, pod, *asked) == ["200 one", "two", "ECONNREFUSED"]
    # These ports belong to the nodes, not to this machine.
    assert ask_from_host("http", HOST, 18080) == "ECONNREFUSED"


def test_host_ports_on_the_loopback_interface_of_a_node(world: Cluster) -> None:
    only_there = {"containerPort": 8080, "hostPort": 18081, "hostIP": "127.0.0.1"}
    in_node = echo_pod("in-node", "node-1", {}, ports=[], readinessProbe=None)
    in_node["spec"]["hostNetwork"] = True
    apply(world, NS, echo_pod("three", "node-1", {}, ports=[*_ports(), only_there]), in_node)
    world.kubectl("wait", "-n", NS, "--for=condition=Ready", "pod/three", "pod/in-node", "--timeout=60s")
    asked: list[Question] = [("http", HOST, 18080), ("http", HOST, 18081), ("http", NODE_1, 18081)]
    wait_for(lambda: inside(world, "in-node", *asked) == ["200 one", "200 three", "ECONNREFUSED"])
    assert inside(world, "one", *asked) == ["ECONNREFUSED"] * 3
    world.kubectl("delete", "pod", "-n", NS, "three", "in-node", "--now")


def test_headless_services_external_names_and_services_without_a_selector(world: Cluster) -> None:
    address = json.loads(world.kubectl("get", "pod", "-n", NS, "two", "-o", "json"))["status"]["podIP"]
    by_hand = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "by-hand-1", "labels": {"kubernetes.io/service-name": "by-hand"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}],
        "endpoints": [{"addresses": [address]}],
    }
    apply(
        world,
        NS,
        service("headless", {"port": 8080}, selector=WEB, clusterIP="None"),
        service("by-hand", {"port": 80}, selector=None),
        by_hand,
        service("alias", selector=None, type="ExternalName", externalName=f"by-hand.{NS}.svc.cluster.local"),
    )
    wait_for(lambda: inside(world, "one", ("http", "by-hand", 80)) == ["200 two"])
    wait_for(lambda: inside(world, "one", ("http", "alias", 80)) == ["200 two"])
    script = "import socket; print(sorted(i[4][0] for i in socket.getaddrinfo('headless', 8080, 2, 1)))"
    found = wait_for(
        lambda: (
            (out := world.kubectl("exec", "-n", NS, "one", "--", "python3", "-c", script, check=False)).startswith("[")
            and out
        )
    )
    assert address in found
    assert found.count("10.244.") == 2
    world.kubectl("delete", "service", "-n", NS, "headless", "by-hand", "alias")


def test_connections_outlive_their_service_and_its_endpoint(world: Cluster) -> None:
    (port,) = free_node_ports(1)
    talk = {"port": 90, "targetPort": "talk", "nodePort": port}
    apply(world, NS, service("kept", talk, selector={"only": "one"}, type="NodePort"))
    eventually({"one"}, "tcp", HOST, port)
    with socket.create_connection((HOST, port), timeout=10) as sock, sock.makefile("rwb", 0) as stream:
        assert stream.readline() == b"one\n"
        world.kubectl("patch", "service", "-n", NS, "kept", "-p", '{"spec": {"selector": {"only": "two"}}}')
        eventually({"two"}, "tcp", HOST, port)
        stream.write(b"still here\n")
        assert stream.readline() == b"still here\n"
        world.kubectl("delete", "service", "-n", NS, "kept")
        wait_for(lambda: ask_from_host("tcp", HOST, port) == "ECONNREFUSED")
        stream.write(b"even now\n")
        assert stream.readline() == b"even now\n"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
