"""The API server's CPU time for a request, beside another checkout of Hatchway in the same run.

Each checkout has a cluster of its own (`hatchway up --ephemeral`, without nodes and add-ons). wrk sends requests over
keep-alive TLS connections with a bearer token: a GET of one ConfigMap, a LIST of 500, a POST of new ones; and a PUT
whose result many watchers see. The benchmark prints the microseconds of CPU time of the control plane for a request,
and the ratio to the other checkout's. Other work of the machine changes CPU time less than requests per second.

    .venv/bin/python bench/api.py [--other CHECKOUT] [--rounds 5] [--seconds 2] [--watchers 200] [--only PUT]

The other checkout needs a `.venv` of its own, which `scripts/setup dev` makes. Without --other, only this checkout is
measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import peers
from bench.clusters import Cluster, cluster
from bench.compare import compare

LISTED = 500
_LISTS = "/api/v1/namespaces/listed/configmaps"
_POSTED = "/api/v1/namespaces/posted/configmaps"
_WATCHED = "/api/v1/namespaces/watched/configmaps"
# How many changes the watchers see in a round.
_CHANGES = 50
_POST = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local count = 0
request = function()
  count = count + 1
  local name = "c-ROUND-" .. count
  local body = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"' .. name .. '"},"data":{"a":"b","c":"d"}}'
  return wrk.format(nil, nil, nil, body)
end
"""


def fill(found: Cluster) -> None:
    """Create the namespaces and the ConfigMaps that are read."""
    for name in ("listed", "posted", "watched"):
        found.create("/api/v1/namespaces", {"metadata": {"name": name}})
    labels = {"app": "bench", "part-of": "api"}
    for number in range(LISTED):
        data = {f"key-{index}": f"value {index} of {number}" for index in range(8)}
        found.create(_LISTS, {"metadata": {"name": f"c-{number}", "labels": labels}, "data": data})
    found.create(_WATCHED, {"metadata": {"name": "changed"}, "data": {"n": "0"}})


class Measured:
    """One contender: measures the load that each kind of request makes on its API server."""

    def __init__(self, found: Cluster, directory: Path, label: str, *, connections: int, seconds: float) -> None:
        self._found, self._directory, self._label = found, directory, label
        self._connections, self._seconds = connections, seconds
        self._round = 0

    def read(self, path: str) -> Callable[[], peers.Load]:
        """Return a function that measures a GET of a path."""
        return lambda: self._run(path, "")

    def post(self) -> peers.Load:
        """Measure the creation of ConfigMaps; they are deleted before the next round."""
        self._round += 1
        load = self._run(_POSTED, _POST.replace("ROUND", str(self._round)))
        self._found.call("DELETE", _POSTED)
        return load

    def _run(self, path: str, script: str) -> peers.Load:
        file = self._directory / f"wrk-{self._label}.lua"
        file.touch(mode=0o600)
        file.write_text(f'wrk.headers["Authorization"] = "Bearer {self._found.token}"\n{script}')
        return peers.wrk(self._found.server + path, self._connections, self._seconds, self._found.pid, file)

    def watch(self, watchers: int) -> Callable[[], peers.Load]:
        """Return a function that measures changes of an object with many watchers; a change counts as one request."""
        return lambda: asyncio.run(self._watch(watchers))

    async def _watch(self, watchers: int) -> peers.Load:
        url = urlsplit(self._found.server)
        seen = [0] * watchers
        changed = asyncio.Event()

        async def follow(number: int, reader: asyncio.StreamReader) -> None:
            while line := await reader.readline():
                if b'"MODIFIED"' in line:
                    seen[number] += 1
                    changed.set()

        version = json.loads(self._found.call("GET", _WATCHED)[1])["metadata"]["resourceVersion"]
        head = (
            f"GET {_WATCHED}?watch=true&resourceVersion={version} HTTP/1.1\r\nHost: {url.netloc}\r\n"
            f"Accept: application/json\r\nAuthorization: Bearer {self._found.token}\r\n\r\n"
        )
        streams = []
        for _ in range(watchers):
            reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=self._found.trust)
            writer.write(head.encode())
            await reader.readuntil(b"\r\n\r\n")
            streams.append((reader, writer))
        # One connection for all changes: a TLS handshake would take as much time as sending to a hundred watchers.
        writing = http.client.HTTPSConnection(url.hostname or "", url.port, context=self._found.trust, timeout=30)
        await asyncio.to_thread(writing.connect)
        following = [asyncio.create_task(follow(number, one[0])) for number, one in enumerate(streams)]
        slowest = []
        before, began = peers.cpu_seconds(self._found.pid), time.monotonic()
        for number in range(1, _CHANGES + 1):
            sent = time.monotonic()
            body = {"metadata": {"name": "changed"}, "data": {"n": str(number)}}
            await asyncio.to_thread(self._put, writing, body)
            while min(seen) < number:
                changed.clear()
                await asyncio.wait_for(changed.wait(), 30)
            slowest.append(time.monotonic() - sent)
        took, spent = time.monotonic() - began, peers.cpu_seconds(self._found.pid) - before
        writing.close()
        for task in following:
            task.cancel()
        for _, writer in streams:
            writer.transport.abort()
        slowest.sort()
        return peers.Load(_CHANGES / took, slowest[-1] * 1000, 0, spent * 1e6 / _CHANGES)

    def _put(self, writing: http.client.HTTPSConnection, body: dict[str, object]) -> None:
        headers = {"Authorization": f"Bearer {self._found.token}", "Content-Type": "application/json"}
        writing.request("PUT", f"{_WATCHED}/changed", json.dumps(body), headers)
        answer = writing.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"PUT: {answer.status} {text!r}")


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, help="another checkout, with a .venv")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--watchers", type=int, default=200)
    parser.add_argument("--only", default="", help="the first word of one kind: GET, LIST, POST or PUT")
    args = parser.parse_args()
    checkouts = {"here": None, **({"other": args.other.resolve()} if args.other else {})}
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as temporary, contextlib.ExitStack() as stack:
        measured = dict(_contenders(stack, Path(temporary), checkouts, args))
        unit = "other" if args.other else "here"
        kinds: dict[str, Callable[[Measured], Callable[[], peers.Load]]] = {
            "GET of a ConfigMap": lambda one: one.read(f"{_LISTS}/c-1"),
            f"LIST of {LISTED} ConfigMaps": lambda one: one.read(_LISTS),
            "POST of a ConfigMap": lambda one: one.post,
            f"PUT seen by {args.watchers} watchers": lambda one: one.watch(args.watchers),
        }
        for title, load in kinds.items():
            if not title.startswith(args.only):
                continue
            print(f"\n{title}")
            compare({name: load(one) for name, one in measured.items()}, args.rounds, unit)


def _contenders(
    stack: contextlib.ExitStack, directory: Path, checkouts: dict[str, Path | None], args: argparse.Namespace
) -> Iterator[tuple[str, Measured]]:
    for name, checkout in checkouts.items():
        found = stack.enter_context(cluster(directory, "loopback", label=f"-{name}", nodes=0, checkout=checkout))
        fill(found)
        yield name, Measured(found, directory, name, connections=args.connections, seconds=args.seconds)


if __name__ == "__main__":
    main()
