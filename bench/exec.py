"""`hatchway exec POD -- true` beside `kubectl exec POD -- true`: whole processes, in turn.

Once in a pod with one container, and once in a pod with two, of which an annotation names the one that is meant.

    python -m bench.exec [--rounds 50] [--pod NAME ...] [--kubeconfig FILE]

Without --pod an API server of the tests (`tests/podserver.py`) serves both, and their commands run on this
machine: what is compared then is the two clients, and not what a cluster needs for a command.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hatchway.kube.workload import DEFAULT_CONTAINER
from tests.conftest import BIN, find_kubectl
from tests.podserver import PodServer, make_pod


def measure(command: list[str]) -> float:
    """Return the seconds that a command takes."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


@contextlib.contextmanager
def pods_to_use(names: list[str]) -> Iterator[list[str]]:
    """Yield the pods; those of a server of its own when none is named."""
    if names:
        yield names
        return
    with tempfile.TemporaryDirectory() as directory:
        server = PodServer(Path(directory))
        server.add(make_pod("one"))
        server.add(make_pod("two", "a", "b", annotations={DEFAULT_CONTAINER: "b"}))
        with server.running():
            os.environ["KUBECONFIG"] = str(server.kubeconfig())
            yield ["one", "two"]


def main() -> None:
    """Measure, and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--pod", action="append", default=[])
    parser.add_argument("--kubeconfig", default="")
    asked = parser.parse_args()
    if asked.kubeconfig:
        os.environ["KUBECONFIG"] = asked.kubeconfig
    with pods_to_use(asked.pod) as pods:
        # Three requests in a pod with several containers, and one in others; kubectl makes two in any case.
        met = [compare(pod, asked.rounds, 0.6 if pod == pods[0] else 0.9) for pod in pods]
    sys.exit(not all(met))


def compare(pod: str, rounds: int, goal: float) -> bool:
    """Measure both in one pod, print the medians and their ratio; return whether it meets the goal."""
    commands = {
        "hatchway": [str(BIN / "hatchway"), "exec", pod, "--", "true"],
        "kubectl": [find_kubectl(), "exec", pod, "--", "true"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    # Once before, so that both find their caches.
    for command in commands.values():
        measure(command)
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(measure(command))
    print(f"pod {pod}")
    for name, found in times.items():
        least, median = min(found) * 1000, statistics.median(found) * 1000
        print(f"  {name:9} median {median:6.1f} ms   least {least:6.1f} ms")
    ratio = statistics.median(times["hatchway"]) / statistics.median(times["kubectl"])
    print(f"  ratio of the medians {ratio:.2f} (goal: {goal})")
    return ratio <= goal


if __name__ == "__main__":
    main()
