"""Services of type LoadBalancer get addresses, and free them later."""

from __future__ import annotations

import ipaddress
from typing import Any

from hatchway.cluster import plan
from hatchway.cluster.controllers.loadbalancer import FINALIZER, LoadBalancerController
from hatchway.kube.api import Object
from tests.unit.controllers.world import World


def balancer(name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], **spec},
    }


def ingress(world: World) -> dict[str, list[Object]]:
    return {
        service["metadata"]["name"]: ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        for service in world.client.all("services")
    }


def ips(world: World) -> dict[str, str]:
    return {name: found[0]["ip"] for name, found in ingress(world).items() if found}


async def test_each_load_balancer_gets_an_address_of_its_own() -> None:
    world = World(LoadBalancerController)
    async with world.running():
        for number in range(30):
            await world.client.create("services", balancer(f"s{number}"), "default")
        await world.client.create("services", balancer("plain", type="NodePort"), "default")
        await world.client.create("services", balancer("foreign", loadBalancerClass="example.com/x"), "default")
        await world.settle()
        found = ips(world)
        assert set(found) == {f"s{number}" for number in range(30)}
        assert len(set(found.values())) == 30
        assert all(ipaddress.IPv4Address(ip) in plan.BALANCER_CIDR for ip in found.values())
        assert ingress(world)["s0"] == [{"ip": found["s0"], "ipMode": "Proxy"}]
        finalized = [s["metadata"]["name"] for s in world.client.all("services") if s["metadata"].get("finalizers")]
        assert set(finalized) == set(found)
        assert world.recorder.reasons().count("EnsuredLoadBalancer") == 30


async def test_addresses_are_kept_after_a_restart_and_duplicates_are_replaced() -> None:
    world = World(LoadBalancerController)
    status = {"loadBalancer": {"ingress": [{"ip": "127.16.3.4", "ipMode": "Proxy"}]}}
    for name in ("a", "b"):
        await world.client.create("services", {**balancer(name), "status": status}, "default")
    async with world.running():
        await world.settle()
        found = ips(world)
        assert "127.16.3.4" in found.values()
        assert len(set(found.values())) == 2


async def test_addresses_are_freed_by_deletion_and_by_a_change_of_type() -> None:
    world = World(LoadBalancerController)
    async with world.running():
        for name in ("a", "b"):
            await world.client.create("services", balancer(name), "default")
        await world.settle()
        before = ips(world)
        await world.client.delete("services", "a", "default")
        await world.client.patch("services", "b", {"spec": {"type": "ClusterIP"}}, "default")
        await world.settle()
        (kept,) = world.client.all("services")
        assert kept["metadata"]["name"] == "b"
        assert FINALIZER not in kept["metadata"].get("finalizers", [])
        assert ips(world) == {}
        assert world.recorder.reasons().count("DeletedLoadBalancer") == 2
        for number, ip in enumerate(before.values()):
            await world.client.create("services", balancer(f"n{number}", loadBalancerIP=ip), "default")
        await world.settle()
        assert sorted(ips(world).values()) == sorted(before.values())


async def test_a_requested_address() -> None:
    world = World(LoadBalancerController)
    async with world.running():
        await world.client.create("services", balancer("a", loadBalancerIP="127.16.9.9"), "default")
        await world.settle()
        for name, ip in (
            ("taken", "127.16.9.9"),
            ("outside", "192.0.2.1"),
            ("broken", "x"),
            ("last", "127.16.255.255"),
        ):
            await world.client.create("services", balancer(name, loadBalancerIP=ip), "default")
        await world.settle()
        assert ips(world) == {"a": "127.16.9.9"}
        reasons = [
            (name, message.rpartition(": ")[2])
            for name, reason, message in world.recorder.events
            if reason == "SyncLoadBalancerFailed"
        ]
        assert sorted(reasons) == [
            ("broken", "loadBalancerIP x is not in 127.16.0.0/16, where this cluster's load balancers are"),
            ("last", "loadBalancerIP 127.16.255.255 is the first or the last address of 127.16.0.0/16"),
            ("outside", "loadBalancerIP 192.0.2.1 is not in 127.16.0.0/16, where this cluster's load balancers are"),
            ("taken", "loadBalancerIP 127.16.9.9 belongs to default/a"),
        ]
        # The Service asks for another address than it has.
        await world.client.patch("services", "a", {"spec": {"loadBalancerIP": "127.16.9.10"}}, "default")
        await world.settle()
        assert ips(world)["a"] == "127.16.9.10"
