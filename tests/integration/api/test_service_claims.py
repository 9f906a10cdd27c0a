"""Addresses and node ports are allocated once, and released, during concurrent writes, refusals and deletions."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.api.operations.local import LocalClient
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.registry.strategies.serviceclaims import ServiceClaims, addresses_of, node_ports_of
from hatchway.cluster.api.registry.types import Registry
from hatchway.cluster.api.storage.store import Store
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from tests.integration.api.world import World, world


def service(name: str, **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": [{"port": 80}], **spec}}


def services(made: World) -> list[Object]:
    return made.store.list("services")


async def step(made: World, random_: random.Random) -> None:
    """Make a random change of one of a few Services; some changes are invalid, and must be refused."""
    name = f"s{random_.randrange(12)}"
    port = 30000 + random_.randrange(6)
    try:
        match random_.randrange(6):
            case 0:
                await made.client.create("services", service(name))
            case 1:
                fixed = [{"port": 80, "nodePort": port, "protocol": random_.choice(["TCP", "UDP"])}]
                await made.client.create("services", service(name, type="NodePort", ports=fixed))
            case 2:
                address = f"10.96.0.{random_.randrange(20, 26)}"
                await made.client.create("services", service(name, clusterIP=address, type="NodePort"))
            case 3:
                kind = random_.choice(["ClusterIP", "NodePort", "ExternalName"])
                spec = {"type": kind, **({"externalName": "a.example"} if kind == "ExternalName" else {})}
                await made.client.patch("services", name, {"spec": spec}, "default")
            case _:
                await made.client.delete("services", name, "default")
    except ApiError as error:
        assert error.code in (404, 409, 422), error


@pytest.mark.parametrize("seed", range(4))
async def test_no_address_or_node_port_is_allocated_twice(seed: int) -> None:
    random_ = random.Random(seed)
    async with world() as made:
        # The index of addresses is built at the first Service. From then on it must follow all changes.
        await made.client.create("services", service("first"))
        for _ in range(25):
            await asyncio.gather(*(step(made, random_) for _ in range(8)))
            held = Counter(address for one in services(made) for address in addresses_of(one) if address != "None")
            ports = Counter(found for one in services(made) for found in node_ports_of(one))
            assert all(count == 1 for count in (*held.values(), *ports.values()))
            others = ServiceClaims.of(made.store).others(made.store, service("of its own"))
            assert all(others.has_address(address) for address in held)
            assert set(others.node_port_numbers()) == {number for _, number in ports}
            assert not any(
                others.has_address(f"10.96.0.{last}") for last in range(20, 26) if f"10.96.0.{last}" not in held
            )
        for one in services(made):
            await made.client.delete("services", one["metadata"]["name"], "default")
        empty = ServiceClaims.of(made.store).others(made.store, service("of its own"))
        assert not any(empty.has_address(address) for address in held)
        assert [*empty.node_port_numbers()] == []


async def test_an_address_that_is_being_written_is_taken() -> None:
    """Two Services ask for the same address in one turn of the event loop, before either is on disk."""
    async with world() as made:
        asked = [made.client.create("services", service(name, clusterIP="10.96.0.21")) for name in ("a", "b")]
        found = await asyncio.gather(*asked, return_exceptions=True)
        refused = [one for one in found if isinstance(one, ApiError)]
        assert len(refused) == 1
        assert "provided IP is already allocated" in refused[0].message


async def test_an_address_that_is_being_deleted_is_free() -> None:
    async with world() as made:
        await made.client.create("services", service("a", clusterIP="10.96.0.21"))
        await asyncio.gather(
            made.client.delete("services", "a", "default"),
            made.client.create("services", service("b", clusterIP="10.96.0.21")),
        )
        assert [one["metadata"]["name"] for one in services(made)] == ["b"]


async def test_services_of_a_store_that_is_opened_again(tmp_path: Path) -> None:
    async with world(tmp_path / "store") as made:
        await made.client.create("services", service("a", clusterIP="10.96.0.21"))
        made_first = services(made)

    store = Store.open(tmp_path / "store")
    try:
        assert store.list("services") == made_first
        with pytest.raises(ApiError, match="provided IP is already allocated"):
            await LocalClient(Api(store, Registry())).create("services", service("b", clusterIP="10.96.0.21"))
    finally:
        await store.close()
