"""Starts clusters for benchmarks: `hatchway up --ephemeral` in a directory that is removed afterwards."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HATCHWAY = str(Path(sys.executable).parent / "hatchway")


@dataclass
class Cluster:
    """A running cluster.

    Attributes:
        server: the API server's URL.
        token: an administrator's bearer token.
        trust: the TLS context that verifies the API server's certificate.
        pid: the process ID of the control plane.
    """

    server: str
    token: str
    trust: ssl.SSLContext
    pid: int

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """Send a request; return status and body."""
        request = urllib.request.Request(
            self.server + path,
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, context=self.trust, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def create(self, path: str, body: dict[str, Any]) -> None:
        """Create an object. path: the path of its collection. Raises RuntimeError."""
        status, text = self.call("POST", path, body)
        if status != 201:
            raise RuntimeError(f"POST {path}: {status} {text.decode(errors='replace')}")


@contextlib.contextmanager
def cluster(
    directory: Path, network: str, *, label: str = "", nodes: int = 1, checkout: Path | None = None
) -> Iterator[Cluster]:
    """Run `hatchway up --ephemeral` in a directory of its own.

    Args:
        directory: the directory for the cluster's state.
        network: private or loopback.
        label: a name that differs between clusters in the same directory.
        nodes: the number of workers beside the control plane.
        checkout: another checkout, with a `.venv`, whose Hatchway is run; None for this one.
    """
    hatchway = str(checkout / ".venv/bin/hatchway") if checkout else HATCHWAY
    name = f"bench-{network}{label}"
    where = ["--name", name, "--state-dir", str(directory / "state")]
    kubeconfig = directory / f"kubeconfig-{network}{label}"
    command = [hatchway, "up", *where, "--kubeconfig", str(kubeconfig), "--network", network]
    command += ["--api-port", "0", "--nodes", str(nodes), "--no-addons", "--ephemeral"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if b"Ctrl-C" in line:
                break
        else:
            raise RuntimeError("hatchway up ended before the cluster was ready")
        settings = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
        trust = ssl.create_default_context(cadata=base64.b64decode(settings["certificate-authority-data"]).decode())
        token = subprocess.run([hatchway, "token", *where], check=True, capture_output=True, text=True).stdout.strip()
        pid = json.loads((directory / "state" / name / "run.json").read_text())["pid"]
        yield Cluster(settings["server"], token, trust, pid)
    finally:
        process.terminate()
        process.wait(60)
