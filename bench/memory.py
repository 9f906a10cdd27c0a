"""A gibibyte down and up through the engine, and the growth of its memory: `.venv/bin/python bench/memory.py [--tls]`.

The engine, a backend and a client run in three processes; the engine's resident memory is read from /proc while the
bytes flow. The goal is a growth of at most 20 MB, whatever the size of the body.
"""

from __future__ import annotations

import argparse
import http.client
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import peers
from tests.freeports import free_port

_PIECE = b"x" * (256 * 1024)


class _Backend(BaseHTTPRequestHandler):
    """A backend. GET /N returns N bytes. POST reads the body, and returns its size."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        left = int(self.path[1:])
        self.send_response(200)
        self.send_header("Content-Length", str(left))
        self.end_headers()
        while left:
            piece = _PIECE[:left]
            self.wfile.write(piece)
            left -= len(piece)

    def do_POST(self) -> None:
        left = size = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, len(_PIECE))))
        text = str(size).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None: ...


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


class Peak(threading.Thread):
    """Records the largest resident memory of a process until `finish`."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._ended = threading.Event()
        self.start_size = self.size = resident(pid)

    def run(self) -> None:
        """Read the memory every 20 ms."""
        while not self._ended.wait(0.02):
            self.size = max(self.size, resident(self._pid))

    def finish(self) -> int:
        """Stop, and return the growth to the largest size seen, in bytes."""
        self._ended.set()
        self.join()
        return self.size - self.start_size


def down(connection: http.client.HTTPConnection, size: int) -> None:
    """Download `size` bytes."""
    connection.request("GET", f"/{size}")
    answer = connection.getresponse()
    got = 0
    while piece := answer.read(len(_PIECE)):
        got += len(piece)
    assert got == size, got


def up(connection: http.client.HTTPConnection, size: int) -> None:
    """Upload `size` bytes."""
    connection.request(
        "POST", "/", headers={"Content-Length": str(size)}, body=(_PIECE for _ in range(size // len(_PIECE)))
    )
    assert int(connection.getresponse().read()) == size


def measure(size: int, tls: bool) -> dict[str, tuple[int, float]]:
    """Return the growth in bytes and the seconds for each direction, after a warm-up of 16 MiB."""
    backend = ThreadingHTTPServer(("127.0.0.1", 0), _Backend)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    found: dict[str, tuple[int, float]] = {}
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as temporary:
        files = list(peers.make_certificate(Path(temporary))) if tls else []
        port = free_port()
        relay = str(Path(__file__).with_name("relay.py"))
        command = [sys.executable, relay, "--serve", str(port), str(backend.server_port), *map(str, files)]
        with peers.running(command, port) as process:
            assert isinstance(process, subprocess.Popen)
            if tls:
                trust = ssl.create_default_context(cafile=str(files[0]))
                connection: http.client.HTTPConnection = http.client.HTTPSConnection("127.0.0.1", port, context=trust)
            else:
                connection = http.client.HTTPConnection("127.0.0.1", port)
            for run in (down, up):
                run(connection, 16 * 1024 * 1024)
                peak = Peak(process.pid)
                peak.start()
                began = time.monotonic()
                run(connection, size)
                found[run.__name__] = (peak.finish(), time.monotonic() - began)
            connection.close()
    backend.shutdown()
    backend.server_close()
    return found


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--mebibytes", type=int, default=1024)
    args = parser.parse_args()
    for name, (growth, seconds) in measure(args.mebibytes * 1024 * 1024, args.tls).items():
        rate = args.mebibytes / seconds
        print(
            f"{name:5} {args.mebibytes} MiB in {seconds:.1f} s ({rate:.0f} MiB/s), memory grew by {growth / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
