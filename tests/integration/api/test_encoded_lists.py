"""Lists are joined from cached JSON: they show each change, and the cache is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hatchway.cluster.api.http import encodeditems
from tests.integration.api.world import World, world

_MAPS = "/api/v1/namespaces/default/configmaps"


def _map(name: str, value: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"v": value}}


async def _values(made: World, query: str = "") -> dict[str, str]:
    reply = await made.send("GET", _MAPS + query)
    assert reply.status == 200
    assert reply.json["kind"] == "ConfigMapList"
    assert not any("kind" in one or "apiVersion" in one for one in reply.json["items"])
    found = {one["metadata"]["name"]: one["data"] for one in reply.json["items"]}
    # Each namespace has this ConfigMap.
    return {name: data["v"] for name, data in found.items() if name != "kube-root-ca.crt"}


@pytest.mark.parametrize("count", [0, 1, 40, 300])
async def test_a_list_shows_each_change(count: int) -> None:
    async with world() as made:
        expected = {f"m{number:03}": "x" * 500 for number in range(count)}
        await asyncio.gather(*(made.send("POST", _MAPS, _map(*one)) for one in expected.items()))
        assert await _values(made) == await _values(made) == expected
        for change in ("a", "b"):
            await made.send("POST", _MAPS, _map("new", change))
            assert await _values(made) == {**expected, "new": change}
            await made.send("PUT", f"{_MAPS}/new", _map("new", f"{change}{change}"))
            assert await _values(made) == {**expected, "new": change * 2}
            await made.send("DELETE", f"{_MAPS}/new")
            assert await _values(made) == expected


async def test_a_continued_list_shows_the_state_of_its_first_page() -> None:
    async with world() as made:
        for name in ("a", "b", "c"):
            await made.send("POST", _MAPS, _map(name, "old"))
        await _values(made)
        first = (await made.send("GET", f"{_MAPS}?limit=1")).json
        assert [one["metadata"]["name"] for one in first["items"]] == ["a"]
        await made.send("PUT", f"{_MAPS}/b", _map("b", "new"))
        rest = await _values(made, f"?limit=5&continue={first['metadata']['continue']}")
        assert rest == {"b": "old", "c": "old"}
        assert await _values(made) == {"a": "old", "b": "new", "c": "old"}


async def test_a_large_object_is_not_kept() -> None:
    async with world() as made:
        await made.send("POST", _MAPS, _map("large", "x" * 300_000))
        await made.send("POST", _MAPS, _map("small", "y"))
        for _ in range(2):
            assert {name: len(value) for name, value in (await _values(made)).items()} == {"large": 300_000, "small": 1}
        await made.send("PUT", f"{_MAPS}/large", _map("large", "z"))
        assert await _values(made) == {"large": "z", "small": "y"}


async def test_the_cache_is_bounded_and_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodeditems, "_MOST_BYTES", 10_000)
    kept: list[encodeditems.EncodedItems] = []
    made_first = encodeditems.EncodedItems.__init__

    def note(self: encodeditems.EncodedItems, store: Any) -> None:
        made_first(self, store)
        kept.append(self)

    monkeypatch.setattr(encodeditems.EncodedItems, "__init__", note)
    async with world() as made:
        expected = {f"m{number:03}": "x" * 500 for number in range(100)}
        await asyncio.gather(*(made.send("POST", _MAPS, _map(*one)) for one in expected.items()))
        assert await _values(made) == expected
        (items,) = kept
        assert 0 < items.size <= 10_000
        before = items.size
        await asyncio.gather(*(made.send("DELETE", f"{_MAPS}/{name}") for name in expected))
        assert items.size <= before - 500
        assert await _values(made) == {}
