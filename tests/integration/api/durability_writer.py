"""The child process of the durability test: creates ConfigMaps until it is killed, and prints each stored one."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

from hatchway.cluster.api.operations.local import LocalClient
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.registry.types import Registry
from hatchway.cluster.api.storage.store import Store


async def main(path: Path, prefix: str) -> None:
    store = Store.open(path)
    client = LocalClient(Api(store, Registry()))
    if store.get("namespaces", "", "default") is None:
        await client.create("namespaces", {"metadata": {"name": "default"}})
    numbers = itertools.count()

    async def write() -> None:
        for number in numbers:
            obj = {"metadata": {"name": f"{prefix}-{number}"}, "data": {"k": "v" * 100}}
            stored = await client.create("configmaps", obj, "default")
            # A line is written, with one write(2), only after the store has acknowledged the object.
            os.write(1, f"{stored['metadata']['name']} {stored['metadata']['resourceVersion']}\n".encode())

    await asyncio.gather(*(write() for _ in range(8)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
