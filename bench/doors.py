"""Shared by the benchmarks of the door: `hatchway proxy` and `kubectl proxy` in front of one TLS server."""

from __future__ import annotations

import base64
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench import peers
from tests.freeports import free_port

# The proxied path: that of a service of the API server. A test may add any rest.
PREFIX = "/api/v1/namespaces/default/services/bench/proxy/"
TOKEN = "not-a-secret"
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Door:
    """A running proxy. port: the port on which it listens. pid: the process whose CPU time and memory count."""

    port: int
    pid: int


def kubeconfig(directory: Path, port: int, certificate: tuple[Path, Path]) -> Path:
    """Write a kubeconfig for the TLS server, with a bearer token."""
    path = directory / "kubeconfig"
    path.touch(mode=0o600)
    ca = base64.b64encode(certificate[0].read_bytes()).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "bench", "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": ca}}
        ],
        "users": [{"name": "bench", "user": {"token": TOKEN}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "current-context": "bench",
    }
    path.write_text(yaml.safe_dump(document))
    return path


def commands(config: Path, kubectl: int, hatchway: int) -> dict[str, tuple[list[str], int]]:
    """Return the commands of both programs with their default options, each with the port on which it listens."""
    return {
        "kubectl proxy": (
            [str(PROGRAMS / "kubectl"), "--kubeconfig", str(config), "proxy", f"--port={kubectl}"],
            kubectl,
        ),
        "hatchway proxy": (
            [str(PROGRAMS / "hatchway"), "proxy", "--kubeconfig", str(config), f"--port={hatchway}"],
            hatchway,
        ),
    }


@contextlib.contextmanager
def standing(config: Path) -> Iterator[dict[str, Door]]:
    """Run both programs."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name, (command, port) in commands(config, free_port(), free_port()).items():
            found[name] = Door(port, stack.enter_context(peers.running(command, port)).pid)
        yield found


def goal(what: str, value: float, reached: bool) -> None:
    """Print whether a goal was reached. what: its description. value: the measured value."""
    print(f"goal: {what}: {'reached' if reached else 'MISSED'} ({value:.2f})")
