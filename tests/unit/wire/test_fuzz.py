"""A quick run of the fuzzer (`python bench/wire_fuzz.py` runs a million inputs)."""

from __future__ import annotations

import random

from bench.wire_fuzz import Fuzzer


def test_mutated_inputs_raise_only_declared_exceptions() -> None:
    fuzzer = Fuzzer(random.randrange(1 << 32))
    fuzzer.run(5_000)
    kinds = {outcome.partition(":")[0] for outcome in fuzzer.outcomes}
    assert kinds == {"spdy", "websocket", "channel", "status", "handshake", "forward"}
    assert all(fuzzer.outcomes[f"{kind}: {end}"] for kind in kinds for end in ("read", "refused"))
