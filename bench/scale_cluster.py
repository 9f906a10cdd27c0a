"""A running cluster with many objects: real processes, real HTTP clients.

The benchmark starts a new cluster and makes ConfigMaps and Services in one namespace, over several connections at once.
It prints:

- the rate at which the last thousand objects are made, beside the rate of the first thousand;
- whether the first, a middle, the last and a new Service can be reached from a pod by DNS name;
- the share of one core that all processes of the cluster together use after --rest seconds without requests;
- how long the deletion of the namespace takes.

    .venv/bin/python bench/scale_cluster.py [--configmaps 5000] [--services 2000] [--rest 60]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import peers
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.client import ConnectionClient
from hatchway.kube.connection import Connection
from hatchway.kube.serversettings import with_certificate

NAMESPACE = "full"
AT_ONCE = 8
# The program of the pod behind the Services.
_SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"served")
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
# Sends a request to each address until it is answered, because EndpointSlices are made shortly after their Services.
_ASK = """
import sys, time, urllib.request
def ask(url):
    while True:
        try:
            return urllib.request.urlopen(url, timeout=10).read().decode()
        except OSError:
            time.sleep(0.05)
print([ask(url) for url in sys.argv[1:]])
"""


def hatchway(base: Path, *arguments: str) -> str:
    """Run a command of `hatchway` on the cluster in a directory; return its output."""
    command = [str(Path(sys.executable).parent / "hatchway"), arguments[0], "--state-dir", str(base), *arguments[1:]]
    env = {**os.environ, "HOME": str(base), "KUBECONFIG": str(base / "kubeconfig")}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout


def cpu_seconds(pids: list[int]) -> dict[int, float]:
    """Return the processor seconds that processes have used; processes that have ended are left out."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            found[pid] = peers.cpu_seconds(pid)
    return found


def processes(base: Path) -> list[int]:
    """Return all processes of the cluster: the control plane, the network's first process, and their descendants."""
    parents: dict[int, list[int]] = {}
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                line = (entry / "cmdline").read_text()
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
            if "hatchway.cluster" in line and str(base) in line:
                found.append(int(entry.name))
    for known in found:
        found += [pid for pid in parents.get(known, []) if pid not in found]
    return found


def tell_processes(used: dict[int, float], unit: str) -> None:
    """Print the five processes that have used the most processor time. used: seconds by process ID."""
    for pid, share in sorted(used.items(), key=lambda item: -item[1])[:5]:
        line = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        print(f"  {share:.2f} {unit}  {line[:100]}")


async def make(client: ConnectionClient, resource: str, objects: list[Object]) -> list[float]:
    """Create objects over several connections; return when each was created, in seconds from the start."""
    start = time.monotonic()
    left = iter(objects)
    done: list[float] = []

    async def worker() -> None:
        for obj in left:
            await client.create(resource, obj, NAMESPACE)
            done.append(time.monotonic() - start)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    return done


def tell_rates(what: str, done: list[float]) -> None:
    """Print the rates of the first and the last thousand. done: when each was created, in seconds."""
    part = min(1000, len(done) // 2)
    first, last = done[part - 1], done[-1] - done[-part - 1]
    print(f"{what}: {part / first:.0f}/s at first, {part / last:.0f}/s at last: {first / last:.2f} of the first rate")


def service(name: str, **spec: object) -> Object:
    """Return a Service of the pod `web`. spec: further fields of its spec."""
    return {
        "metadata": {"name": name},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]} | spec,
    }


async def until_ready(client: ConnectionClient, name: str) -> Object:
    """Wait until a pod is ready and return it."""
    while True:
        pod = await client.get("pods", name, NAMESPACE)
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", ())):
            return pod
        await asyncio.sleep(0.1)


async def ask_from_inside(client: ConnectionClient, name: str, urls: list[str]) -> str:
    """Return the answers that a new pod gets from these URLs. name: the pod's name."""
    container = {"name": "c", "image": "hatchway/host", "command": ["python3", "-c", _ASK, *urls]}
    spec = {"containers": [container], "restartPolicy": "Never"}
    await client.create("pods", {"metadata": {"name": name}, "spec": spec}, NAMESPACE)
    while True:
        pod = await client.get("pods", name, NAMESPACE)
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            break
        await asyncio.sleep(0.1)
    _, log = await client.exchange("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/log")
    return log.decode().strip()


async def measure(base: Path, wanted: argparse.Namespace) -> None:
    """Create objects in the cluster in a directory, and print the results. wanted: the command line's arguments."""
    run = json.loads((base / "hatchway/run.json").read_text())
    keys = base / "hatchway/pki"
    own = with_certificate(run["server"], keys / "ca.crt", keys / "admin.crt", keys / "admin.key")
    async with Connection.fixed(own).client as client:
        await client.create("namespaces", {"metadata": {"name": NAMESPACE}})
        container = {"name": "c", "image": "hatchway/host", "command": ["python3", "-c", _SERVER]}
        pod = {
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
        }
        await client.create("pods", pod, NAMESPACE)
        maps = [{"metadata": {"name": f"map-{n}"}, "data": {"key": "x" * 100}} for n in range(wanted.configmaps)]
        tell_rates("ConfigMaps", await make(client, "configmaps", maps))
        await until_ready(client, "web")
        names = [f"s-{n}" for n in range(wanted.services)]
        tell_rates("Services", await make(client, "services", [service(name) for name in names]))
        begun = time.monotonic()
        urls = [f"http://{name}.{NAMESPACE}/" for name in (names[0], names[len(names) // 2], names[-1])]
        print(f"read from inside: {await ask_from_inside(client, 'asks', urls)} after {time.monotonic() - begun:.1f} s")
        await client.create("services", service("late"), NAMESPACE)
        begun = time.monotonic()
        late = await ask_from_inside(client, "asks-late", [f"http://late.{NAMESPACE}/"])
        print(f"a new Service: {late} after {time.monotonic() - begun:.1f} s")
        tell_processes(cpu_seconds(processes(base)), "s until now")
        print(f"waiting {wanted.rest} s", flush=True)
        await asyncio.sleep(wanted.rest)
        pids = processes(base)
        before, began = cpu_seconds(pids), time.monotonic()
        await asyncio.sleep(20)
        after, took = cpu_seconds(pids), time.monotonic() - began
        shares = {pid: (after[pid] - before[pid]) / took * 100 for pid in after if pid in before}
        print(f"idle: {sum(shares.values()):.2f} % of a core")
        tell_processes(shares, "%")
        begun, spent = time.monotonic(), cpu_seconds(processes(base))
        await client.delete("namespaces", NAMESPACE)
        while True:
            try:
                await client.get("namespaces", NAMESPACE)
            except ApiError as error:
                if error.code == 404:
                    break
                raise
            await asyncio.sleep(0.1)
        used = {pid: seconds - spent.get(pid, 0.0) for pid, seconds in cpu_seconds(processes(base)).items()}
        took = time.monotonic() - begun
        print(f"namespace deleted after {took:.1f} s, with {sum(used.values()):.1f} s of processor time")
        tell_processes(used, "s")


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configmaps", type=int, default=5000)
    parser.add_argument("--services", type=int, default=2000)
    parser.add_argument("--rest", type=float, default=60.0)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hatchway-scale-") as directory:
        base = Path(directory)
        hatchway(base, "up", "--detach", "--kubeconfig", str(base / "kubeconfig"), "--api-port", "0")
        try:
            asyncio.run(measure(base, wanted))
        finally:
            hatchway(base, "down")


if __name__ == "__main__":
    main()
