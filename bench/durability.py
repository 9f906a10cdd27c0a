"""`kill -9` during 1,000 creates, 20 times over: counts acknowledged writes that are missing afterwards (none may be).

python bench/durability.py [ROUNDS] [CREATES]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.integration.api.test_durability import check, kill_while_writing


async def main(rounds: int, creates: int) -> None:
    """Kill a process that writes to a store, and check the store, in each round. creates: the creates in a round."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store"
        acknowledged: dict[str, int] = {}
        for number in range(rounds):
            began = time.perf_counter()
            acknowledged |= await kill_while_writing(path, f"round{number}", creates)
            took = time.perf_counter() - began
            stored = await check(path, acknowledged)
            print(f"round {number + 1}: {len(acknowledged)} acknowledged, {stored} stored, none missing ({took:.1f} s)")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, int(sys.argv[2]) if len(sys.argv) > 2 else 1000))
