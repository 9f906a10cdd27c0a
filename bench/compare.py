"""Interleaved rounds of load on several contenders, and the table of what they showed."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from bench.peers import Load


def compare(contenders: dict[str, Callable[[], Load]], rounds: int, unit: str) -> dict[str, Load]:
    """Run every contender `rounds` times, interleaved, and print medians with ratios to the contender `unit`.

    A warm-up round of each is thrown away. Rounds are interleaved because a machine's speed drifts.
    """
    found: dict[str, list[Load]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            load = run()
            if number:
                found[name].append(load)
    medians = {
        name: Load(
            statistics.median(load.rate for load in loads),
            statistics.median(load.p99 for load in loads),
            sum(load.errors for load in loads),
            statistics.median(load.cpu for load in loads),
        )
        for name, loads in found.items()
    }
    base = medians[unit]
    print(f"{'':28}{'requests/s':>12}{'ratio':>8}{'p99 ms':>10}{'ratio':>8}{'CPU µs':>8}{'errors':>8}")
    for name, load in medians.items():
        spread = "–".join(
            f"{rate:.0f}" for rate in (min(x.rate for x in found[name]), max(x.rate for x in found[name]))
        )
        print(
            f"{name:28}{load.rate:12.0f}{load.rate / base.rate:8.2f}{load.p99:10.2f}{load.p99 / base.p99:8.2f}"
            f"{load.cpu:8.1f}{load.errors:8d}   ({spread})"
        )
    return medians
