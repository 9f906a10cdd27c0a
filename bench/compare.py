"""Interleaved rounds of load on several contenders, and the table of their results.

A machine's speed changes with time. So a ratio is the median of quotients, each of two results of the same round, which
were measured right after each other.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.peers import Load


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the quotients of the same rounds."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


@dataclass(frozen=True, slots=True)
class Rounds:
    """The results of each contender, by its name, round by round."""

    loads: dict[str, list[Load]]

    def rate(self, name: str, other: str) -> float:
        """Return the ratio of two contenders' requests per second."""
        return ratio([load.rate for load in self.loads[name]], [load.rate for load in self.loads[other]])

    def p99(self, name: str, other: str) -> float:
        """Return the ratio of two contenders' 99th percentiles of latency."""
        return ratio([load.p99 for load in self.loads[name]], [load.p99 for load in self.loads[other]])

    def cpu(self, name: str, other: str) -> float:
        """Return the ratio of two contenders' CPU time for a request."""
        return ratio([load.cpu for load in self.loads[name]], [load.cpu for load in self.loads[other]])


def compare(contenders: dict[str, Callable[[], Load]], rounds: int, unit: str) -> Rounds:
    """Run every contender `rounds` times, interleaved, and print medians with ratios to the contender `unit`.

    Each contender first has a warm-up round, which is not counted.
    """
    loads: dict[str, list[Load]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            load = run()
            if number:
                loads[name].append(load)
    found = Rounds(loads)
    print(f"{'':28}{'requests/s':>12}{'ratio':>8}{'p99 ms':>10}{'ratio':>8}{'CPU µs':>8}{'ratio':>8}{'errors':>8}")
    for name, each in loads.items():
        rate, p99, cpu = (
            statistics.median(values) for values in zip(*((x.rate, x.p99, x.cpu) for x in each), strict=True)
        )
        rates = sorted(load.rate for load in each)
        print(
            f"{name:28}{rate:12.0f}{found.rate(name, unit):8.2f}{p99:10.2f}{found.p99(name, unit):8.2f}"
            f"{cpu:8.1f}{found.cpu(name, unit):8.2f}{sum(load.errors for load in each):8d}"
            f"   ({rates[0]:.0f}–{rates[-1]:.0f})"
        )
    return found
