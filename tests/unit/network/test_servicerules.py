"""Which frontends services get, and who is behind them."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.cluster.network.servicerules import Endpoint, Frontend, Rule, rules

IP = "10.96.3.4"


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
    expected = (Endpoint("10.244.1.2", 8080), Endpoint("10.244.1.3", 8080))
    assert found == {Frontend("TCP", IP, 80): Rule("ns/web:80", expected)}


def test_ports_are_matched_by_name_and_protocol() -> None:
    ports = ({"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53})
    targets = ({"name": "dns", "port": 1053, "protocol": "UDP"}, {"name": "dns-tcp", "port": 2053, "protocol": "TCP"})
    found = rules([service(*ports)], [endpoints(at("10.244.1.2"), ports=targets)], [])
    assert {frontend: rule.endpoints for frontend, rule in found.items()} == {
        Frontend("UDP", IP, 53): (Endpoint("10.244.1.2", 1053),),
        Frontend("TCP", IP, 53): (Endpoint("10.244.1.2", 2053),),
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


def test_terminating_endpoints_only_serve_when_none_is_ready() -> None:
    ending = at("10.244.1.2", ready=False, serving=True, terminating=True)
    found = rules([service({"port": 80})], [endpoints(ending, at("10.244.1.3"))], [])
    assert found[Frontend("TCP", IP, 80)].endpoints == (Endpoint("10.244.1.3", 8080),)


def test_slices_are_joined_and_doubles_count_once() -> None:
    found = rules([service({"port": 80})], [endpoints(at("10.244.1.2")), endpoints(at("10.244.1.2"))], [])
    assert found[Frontend("TCP", IP, 80)].endpoints == (Endpoint("10.244.1.2", 8080),)


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


def test_what_does_not_belong_is_left_out() -> None:
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


def test_session_affinity() -> None:
    slices = [endpoints(at("10.244.1.2"))]
    frontend = Frontend("TCP", IP, 80)
    assert rules([service({"port": 80}, sessionAffinity="ClientIP")], slices, [])[frontend].affinity == 10800
    spec = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}
    assert rules([service({"port": 80}, **spec)], slices, [])[frontend].affinity == 5
