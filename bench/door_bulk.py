"""A gibibyte down and up through the door, and slow clients beside a fast one: `.venv/bin/python bench/door_bulk.py`.

`hatchway proxy` and `kubectl proxy` stand in front of the same TLS server, in interleaved rounds of one run:

    throughput    the speed of one client down and up, and the CPU time that the proxy takes for a gibibyte
    memory        the growth of the proxy's resident memory meanwhile
    slow clients  the speed of one fast client while 200 others read 10 KB/s each

The TLS server and the client are small programs that do not limit the proxies. On a machine with two cores they share
the cores with the proxy. So the CPU time predicts better than the speed how a machine with more cores would behave.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import doors, peers
from bench.compare import ratio
from bench.doors import Door
from bench.memory import Peak
from tests.freeports import free_port

_PIECE = 256 * 1024
_MIB = 1024 * 1024
_WARM_UP = 32 * _MIB
SLOW_CLIENTS = 200
SLOW_RATE = 10_000
_SETTLED = 20.0


def _request(door: Door, head: str, *, receive_buffer: int = 0) -> socket.socket:
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(("127.0.0.1", door.port))
    sock.sendall(f"{head}\r\nHost: localhost:{door.port}\r\n".encode())
    return sock


def down(door: Door, size: int) -> None:
    """Download `size` bytes through a proxy."""
    with _request(door, f"GET {doors.PREFIX}{size} HTTP/1.1") as sock:
        sock.sendall(b"Connection: close\r\n\r\n")
        buffer = bytearray(_PIECE)
        got = 0
        while count := sock.recv_into(buffer):
            got += count
        assert got > size, (got, size)


def up(door: Door, size: int) -> None:
    """Upload `size` bytes through a proxy."""
    with _request(door, f"POST {doors.PREFIX}upload HTTP/1.1") as sock:
        sock.sendall(b"Connection: close\r\nContent-Length: %d\r\n\r\n" % size)
        piece = bytes(_PIECE)
        for _ in range(size // _PIECE):
            sock.sendall(piece)
        answer = b""
        while got := sock.recv(4096):
            answer += got
        assert answer.endswith(b"%d" % size), answer


@contextlib.contextmanager
def slow_clients(door: Door, count: int) -> Iterator[None]:
    """Run `count` clients in one thread, each of which reads an endless body at `SLOW_RATE` bytes a second."""
    clients = []
    for _ in range(count):
        sock = _request(door, f"GET {doors.PREFIX}{1 << 40} HTTP/1.1", receive_buffer=8 * 1024)
        sock.sendall(b"\r\n")
        sock.setblocking(False)
        clients.append(sock)
    ended = threading.Event()
    steps = 5  # reads of each client in a second

    def read() -> None:
        due = time.monotonic()
        while not ended.wait(max(0.0, due - time.monotonic())):
            due += 1 / steps
            for sock in clients:
                with contextlib.suppress(BlockingIOError):
                    sock.recv(SLOW_RATE // steps)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        # Wait until the buffers between server and client are full, because they fill at full speed.
        end = time.monotonic() + _SETTLED
        spent = peers.cpu_seconds(door.pid)
        while time.monotonic() < end:
            time.sleep(1)
            before, spent = spent, peers.cpu_seconds(door.pid)
            if spent - before < 0.02:
                break
        yield
    finally:
        ended.set()
        reader.join()
        for sock in clients:
            sock.close()


def _timed(run: Callable[[Door, int], None], door: Door, size: int) -> tuple[float, float, float]:
    """Return (MiB/s, CPU seconds of the proxy for a GiB, growth of the proxy's memory in MB)."""
    peak = Peak(door.pid)
    peak.start()
    spent = peers.cpu_seconds(door.pid)
    began = time.monotonic()
    run(door, size)
    seconds = time.monotonic() - began
    spent = peers.cpu_seconds(door.pid) - spent
    return size / _MIB / seconds, spent * 1024 * _MIB / size, peak.finish() / 1e6


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mebibytes", type=int, default=1024)
    args = parser.parse_args()
    size = args.mebibytes * _MIB
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as temporary:
        directory = Path(temporary)
        certificate = peers.make_certificate(directory)
        port = free_port()
        program = str(Path(__file__).with_name("bytes_server.py"))
        server = [sys.executable, program, str(port), *map(str, certificate)]
        config = doors.kubeconfig(directory, port, certificate)
        with peers.running(server, port), doors.standing(config) as found:
            print(f"{args.mebibytes} MiB, {args.rounds} rounds, load {os.getloadavg()[0]:.1f} before")
            bulk(found, size, args.rounds)
            slow(found, size, args.rounds)


def bulk(found: dict[str, Door], size: int, rounds: int) -> None:
    """Measure both proxies down and up, and print the results."""
    shown: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for run in (down, up):
        for door in found.values():
            run(door, _WARM_UP)
        for _ in range(rounds):
            for name, door in found.items():
                shown.setdefault((name, run.__name__), []).append(_timed(run, door, size))
    print(f"{'':28}{'MiB/s':>8}{'ratio':>8}{'CPU s/GiB':>11}{'ratio':>8}{'grew MB':>9}")
    for way in ("down", "up"):
        their_rates, their_cpus, _ = zip(*shown["kubectl proxy", way], strict=True)
        for name in found:
            rates, cpus, growths = zip(*shown[name, way], strict=True)
            beside = ratio(rates, their_rates)
            print(
                f"{name + ', ' + way:28}{statistics.median(rates):8.0f}{beside:8.2f}"
                f"{statistics.median(cpus):11.2f}{ratio(cpus, their_cpus):8.2f}{max(growths):9.1f}"
                f"   ({min(rates):.0f}–{max(rates):.0f} MiB/s)"
            )
            if name.startswith("hatchway"):
                doors.goal(f"{way}, beside kubectl proxy, at least 1.0", beside, beside >= 1)
                doors.goal(f"{way}, memory grows by at most 20 MB", max(growths), max(growths) <= 20)


def slow(found: dict[str, Door], size: int, rounds: int) -> None:
    """Measure one fast client alone and beside slow ones, and print the results."""
    print(f"one fast client beside {SLOW_CLIENTS} that read {SLOW_RATE / 1000:.0f} KB/s")
    for name, door in found.items():
        alone, beside, growths = [], [], []
        for _ in range(rounds):
            peak = Peak(door.pid)
            peak.start()
            alone.append(_timed(down, door, size))
            with slow_clients(door, SLOW_CLIENTS):
                beside.append(_timed(down, door, size))
            growths.append(peak.finish() / 1e6)
        (rate, cpu), (rate_beside, cpu_beside) = (
            [statistics.median(one[place] for one in many) for place in (0, 1)] for many in (alone, beside)
        )
        kept = ratio([one[0] for one in beside], [one[0] for one in alone])
        print(
            f"{name:28}{rate:8.0f} MiB/s alone{rate_beside:8.0f} beside them{kept:8.2f}"
            f"   CPU s/GiB {cpu:.2f}, {cpu_beside:.2f}   memory grew by {max(growths):.1f} MB"
        )
        if name.startswith("hatchway"):
            doors.goal("beside slow clients, at least 0.9 of alone", kept, kept >= 0.9)


if __name__ == "__main__":
    main()
