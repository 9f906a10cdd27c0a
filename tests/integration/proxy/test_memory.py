"""Bodies are streamed, so memory does not grow with them. `bench/memory.py` measures the same with 1 GiB."""

from __future__ import annotations

import pytest

from bench.memory import measure


@pytest.mark.parametrize("tls", [False, True])
def test_memory_does_not_grow_with_a_body(tls: bool) -> None:
    found = measure(256 * 1024 * 1024, tls)
    assert {name: growth <= 20_000_000 for name, (growth, _) in found.items()} == {"down": True, "up": True}
