"""Endpoints and EndpointSlices of Services: pods that are ready or not, named ports, headless, many pods."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.controllers import mirroring, serviceports
from hatchway.cluster.controllers.endpoints import EndpointsController, make_subsets
from hatchway.cluster.controllers.endpointslice import EndpointSliceController
from hatchway.cluster.controllers.mirroring import MirroringController
from hatchway.cluster.controllers.slices import EndpointGroup, PortKey, make_plan, port_key
from hatchway.kube.api import Object
from tests.unit.controllers.world import World, container, pod, service

SLICES = "endpointslices.discovery.k8s.io"


def new_world() -> World:
    return World(EndpointsController, EndpointSliceController, MirroringController)


async def ready_pod(world: World, name: str, labels: dict[str, str], ready: bool = True, **spec: Any) -> Object:
    made = await world.client.create("pods", pod(name, labels=labels, nodeName="n1", **spec), "d")
    await world.set_ready(made, ready)
    return world.client.objects["pods", "d", name]


def subsets(world: World, name: str = "web") -> list[Object]:
    return world.client.objects["endpoints", "d", name]["subsets"]


def slices(world: World) -> list[Object]:
    return world.client.all(SLICES, "d")


async def test_ready_and_not_ready_pods() -> None:
    world = new_world()
    async with world.running():
        await world.client.create("services", service("web", {"app": "web"}, labels={"team": "a"}), "d")
        one = await ready_pod(world, "one", {"app": "web"})
        await ready_pod(world, "two", {"app": "web"}, ready=False)
        await ready_pod(world, "other", {"app": "other"})
        await world.settle()
        [subset] = subsets(world)
        assert [a["ip"] for a in subset["addresses"]] == [one["status"]["podIP"]]
        assert subset["addresses"][0]["targetRef"] == {
            "kind": "Pod", "namespace": "d", "name": "one", "uid": one["metadata"]["uid"],
        }  # fmt: skip
        assert subset["addresses"][0]["nodeName"] == "n1"
        assert [a["targetRef"]["name"] for a in subset["notReadyAddresses"]] == ["two"]
        assert subset["ports"] == [{"port": 8080, "protocol": "TCP"}]
        assert world.client.objects["endpoints", "d", "web"]["metadata"]["labels"]["team"] == "a"
        [found] = slices(world)
        assert found["metadata"]["labels"] == {
            "team": "a",
            "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        }
        assert found["metadata"]["ownerReferences"][0]["kind"] == "Service"
        assert "endpoints.kubernetes.io/last-change-trigger-time" in found["metadata"]["annotations"]
        assert found["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
        conditions = {e["targetRef"]["name"]: e["conditions"] for e in found["endpoints"]}
        assert conditions == {
            "one": {"ready": True, "serving": True, "terminating": False},
            "two": {"ready": False, "serving": False, "terminating": False},
        }
        await world.set_ready(world.client.objects["pods", "d", "two"], True)
        await world.settle()
        assert len(subsets(world)[0]["addresses"]) == 2
        before = world.client.writes
        for controller in world.controllers:
            controller.queue.add(("d", "web"))
        await world.settle()
        assert world.client.writes == before


async def test_a_pod_that_is_being_deleted_is_removed_at_once() -> None:
    world = new_world()
    async with world.running():
        await world.client.create("services", service("web", {"app": "web"}), "d")
        await ready_pod(world, "one", {"app": "web"})
        await world.settle()
        await world.client.delete("pods", "one", "d")
        await world.settle()
        assert subsets(world) == []
        [endpoint] = slices(world)[0]["endpoints"]
        assert endpoint["conditions"] == {"ready": False, "serving": True, "terminating": True}
        await world.client.delete("pods", "one", "d", grace_period=0)
        await world.settle()
        [empty] = slices(world)
        assert (empty["endpoints"], empty["ports"]) == ([], [])


async def test_labels_move_pods_between_services() -> None:
    world = new_world()
    async with world.running():
        await world.client.create("services", service("web", {"app": "web"}), "d")
        await world.client.create("services", service("one", {"replica": "chosen"}), "d")
        for name in ("a", "b"):
            await ready_pod(world, name, {"app": "web"})
        await world.settle()
        assert subsets(world, "one") == []
        await world.client.patch("pods", "b", {"metadata": {"labels": {"replica": "chosen"}}}, "d")
        await world.settle()
        assert [a["targetRef"]["name"] for a in subsets(world, "one")[0]["addresses"]] == ["b"]
        await world.client.patch("pods", "b", {"metadata": {"labels": {"app": "debug"}}}, "d")
        await world.settle()
        assert [a["targetRef"]["name"] for a in subsets(world)[0]["addresses"]] == ["a"]


async def test_named_target_ports_may_differ_between_pods() -> None:
    world = new_world()
    async with world.running():
        ports = [
            {"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP", "appProtocol": "http"},
            {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"},
        ]
        await world.client.create("services", service("web", {"app": "web"}, ports=ports), "d")

        def serving(web: int) -> list[Object]:
            named = [{"name": "web", "containerPort": web}, {"name": "dns", "containerPort": 5353, "protocol": "UDP"}]
            return [container(), container(ports=named)]

        await ready_pod(world, "a", {"app": "web"}, containers=serving(8080))
        await ready_pod(world, "b", {"app": "web"}, containers=serving(9090))
        await ready_pod(world, "c", {"app": "web"})
        await world.settle()
        by_pod = {
            e["targetRef"]["name"]: sorted(p["port"] for p in found["ports"])
            for found in slices(world)
            for e in found["endpoints"]
        }
        assert by_pod == {"a": [5353, 8080], "b": [5353, 9090], "c": []}
        listed = {s["addresses"][0]["targetRef"]["name"]: s["ports"] for s in subsets(world)}
        assert listed["a"] == [
            {"name": "dns", "port": 5353, "protocol": "UDP"},
            {"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"},
        ]
        assert set(listed) == {"a", "b"}


async def test_headless_services() -> None:
    world = new_world()
    async with world.running():
        headless = service("db", {"app": "db"}, clusterIP="None", ports=[], publishNotReadyAddresses=True)
        await world.client.create("services", headless, "d")
        await ready_pod(world, "db-0", {"app": "db"}, ready=False, hostname="db-0", subdomain="db")
        await world.settle()
        [subset] = subsets(world, "db")
        assert "ports" not in subset
        assert subset["addresses"][0]["hostname"] == "db-0"
        endpoints = world.client.objects["endpoints", "d", "db"]
        assert endpoints["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
        [found] = slices(world)
        assert found["endpoints"][0]["hostname"] == "db-0"
        assert found["endpoints"][0]["conditions"] == {"ready": True, "serving": False, "terminating": False}


async def test_endpoints_are_deleted_with_their_service() -> None:
    world = new_world()
    async with world.running():
        await world.client.create("services", service("web", {"app": "web"}), "d")
        await world.client.create("services", service("manual", None), "d")
        for name in ("manual", "unrelated"):
            obj = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name}, "subsets": []}
            await world.client.create("endpoints", obj, "d")
        await world.settle()
        await world.client.delete("services", "web", "d")
        await world.client.delete("services", "manual", "d")
        await world.settle()
        assert [e["metadata"]["name"] for e in world.client.all("endpoints")] == ["unrelated"]


async def test_deleted_or_changed_slices_are_repaired() -> None:
    world = new_world()
    async with world.running():
        await world.client.create("services", service("web", {"app": "web"}), "d")
        await ready_pod(world, "one", {"app": "web"})
        await world.settle()
        await world.client.delete("endpoints", "web", "d")
        [found] = slices(world)
        await world.client.delete(SLICES, found["metadata"]["name"], "d")
        await world.settle()
        assert len(subsets(world)[0]["addresses"]) == 1
        [found] = slices(world)
        found["endpoints"] = []
        await world.client.update(SLICES, found)
        await world.settle()
        assert len(slices(world)[0]["endpoints"]) == 1


async def test_endpoints_made_by_users_are_mirrored() -> None:
    world = new_world()
    async with world.running():
        await world.client.create("services", service("db", None), "d")
        endpoints = {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": "db", "labels": {"x": "y"}},
            "subsets": [
                {
                    "addresses": [{"ip": "192.0.2.1", "hostname": "h"}, {"ip": "2001:db8::1"}],
                    "notReadyAddresses": [{"ip": "192.0.2.2"}],
                    "ports": [{"port": 5432}],
                }
            ],
        }
        await world.client.create("endpoints", endpoints, "d")
        await world.settle()
        by_family = {found["addressType"]: found for found in slices(world)}
        assert set(by_family) == {"IPv4", "IPv6"}
        four = by_family["IPv4"]
        assert four["metadata"]["labels"] == {
            "x": "y",
            "kubernetes.io/service-name": "db",
            "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
        }
        assert four["ports"] == [{"name": "", "port": 5432, "protocol": "TCP"}]
        assert four["endpoints"] == [
            {"addresses": ["192.0.2.1"], "conditions": {"ready": True}, "hostname": "h"},
            {"addresses": ["192.0.2.2"], "conditions": {"ready": False}},
        ]
        await world.client.patch("endpoints", "db", {"subsets": None}, "d")
        await world.settle()
        assert slices(world) == []
        await world.client.patch("endpoints", "db", {"subsets": endpoints["subsets"]}, "d")
        await world.settle()
        skip = {"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}}
        await world.client.patch("endpoints", "db", skip, "d")
        await world.settle()
        assert slices(world) == []


async def test_hundreds_of_pods_fill_several_slices() -> None:
    world = new_world()
    for number in range(250):
        made = await world.client.create("pods", pod(f"p{number:03}", labels={"app": "web"}), "d")
        await world.set_ready(made, True)
    await world.client.create("services", service("web", {"app": "web"}), "d")
    async with world.running():
        assert sorted(len(found["endpoints"]) for found in slices(world)) == [50, 100, 100]
        before = {found["metadata"]["name"]: found["metadata"]["resourceVersion"] for found in slices(world)}
        await ready_pod(world, "late", {"app": "web"})
        await world.settle()
        after = {found["metadata"]["name"]: found["metadata"]["resourceVersion"] for found in slices(world)}
        assert sum(before[name] != after[name] for name in before) == 1, "one write for one pod"


async def test_other_tasks_have_their_turns_while_the_slices_of_many_pods_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turn = 0
    made: Counter[int] = Counter()
    make = EndpointSliceController._endpoint

    def counted(self: EndpointSliceController, pod: Object, service: Object) -> Object:
        made[turn] += 1
        return make(self, pod, service)

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(EndpointSliceController, "_endpoint", counted)
    world = new_world()
    for number in range(1000):
        found = await world.client.create("pods", pod(f"p{number:04}", labels={"app": "web"}), "d")
        await world.set_ready(found, True)
    await world.client.create("services", service("web", {"app": "web"}), "d")
    counting = asyncio.create_task(count_turns())
    async with world.running():
        assert sum(len(found["endpoints"]) for found in slices(world)) == 1000
    counting.cancel()
    assert max(made.values()) <= 200


def test_endpoints_have_at_most_a_thousand_addresses_and_prefer_ready_ones() -> None:
    def made(number: int) -> Object:
        found = pod(f"p{number}")
        found["metadata"] |= {"uid": str(number), "namespace": "d"}
        ready = {"type": "Ready", "status": "True" if number % 2 else "False"}
        found["status"] = {"podIP": f"10.244.{number // 250}.{number % 250}", "phase": "Running", "conditions": [ready]}
        return found

    wanted = service("web", {"app": "web"})
    found, over = make_subsets(wanted, [made(number) for number in range(1500)])
    assert over
    assert len(found[0]["addresses"]) == 750
    assert len(found[0]["notReadyAddresses"]) == 250


NAMES = st.integers(0, 400)


@given(st.lists(NAMES, unique=True, max_size=350), st.lists(NAMES, unique=True, max_size=350))
def test_a_plan_leads_from_any_slices_to_any_endpoints(first: list[int], second: list[int]) -> None:
    def endpoint(number: int) -> Object:
        return {"addresses": [f"10.0.{number // 250}.{number % 250}"], "targetRef": {"uid": str(number)}}

    def groups(numbers: list[int]) -> list[EndpointGroup]:
        even = EndpointGroup([{"name": "", "port": 1, "protocol": "TCP"}], [endpoint(n) for n in numbers if n % 2 == 0])
        odd = EndpointGroup([{"name": "", "port": 2, "protocol": "TCP"}], [endpoint(n) for n in numbers if n % 2])
        return [even, odd]

    counter = iter(range(10_000))

    def apply(existing: list[Object], numbers: list[int]) -> list[Object]:
        plan = make_plan(existing, groups(numbers), {"a": "b"}, {})
        updated = {found["metadata"]["name"]: found for found in plan.update}
        removed = {found["metadata"]["name"] for found in plan.delete}
        assert not removed & set(updated)
        kept = [updated.get(s["metadata"]["name"], s) for s in existing if s["metadata"]["name"] not in removed]
        made = [{**s, "metadata": {**s["metadata"], "name": f"s{next(counter)}"}} for s in plan.create]
        return kept + made

    state = apply(apply([], first), second)
    assert state, "there is always a slice"
    assert all(len(found["endpoints"]) <= 100 for found in state)
    listed = [e["targetRef"]["uid"] for found in state for e in found["endpoints"]]
    assert sorted(listed) == sorted(map(str, second))
    for found in state:
        assert all(int(e["targetRef"]["uid"]) % 2 == found["ports"][0]["port"] - 1 for e in found["endpoints"])
    assert not make_plan(state, groups(second), {"a": "b"}, {}), "a second plan has no changes"


def test_the_key_of_ports_is_made_once_for_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[PortKey] = []

    def counted(ports: Iterable[Any] | None) -> PortKey:
        made.append(port_key(ports))
        return made[-1]

    monkeypatch.setattr(mirroring, "port_key", counted)
    subset = {
        "addresses": [{"ip": f"10.0.0.{number}"} for number in range(200)],
        "ports": [{"name": f"p{number}", "port": number + 1} for number in range(200)],
    }
    (group,) = mirroring._groups({"subsets": [subset]}, "IPv4").values()
    assert len(group.endpoints) == 200
    assert len(made) == 1


class _CountedPorts(list[Any]):
    """A list that counts its iterations."""

    def __init__(self, ports: list[Any]) -> None:
        super().__init__(ports)
        self.passes = 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        return super().__iter__()


def test_ports_are_resolved_once_for_all_pods_with_equal_ports() -> None:
    ports = _CountedPorts([{"name": f"p{number}", "port": number + 1} for number in range(500)])
    ports.append({"name": "named", "port": 9999, "targetPort": "web"})
    spec = {"ports": ports}
    pods = [
        {
            "metadata": {"name": f"p{number}", "namespace": "d", "uid": f"u{number}"},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 80 + number % 2}]}]},
            "status": {"podIP": f"10.0.{number // 250}.{number % 250}"},
        }
        for number in range(1000)
    ]
    subsets, over = make_subsets({"metadata": {"name": "web", "namespace": "d"}, "spec": spec}, pods)
    assert ports.passes <= 2
    assert [len(subset["notReadyAddresses"]) for subset in subsets] == [500, 500]
    assert [len(subset["ports"]) for subset in subsets] == [501, 501]
    assert not over


def test_the_number_of_ports_that_differ_between_pods_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serviceports, "MAX_PORTS", 100)
    spec = {"ports": [{"name": f"p{number}", "port": number + 1, "targetPort": "web"} for number in range(30)]}
    pods = [
        {
            "metadata": {"name": f"p{number}", "namespace": "d", "uid": f"u{number}"},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 1 + number}]}]},
            "status": {"podIP": f"10.0.0.{number}"},
        }
        for number in range(50)
    ]
    subsets, over = make_subsets({"metadata": {"name": "web", "namespace": "d"}, "spec": spec}, pods)
    assert over
    assert 3 <= len(subsets) <= 4
