"""From the command to the first answer: `.venv/bin/python bench/door_start.py [--rounds N]`.

`hatchway proxy` and `kubectl proxy` are started in turn in front of the same TLS server. Requests for the same path of
the API are sent until one is answered. The first start of each program is not counted: it brings the program into the
page cache. CPU time is the time of the proxy's process until the answer.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import doors, peers
from tests.freeports import free_port

_PATIENCE = 30.0


def first_answer(command: list[str], port: int) -> tuple[float, float]:
    """Return the seconds until the first answered request, and the CPU seconds of the process by then."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            try:
                connection.request("GET", doors.PREFIX)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200, answer.status
                return time.monotonic() - began, peers.cpu_seconds(process.pid)
            except ConnectionRefusedError:
                if process.poll() is not None or time.monotonic() - began > _PATIENCE:
                    raise RuntimeError(f"{command!r} does not answer") from None
                time.sleep(0.002)
            finally:
                connection.close()
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as temporary:
        directory = Path(temporary)
        certificate = peers.make_certificate(directory)
        server = free_port()
        config = doors.kubeconfig(directory, server, certificate)
        shown: dict[str, list[tuple[float, float]]] = {}
        with peers.running(peers.backend(directory, server, 512, certificate), server):
            print(f"{rounds} rounds, load {os.getloadavg()[0]:.1f} before")
            for number in range(rounds + 1):
                for name, (command, port) in doors.commands(config, free_port(), free_port()).items():
                    measured = first_answer(command, port)
                    if number:
                        shown.setdefault(name, []).append(measured)
    for name, rows in shown.items():
        seconds, cpu = zip(*rows, strict=True)
        print(
            f"{name:28}{statistics.median(seconds):6.2f} s   CPU {statistics.median(cpu):.2f} s"
            f"   ({min(seconds):.2f}–{max(seconds):.2f} s)"
        )
    median = statistics.median(row[0] for row in shown["hatchway proxy"])
    doors.goal("hatchway proxy's first answer, at most 0.5 s", median, median <= 0.5)


if __name__ == "__main__":
    main()
