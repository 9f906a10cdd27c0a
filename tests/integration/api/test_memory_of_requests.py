"""Memory grows at most in proportion to a request, and is given back."""

from __future__ import annotations

import gc
import random
import tracemalloc

from tests.integration.api.shapes import shapes
from tests.integration.api.world import world

_SEED = 1
_MAPS = "/api/v1/namespaces/default/configmaps"


async def test_memory_is_bounded_by_the_request_and_given_back() -> None:
    failed = []
    async with world() as made:
        made.patience = 120
        chosen = [one for one in shapes(50_000) if one.body and "strict" not in one.name]
        chosen = random.Random(_SEED).sample(chosen, 12)
        for shape in chosen:
            await made.send("POST", _MAPS, shape.body[:-1], shape.headers)
        # Collections must include all objects. If some were exempt, freed memory of refused requests would seem in use.
        gc.unfreeze()
        gc.collect()
        tracemalloc.start()
        try:
            for shape in chosen:
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
                tracemalloc.reset_peak()
                reply = await made.send(shape.method, shape.target, shape.body, shape.headers)
                peak = tracemalloc.get_traced_memory()[1] - before
                allowed = 200 * len(shape.body) + 4 * 1024 * 1024
                if peak > allowed:
                    failed.append(f"{shape.name}: {peak} bytes for {len(shape.body)}")
                status = reply.status
                del reply
                gc.collect()
                left = tracemalloc.get_traced_memory()[0] - before
                if status >= 400 and left > 200_000:
                    failed.append(f"{shape.name}: refused, and {left} bytes are left of {len(shape.body)}")
        finally:
            tracemalloc.stop()
    assert not failed, failed
