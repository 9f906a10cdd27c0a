"""Objects that are read on demand, and suggestions of similar names."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from hatchway.kube.connection import Connection
from hatchway.kube.lookup import ObjectLookup, similar_names


def test_similar_names_come_first() -> None:
    known = ["checkout", "check", "cart", "frontend", "checkout-canary"]
    assert similar_names("chekout", known)[0] == "checkout"
    assert "checkout-canary" in similar_names("checkout-", known)
    assert similar_names("zzz", known) == []


async def test_an_object_that_was_requested_before_forget_is_not_cached() -> None:
    begun, answered = asyncio.Event(), asyncio.Event()
    versions: list[str] = []

    async def get(kind: str, name: str, namespace: str | None) -> dict[str, Any]:
        versions.append(str(len(versions)))
        found = {"metadata": {"name": name, "resourceVersion": versions[-1]}}
        begun.set()
        await answered.wait()
        return found

    connection = SimpleNamespace(identity=("server",), client=SimpleNamespace(get=get))
    lookup = ObjectLookup(cast(Connection, connection))

    async def version() -> str:
        found = (await lookup.get("services", "shop", "web")).object
        assert found is not None
        return str(found["metadata"]["resourceVersion"])

    before = asyncio.ensure_future(version())
    await begun.wait()
    lookup.forget()
    answered.set()
    assert await before == "0"
    assert await version() == "1"
    assert await version() == "1"
