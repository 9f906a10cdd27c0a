"""The pytest plugin: how long the fixture `cluster` takes, and how much slower pytest starts with the plugin.

`.venv/bin/python bench/fixture.py [--rounds N] [--addons LIST]`. Each round is a process of pytest with one test. The
goals: the fixture is ready after at most 1.5 s (median), and pytest's start takes at most 30 ms longer. The machine
must have no other work.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_TESTS = {
    "test_cluster.py": "def test_cluster(cluster):\n    pass\n",
    "test_namespace.py": "def test_first(namespace):\n    pass\n\n\ndef test_next(namespace):\n    pass\n",
    "test_none.py": "def test_none():\n    pass\n",
}
_DURATION = re.compile(r"([\d.]+)s (setup|teardown)\s+\S+::(\w+)")


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--addons", default="none")
    arguments = parser.parse_args()
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as directory:
        for name, text in _TESTS.items():
            Path(directory, name).write_text(text)
        # The first run compiles modules, which the later runs find compiled.
        for number in range(arguments.rounds + 1):
            found = measure(directory, arguments.addons)
            if number:
                for label, seconds in found.items():
                    figures.setdefault(label, []).append(seconds)
    print(f"{arguments.rounds} rounds, median (minimum–maximum)")
    for label, measured in figures.items():
        shown = [1000 * one for one in (statistics.median(measured), min(measured), max(measured))]
        print(f"{label:<46}{shown[0]:7.0f} ms   ({shown[1]:.0f}–{shown[2]:.0f})")


def measure(directory: str, addons: str) -> dict[str, float]:
    """Run one round; return the seconds by the name of the measured part."""
    ready = durations(directory, "test_cluster.py", f"--hatchway-addons={addons}")
    again = durations(directory, "test_namespace.py", f"--hatchway-addons={addons}")
    with_plugin, without = timed(directory), timed(directory, "-p", "no:hatchway")
    return {
        "fixture `cluster` until ready": ready["setup", "test_cluster"],
        "fixture `cluster` until ended": ready["teardown", "test_cluster"],
        "fixture `namespace`": again["setup", "test_next"],
        "pytest with a test that uses nothing, CPU time": with_plugin,
        "the same, longer than without the plugin by": with_plugin - without,
    }


def durations(directory: str, test: str, *options: str) -> dict[tuple[str, str], float]:
    """Run a file of tests; return the seconds of each (phase, test)."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=0", "-vv", *options, test]
    done = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    return {(phase, name): float(seconds) for seconds, phase, name in _DURATION.findall(done.stdout)}


def timed(directory: str, *options: str) -> float:
    """Return the processor time (seconds) of a whole run of pytest without a fixture. Wall time varies too much."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "test_none.py"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
