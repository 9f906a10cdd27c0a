"""Run the monitoring add-on's program, and servers with metrics for it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Monitoring:
    """A running program. url: its address. dashboards: the dashboards' address, with a final slash."""

    def __init__(self, url: str, dashboards: str, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self.dashboards = dashboards
        self.process = process

    def ask(self, path: str, *, form: bool = False, **parameters: Any) -> Any:
        """Return the JSON of a response, which may be an error. form: whether to POST the parameters."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        url = f"{self.url}{path}" if form else f"{self.url}{path}?{query}"
        try:
            with urllib.request.urlopen(url, query.encode() if form else None, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def vector(self, query: str) -> list[dict[str, Any]]:
        """Return the result of an instant query for the present time."""
        found = self.ask("/api/v1/query", query=query)
        assert found["status"] == "success", found
        result: list[dict[str, Any]] = found["data"]["result"]
        return result

    def wait_for(self, query: str, seconds: float = 30) -> list[dict[str, Any]]:
        """Wait until a query has a result; return the result."""
        return eventually(lambda: self.vector(query), seconds)


def eventually(function: Callable[[], Any], seconds: float = 30) -> Any:
    """Call a function until it returns a true value; return that value."""
    deadline = time.monotonic() + seconds
    while True:
        found = function()
        if found:
            return found
        assert time.monotonic() < deadline, f"still {found!r} after {seconds} s"
        time.sleep(0.05)


@contextlib.contextmanager
def monitoring(directory: Path, targets: str = "", **environment: str) -> Iterator[Monitoring]:
    """Run the program during a block. directory: for samples. environment: more HATCHWAY_MONITORING_... variables."""
    settings = {f"HATCHWAY_MONITORING_{name}": value for name, value in environment.items()}
    own = {
        "HATCHWAY_MONITORING_DATA": str(directory),
        "HATCHWAY_MONITORING_ADDRESS": "127.0.0.1",
        "HATCHWAY_MONITORING_PORT": "0",
        "HATCHWAY_MONITORING_DASHBOARDS_PORT": "0",
        "HATCHWAY_MONITORING_INTERVAL": "1",
        "HATCHWAY_MONITORING_TARGETS": targets,
        **settings,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")}
    command = [sys.executable, "-m", "hatchway.addons.monitoring"]
    with subprocess.Popen(command, env={**inherited, **own}, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            line = b""
            while b"serving on" not in line:
                line = process.stderr.readline()
                assert line, f"it ended with {process.wait()}"
            port, dashboards = (int(part.split(b":")[-1].split()[-1]) for part in line.split(b",")[:2])
            # Later log lines must not fill the pipe, which would block the program.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield Monitoring(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{dashboards}/", process)
        finally:
            process.terminate()
            process.wait(20)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.serve_metrics(self)  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


class MetricsServer(ThreadingHTTPServer):
    """A server with metrics. body: its response, which tests may replace. address: host and port."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body: bytes | Callable[[_Handler], None] = b""
        self.address = f"127.0.0.1:{self.server_address[1]}"

    def serve_metrics(self, handler: _Handler) -> None:
        """Answer a request."""
        if callable(self.body):
            with contextlib.suppress(OSError):
                self.body(handler)
            handler.close_connection = True
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "text/plain; version=0.0.4")
        handler.send_header("Content-Length", str(len(self.body)))
        handler.end_headers()
        handler.wfile.write(self.body)


@contextlib.contextmanager
def metrics_server(body: bytes = b"") -> Iterator[MetricsServer]:
    """Run a server with metrics during a block."""
    server = MetricsServer()
    server.body = body
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
