"""WebSockets through the door: `.venv/bin/python bench/door_websockets.py [--rounds N] [--idle N]`.

`hatchway proxy` and `kubectl proxy` stand in front of the same TLS server, which sends back what it receives:

    echo      messages/s with one connection and with 64, each with one message of 64 bytes in flight, in interleaved
              rounds; and the proxy's CPU time for a message, which other work of the machine changes less
    idle      memory of the proxy's process (its proportional share, PSS) with 5,000 silent connections

Each connection needs two sockets of the proxy, so the limit of open files must be at least 12,000.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvloop

from bench import doors, peers
from bench.compare import ratio
from bench.doors import Door
from tests.freeports import free_port

# A whole text frame of 64 bytes, masked with zeros (RFC 6455 section 5.2).
MESSAGE = b"\x81\xbe" + bytes(4) + b"x" * 62
_AT_ONCE = 50  # the most connections that are opened at a time, so that no listener's backlog overflows
_FILES = 12_000


class _Client(asyncio.Protocol):
    """A client that upgrades its connection, and after a call of `go` always has one message in flight."""

    transport: asyncio.Transport

    def __init__(self, port: int) -> None:
        self._port = port
        self._head = b""
        self._pending = 0
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.echoed = 0
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(
            f"GET {doors.PREFIX}echo HTTP/1.1\r\nHost: localhost:{self._port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if not self.open.done():
            self._head += data
            if self._head.endswith(b"\r\n\r\n"):
                assert self._head.startswith(b"HTTP/1.1 101 "), self._head
                self.open.set_result(None)
            return
        self._pending -= len(data)
        if not self._pending:
            self.echoed += 1
            if not self.stopped:
                self.go()

    def go(self) -> None:
        self._pending = len(MESSAGE)
        self.transport.write(MESSAGE)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(exc or ConnectionError("closed before it was upgraded"))


async def _opened(door: Door, count: int) -> list[_Client]:
    loop = asyncio.get_running_loop()
    clients: list[_Client] = []
    for start in range(0, count, _AT_ONCE):
        some = min(_AT_ONCE, count - start)
        made = await asyncio.gather(
            *(loop.create_connection(lambda: _Client(door.port), "127.0.0.1", door.port) for _ in range(some))
        )
        await asyncio.gather(*(client.open for _, client in made))
        clients += [client for _, client in made]
    return clients


async def echo(door: Door, connections: int, seconds: float) -> tuple[float, float]:
    """Return messages/s, and microseconds of the proxy's CPU time for a message."""
    clients = await _opened(door, connections)
    spent = peers.cpu_seconds(door.pid)
    began = time.monotonic()
    for client in clients:
        client.go()
    await asyncio.sleep(seconds)
    count = sum(client.echoed for client in clients)
    took = time.monotonic() - began
    spent = peers.cpu_seconds(door.pid) - spent
    for client in clients:
        client.stopped = True
        client.transport.abort()
    return count / took, spent * 1e6 / max(1, count)


def memory(pid: int) -> float:
    """Return the proportional share of a process's memory, in MB (smaps_rollup, proc(5))."""
    found = re.search(r"\nPss: +([0-9]+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


async def idle(door: Door, count: int) -> tuple[float, float]:
    """Return (the proxy's memory in MB without connections, the same with `count` connections)."""
    before = memory(door.pid)
    clients = await _opened(door, count)
    await asyncio.sleep(5)
    after = memory(door.pid)
    for client in clients:
        client.transport.abort()
    await asyncio.sleep(1)
    return before, after


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--idle", type=int, default=5000)
    args = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FILES:
        if hard != resource.RLIM_INFINITY and hard < _FILES:
            raise SystemExit(f"{_FILES} open files are needed and {hard} allowed: ulimit -Hn")
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as temporary:
        directory = Path(temporary)
        certificate = peers.make_certificate(directory)
        port = free_port()
        program = str(Path(__file__).with_name("echo_server.py"))
        server = [sys.executable, program, str(port), *map(str, certificate)]
        config = doors.kubeconfig(directory, port, certificate)
        with peers.running(server, port):
            with doors.standing(config) as found:
                print(f"{args.rounds} rounds of {args.seconds} s, load {os.getloadavg()[0]:.1f} before")
                for connections in (1, 64):
                    echoes(found, connections, args.rounds, args.seconds)
            with doors.standing(config) as found:  # a new process: free memory of the old one would hide the growth
                print(f"{args.idle} idle connections")
                weighed = {}
                for name, door in found.items():
                    before, after = uvloop.run(idle(door, args.idle))
                    weighed[name] = after
                    each = (after - before) * 1e3 / args.idle
                    print(f"{name:28}{before:8.0f} MB before{after:8.0f} MB with them   {each:.1f} KB each")
                beside = weighed["hatchway proxy"] / weighed["kubectl proxy"]
                doors.goal("memory beside kubectl proxy's, at most 1.0", beside, beside <= 1)


def echoes(found: dict[str, Door], connections: int, rounds: int, seconds: float) -> None:
    """Measure echoed messages through both proxies, and print the results."""
    shown: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
    for number in range(rounds + 1):
        for name, door in found.items():
            measured = uvloop.run(echo(door, connections, seconds if number else 1))
            if number:
                shown[name].append(measured)
    columns = {name: list(zip(*rows, strict=True)) for name, rows in shown.items()}
    print(f"{f'echo, {connections} connections':28}{'messages/s':>12}{'ratio':>8}{'CPU µs':>8}{'ratio':>8}")
    for name, (rates, spent) in columns.items():
        beside, cpu = (
            ratio(ours, theirs) for ours, theirs in zip((rates, spent), columns["kubectl proxy"], strict=True)
        )
        print(
            f"{name:28}{statistics.median(rates):12.0f}{beside:8.2f}{statistics.median(spent):8.1f}{cpu:8.2f}"
            f"   ({min(rates):.0f}–{max(rates):.0f})"
        )
        if name.startswith("hatchway"):
            doors.goal(f"messages/s beside kubectl proxy, {connections} connections, at least 1.0", beside, beside >= 1)


if __name__ == "__main__":
    main()
