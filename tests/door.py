"""`hatchway proxy` in front of a test cluster, as a person starts it."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import BIN, Cluster
from tests.descriptors import is_readable

_FIRST = "Starting to serve on "


@functools.cache
def door_is_there() -> bool:
    """Whether this Hatchway has `hatchway proxy`."""
    return subprocess.run([BIN / "hatchway", "proxy", "--help"], capture_output=True).returncode == 0


def need_door() -> None:
    """Skip the test when `hatchway proxy` does not exist."""
    if not door_is_there():
        pytest.skip("the door is not there yet")


@dataclass
class Door:
    """A running door: where targets are to be found behind it."""

    port: int
    log: Path
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """The portal and the raw API."""
        return f"http://localhost:{self.port}/"

    def host(self, name: str, namespace: str, kind: str = "svc") -> str:
        return f"http://{name}.{namespace}.{kind}.localhost:{self.port}/"

    def prefix(self, name: str, namespace: str, kind: str = "services") -> str:
        return f"http://prefix.localhost:{self.port}/api/v1/namespaces/{namespace}/{kind}/{name}/proxy/"


@contextlib.contextmanager
def door_of(cluster: Cluster, *options: str, kubeconfig: Path | None = None, seconds: float = 60) -> Iterator[Door]:
    """Start `hatchway proxy --port 0`; skips when there is none. kubeconfig: another than the cluster's. Its standard error goes to a file."""
    need_door()
    log = cluster.base / f"door-{os.getpid()}.log"
    command = [BIN / "hatchway", "proxy", "--port=0", "--kubeconfig", kubeconfig or cluster.kubeconfig, *options]
    with (
        log.open("a") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **cluster.env}
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline() if is_readable(process.stdout, seconds) else ""
            assert line.startswith(_FIRST), f"first line {line!r}; standard error: {log.read_text()}"
            yield Door(int(line.rpartition(":")[2]), log, process)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
