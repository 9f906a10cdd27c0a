from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchway.cluster.policies import enforcer
from hatchway.cluster.policies.enforcer import NETWORK_POLICIES, PolicyEnforcer
from hatchway.kube.informer import Informer
from tests.unit.fake_client import FakeClient
from tests.unit.policies.world import MemoryFilter, pod, policy

NODES = ["172.18.0.2", "172.18.0.3"]
# A pod on each node.
ONE, TWO = "10.244.0.2", "10.244.1.2"


class World:
    """An enforcer with an API in memory."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.filter = MemoryFilter()
        self.enforcer = PolicyEnforcer(self.client, self.filter, NODES)
        self.pods = Informer(self.client, "pods")

    async def pod(self, name: str, labels: dict[str, str] | None = None) -> str:
        """Make a pod, and return its uid."""
        made = await self.client.create("pods", pod(name, labels=labels), "one")
        while self.pods.get(name, "one") is None:  # noqa: ASYNC110  informers have no event for it
            await asyncio.sleep(0)
        return str(made["metadata"]["uid"])

    async def policy(self, made: dict[str, Any]) -> None:
        await self.client.create(NETWORK_POLICIES, made, "one")


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[World]:
    world = World()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(world.pods.run()), group.create_task(world.enforcer.run([world.pods]))]
        try:
            yield world
        finally:
            for task in tasks:
                task.cancel()


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_pod_is_admitted_when_its_policies_are_in_effect() -> None:
    async with running() as world:
        await world.policy(policy("all", ingress=[]))
        one = await world.pod("one")
        await world.enforcer.admit(one, ONE)
        assert ONE in world.filter.isolated["ingress"]
        assert not world.filter.holds
        assert not world.enforcer.allows(TWO, ONE, 80, "TCP")
        world.enforcer.forget(one)
        await until(lambda: ONE not in world.filter.isolated["ingress"])


async def test_a_policy_is_in_effect_before_its_watch_event_arrives() -> None:
    async with running() as world:
        one = await world.pod("one")
        await world.enforcer.admit(one, ONE)
        # The object is in the API, but its watch event comes late.
        made = policy("all", ingress=[])
        world.client.objects[NETWORK_POLICIES, "one", "all"] = made
        two = asyncio.create_task(world.enforcer.admit(await world.pod("two"), TWO))
        await asyncio.sleep(0.1)
        assert not two.done()
        world.client.tell(NETWORK_POLICIES, "ADDED", made)
        await two
        assert set(world.filter.isolated["ingress"]) == {ONE, TWO}


async def test_a_pod_that_is_gone_is_not_admitted() -> None:
    async with running() as world:
        with pytest.raises(OSError, match="gone"):
            await world.enforcer.admit("uid-nobody", ONE)


async def test_a_pod_does_not_start_when_the_kernel_refuses_its_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt makes a new filter."""
    monkeypatch.setattr(enforcer, "_RETRY_SECONDS", 0.01)
    async with running() as world:
        await until(lambda: not world.filter.holds)
        await world.policy(policy("all", ingress=[]))
        one = await world.pod("one")
        await until(lambda: not world.enforcer._table.has_changes)
        world.filter.fail = [OSError(errno.ENOMEM, "no memory")]
        with pytest.raises(OSError, match="not in effect"):
            await world.enforcer.admit(one, ONE)
        world.enforcer.forget(one)
        await until(lambda: not world.filter.holds and not world.filter.fail)
        # The pod gets a new sandbox, with another address.
        await world.enforcer.admit(one, TWO)
        assert set(world.filter.isolated["ingress"]) == {TWO}


async def test_the_node_and_the_pod_itself_are_always_allowed() -> None:
    async with running() as world:
        await world.policy(policy("all", ingress=[], egress=[]))
        for name, ip in (("one", ONE), ("two", TWO)):
            await world.enforcer.admit(await world.pod(name), ip)
        allows = world.enforcer.allows
        assert allows(ONE, ONE, 80, "TCP")
        assert allows(NODES[0], ONE, 80, "TCP")
        assert not allows(NODES[1], ONE, 80, "TCP")
        assert allows(ONE, NODES[0], 80, "TCP")
        assert not allows(ONE, NODES[1], 80, "TCP")
        # The router's own addresses belong to the cluster.
        assert allows("10.244.0.1", ONE, 80, "TCP")
        assert allows("10.96.0.1", ONE, 80, "TCP")
        assert not allows("127.0.0.1", ONE, 80, "TCP")
        assert not allows(ONE, TWO, 80, "TCP")


async def test_connections_by_another_nodes_port_are_left_to_the_packet_filter() -> None:
    async with running() as world:
        await world.policy(policy("out", pods={"app": "out"}, egress=[]))
        await world.enforcer.admit(await world.pod("one", {"app": "out"}), ONE)
        await world.enforcer.admit(await world.pod("two"), TWO)
        allows = world.enforcer.allows
        assert not allows(ONE, TWO, 80, "TCP", via="10.96.3.4")
        assert not allows(ONE, TWO, 80, "TCP", via=NODES[0])
        assert allows(ONE, TWO, 80, "TCP", via=NODES[1])


async def test_only_changes_that_can_affect_connections_are_reported() -> None:
    async with running() as world:
        await world.enforcer.admit(await world.pod("one"), ONE)
        reports: list[int] = []
        world.enforcer.on_change = lambda: reports.append(1)
        world.filter.calls.clear()
        await world.policy(policy("all", ingress=[]))
        await until(lambda: reports)
        assert len(world.filter.calls) == 1
        found = await world.client.get("pods", "one", "one")
        await world.client.update("pods", {**found, "status": {"phase": "Running"}})
        await world.client.settle()
        assert len(world.filter.calls) == 1


async def test_a_policy_that_exceeds_the_limit_gets_an_event() -> None:
    async with running() as world:
        ports = [{"protocol": "TCP", "port": 2 * number} for number in range(6000)]
        await world.policy(policy("large", ingress=[{"ports": ports}]))
        await until(lambda: any(resource == "events" for resource, _, _ in world.client.objects))
        (event,) = world.client.all("events")
        assert event["reason"] == "TooManyRules"
        assert event["involvedObject"]["name"] == "large"
