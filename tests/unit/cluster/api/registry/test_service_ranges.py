"""ServiceCIDRs and IPAddresses: validation, allocation from added ranges, and their controllers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from hatchway.cluster import plan
from hatchway.cluster.controllers.controller import ControllerConfig, ControllerContext
from hatchway.cluster.controllers.ipaddresses import IPAddressController
from hatchway.cluster.controllers.objectfields import now
from hatchway.cluster.controllers.servicecidrs import ServiceCIDRController
from hatchway.kube.api import Object
from tests.integration.api.world import World, world

MERGE = {"Content-Type": "application/merge-patch+json"}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
RANGES, ADDRESSES = "/apis/networking.k8s.io/v1/servicecidrs", "/apis/networking.k8s.io/v1/ipaddresses"
SERVICES = "/api/v1/namespaces/default/services"
PARENT = {"group": "mygroup", "resource": "myresources", "namespace": "foo", "name": "bar"}


def cidr(name: str, *cidrs: str) -> Object:
    return {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
            "spec": {"cidrs": list(cidrs)}}  # fmt: skip


def address(ip: str, **parent: str) -> Object:
    return {"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": ip},
            "spec": {"parentRef": parent or PARENT}}  # fmt: skip


def service(name: str, **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


async def until(api: World, path: str, holds: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + 30
    while True:
        found = await api.send("GET", path)
        if holds(found.json):
            return found.json
        assert time.monotonic() < deadline, found.json
        await asyncio.sleep(0.005)


def ready(obj: Any) -> tuple[str, str]:
    conditions = (obj.get("status") or {}).get("conditions") or [{}]
    return conditions[0].get("status", ""), conditions[0].get("message", "")


class Recorder:
    def event(self, obj: Object, type: str, reason: str, message: str) -> None:
        pass


@pytest.fixture
async def api() -> AsyncIterator[World]:
    async with world() as made:
        yield made


class Clock:
    ahead = timedelta()

    def __call__(self) -> datetime:
        return now() + self.ahead


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
async def working(api: World, clock: Clock) -> AsyncIterator[World]:
    context = ControllerContext(api.client, ControllerConfig(), lambda _: Recorder(), clock=clock)
    controllers = [IPAddressController(context), ServiceCIDRController(context)]
    await api.client.create("servicecidrs.networking.k8s.io", cidr("kubernetes", str(plan.SERVICE_CIDR)))
    work: list[Awaitable[None]] = [*(one.run() for one in context.caches.values()), *(one.run() for one in controllers)]
    tasks = [asyncio.ensure_future(one) for one in work]
    yield api
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    ("cidrs", "message"),
    [
        ([], "spec.cidrs: Required value: at least one CIDR required"),
        (["10.0.0.0/8", "fd00::/64", "10.1.0.0/16"], "may only hold up to 2 values"),
        (["10.0.0.0/8", "10.1.0.0/16"], "may specify no more than one IP for each IP family"),
        (["10.0.0.1/8"], "must not have bits set beyond the prefix length"),
        (["FD00::/64"], 'must be in canonical form (\\"fd00::/64\\")'),
        (["::ffff:10.0.0.0/120"], "must be a valid CIDR value"),
        (["10.0.0.0"], "spec.cidrs[0]: Invalid value"),
        (["10.0.0.0/33"], "must be a valid CIDR value"),
    ],
)
async def test_ranges_that_are_refused(api: World, cidrs: list[str], message: str) -> None:
    reply = await api.send("POST", RANGES, cidr("x", *cidrs))
    assert reply.status == 422
    assert message in reply.body.decode()


async def test_a_range_is_immutable_except_for_adding_the_other_ip_family(api: World) -> None:
    assert (await api.send("POST", RANGES, cidr("x", "10.7.0.0/24"))).status == 201
    at = f"{RANGES}/x"
    other = await api.send("PATCH", at, {"spec": {"cidrs": ["10.8.0.0/24"]}}, MERGE)
    assert 'spec.cidrs[0]: Invalid value: "10.8.0.0/24": field is immutable' in other.json["message"]
    assert (await api.send("PATCH", at, {"spec": {"cidrs": ["10.7.0.0/24", "fd00::/64"]}}, MERGE)).status == 200
    assert (await api.send("PATCH", at, {"spec": {"cidrs": ["10.7.0.0/24"]}}, MERGE)).status == 422


@pytest.mark.parametrize(
    ("name", "parent", "message"),
    [
        ("x", PARENT, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ("010.0.0.1", PARENT, "must be a valid IP address"),
        ("fe80::1%eth0", PARENT, "must be a valid IP address"),
        ("2001:DB8::1", PARENT, 'must be in canonical form ("2001:db8::1")'),
        ("::ffff:1.2.3.4", PARENT, "must not be an IPv4-mapped IPv6 address"),
        ("10.0.0.1", {"name": "a/b", "resource": "x"}, "spec.parentRef.name: Invalid value"),
        ("10.0.0.1", {"resource": ""}, "spec.parentRef.resource: Required value"),
    ],
)
async def test_addresses_that_are_refused(api: World, name: str, parent: dict[str, str], message: str) -> None:
    reply = await api.send("POST", ADDRESSES, address(name, **parent))
    assert reply.status == 422
    assert message in reply.json["message"]


async def test_operations_on_addresses(api: World) -> None:
    """The steps of the conformance test `IPAddress API` (test/e2e/network/service_cidrs.go)."""
    for name, label in (("255.255.255.255", "broadcast"), ("fe80::42:1dff:fe84:f9e2", "link-local")):
        obj = address(name)
        obj["metadata"]["labels"] = {"type": label}
        assert (await api.send("POST", ADDRESSES, obj)).status == 201
    at = f"{ADDRESSES}/255.255.255.255"
    found = (await api.send("PATCH", at, {"metadata": {"annotations": {"patched": "true"}}}, MERGE)).json
    assert found["metadata"]["annotations"] == {"patched": "true"}
    moved = await api.send("PATCH", at, {"spec": {"parentRef": {"name": "other"}}}, MERGE)
    assert "field is immutable" in moved.json["message"]
    assert len((await api.send("GET", f"{ADDRESSES}?labelSelector=type=broadcast")).json["items"]) == 1
    rows = (await api.send("GET", ADDRESSES, headers=TABLE)).json["rows"]
    assert rows[0]["cells"] == ["255.255.255.255", "myresources.mygroup/foo/bar"]
    assert (await api.send("DELETE", at)).status == 200
    assert (await api.send("DELETE", f"{ADDRESSES}?labelSelector=type=link-local")).status == 200
    assert (await api.send("GET", ADDRESSES)).json["items"] == []


async def test_each_service_has_its_addresses(working: World) -> None:
    made = (await working.send("POST", SERVICES, service("web", clusterIP="10.96.0.77"))).json
    at = f"{ADDRESSES}/{made['spec']['clusterIP']}"
    found = await until(working, at, lambda one: one["kind"] == "IPAddress")
    assert found["spec"]["parentRef"] == {"resource": "services", "namespace": "default", "name": "web"}
    assert found["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    # The controller replaces an IPAddress that was deleted or changed, and deletes it with its Service.
    uid = found["metadata"]["uid"]
    await working.send("DELETE", at)
    found = await until(working, at, lambda one: one["kind"] == "IPAddress" and one["metadata"]["uid"] != uid)
    uid = found["metadata"]["uid"]
    await working.send("PATCH", at, {"metadata": {"labels": None}}, MERGE)
    await until(working, at, lambda one: one["kind"] == "IPAddress" and one["metadata"]["uid"] != uid)
    await working.send("DELETE", f"{SERVICES}/web")
    await until(working, at, lambda one: one["kind"] == "Status")
    orphan = address("10.96.0.99", group="", resource="services", namespace="default", name="gone")
    orphan["metadata"]["labels"] = found["metadata"]["labels"]
    await working.send("POST", ADDRESSES, orphan)
    await until(working, f"{ADDRESSES}/10.96.0.99", lambda one: one["kind"] == "Status")


async def test_an_address_that_another_object_has_is_not_allocated(api: World) -> None:
    await api.send("POST", ADDRESSES, address("10.96.0.50"))
    reply = await api.send("POST", SERVICES, service("web", clusterIP="10.96.0.50"))
    assert reply.status == 422
    assert "failed to allocate IP 10.96.0.50: provided IP is already allocated" in reply.json["message"]


async def test_services_get_addresses_of_a_range_that_was_added(working: World, clock: Clock) -> None:
    wanted = service("web", clusterIP="203.0.113.10")
    early = await working.send("POST", SERVICES, wanted)
    assert "the provided network does not match the current range" in early.json["message"]
    await working.send("POST", RANGES, cidr("added", "203.0.113.0/24"))
    at = f"{RANGES}/added"
    found = await until(working, at, lambda one: ready(one) == ("True", "Kubernetes Service CIDR is ready"))
    assert found["metadata"]["finalizers"] == ["networking.k8s.io/service-cidr-finalizer"]
    assert (await working.send("POST", SERVICES, wanted)).status == 201
    edge = await working.send("POST", SERVICES, service("edge", clusterIP="203.0.113.255"))
    assert "is not in the valid range. The range of valid IPs is 203.0.113.0/24" in edge.json["message"]
    await until(working, f"{ADDRESSES}/203.0.113.10", lambda one: one["kind"] == "IPAddress")
    # A deleted range remains while a Service has one of its addresses, but allocates no more addresses.
    await working.send("DELETE", at)
    found = await until(working, at, lambda one: ready(one)[0] == "False")
    assert ready(found)[1].startswith("There are still IPAddresses referencing the ServiceCIDR")
    assert (await working.send("POST", SERVICES, service("late", clusterIP="203.0.113.11"))).status == 422
    clock.ahead = timedelta(minutes=1)
    await working.send("DELETE", f"{SERVICES}/web")
    await until(working, at, lambda one: one["kind"] == "Status")


async def test_the_first_range_is_used_up_before_the_next(working: World) -> None:
    await until(
        working, f"{RANGES}/kubernetes", lambda one: ready(one)[1] == "Kubernetes default Service CIDR is ready"
    )
    await working.send("DELETE", f"{RANGES}/kubernetes")
    full = await working.send("POST", SERVICES, service("a"))
    assert (full.status, full.json["message"]) == (
        500, "Internal error occurred: failed to allocate a serviceIP: range is full",
    )  # fmt: skip
    await working.send("POST", RANGES, cidr("tiny", "192.0.2.0/30"))
    await until(working, f"{RANGES}/tiny", lambda one: ready(one)[0] == "True")
    given = {(await working.send("POST", SERVICES, service(name))).json["spec"]["clusterIP"] for name in ("a", "b")}
    assert given == {"192.0.2.1", "192.0.2.2"}
    assert (await working.send("POST", SERVICES, service("c"))).status == 500


@pytest.mark.parametrize(
    ("cidrs", "why"),
    [
        (["10.0.0.0/8"], "10.0.0.0/8 cannot be used: it overlaps with 10.244.0.0/16, the cluster's own network."),
        (["127.5.0.0/16"], "127.5.0.0/16 cannot be used: it overlaps with 127.0.0.0/8, a reserved range."),
        (["fd00::/112"], "fd00::/112 cannot be used: this cluster's network has no IPv6."),
        (["0.0.0.0/0"], "0.0.0.0/0 cannot be used"),
    ],
)
async def test_a_range_that_the_network_cannot_route_is_not_ready(working: World, cidrs: list[str], why: str) -> None:
    await working.send("POST", RANGES, cidr("bad", *cidrs))
    found = await until(working, f"{RANGES}/bad", lambda one: ready(one)[0] == "False")
    assert ready(found)[1].startswith(why)
    wanted = service("web", clusterIP="10.5.5.5")
    assert (await working.send("POST", SERVICES, wanted)).status == 422
