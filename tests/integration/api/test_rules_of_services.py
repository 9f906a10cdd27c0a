"""Valid Services and valid changes of them (in addition to the recordings in `whole.jsonl`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.api.test_rules_of_pods import warnings
from tests.integration.api.world import Reply, World, world

SERVICES = "/api/v1/namespaces/default/services"
MERGE = {"Content-Type": "application/merge-patch+json"}
PORTS = [{"port": 80}]


@pytest.fixture
async def made() -> AsyncIterator[World]:
    async with world() as one:
        yield one


async def create(made: World, name: str = "s", **spec: Any) -> Reply:
    return await made.send("POST", SERVICES, {"metadata": {"name": name}, "spec": {"ports": PORTS, **spec}})


async def change(made: World, spec: dict[str, Any], name: str = "s") -> Reply:
    return await made.send("PATCH", f"{SERVICES}/{name}", {"spec": spec}, MERGE)


@pytest.mark.parametrize(
    ("spec", "policy", "families"),
    [
        ({"clusterIP": "None"}, "RequireDualStack", ["IPv4", "IPv6"]),
        ({"clusterIP": "None", "selector": {"a": "b"}}, "SingleStack", ["IPv4"]),
        ({"clusterIP": "None", "ipFamilyPolicy": "SingleStack"}, "SingleStack", ["IPv4"]),
        ({"clusterIP": "None", "ipFamilies": ["IPv6"]}, "RequireDualStack", ["IPv6", "IPv4"]),
        ({"clusterIP": "None", "ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}, "SingleStack", ["IPv6"]),
        ({"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"}, "PreferDualStack", ["IPv4", "IPv6"]),
        ({"ipFamilyPolicy": "PreferDualStack"}, "PreferDualStack", ["IPv4"]),
        ({}, "SingleStack", ["IPv4"]),
    ],
)
async def test_families(made: World, spec: dict[str, Any], policy: str, families: list[str]) -> None:
    reply = await create(made, **spec)
    assert reply.status == 201, reply.json
    found = reply.json["spec"]
    assert (found["ipFamilyPolicy"], found["ipFamilies"]) == (policy, families)
    again = await made.send("PUT", f"{SERVICES}/s", {**reply.json, "metadata": {"name": "s", "labels": {"x": "y"}}})
    assert again.json["spec"] == found


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"ipFamilyPolicy": "RequireDualStack"},
            'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services',
        ),
        (
            {"ipFamilies": ["IPv4", "IPv6"]},
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple "
            "IP families are specified",
        ),
        (
            {"clusterIP": "fd00::1"},
            'spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster',
        ),
        (
            {"clusterIP": "192.0.2.1"},
            'spec.clusterIPs: Invalid value: ["192.0.2.1"]: failed to allocate IP 192.0.2.1: the provided network does not match '
            "the current range",
        ),
        # Errors of the allocation are reported before errors of the validation.
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80, "name": "Bad"}]},
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is "
            "30000-32767",
        ),
        (
            {"loadBalancerClass": "example.com/x"},
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            {"loadBalancerSourceRanges": ["10.0.0.0/8"]},
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/33"]},
            'spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.0/33": must be a valid CIDR value, (e.g. 10.9.8.0/24 or '
            "2001:db8::/64)",
        ),
        (
            {"healthCheckNodePort": 30000},
            "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and "
            "`externalTrafficPolicy` is 'Local'",
        ),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}},
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400",
        ),
    ],
)
async def test_services_that_are_refused(made: World, spec: dict[str, Any], message: str) -> None:
    reply = await create(made, **spec)
    assert (reply.status, reply.json["message"]) == (422, f'Service "s" is invalid: {message}')


async def test_a_health_check_port_is_allocated_and_released(made: World) -> None:
    reply = await create(made, type="LoadBalancer", externalTrafficPolicy="Local")
    number = reply.json["spec"]["healthCheckNodePort"]
    assert number in range(30000, 32768)
    assert number != reply.json["spec"]["ports"][0]["nodePort"]
    refused = await change(made, {"healthCheckNodePort": 30001})
    assert refused.json["message"].endswith("spec.healthCheckNodePort: Forbidden: field is immutable")
    taken = await create(made, "t", type="NodePort", ports=[{"port": 80, "nodePort": number}])
    assert "provided port is already allocated" in taken.json["message"]
    plain = (await change(made, {"type": "ClusterIP"})).json["spec"]
    assert not {"healthCheckNodePort", "externalTrafficPolicy", "allocateLoadBalancerNodePorts"} & set(plain)
    assert "nodePort" not in plain["ports"][0]


async def test_one_number_for_two_protocols(made: World) -> None:
    ports = [{"name": "a", "port": 53, "protocol": "TCP"}, {"name": "b", "port": 53, "protocol": "UDP"}]
    found = (await create(made, type="NodePort", ports=ports)).json["spec"]["ports"]
    assert found[0]["nodePort"] == found[1]["nodePort"]


async def test_warnings_of_services(made: World) -> None:
    reply = await create(
        made, clusterIP="None", sessionAffinity="ClientIP", externalName="x", trafficDistribution="PreferClose"
    )
    assert warnings(reply) == [
        "spec.SessionAffinity is ignored for headless services",
        'spec.externalName is ignored when spec.type is not "ExternalName"',
        'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"',
    ]


# The addresses and ports that a change keeps or releases (pkg/registry/core/service/storage/{storage,alloc}.go)


async def put(made: World, name: str = "s", **spec: Any) -> dict[str, Any]:
    """Replace a Service's spec, as `kubectl replace` does; return the new spec."""
    reply = await made.send("PUT", f"{SERVICES}/{name}", {"metadata": {"name": name}, "spec": spec})
    assert reply.status == 200, reply.json
    found: dict[str, Any] = reply.json["spec"]
    return found


async def is_free(made: World, number: int) -> bool:
    """Return True if a new Service can get this node port. The Service that tries it is deleted at once."""
    reply = await create(made, "probe", type="NodePort", ports=[{"port": 80, "nodePort": number}])
    if reply.status == 201:
        await made.send("DELETE", f"{SERVICES}/probe")
    return reply.status == 201


async def test_removed_node_ports_of_a_load_balancer_are_released(made: World) -> None:
    first = (await create(made, type="LoadBalancer")).json["spec"]["ports"][0]["nodePort"]
    # Ports that were allocated are kept when allocation is switched off.
    kept = await change(made, {"allocateLoadBalancerNodePorts": False})
    assert kept.json["spec"]["ports"][0]["nodePort"] == first
    found = await put(made, type="LoadBalancer", allocateLoadBalancerNodePorts=False, ports=PORTS)
    assert "nodePort" not in found["ports"][0]
    assert await is_free(made, first)
    # A requested port is used, and released in the same way.
    asked = [{"port": 80, "nodePort": first}]
    assert (await change(made, {"ports": asked})).json["spec"]["ports"][0]["nodePort"] == first
    assert not await is_free(made, first)
    patch = [{"op": "remove", "path": "/spec/ports/0/nodePort"}]
    json_patch = {"Content-Type": "application/json-patch+json"}
    reply = await made.send("PATCH", f"{SERVICES}/s", patch, json_patch)
    assert "nodePort" not in reply.json["spec"]["ports"][0]
    assert await is_free(made, first)
    # Allocation is switched on again: a port without a node port gets one.
    again = await change(made, {"allocateLoadBalancerNodePorts": True})
    assert again.json["spec"]["ports"][0]["nodePort"]


async def test_a_port_keeps_its_node_port_by_its_name(made: World) -> None:
    ports = [{"name": "web", "port": 80}, {"name": "admin", "port": 81}]
    before = {
        port["name"]: port["nodePort"]
        for port in (await create(made, type="NodePort", ports=ports)).json["spec"]["ports"]
    }
    changed = [{"name": "web", "port": 8080}, {"name": "other", "port": 81}]
    after = {port["name"]: port["nodePort"] for port in (await put(made, type="NodePort", ports=changed))["ports"]}
    assert after["web"] == before["web"]
    assert after["other"] not in before.values()
    assert await is_free(made, before["admin"])
    # If another port of the Service takes over a number, the former port loses it.
    swapped = [{"name": "web", "port": 80}, {"name": "other", "port": 81, "nodePort": before["web"]}]
    found = {port["name"]: port["nodePort"] for port in (await put(made, type="NodePort", ports=swapped))["ports"]}
    assert found["other"] == before["web"]
    assert found["web"] not in (before["web"], after["other"])
    # Node ports stay the same from NodePort to LoadBalancer and back.
    kinds = [await put(made, type=kind, ports=changed) for kind in ("NodePort", "LoadBalancer", "NodePort")]
    assert len({tuple(port["nodePort"] for port in spec["ports"]) for spec in kinds}) == 1


@pytest.mark.parametrize("kind", ["ClusterIP", "ExternalName"])
async def test_node_ports_are_released_when_the_type_has_none(made: World, kind: str) -> None:
    made_spec = (await create(made, type="LoadBalancer", externalTrafficPolicy="Local")).json["spec"]
    number, health = made_spec["ports"][0]["nodePort"], made_spec["healthCheckNodePort"]
    more = {"externalName": "db.example"} if kind == "ExternalName" else {}
    # The same change adds a port.
    ports = [{**made_spec["ports"][0], "name": "a"}, {"name": "b", "port": 81}]
    after = (await change(made, {"type": kind, "ports": ports, **more})).json["spec"]
    assert not [port for port in after["ports"] if "nodePort" in port]
    gone = {"healthCheckNodePort", "allocateLoadBalancerNodePorts", "externalTrafficPolicy"}
    assert not gone & set(after)
    assert await is_free(made, number) and await is_free(made, health)
    address = made_spec["clusterIP"]
    if kind == "ClusterIP":
        assert after["clusterIP"] == address
        refused = await create(made, "t", clusterIP=address)
        assert "provided IP is already allocated" in refused.json["message"]
        return
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & set(after)
    assert (await create(made, "t", clusterIP=address)).status == 201
    # Back to ClusterIP: a new address, because another Service has the old one now.
    back = (await change(made, {"type": "ClusterIP", "externalName": None})).json["spec"]
    assert back["clusterIP"] not in ("", "None", address)
    assert back["clusterIPs"] == [back["clusterIP"]]
    assert (back["ipFamilies"], back["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")


async def test_a_new_node_port_is_refused_when_the_type_has_none(made: World) -> None:
    await create(made, type="NodePort", ports=[{"port": 80, "nodePort": 30100}])
    refused = await change(made, {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": 30101}]})
    assert refused.status == 422
    assert "may not be used when `type` is 'ClusterIP'" in refused.json["message"]


async def test_a_number_belongs_to_one_service_whatever_the_protocol(made: World) -> None:
    await create(made, type="NodePort", ports=[{"port": 53, "nodePort": 30053, "protocol": "UDP"}])
    refused = await create(made, "t", type="NodePort", ports=[{"port": 53, "nodePort": 30053, "protocol": "TCP"}])
    assert "provided port is already allocated" in refused.json["message"]
    # One Service may use a number for both protocols.
    both = [
        {"name": protocol.lower(), "port": 53, "nodePort": 30053, "protocol": protocol} for protocol in ("UDP", "TCP")
    ]
    assert (await change(made, {"ports": both})).status == 200


async def test_each_port_of_a_service_that_becomes_external_gets_another_number(made: World) -> None:
    ports = [{"name": protocol.lower(), "port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    await create(made, ports=ports)
    found = (await change(made, {"type": "NodePort"})).json["spec"]["ports"]
    # The ports share a number only if the Service is new.
    assert found[0]["nodePort"] != found[1]["nodePort"]


async def test_a_health_check_port_is_not_a_node_port_of_a_port(made: World) -> None:
    health = (await create(made, type="LoadBalancer", externalTrafficPolicy="Local")).json["spec"][
        "healthCheckNodePort"
    ]
    refused = await change(made, {"ports": [{"port": 80, "nodePort": health}]})
    assert "provided port is already allocated" in refused.json["message"]
    number = 30200
    refused = await create(
        made,
        "t",
        type="LoadBalancer",
        externalTrafficPolicy="Local",
        healthCheckNodePort=number,
        ports=[{"port": 80, "nodePort": number}],
    )
    assert f"failed to allocate requested HealthCheck NodePort {number}" in refused.json["message"]


async def test_a_headless_service_stays_headless(made: World) -> None:
    await create(made, clusterIP="None", selector={"a": "b"})
    assert (await put(made, ports=PORTS, selector={"a": "b"}))["clusterIP"] == "None"
    refused = await change(made, {"type": "NodePort"})
    assert "may not be set to 'None' for NodePort services" in refused.json["message"]
    refused = await change(made, {"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"]})
    assert "may not change once set" in refused.json["message"]
    named = (await change(made, {"type": "ExternalName", "externalName": "db.example"})).json["spec"]
    assert "clusterIP" not in named
