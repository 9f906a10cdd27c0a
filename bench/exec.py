"""`hatchway exec POD -- true` beside `kubectl exec POD -- true`: whole processes, in turn.

They run once in a pod with one container, and once in a pod with two containers and an annotation that names the
default container.

    python -m bench.exec [--rounds 50] [--pod NAME ...] [--kubeconfig FILE]

Without --pod an API server of the tests (`tests/podserver.py`) serves both, and their commands run on this machine.
Then the time contains only the work of the two clients, not the work of a cluster.
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
    """Yield the names of the pods. If no pod is named, start a server with pods for the block."""
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
        # Hatchway sends three requests for a pod with several containers, and one for other pods. kubectl always sends
        # two.
        met = [compare(pod, asked.rounds, 0.6 if pod == pods[0] else 0.9) for pod in pods]
    sys.exit(not all(met))


def compare(pod: str, rounds: int, goal: float) -> bool:
    """Measure both in one pod, and print the medians and their ratio. Return True when the ratio meets the goal."""
    commands = {
        "hatchway": [str(BIN / "hatchway"), "exec", pod, "--", "true"],
        "kubectl": [find_kubectl(), "exec", pod, "--", "true"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    # Run each once, so that its caches are filled.
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
