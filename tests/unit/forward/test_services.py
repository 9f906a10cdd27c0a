from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from hatchway.forward import services
from hatchway.forward.forwarder import Forwarder
from hatchway.forward.localports import plan_all
from hatchway.forward.services import ServiceForwards, follow_services
from hatchway.kube.api import Object
from hatchway.kube.connection import Connection
from tests.fake_view import make_service
from tests.unit.route.pods import World

WEB, DB = make_service("shop", "web", ("http", 18080)), make_service("shop", "db", ("sql", 15432))


@contextlib.asynccontextmanager
async def _forwarding(*services: Object) -> AsyncIterator[tuple[Forwarder, ServiceForwards]]:
    forwarder = Forwarder(World().route, lambda forward, message, hint: None)
    planned, left_out = plan_all(list(services))
    async with forwarder.listening(planned, lambda one: "127.0.0.1"):
        yield forwarder, ServiceForwards(forwarder, planned, left_out)


def _labels(forwards: list[Any]) -> list[str]:
    return [one.planned.label for one in forwards]


async def test_created_services_are_forwarded_until_they_are_deleted() -> None:
    async with _forwarding(WEB) as (forwarder, forwards):
        changes = await forwards.apply([WEB, DB])
        assert (_labels(changes.opened), changes.closed) == (["svc/db:sql"], [])
        changes = await forwards.apply([DB])
        assert (changes.opened, _labels(changes.closed)) == ([], ["svc/web:http"])
        assert _labels(forwarder.forwards) == ["svc/db:sql"]
        changes = await forwards.apply([DB])
        assert (changes.opened, changes.closed) == ([], [])


async def test_a_service_that_is_created_again_gets_the_same_local_port() -> None:
    with socket.create_server(("127.0.0.1", 18080)):
        async with _forwarding(WEB) as (forwarder, forwards):
            (first,) = forwarder.forwards
            assert first.listen.port != 18080  # because 18080 is in use
            await forwards.apply([])
            (again,) = (await forwards.apply([WEB])).opened
            assert again.listen == first.listen


async def test_a_changed_port_replaces_the_previous_port() -> None:
    async with _forwarding(WEB) as (_, forwards):
        changes = await forwards.apply([make_service("shop", "web", ("http", 18081))])
        assert [one.planned.number for one in changes.closed] == [18080]
        assert [one.planned.number for one in changes.opened] == [18081]


async def test_the_reason_why_a_service_is_omitted_is_reported_once() -> None:
    outside = make_service("shop", "outside", ("http", 80))
    outside["spec"] |= {"type": "ExternalName", "externalName": "example.org"}
    async with _forwarding(WEB) as (_, forwards):
        assert len((await forwards.apply([WEB, outside])).left_out) == 1
        assert (await forwards.apply([WEB, outside])).left_out == []


async def test_a_failure_to_listen_is_reported_once_and_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _forwarding(WEB) as (forwarder, forwards):
        right = forwarder._address_of
        forwarder._address_of = lambda one: "192.0.2.1"  # not an address of this machine
        changes = await forwards.apply([WEB, DB])
        assert [planned.label for planned, _ in changes.failed] == ["svc/db:sql"]
        assert (await forwards.apply([WEB, DB])).failed == []
        forwarder._address_of = right
        assert _labels((await forwards.apply([WEB, DB])).opened) == ["svc/db:sql"]


@pytest.mark.parametrize("denied", [set(), {("watch", "services")}])
async def test_services_are_followed_with_and_without_the_right_to_watch(
    denied: set[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hatchway.forward.services._LIST_SECONDS", 0.01)
    monkeypatch.setattr("hatchway.forward.services._TOGETHER_SECONDS", 0.0)
    world = World()
    world.client.denied |= denied
    await world.add_service("web")
    seen: list[set[str]] = []
    async with (
        asyncio.timeout(20),
        contextlib.aclosing(follow_services(cast(Connection, world.connection), "shop")) as changes,
    ):
        async for services in changes:
            seen.append({one["metadata"]["name"] for one in services})
            if seen[-1] == {"web"}:
                await world.add_service("db")
            if seen[-1] == {"web", "db"}:
                break
    assert seen[0] == {"web"}


async def test_the_number_of_forwards_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MOST_FORWARDS", 2)
    many = [make_service("shop", f"a{index}", ("http", 0x4700 + index)) for index in range(3)]
    async with _forwarding(WEB) as (forwarder, forwards):
        changes = await forwards.apply([WEB, *many])
        # Existing entries keep their place, even if new names sort before them.
        assert _labels(forwarder.forwards) == ["svc/web:http", "svc/a0:http"]
        (line,) = changes.left_out
        assert line.startswith("some ports are left out")
        assert (await forwards.apply([WEB, *many])).left_out == []
        changes = await forwards.apply([WEB, *many[1:]])
        assert _labels(changes.opened) == ["svc/a1:http"]
    planned, left_out = services.plan_first([WEB, *many], with_pods=True)
    assert len(planned) == 2 and len(left_out) == 1


async def test_the_number_of_remembered_ports_of_deleted_services_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_MOST_PORTS", 3)
    async with _forwarding(WEB) as (_, forwards):
        for index in range(10):
            await forwards.apply([make_service("shop", f"a{index}", ("http", 0x4700 + index))])
        assert len(forwards._ports) == 3
