"""The logging add-on as a separate process, and the log files that it reads."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.freeports import free_port

STAMP = "2026-11-23T10:00:{:02d}.123456789Z"


class Addon:
    """A running add-on on loopback. logs: the node's log directory. explorer: the URL of the log explorer's page."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.logs = directory / "logs"
        self.logs.mkdir(exist_ok=True)
        self.port = 0
        self.explorer = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self, **more: str) -> None:
        self.port = free_port()
        environment = {
            **os.environ,
            "HATCHWAY_LOG_DIR": str(self.logs),
            "HATCHWAY_LOG_DATA": str(self.directory / "data"),
            "HATCHWAY_LOG_PORT": str(self.port),
            "HATCHWAY_LOG_EXPLORER_PORT": "0",
            "HATCHWAY_LOG_ADDRESS": "127.0.0.1",
            "HATCHWAY_NODE_NAME": "node-1",
            **more,
        }
        command = [sys.executable, "-m", "hatchway.addons.logging"]
        self._process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        found = re.search(r"ready on port \d+, explorer on port (\d+)", line)
        assert found is not None, line
        self.explorer = f"http://127.0.0.1:{found[1]}/"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.communicate(timeout=20)
        code = self._process.returncode
        self._process = None
        return code

    def kill(self) -> None:
        if self._process is not None:
            self.stop(signal.SIGKILL)

    def ask(self, path: str, body: Any = None, method: str | None = None, scheme: str = "http") -> tuple[int, Any]:
        """Send a request; return (status, JSON or text)."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        url = f"{scheme}://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        try:
            with urllib.request.urlopen(request, timeout=20, context=tls if scheme == "https" else None) as response:
                status, kind, text = response.status, response.headers.get("Content-Type", ""), response.read()
        except urllib.error.HTTPError as error:
            with error:
                status, kind, text = error.code, error.headers.get("Content-Type", ""), error.read()
        return status, json.loads(text) if "json" in kind and text else text.decode()

    def logged(self, query: str) -> list[str]:
        _, answer = self.ask(f"/logstash-*/_search?q={query}&size=1000&sort=@timestamp:asc")
        return [hit["_source"]["log"] for hit in answer["hits"]["hits"]]

    def container(self, pod: str = "web-0", container: str = "c", namespace: str = "default") -> Path:
        directory = self.logs / f"{namespace}_{pod}_uid-{pod}" / container
        directory.mkdir(parents=True, exist_ok=True)
        return directory


def until(found: Callable[[], Any], wanted: Any, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while (got := found()) != wanted:
        assert time.monotonic() < deadline, got
        time.sleep(0.05)


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def line(text: str, second: int = 0, tag: str = "F", stream: str = "stdout") -> str:
    return f"{STAMP.format(second)} {stream} {tag} {text}"
