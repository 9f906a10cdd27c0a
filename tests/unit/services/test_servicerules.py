"""The frontends of Services, and the endpoints behind them."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from hatchway.cluster.services.endpointpools import ServiceEndpoint
from hatchway.cluster.services.nodeplaces import NodePlace, NodePlaces
from hatchway.cluster.services.ruletable import RuleTable
from hatchway.cluster.services.servicerules import Frontend, RuleMaker, ServiceRule, Size

IP = "10.96.3.4"


def table_of(node_ips: Sequence[str] = (), host_ips: Sequence[str] = (), **options: Any) -> RuleTable:
    places = [
        NodePlace(f"node-{number}", ip, ipaddress.IPv4Network(f"10.244.{number}.0/24"))
        for number, ip in enumerate(node_ips)
    ]
    return RuleTable(RuleMaker(NodePlaces(places), host_ips), **options)


def take_all(table: RuleTable) -> dict[Frontend, ServiceRule | None]:
    found: dict[Frontend, ServiceRule | None] = {}
    while table.has_changes:
        found |= table.take_changes()
    return found


def rules(
    services: Iterable[dict[str, Any]],
    slices: Iterable[dict[str, Any]],
    node_ips: Sequence[str] = (),
    host_ips: Sequence[str] = (),
) -> dict[Frontend, ServiceRule]:
    table = table_of(node_ips, host_ips)
    for found in services:
        table.service_changed("ADDED", found)
    for found in slices:
        table.slice_changed("ADDED", found)
    return {frontend: rule for frontend, rule in take_all(table).items() if rule is not None}


def service(*ports: dict[str, Any], name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": {"clusterIP": IP, "ports": list(ports), **spec}}


def endpoints(
    *found: dict[str, Any], ports: tuple[dict[str, Any], ...] = ({"port": 8080},), name: str = "web"
) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{name}-x", "namespace": "ns", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": list(ports),
        "endpoints": list(found),
    }


def at(ip: str, **conditions: Any) -> dict[str, Any]:
    return {"addresses": [ip], "conditions": conditions}


def test_a_port_leads_to_its_endpoints() -> None:
    found = rules([service({"port": 80})], [endpoints(at("10.244.1.2"), at("10.244.1.3"))], ["172.18.0.2"])
    expected = (ServiceEndpoint("10.244.1.2", 8080), ServiceEndpoint("10.244.1.3", 8080))
    assert list(found) == [Frontend("TCP", IP, 80)]
    rule = found[Frontend("TCP", IP, 80)]
    assert (rule.service, rule.key, rule.endpoints.all()) == ("ns/web:80", ("ns", "web"), expected)


def test_ports_are_matched_by_name_and_protocol() -> None:
    ports = ({"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53})
    targets = ({"name": "dns", "port": 1053, "protocol": "UDP"}, {"name": "dns-tcp", "port": 2053, "protocol": "TCP"})
    found = rules([service(*ports)], [endpoints(at("10.244.1.2"), ports=targets)], [])
    assert {frontend: rule.endpoints.all() for frontend, rule in found.items()} == {
        Frontend("UDP", IP, 53): (ServiceEndpoint("10.244.1.2", 1053),),
        Frontend("TCP", IP, 53): (ServiceEndpoint("10.244.1.2", 2053),),
    }


@pytest.mark.parametrize(
    ("conditions", "served"),
    [
        ({}, True),
        ({"ready": True}, True),
        ({"ready": None}, True),
        ({"ready": False}, False),
        ({"ready": False, "serving": True, "terminating": True}, True),
        ({"ready": False, "serving": False, "terminating": True}, False),
        ({"ready": False, "serving": True}, False),
    ],
)
def test_conditions(conditions: dict[str, Any], served: bool) -> None:
    found = rules([service({"port": 80})], [endpoints(at("10.244.1.2", **conditions))], [])
    assert bool(found) is served


def test_terminating_endpoints_are_used_only_when_none_is_ready() -> None:
    ending = at("10.244.1.2", ready=False, serving=True, terminating=True)
    found = rules([service({"port": 80})], [endpoints(ending, at("10.244.1.3"))], [])
    assert found[Frontend("TCP", IP, 80)].endpoints.all() == (ServiceEndpoint("10.244.1.3", 8080),)


def test_slices_are_joined_and_duplicates_count_once() -> None:
    found = rules([service({"port": 80})], [endpoints(at("10.244.1.2")), endpoints(at("10.244.1.2"))], [])
    assert found[Frontend("TCP", IP, 80)].endpoints.all() == (ServiceEndpoint("10.244.1.2", 8080),)


def test_node_ports() -> None:
    port = {"port": 80, "nodePort": 30080}
    nodes = ["172.18.0.2", "172.18.0.3"]
    slices = [endpoints(at("10.244.1.2"))]
    assert set(rules([service(port, type="NodePort")], slices, nodes)) == {
        Frontend("TCP", IP, 80),
        *(Frontend("TCP", ip, 30080) for ip in nodes),
    }
    assert set(rules([service(port, type="ClusterIP")], slices, nodes)) == {Frontend("TCP", IP, 80)}


@pytest.mark.parametrize(
    "spec", [{"clusterIP": "None"}, {"clusterIP": ""}, {"type": "ExternalName"}, {"clusterIP": "fd00::1"}]
)
def test_services_without_an_address(spec: dict[str, Any]) -> None:
    assert rules([service({"port": 80}, **spec)], [endpoints(at("10.244.1.2"))], []) == {}


def test_other_slices_and_protocols_are_ignored() -> None:
    foreign = endpoints(at("10.244.1.2"), name="other")
    ipv6 = {**endpoints(at("fd00::2")), "addressType": "IPv6"}
    names = {**endpoints(at("example.com")), "addressType": "FQDN"}
    unlabelled = {**endpoints(at("10.244.1.2")), "metadata": {"name": "web", "namespace": "ns"}}
    portless = endpoints(at("10.244.1.2"), ports=({"port": None},))
    sctp = service({"port": 81, "protocol": "SCTP"})
    slices = [foreign, ipv6, names, unlabelled, portless, endpoints(ports=({"port": 1, "protocol": "SCTP"},))]
    assert rules([service({"port": 80}), sctp], slices, []) == {}


def test_the_older_service_keeps_a_frontend() -> None:
    older, newer = service({"port": 80}, name="b"), service({"port": 80}, name="a")
    older["metadata"]["creationTimestamp"] = "2024-01-01T00:00:00Z"
    newer["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    slices = [endpoints(at("10.244.1.2"), name="a"), endpoints(at("10.244.1.3"), name="b")]
    assert rules([newer, older], slices, [])[Frontend("TCP", IP, 80)].service == "ns/b:80"


def test_an_external_address_never_replaces_a_frontend_of_another_service() -> None:
    thief = service({"port": 80}, name="thief", clusterIP="10.96.9.9", externalIPs=[IP, NODES[0]])
    thief["spec"]["ports"].append({"port": 30080, "name": "b"})
    thief["metadata"]["creationTimestamp"] = "2024-01-01T00:00:00Z"
    owner = service({"port": 80, "nodePort": 30080}, type="NodePort")
    owner["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    ports = ({"port": 1}, {"port": 1, "name": "b"})
    slices = [endpoints(at("10.244.1.2")), endpoints(at("10.244.1.3"), name="thief", ports=ports)]
    found = rules([thief, owner], slices, NODES)
    assert {found[frontend].service for frontend in (Frontend("TCP", IP, 80), Frontend("TCP", NODES[0], 30080))} == {
        "ns/web:80"
    }
    assert found[Frontend("TCP", NODES[0], 80)].service == "ns/thief:80"


def test_session_affinity() -> None:
    slices = [endpoints(at("10.244.1.2"))]
    frontend = Frontend("TCP", IP, 80)
    assert rules([service({"port": 80}, sessionAffinity="ClientIP")], slices, [])[frontend].affinity == 10800
    spec = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}
    assert rules([service({"port": 80}, **spec)], slices, [])[frontend].affinity == 5


def test_the_rules_after_changes_equal_those_of_a_new_table() -> None:
    table, order = table_of(), random.Random(1)
    services: dict[str, dict[str, Any]] = {}
    slices: dict[str, dict[str, Any]] = {}
    known: dict[Frontend, ServiceRule] = {}
    for _ in range(2000):
        name = order.choice("abc")
        kept, changed = order.choice([(services, table.service_changed), (slices, table.slice_changed)])
        before = kept.get(name)
        if before is not None and order.random() < 0.4:
            del kept[name]
            changed("DELETED", before)
        else:
            made = (
                service({"port": order.choice([80, 81])}, name=name, clusterIP=order.choice([IP, "10.96.3.5"]))
                if kept is services
                else {**endpoints(at(f"10.244.1.{order.randrange(2, 5)}"), name=order.choice("abc"))}
            )
            if kept is slices:
                made["metadata"] = {**made["metadata"], "name": name}
            kept[name] = made
            changed("MODIFIED" if before else "ADDED", made)
        if order.random() < 0.5:
            for frontend, rule in take_all(table).items():
                if rule is None:
                    known.pop(frontend, None)
                else:
                    known[frontend] = rule
            assert known == rules(services.values(), slices.values(), [])


def test_a_change_affects_only_its_own_service() -> None:
    table = table_of()
    for number in range(300):
        name = f"s{number}"
        table.service_changed("ADDED", service({"port": number + 1}, name=name))
        table.slice_changed("ADDED", endpoints(at("10.244.1.2"), name=name))
    assert len(take_all(table)) == 300
    table.slice_changed("MODIFIED", endpoints(at("10.244.1.3"), name="s7"))
    assert list(take_all(table)) == [Frontend("TCP", IP, 8)]
    table.service_changed("DELETED", service({"port": 8}, name="s7"))
    assert take_all(table) == {Frontend("TCP", IP, 8): None}
    assert take_all(table) == {}


def _many(name: str, count: int, namespace: str = "ns") -> list[dict[str, Any]]:
    """Return a service with many ports, and its slice."""
    ports = [{"name": f"p{number}", "port": number + 1} for number in range(count)]
    found = [service(*ports, name=name), endpoints(at("10.244.1.2"), at("10.244.1.3"), name=name, ports=tuple(ports))]
    for one in found:
        one["metadata"] = {**one["metadata"], "namespace": namespace}
    return found


def test_the_ports_of_a_namespace_are_limited_and_added_when_others_are_removed() -> None:
    cut: list[tuple[tuple[str, str], int]] = []
    table = table_of(most=Size(100, 10_000), on_cut=lambda key, count: cut.append((key, count)))
    for number, (name, count, namespace) in enumerate(
        (("first", 90, "ns"), ("second", 60, "ns"), ("other", 70, "else"))
    ):
        found, piece = _many(name, count, namespace)
        found["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:0{number}Z"
        found["spec"]["clusterIP"] = f"10.96.0.{number}"
        table.service_changed("ADDED", found)
        table.slice_changed("ADDED", piece)
    served = [frontend.ip for frontend, rule in take_all(table).items() if rule is not None]
    assert (served.count("10.96.0.0"), served.count("10.96.0.1"), served.count("10.96.0.2")) == (90, 10, 70)
    assert cut == [(("ns", "second"), 50)]
    table.service_changed("DELETED", _many("first", 90)[0])
    changes = take_all(table)
    assert sum(rule is None for rule in changes.values()) == 90
    assert sum(rule is not None for rule in changes.values()) == 60
    assert cut[1:] == [(("ns", "second"), 0)]
    table.service_changed("DELETED", _many("second", 60)[0])
    assert len(take_all(table)) == 60
    assert take_all(table) == {}


def test_the_references_of_a_namespaces_ports_are_limited() -> None:
    found, piece = _many("web", 500)
    # The limit of 102 is reached by two addresses, and by one reference to them for each of 100 ports.
    table = table_of(most=Size(1000, 102))
    table.service_changed("ADDED", found)
    table.slice_changed("ADDED", piece)
    assert len(take_all(table)) == 100


def test_many_changes_are_processed_in_several_turns() -> None:
    table = table_of()
    for number in range(100):
        table.service_changed("ADDED", service({"port": number + 1}, name=f"s{number}"))
        table.slice_changed("ADDED", endpoints(at("10.244.1.2"), name=f"s{number}"))
    first = table.take_changes(work=10)
    assert 0 < len(first) < 10
    assert table.has_changes
    assert len(first | take_all(table)) == 100


def test_many_ports_with_many_endpoints_share_their_addresses() -> None:
    ports = [{"name": f"p{number}", "port": number + 1} for number in range(100)]
    pieces = []
    for number in range(20):
        addresses = [at(f"10.244.{number}.{last}") for last in range(100)]
        piece = endpoints(*addresses, ports=tuple(ports))
        piece["metadata"] = {**piece["metadata"], "name": f"web-{number}"}
        pieces.append(piece)
    found = rules([service(*ports)], pieces)
    assert len(found) == 100
    assert {len(rule.endpoints.all()) for rule in found.values()} == {2000}
    assert len({id(ips) for rule in found.values() for _, ips in rule.endpoints.usable()}) == 1


# Services of every type

NODES = ["172.18.0.2", "172.18.0.3"]


def on(node: str, ip: str, **conditions: Any) -> dict[str, Any]:
    return {**at(ip, **conditions), "nodeName": node}


def places(found: dict[Frontend, ServiceRule]) -> dict[tuple[str, int], str]:
    return {(frontend.ip, frontend.port): rule.place for frontend, rule in found.items()}


def test_a_node_port_is_published_on_this_machine() -> None:
    web = service({"port": 80, "nodePort": 30080}, type="NodePort")
    found = rules([web], [endpoints(at("10.244.1.2"))], NODES, ["127.0.0.1", "192.0.2.7"])
    assert places(found) == {
        (IP, 80): "cluster",
        **dict.fromkeys([(ip, 30080) for ip in NODES], "node"),
        **dict.fromkeys([("127.0.0.1", 30080), ("192.0.2.7", 30080)], "host"),
    }


def balancer(**spec: Any) -> dict[str, Any]:
    found = service({"port": 80, **spec.pop("port", {})}, **{"type": "LoadBalancer", **spec})
    found["status"] = {"loadBalancer": {"ingress": [{"ip": "127.16.0.9", "ipMode": "Proxy"}]}}
    return found


def test_a_load_balancer_has_an_address_of_its_own() -> None:
    slices = [endpoints(at("10.244.1.2"))]
    found = rules([balancer()], slices)
    assert places(found) == {(IP, 80): "cluster", ("127.16.0.9", 80): "balancer"}
    assert places(rules([balancer(loadBalancerClass="example.com/other")], slices)) == {(IP, 80): "cluster"}
    assert places(rules([balancer(type="ClusterIP")], slices)) == {(IP, 80): "cluster"}
    foreign = balancer()
    foreign["status"] = {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}, {"hostname": "a.example"}, {"ip": "::1"}]}}
    assert places(rules([foreign], slices)) == {(IP, 80): "cluster"}


def test_source_ranges_apply_to_the_load_balancer_only() -> None:
    slices = [endpoints(at("10.244.1.2"))]
    ranges = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv4Network("10.1.0.0/16"))
    by_spec = balancer(loadBalancerSourceRanges=["127.0.0.0/8", " 10.1.2.3/16 ", "2001:db8::/32"])
    by_annotation = balancer()
    by_annotation["metadata"]["annotations"] = {
        "service.beta.kubernetes.io/load-balancer-source-ranges": "127.0.0.0/8,10.1.0.0/16"
    }
    for found in (by_spec, by_annotation):
        sources = {rule.place: rule.sources for rule in rules([found], slices).values()}
        assert sources == {"cluster": None, "balancer": ranges}


def test_external_addresses() -> None:
    slices = [endpoints(at("10.244.1.2"))]
    found = rules([service({"port": 80}, externalIPs=["192.0.2.1", "2001:db8::1", NODES[0]])], slices, NODES)
    assert places(found) == {(IP, 80): "cluster", ("192.0.2.1", 80): "external", (NODES[0], 80): "external"}
    # The port 10250 of a node belongs to the kubelet, so the Service does not get it.
    found = rules([service({"port": 10250}, externalIPs=["192.0.2.1", NODES[0]])], slices, NODES)
    assert places(found) == {(IP, 10250): "cluster", ("192.0.2.1", 10250): "external"}


def test_local_traffic_policies_give_scopes() -> None:
    port = {"port": 80, "nodePort": 30080}
    slices = [endpoints(on("node-0", "10.244.0.2"))]
    web = service(port, type="NodePort", externalTrafficPolicy="Local", internalTrafficPolicy="Local")
    found = rules([web], slices, NODES, ["127.0.0.1"])
    assert {(frontend.ip, rule.scope) for frontend, rule in found.items()} == {
        (IP, ""),
        ("172.18.0.2", "node-0"),
        ("172.18.0.3", "node-1"),
        # On this machine the proxy acts like a load balancer, which uses all nodes with endpoints.
        ("127.0.0.1", None),
    }
    endpoints_of = found[Frontend("TCP", IP, 80)].endpoints
    assert endpoints_of.all("node-0") == (ServiceEndpoint("10.244.0.2", 8080),)
    assert endpoints_of.all("node-1") == ()


def test_a_node_with_only_terminating_endpoints_uses_them() -> None:
    ending = on("node-0", "10.244.0.2", ready=False, serving=True, terminating=True)
    found = rules([service({"port": 80})], [endpoints(ending, on("node-1", "10.244.1.2"))], NODES)
    usable = found[Frontend("TCP", IP, 80)].endpoints
    assert usable.all() == (ServiceEndpoint("10.244.1.2", 8080),)
    assert usable.all("node-0") == (ServiceEndpoint("10.244.0.2", 8080),)
    assert (usable.ready("node-0"), usable.ready("node-1"), usable.ready()) == (0, 1, 1)


def test_every_node_has_a_health_check_even_without_endpoints() -> None:
    web = balancer(port={"nodePort": 30080}, externalTrafficPolicy="Local", healthCheckNodePort=30999)
    found = rules([web], [], NODES)
    assert places(found) == {(ip, 30999): "health" for ip in NODES}
    found = rules([web], [endpoints(on("node-1", "10.244.1.2"))], NODES)
    counts = {
        frontend.ip: rule.endpoints.ready(rule.scope) for frontend, rule in found.items() if rule.place == "health"
    }
    assert counts == {"172.18.0.2": 0, "172.18.0.3": 1}


ON_NODE = Frontend("TCP", "172.18.0.3", 8080)
ON_LOOPBACK = Frontend("TCP", "127.0.0.1", 8080, "172.18.0.3")


def pod(
    *ports: dict[str, Any], node: str = "node-1", phase: str = "Running", ready: str = "True", **spec: Any
) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"nodeName": node, "containers": [{"ports": list(ports)}], **spec},
        "status": {"phase": phase, "podIP": "10.244.1.7", "conditions": [{"type": "Ready", "status": ready}]},
    }


@pytest.mark.parametrize(
    ("port", "served"),
    [
        ({"containerPort": 80, "hostPort": 8080}, [ON_NODE, ON_LOOPBACK]),
        ({"containerPort": 80, "hostPort": 8080, "hostIP": "0.0.0.0"}, [ON_NODE, ON_LOOPBACK]),
        ({"containerPort": 80, "hostPort": 8080, "hostIP": "172.18.0.3"}, [ON_NODE]),
        ({"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}, [ON_LOOPBACK]),
        ({"containerPort": 80, "hostPort": 8080, "hostIP": "172.18.0.4"}, []),
        ({"containerPort": 80, "hostPort": 8080, "hostIP": "::1"}, []),
        ({"containerPort": 80, "hostPort": 8080, "protocol": "SCTP"}, []),
        ({"containerPort": 80}, []),
        # The port belongs to the kubelet.
        ({"containerPort": 80, "hostPort": 10250}, []),
    ],
)
def test_host_ports_of_pods(port: dict[str, Any], served: list[Frontend]) -> None:
    table = table_of(NODES)
    table.pod_changed("ADDED", pod(port))
    found = take_all(table)
    assert set(found) == set(served)
    for rule in found.values():
        assert rule is not None
        assert rule.endpoints.all() == (ServiceEndpoint("10.244.1.7", 80),)


def test_host_ports_end_with_their_pod() -> None:
    table = table_of(NODES)
    mine = {"containerPort": 80, "hostPort": 8080}
    for last in (pod(mine, phase="Succeeded", ready="False"), pod(mine, hostNetwork=True), pod(mine, ready="False")):
        table.pod_changed("ADDED", pod(mine))
        assert [rule is not None for rule in take_all(table).values()] == [True, True]
        table.pod_changed("MODIFIED", last)
        assert take_all(table) == {ON_NODE: None, ON_LOOPBACK: None}
        table.pod_changed("DELETED", last)
        assert take_all(table) == {}
