"""How long `hatchway up --detach` and `down` take, and what an idle cluster weighs: `.venv/bin/python bench/start.py [--rounds N]`.

Each round is a cluster of its own, from nothing: certificates, store, three nodes, DNS and logging. The command returns
when all of them are ready. Memory is the sum of the proportional shares (PSS) of all its processes, as
`hatchway status` counts them, after it has been idle for ten seconds. Goals: 5 s on two cores, 1 s down, 400 MB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HATCHWAY = str(Path(sys.executable).parent / "hatchway")
IDLE_SECONDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    seconds, ended, again, memory = [], [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as directory:
            where = ["--name", "bench", "--state-dir", directory]
            up = [HATCHWAY, "up", "--detach", "--api-port", "0", "--kubeconfig", f"{directory}/kubeconfig", *where]
            try:
                seconds.append(timed(up))
                time.sleep(IDLE_SECONDS)
                status = subprocess.run([HATCHWAY, "status", "-o", "json", *where], check=True, capture_output=True)
                memory.append(json.loads(status.stdout)["memory_mib"])
                ended.append(timed([HATCHWAY, "down", *where]))
                again.append(timed(up))
            finally:
                subprocess.run([HATCHWAY, "down", "--delete", *where], check=True, capture_output=True)
    print(f"{rounds} rounds, median (minimum–maximum)")
    for label, figures, unit in (
        ("new cluster ready", seconds, "s"),
        ("idle cluster down", ended, "s"),
        ("kept cluster ready again", again, "s"),
        ("idle memory", memory, "MiB"),
    ):
        print(f"{label:<26}{statistics.median(figures):7.1f} {unit}   ({min(figures):.1f}–{max(figures):.1f})")


def timed(command: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
