"""Memory and descriptors after many requests and resets: `.venv/bin/python bench/soak.py [--requests 20000] ...`.

The benchmark sends mixed requests, cuts watches, and resets connections in every phase of an exchange, on both sides,
through the API server's service proxy and through the door. A cluster (`hatchway up`, on loopback unless --network says
otherwise), its door (`hatchway proxy`) and an application in a pod (`soak_server.py`) run as separate processes.

After a warm-up of the same kinds, and again at the end, the memory (RSS) and the descriptors of the control plane and
of the door are recorded at rest. The goal is a growth of at most 10 MB, and no additional descriptor. Both numbers are
also printed after each tenth of the requests and each kind of reset. Memory that grows each time is a leak. Memory that
grows once, and then stays the same, is not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import socket
import ssl
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import peers, soak_server
from bench.clusters import Cluster, cluster
from bench.doors import goal
from bench.memory import resident
from tests.freeports import free_port

_GROWTH = 10_000_000
_CONNECTIONS = 16
# The number of connections that are reset at the same time.
_AT_ONCE = 16
# Seconds within which closed connections must have disappeared.
_PATIENCE = 60.0
_UPGRADE = b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n"
_LARGE = b"X-Large: " + b"x" * 100_000 + b"\r\n"
# The size (bytes) of the receive buffer of a connection that does not read.
_NARROW = 16 * 1024


@dataclass(frozen=True, slots=True)
class Route:
    """A way to the application.

    Attributes:
        name: the name in the output.
        port: the port of 127.0.0.1.
        host: the field Host of requests to the application.
        path: the application's root.
        fields: further field lines of each request.
        tls: None for plain HTTP.
        api_host: the field Host of requests to the API server's own API.
    """

    name: str
    port: int
    host: bytes
    path: bytes
    fields: bytes
    tls: ssl.SSLContext | None
    api_host: bytes

    def head(self, method: bytes, path: bytes, more: bytes = b"", *, api: bool = False) -> bytes:
        """Return a request's head: the request line, Host and authentication, then `more`."""
        host, root = (self.api_host, b"") if api else (self.host, self.path)
        return b"%b %b%b HTTP/1.1\r\nHost: %b\r\n%b%b" % (method, root, path, host, self.fields, more)

    async def open(self, *, narrow: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, with TLS if the route uses TLS. narrow: True for a small receive buffer."""
        sock = socket.socket()
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
            name = "127.0.0.1" if self.tls else None
            return await asyncio.open_connection(
                sock=sock, ssl=self.tls, server_hostname=name, limit=1 << 20 if not narrow else _NARROW
            )
        except BaseException:
            sock.close()
            raise


async def _answer(reader: asyncio.StreamReader) -> int:
    """Read one response and return its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    fields = head.lower()
    if status == 101:
        return status
    if b"\r\ntransfer-encoding: chunked" in fields:
        while size := int((await reader.readline()).partition(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    elif (at := fields.find(b"\r\ncontent-length: ")) >= 0:
        await reader.readexactly(int(fields[at + 18 : fields.index(b"\r\n", at + 18)]))
    return status


def _kinds(route: Route) -> list[tuple[int, bytes, int]]:
    """Return (how often it is sent, bytes, expected status) for each kind of request. Upgrades end a connection."""
    small, big = b"hello", b"y" * 100_000
    length = b"Content-Length: %d\r\n\r\n"
    post = b"Content-Type: application/octet-stream\r\n"
    return [
        (400, route.head(b"GET", b"ok", b"\r\n"), 200),
        (150, route.head(b"POST", b"echo", post + length % len(small)) + small, 200),
        (30, route.head(b"POST", b"echo", post + length % len(big)) + big, 200),
        (50, route.head(b"PUT", b"echo", post + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), 200),
        (80, route.head(b"GET", b"missing", b"\r\n"), 404),
        (30, route.head(b"GET", b"stream", b"\r\n"), 200),
        (5, route.head(b"GET", b"download", b"\r\n"), 200),
        (10, route.head(b"GET", b"large", _LARGE + b"\r\n"), 200),
        (60, route.head(b"GET", b"/api/v1/namespaces/default/services", b"\r\n", api=True), 200),
        (10, route.head(b"GET", b"/api/v1/namespaces/default/services/none", b"\r\n", api=True), 404),
        (30, route.head(b"GET", b"ok?%d", b"\r\n"), 200),
        (20, route.head(b"GET", b"ws", _UPGRADE), 101),
        (10, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ]


async def _worker(route: Route, left: Callable[[], bool], wrong: dict[str, int]) -> None:
    """Send mixed requests on one connection after the other, until `left` returns False."""
    order = [kind for times, *kind in _kinds(route) for _ in range(times)]
    step = itertools.count(1)
    reader, writer = await route.open()
    while left():
        number = next(step)
        # A fixed order that mixes the requests: 389 has no divisor in common with their number.
        request, expected = order[number * 389 % len(order)]
        assert isinstance(request, bytes) and isinstance(expected, int)
        writer.write(request.replace(b"ok?%d", b"ok?%d" % number))
        try:
            found: object = await asyncio.wait_for(_answer(reader), 60)
            if found == 101:
                writer.write(b"ping")
                await reader.readexactly(4)
        except (OSError, EOFError, TimeoutError) as error:
            found = type(error).__name__
        if found != expected:
            what = f"{route.name}: {request[:60]!r}: {found} instead of {expected}"
            wrong[what] = wrong.get(what, 0) + 1
        if found in (101, 400) or not isinstance(found, int) or number % 1000 == 0:
            writer.transport.abort()
            reader, writer = await route.open()
    writer.transport.abort()


async def mixed(
    routes: list[Route], number: int, wrong: dict[str, int], after_tenth: Callable[[str], None] = lambda _: None
) -> None:
    """Send mixed requests by all routes at once.

    number: the number of requests, by all routes together. wrong: counts unexpected answers, by their description.
    after_tenth: called after each tenth of the requests, with the number of requests so far.
    """
    counter = itertools.count(1)
    tenth = max(1, number // 10)

    def left() -> bool:
        count = next(counter)
        if count <= number and count % tenth == 0:
            after_tenth(f"{count} requests")
        return count <= number

    await asyncio.gather(*(_worker(route, left, wrong) for route in routes for _ in range(_CONNECTIONS)))


def _phases(route: Route) -> dict[str, tuple[bytes, str]]:
    """Return, for each phase of an exchange, (the bytes that the client sends, its wait before one side resets).

    The waits: "": none. "moment": a short time. "answer": until the first bytes of an answer arrive. "end": until the
    connection ends. "flood": until no more bytes can be sent.
    """
    silent, upgrade = route.head(b"GET", b"silent", b"\r\n"), route.head(b"GET", b"ws", _UPGRADE)
    post = route.head(b"POST", b"silent", b"Content-Length: %d\r\n\r\n" % (16 * soak_server.DOWNLOAD))
    phases = {
        "client: connected": (b"", ""),
        "client: part of a head": (silent[:-10], ""),
        "client: part of a large head": (route.head(b"GET", b"ok", _LARGE), "moment"),
        "client: a head": (silent, ""),
        "client: an answer is due": (route.head(b"GET", b"ok", b"\r\n"), ""),
        "client: waiting": (silent, "moment"),
        "client: part of a body": (post + b"abc", "moment"),
        "client: a body that is not read": (post, "flood"),
        "client: an answer under way": (route.head(b"GET", b"flood", b"\r\n"), "answer"),
        "client: an answer that is not read": (route.head(b"GET", b"flood", b"\r\n"), "moment"),
        "client: pipelined": (silent * 20, "moment"),
        "client: an upgrade": (upgrade, "answer"),
        "client: an upgrade's message": (upgrade + b"message", ""),
    }
    for path in (b"reset", b"reset-head", b"reset-body", b"reset-chunk"):
        phases[f"upstream: {path.decode()}"] = (route.head(b"GET", path, b"Connection: close\r\n\r\n"), "end")
    phases["upstream: reset-switched"] = (route.head(b"GET", b"reset-switched", _UPGRADE), "end")
    phases["upstream: reset during an upload"] = (post.replace(b"silent", b"reset") + b"abc", "answer")
    return phases


async def _reset_one(route: Route, sent: bytes, wait_for: str) -> None:
    reader, writer = await route.open(narrow=True)
    try:
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            writer.write(sent)
            async with asyncio.timeout(20):
                if wait_for == "moment":
                    await asyncio.sleep(0.02)
                elif wait_for == "answer":
                    await reader.readexactly(12)
                elif wait_for == "end":
                    while await reader.read(65536):
                        pass
                elif wait_for == "flood":
                    for _ in range(64):
                        if writer.transport.get_write_buffer_size() > soak_server.DOWNLOAD:
                            break
                        writer.write(soak_server.PIECE)
                        await asyncio.sleep(0)
    finally:
        sock = writer.get_extra_info("socket")
        if sock is not None:  # it is None when the other side has ended the connection
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def resets(routes: list[Route], number: int, after_phase: Callable[[str], None] = lambda _: None) -> None:
    """Reset connections in every phase of an exchange, by one route after the other.

    number: the number of resets in each phase, by each route. after_phase: called after each phase, with its name.
    """
    for route in routes:
        for phase, (sent, wait_for) in _phases(route).items():
            counter = itertools.count(1)

            async def some(
                route: Route = route,
                sent: bytes = sent,
                wait_for: str = wait_for,
                counter: itertools.count[int] = counter,
            ) -> None:
                while next(counter) <= number:
                    await _reset_one(route, sent, wait_for)

            await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
            after_phase(f"{number} resets by the {route.name}, {phase}")


async def watches(routes: list[Route], number: int) -> None:
    """Open `number` watches in groups, wait until each has received bytes, and reset them."""
    for route in routes:
        request = route.head(b"GET", b"/api/v1/namespaces/default/services?watch=1", b"\r\n", api=True)
        for _ in range(max(1, number // 50)):
            await asyncio.gather(*(_reset_one(route, request, "answer") for _ in range(min(50, number))))


@dataclass(frozen=True, slots=True)
class State:
    """Resident memory of a process in bytes, and the number of its open descriptors."""

    memory: int
    descriptors: int


def _state(pid: int) -> State:
    return State(resident(pid), len(os.listdir(f"/proc/{pid}/fd")))


def _print_states(when: str, processes: dict[str, int]) -> None:
    """Print the memory and descriptors of processes at one moment. processes: their ids by name."""
    states = {name: _state(pid) for name, pid in processes.items()}
    columns = (f"{name} {one.memory / 1e6:6.1f} MB {one.descriptors:4} fd" for name, one in states.items())
    print(f"{time.strftime('%H:%M:%S')}  {'   '.join(columns)}   {when}", flush=True)


async def _rest(pids: list[int], before: dict[int, State] | None) -> dict[int, State]:
    """Wait until processes are at rest, and return their states.

    At rest, the number of a process's descriptors has not changed for a while, and is not above the number in `before`.
    """
    end = time.monotonic() + _PATIENCE
    last, since = {pid: _state(pid) for pid in pids}, time.monotonic()
    while time.monotonic() < end:
        await asyncio.sleep(1)
        found = {pid: _state(pid) for pid in pids}
        if any(found[pid].descriptors != last[pid].descriptors for pid in pids):
            since = time.monotonic()
        last = found
        # Idle upstream connections stay open for half a minute.
        quiet = time.monotonic() - since > 35
        if quiet and (before is None or all(last[pid].descriptors <= before[pid].descriptors for pid in pids)):
            break
    return last


@contextlib.asynccontextmanager
async def _routes(found: Cluster, kubeconfig: Path) -> AsyncIterator[tuple[list[Route], dict[str, int]]]:
    """Start the application and the door; yield both routes, and the IDs of the measured processes by name."""
    name = "bench-service"
    namespace = "/api/v1/namespaces/default"
    labels = {"app": name}
    found.create(
        f"{namespace}/configmaps",
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {"server.py": Path(soak_server.__file__).read_text()},
        },
    )
    # Pods of a cluster on loopback see the machine's files. A variable of the environment names the pod's own
    # directory.
    container = {
        "name": "server",
        "image": "hatchway/host",
        "command": ["sh", "-c", 'exec python3 "$HATCHWAY_ROOT/etc/soak/server.py"'],
        "volumeMounts": [{"name": "code", "mountPath": "/etc/soak"}],
    }
    volumes = [{"name": "code", "configMap": {"name": name}}]
    pod = {"containers": [container], "volumes": volumes}
    meta = {"name": name, "labels": labels}
    found.create(f"{namespace}/pods", {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod})
    port = {"name": "http", "port": 80, "targetPort": soak_server.PORT}
    service = {"selector": labels, "ports": [port]}
    found.create(
        f"{namespace}/services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service}
    )
    path = f"{namespace}/services/{name}:http/proxy/"
    end = time.monotonic() + 60
    while found.call("GET", f"{path}ok")[0] != 200:
        if time.monotonic() > end:
            raise RuntimeError(f"the pod does not answer: {found.call('GET', f'{namespace}/pods/{name}/log')}")
        await asyncio.sleep(0.1)
    server = found.server.removeprefix("https://")
    api_port, door_port = int(server.rpartition(":")[2]), free_port()
    program = str(Path(sys.executable).parent / "hatchway")
    command = [program, "proxy", "--kubeconfig", str(kubeconfig), f"--port={door_port}"]
    with peers.running(command, door_port) as door:
        bearer = f"Authorization: Bearer {found.token}\r\n".encode()
        host = f"{name}.default.svc.localhost:{door_port}".encode()
        yield (
            [
                Route("API server", api_port, server.encode(), path.encode(), bearer, found.trust, server.encode()),
                Route("door", door_port, host, b"/", b"", None, f"localhost:{door_port}".encode()),
            ],
            {"control plane": found.pid, "door": door.pid},
        )


async def soak(found: Cluster, kubeconfig: Path, args: argparse.Namespace) -> bool:
    """Run the warm-up and the measured part, and print the results. Return True when all goals were reached."""
    wrong: dict[str, int] = {}
    async with _routes(found, kubeconfig) as (routes, processes):
        pids = list(processes.values())

        def note(when: str) -> None:
            _print_states(when, processes)

        note("at first")
        # The warm-up has as many connections at the same time as the measured part, so that the memory for them is
        # already in use.
        await mixed(routes, max(2000, args.requests // 10), {})
        note("warm-up: requests")
        await resets(routes, min(args.resets, 200))
        note("warm-up: resets")
        await watches(routes, args.watches)
        note("warm-up: watches")
        before = await _rest(pids, None)
        note("before, at rest")
        begun = time.monotonic()
        await mixed(routes, args.requests, wrong, note)
        print(f"{args.requests} mixed requests in {time.monotonic() - begun:.0f} s", flush=True)
        begun = time.monotonic()
        await resets(routes, args.resets, note)
        phases = len(_phases(routes[0]))
        print(
            f"{args.resets} resets in each of {phases} phases on both ways in {time.monotonic() - begun:.0f} s",
            flush=True,
        )
        await watches(routes, args.watches)
        note(f"{args.watches} watches on both ways opened and cut")
        after = await _rest(pids, before)
        note("after, at rest")
        good = not wrong
        for what, times in sorted(wrong.items()):
            print(f"unexpected: {what}, {times} times")
        for name, pid in processes.items():
            growth = after[pid].memory - before[pid].memory
            more = after[pid].descriptors - before[pid].descriptors
            print(f"{name}: {after[pid].memory / 1e6:.1f} MB, {after[pid].descriptors} descriptors")
            goal(f"{name}: growth of at most 10 MB (MB)", growth / 1e6, growth <= _GROWTH)
            goal(f"{name}: descriptors as before (more)", more, more <= 0)
            good = good and growth <= _GROWTH and more <= 0
        return good


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000, help="mixed requests, half by each way")
    parser.add_argument("--resets", type=int, default=100, help="resets in every phase, by each way")
    parser.add_argument("--watches", type=int, default=60, help="watches, by each way")
    parser.add_argument("--network", choices=("loopback", "private"), default="loopback")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hatchway-soak-") as temporary:
        directory = Path(temporary)
        with cluster(directory, args.network) as found:
            good = uvloop.run(soak(found, directory / f"kubeconfig-{args.network}", args))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
