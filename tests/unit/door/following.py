"""A page that reads the events of the portal's feed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from hatchway.door.portal.feed import Feed


async def items_of(feed: Feed) -> dict[str, Any]:
    return {item["key"]: item for item in json.loads(await feed.snapshot())["items"]}


class Page:
    """The state of a page after a feed's events: the items by key, and the state of the cluster."""

    def __init__(self, feed: Feed) -> None:
        self.items: dict[str, Any] = {}
        self.about: Any = None
        self.events: list[str] = []
        self._stream: AsyncGenerator[bytes] = feed.follow()

    async def read(self, until: str) -> None:
        """Read events up to and including one with the name `until`."""
        async with asyncio.timeout(120):
            while True:
                event = await anext(self._stream)
                if event.startswith(b":"):
                    continue
                name_line, data_line, *_ = event.decode().split("\n")
                name, data = name_line.removeprefix("event: "), json.loads(data_line.removeprefix("data: "))
                self.events.append(name)
                if name == "about":
                    self.about = data
                elif name == "items":
                    self.items.update({item["key"]: item for item in data["put"]})
                    for key in data["gone"]:
                        self.items.pop(key, None)
                if name == until:
                    return

    async def close(self) -> None:
        await self._stream.aclose()
