"""What Services may be and become (beside the recordings in `objects.jsonl`)."""

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
        # What cannot be allocated is told before what is invalid.
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


async def test_a_health_check_port_comes_and_goes(made: World) -> None:
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
