"""The cluster writes its own objects while other writers change them."""

from __future__ import annotations

import asyncio
from typing import Any

from hatchway.cluster.controllers.ensure import ensure
from tests.integration.api.world import world


def config(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "data": data}


async def test_change_beside_a_write_that_is_not_committed_yet() -> None:
    async with world() as made:
        await made.client.create("configmaps", config(own="1"))
        other = asyncio.create_task(made.client.patch("configmaps", "c", {"data": {"other": "1"}}, "default"))
        await asyncio.sleep(0)
        assert not other.done()
        await ensure(made.client, [("configmaps", config(own="2"))])
        await other
        assert (await made.client.get("configmaps", "c", "default"))["data"] == {"own": "2", "other": "1"}


async def test_creation_beside_a_creation_that_is_not_committed_yet() -> None:
    async with world() as made:
        other = asyncio.create_task(made.client.create("configmaps", config(other="1")))
        await asyncio.sleep(0)
        assert not other.done()
        await ensure(made.client, [("configmaps", config(own="1"))])
        await other
        assert (await made.client.get("configmaps", "c", "default"))["data"] == {"own": "1", "other": "1"}
