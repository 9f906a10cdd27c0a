"""`hatchway up --detach` and `down`, and an idle cluster's memory: `.venv/bin/python bench/start.py [--rounds N]`.

Each round makes a new cluster: certificates, store, three nodes, DNS and metrics. `hatchway up` returns when all of
these are ready. Memory is the sum of the proportional shares (PSS) of all processes of the cluster, as `hatchway
status` counts them. It is measured after the cluster has been idle for ten seconds, and again with the add-ons that
start on first use. Goals: 5 s for `up` on two cores, 1 s for `down`, 250 MiB with all add-ons.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HATCHWAY = str(Path(sys.executable).parent / "hatchway")
IDLE_SECONDS = 10


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    seconds, ended, again, memory, first, everything = [], [], [], [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as directory:
            where = ["--name", "bench", "--state-dir", directory]
            up = [HATCHWAY, "up", "--detach", "--api-port", "0", "--kubeconfig", f"{directory}/kubeconfig", *where]
            try:
                seconds.append(timed(up))
                time.sleep(IDLE_SECONDS)
                idle = status(where)
                memory.append(idle["memory_mib"])
                first += [use(service["url"], where) for service in idle["built_in"] if service["starts_on_first_use"]]
                time.sleep(IDLE_SECONDS)
                everything.append(status(where)["memory_mib"])
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
        ("first use", first, "s"),
        ("idle memory, all started", everything, "MiB"),
    ):
        print(f"{label:<26}{statistics.median(figures):7.1f} {unit}   ({min(figures):.1f}–{max(figures):.1f})")


def status(where: list[str]) -> dict[str, Any]:
    """Return the result of `hatchway status`."""
    done = subprocess.run([HATCHWAY, "status", "-o", "json", *where], check=True, capture_output=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def use(url: str, where: list[str]) -> float:
    """Send a request to a service that starts on first use; return the seconds until its answer."""
    token = subprocess.run([HATCHWAY, "token", *where], check=True, capture_output=True, text=True).stdout.strip()
    trust = ssl.create_default_context(cafile=str(Path(where[3]) / where[1] / "pki/ca.crt"))
    request = urllib.request.Request(f"{url}/", headers={"Authorization": f"Bearer {token}"})
    began = time.monotonic()
    with contextlib.suppress(urllib.error.HTTPError):  # the service may have no such page
        urllib.request.urlopen(request, context=trust).close()
    return time.monotonic() - began


def timed(command: list[str]) -> float:
    """Run a command and return the seconds that it took."""
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
