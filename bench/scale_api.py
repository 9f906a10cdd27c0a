"""A running API server with many objects and many watchers.

The benchmark starts a new cluster on loopback and makes pods, Services, ConfigMaps and claims, the claims all at once.
Then it prints:

- how long a list of all ConfigMaps takes;
- whether each of many watchers receives each of many updates, and how long after the update's answer the last watcher
  receives it;
- the share of one core that the API server uses afterwards;
- for each phase, the longest wait of a small request on a separate connection, and the CPU time of the API server's
  process in this time (in steps of 10 ms). In the rest of the wait, the machine did other work.

    .venv/bin/python bench/scale_api.py [--pods 200] [--services 2000] [--configmaps 5000] [--claims 2000]
        [--watchers 300] [--updates 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import peers
from bench.clusters import Cluster, cluster

_SPACE = "/api/v1/namespaces/scale"
_MAPS = f"{_SPACE}/configmaps"
_AT_ONCE = 16


class Client:
    """A keep-alive connection to the API server, with one request at a time."""

    def __init__(self, found: Cluster) -> None:
        self._url = urlsplit(found.server)
        self._trust: ssl.SSLContext = found.trust
        self._token = found.token
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def begin(self, method: str, path: str, body: bytes = b"") -> asyncio.StreamReader:
        """Send a request, and return the stream after the head of its answer. Raises RuntimeError for an error."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                self._url.hostname, self._url.port, ssl=self._trust, limit=2**20
            )
        reader, writer = self._streams
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._url.netloc}\r\nAccept: application/json\r\n"
            f"Authorization: Bearer {self._token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        self._head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if self._head.split(b" ", 2)[1] not in (b"200", b"201"):
            raise RuntimeError(f"{method} {path}: {self._head.decode(errors='replace')}")
        return reader

    async def ask(self, method: str, path: str, body: Any = None) -> bytes:
        """Send a request and return the body of its answer."""
        reader = await self.begin(method, path, b"" if body is None else json.dumps(body).encode())
        if b"content-length: " in self._head:
            return await reader.readexactly(int(self._head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
        pieces = []
        while size := int(await reader.readline(), 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        await reader.readline()
        return b"".join(pieces)

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].transport.abort()


@dataclass
class Wait:
    """The longest wait of a small request: seconds, and CPU seconds of the API server in that time."""

    seconds: float = 0.0
    cpu: float = 0.0


@contextlib.asynccontextmanager
async def phase(found: Cluster, title: str) -> AsyncIterator[None]:
    """Run a part of the measurement, and print how long it took and how long a small request had to wait."""
    worst = Wait()
    probe = Client(found)
    await probe.ask("GET", "/version")

    async def watch_waits() -> None:
        nonlocal worst
        while True:
            began, before = time.monotonic(), peers.cpu_seconds(found.pid)
            await probe.ask("GET", "/version")
            took = time.monotonic() - began
            if took > worst.seconds:
                worst = Wait(took, peers.cpu_seconds(found.pid) - before)
            await asyncio.sleep(0.002)

    began, before = time.monotonic(), peers.cpu_seconds(found.pid)
    task = asyncio.create_task(watch_waits())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        probe.close()
    took, spent = time.monotonic() - began, peers.cpu_seconds(found.pid) - before
    print(
        f"{title}: {took:.1f} s, {spent:.1f} s of CPU time; a small request waited for at most "
        f"{worst.seconds * 1000:.0f} ms ({worst.cpu * 1000:.0f} ms of CPU time)",
        flush=True,
    )


async def create(found: Cluster, path: str, objects: Iterable[Any], at_once: int = _AT_ONCE) -> None:
    """Create objects over some connections at once."""
    left = iter(objects)

    async def worker() -> None:
        client = Client(found)
        for obj in left:
            await client.ask("POST", path, obj)
        client.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())


async def fill(found: Cluster, wanted: argparse.Namespace) -> None:
    """Create all objects."""
    container = {"name": "c", "image": "hatchway/host", "command": ["sleep", "1000"]}
    # No node has this label, so the pods stay pending: the benchmark measures only the API server.
    spec = {"containers": [container], "nodeSelector": {"none": "such"}}
    pods = [{"metadata": {"name": f"p{n}", "labels": {"app": f"a{n}"}}, "spec": spec} for n in range(wanted.pods)]
    services = [
        {"metadata": {"name": f"s{n}"}, "spec": {"selector": {"app": f"a{n}"}, "ports": [{"port": 80}]}}
        for n in range(wanted.services)
    ]
    maps = [{"metadata": {"name": f"m{n}"}, "data": {"key": "x" * 200}} for n in range(wanted.configmaps)]
    storage = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    claims = [{"metadata": {"name": f"c{n}"}, "spec": storage} for n in range(wanted.claims)]
    for plural, objects in (("services", services), ("pods", pods), ("configmaps", maps)):
        async with phase(found, f"{len(objects)} {plural}"):
            await create(found, f"{_SPACE}/{plural}", objects)
    async with phase(found, f"{len(claims)} claims over 200 connections"):
        await create(found, f"{_SPACE}/persistentvolumeclaims", claims, 200)


async def lists(found: Cluster) -> None:
    """List all ConfigMaps several times."""
    client = Client(found)
    took, size = [], 0
    async with phase(found, "10 lists of all ConfigMaps"):
        for _ in range(10):
            began = time.monotonic()
            size = len(await client.ask("GET", _MAPS))
            took.append(time.monotonic() - began)
    client.close()
    print(f"  the first in {took[0]:.3f} s, then {statistics.median(took[1:]):.3f} s, for {size / 1e6:.1f} MB")


async def watch(found: Cluster, watchers: int, updates: int) -> None:
    """Update one ConfigMap many times, and compare the events that each watcher receives."""
    client = Client(found)
    await client.ask("POST", _MAPS, {"metadata": {"name": "watched"}, "data": {"n": "-1"}})
    version = json.loads(await client.ask("GET", f"{_MAPS}/watched"))["metadata"]["resourceVersion"]
    sent: list[float] = []
    delays: list[float] = []
    lost = 0
    last = str(updates - 1)

    async def follow(reader: asyncio.StreamReader) -> None:
        nonlocal lost
        expected = 0
        while line := await reader.readline():
            if not line.startswith(b"{"):
                continue
            number = int(line.partition(b'"n":"')[2].partition(b'"')[0])
            delays.append(time.monotonic() - sent[number])
            lost += number != expected
            expected = number + 1
            if str(number) == last:
                return
        lost += updates - expected

    following = [Client(found) for _ in range(watchers)]
    path = f"{_MAPS}?watch=1&resourceVersion={version}&fieldSelector=metadata.name%3Dwatched"
    readers = [await one.begin("GET", path) for one in following]
    async with phase(found, f"{updates} updates seen by {watchers} watchers"), asyncio.TaskGroup() as group:
        for reader in readers:
            group.create_task(follow(reader))
        for number in range(updates):
            sent.append(time.monotonic())
            await client.ask("PUT", f"{_MAPS}/watched", {"metadata": {"name": "watched"}, "data": {"n": str(number)}})
    for one in (client, *following):
        one.close()
    delays.sort()
    p99 = delays[int(len(delays) * 0.99)]
    print(f"  {lost} lost; seen after {statistics.median(delays) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, ", end="")
    print(f"at most {delays[-1] * 1000:.0f} ms")


async def measure(found: Cluster, wanted: argparse.Namespace) -> None:
    """Measure and print the results."""
    found.create("/api/v1/namespaces", {"metadata": {"name": "scale"}})
    await asyncio.sleep(1)
    await fill(found, wanted)
    await lists(found)
    await watch(found, wanted.watchers, wanted.updates)
    await asyncio.sleep(10)
    before, began = peers.cpu_seconds(found.pid), time.monotonic()
    await asyncio.sleep(20)
    share = (peers.cpu_seconds(found.pid) - before) / (time.monotonic() - began)
    print(f"idle: {share * 100:.1f} % of a core")


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=200)
    parser.add_argument("--services", type=int, default=2000)
    parser.add_argument("--configmaps", type=int, default=5000)
    parser.add_argument("--claims", type=int, default=2000)
    parser.add_argument("--watchers", type=int, default=300)
    parser.add_argument("--updates", type=int, default=1000)
    wanted = parser.parse_args()
    temporary = tempfile.TemporaryDirectory(prefix="hatchway-bench-")
    with temporary as directory, cluster(Path(directory), "loopback", label="-scale") as found:
        asyncio.run(measure(found, wanted))


if __name__ == "__main__":
    main()
