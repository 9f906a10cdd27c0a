"""The time until the first process of an image that is already unpacked, beside `podman run` in the same run.

One image has this machine's busybox as its only layer; another one has 59 more layers above it.

- pod: from the POST of a pod to its first process, with the image of one layer, in a new cluster with one node. The
  process prints the machine's uptime, which counts hundredths of a second. Goal: at most 0.3 s.
- start: the runtime's part of this time, from `Runtime.start` to the first process.
- `podman run --rm --network none IMAGE true`: a whole command, including the container's end, with the same files.
  It is left out where podman does not work.

    python -m bench.images [--rounds 20] [--podman "podman --runtime runc"]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.clusters import HATCHWAY, Cluster, cluster
from hatchway.cluster.network import launcher, runtimes
from hatchway.cluster.runtime import ContainerConfig, ImageRoot, SandboxConfig
from tests.images.making import built, oci_archive
from tests.integration.network.imageroots import PATH, busybox_layer

_LAYERS = (1, 60)
_IMAGE = "localhost/hatchway-bench:busybox"


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--podman", default="podman")
    parser.add_argument("--agent", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.agent:
        asyncio.run(_measure_in_network(Path(asked.agent), asked.rounds))
        return
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as name:
        directory = Path(name)
        base = busybox_layer(directory / "layers/0")
        for number in range(1, max(_LAYERS)):
            (directory / f"layers/{number}").mkdir()
            (directory / f"layers/{number}/file-{number}").write_text("x")
        asyncio.run(_run_network(directory, asked.rounds))
        found = json.loads((directory / "found.json").read_text())
        pods = _measure_pods(directory, base, asked.rounds)
        peer = _podman(shlex.split(asked.podman), base, asked.rounds)
    _show("pod", pods)
    for count in _LAYERS:
        _show(f"start, {count} layer{'s' if count > 1 else ''}", found[str(count)])
    if peer:
        _show("podman run", peer)
        print(f"ratio {statistics.median(found['1']) / statistics.median(peer):.2f}")
    else:
        print(f"`{asked.podman} run` does not work here")


def _show(label: str, seconds: list[float]) -> None:
    low, middle, high = (1000 * found for found in (min(seconds), statistics.median(seconds), max(seconds)))
    print(f"{label:<20}{middle:7.1f} ms   ({low:.1f}-{high:.1f})")


async def _run_network(directory: Path, rounds: int) -> None:
    (directory / "network").mkdir()
    agent = [sys.executable, "-m", "bench.images", "--rounds", str(rounds), "--agent", str(directory)]
    settings = launcher.NetworkSettings(
        nodes=1,
        agent=["/usr/bin/env", f"--chdir={Path(__file__).parents[1]}", *agent],
        directory=directory / "network",
        log=directory / "log",
        hidden=[],
        published=[],
    )
    network = await launcher.start_private_network(settings)
    await network.closed
    await network.stop()
    if not (directory / "found.json").exists():
        sys.exit((directory / "log").read_text())


async def _measure_in_network(directory: Path, rounds: int) -> None:
    found: dict[int, list[float]] = {count: [] for count in _LAYERS}
    async with runtimes.open_runtime() as runtime:
        pod = await runtime.create_sandbox(
            SandboxConfig(
                node_index=0, uid="bench", hostname="bench", etc=lambda ip: {"hosts": "127.0.0.1 localhost\n"}
            )
        )
        # The first start also checks if overlays can be mounted.
        for round_number in range(rounds + 1):
            for count in _LAYERS:
                layers = tuple(str(directory / f"layers/{number}") for number in reversed(range(count)))
                root = ImageRoot(layers, tempfile.mkdtemp(dir=directory))
                config = ContainerConfig(
                    name="main", argv=["sleep", "1000"], env={"PATH": PATH}, stdout=2, stderr=2, root=root
                )
                begun = time.perf_counter()
                process = await pod.start(config)
                if round_number:
                    found[count].append(time.perf_counter() - begun)
                process.kill(9)
                await process.wait()
    (directory / "found.json").write_text(json.dumps(found))


def _measure_pods(directory: Path, base: Path, rounds: int) -> list[float]:
    """Return, for each pod after the first, the seconds from its POST to its first process."""
    archive = directory / "busybox.tar"
    oci_archive(archive, built(_IMAGE, base))
    load = [HATCHWAY, "image", "load", str(archive), "--state-dir", str(directory / "state")]
    subprocess.run(load, check=True, capture_output=True)
    with cluster(directory, "private") as own:
        # The first pod's image has to be unpacked.
        return [_start_pod(own, f"pod-{number}") for number in range(rounds + 1)][1:]


def _start_pod(own: Cluster, name: str) -> float:
    pods = "/api/v1/namespaces/default/pods"
    container = {"name": "main", "image": _IMAGE, "imagePullPolicy": "Never", "command": ["cat", "/proc/uptime"]}
    spec = {"containers": [container], "restartPolicy": "Never", "automountServiceAccountToken": False}
    begun = float(Path("/proc/uptime").read_text().split()[0])
    own.create(pods, {"metadata": {"name": name}, "spec": spec})
    while (phase := json.loads(own.call("GET", f"{pods}/{name}")[1])["status"]["phase"]) != "Succeeded":
        if phase == "Failed":
            raise RuntimeError(f"{name}: {own.call('GET', f'{pods}/{name}')[1].decode()}")
        time.sleep(0.05)
    return float(own.call("GET", f"{pods}/{name}/log")[1].split()[0]) - begun


def _podman(command: list[str], base: Path, rounds: int) -> list[float]:
    """Return the seconds that podman takes in each round; an empty list if it is missing or does not work."""
    if shutil.which(command[0]) is None:
        return []
    packed = subprocess.run(["tar", "-C", str(base), "-c", "."], capture_output=True, check=True).stdout
    if subprocess.run([command[0], "import", "-", _IMAGE], input=packed, capture_output=True).returncode:
        return []
    # podman's default limits may be higher than this process's own. Without the right to raise limits, podman fails.
    limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    run = [*command, "run", "--rm", "--network", "none", *limits, _IMAGE, "true"]
    seconds = []
    try:
        for _ in range(rounds + 1):
            begun = time.perf_counter()
            if subprocess.run(run, capture_output=True).returncode:
                return []
            seconds.append(time.perf_counter() - begun)
    finally:
        subprocess.run([command[0], "rmi", "-f", _IMAGE], capture_output=True)
    return seconds[1:]


if __name__ == "__main__":
    main()
