"""kill -9 while objects are created: acknowledged objects are stored, and no resourceVersion is used twice.

`bench/durability.py` does the same for longer: 20 times 1,000 creates.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from hatchway.cluster.api.storage.store import Store

WRITER = Path(__file__).with_name("durability_writer.py")


async def kill_while_writing(store: Path, prefix: str, creates: int) -> dict[str, int]:
    """Let a child write until it has acknowledged this many creates, then kill it; return name -> resourceVersion."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(WRITER), str(store), prefix, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    lines = [await child.stdout.readline() for _ in range(creates)]
    child.kill()
    lines += (await child.stdout.read()).splitlines(keepends=True)
    await child.wait()
    found = [line.decode().split() for line in lines if line.endswith(b"\n")]
    return {name: int(version) for name, version in found}


async def check(path: Path, acknowledged: dict[str, int]) -> int:
    """Return the number of ConfigMaps. Raises if an acknowledged one is missing or a resourceVersion was used twice."""
    store = Store.open(path)
    stored = {obj["metadata"]["name"]: int(obj["metadata"]["resourceVersion"]) for obj in store.list("configmaps")}
    revision = store.revision
    await store.close()
    assert acknowledged.items() <= stored.items()
    assert len(set(stored.values())) == len(stored)
    assert revision >= max(stored.values())
    return len(stored)


async def test_acknowledged_writes_survive_kill(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    for round in range(3):
        new = await kill_while_writing(tmp_path / "store", f"round{round}", 150)
        assert min(new.values()) > max(acknowledged.values(), default=0)
        acknowledged |= new
        assert await check(tmp_path / "store", acknowledged) >= len(acknowledged)
