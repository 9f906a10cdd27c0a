"""`hatchway proxy` as a process in front of a test cluster."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import commands
from tests.conftest import Cluster
from tests.descriptors import is_readable

_FIRST = "Starting to serve on "


@functools.cache
def door_is_there() -> bool:
    """Return True if this Hatchway has `hatchway proxy`."""
    return commands.run(["proxy", "--help"]).returncode == 0


def need_door() -> None:
    """Skip the test if `hatchway proxy` does not exist."""
    if not door_is_there():
        pytest.skip("the door is not there yet")


@dataclass
class Door:
    """A running door, with the URLs of targets behind it."""

    port: int
    log: Path
    process: commands.Command

    @property
    def url(self) -> str:
        """Return the URL of the portal and the raw API."""
        return f"http://localhost:{self.port}/"

    def host(self, name: str, namespace: str, kind: str = "svc") -> str:
        return f"http://{name}.{namespace}.{kind}.localhost:{self.port}/"

    def prefix(self, name: str, namespace: str, kind: str = "services") -> str:
        return f"http://prefix.localhost:{self.port}/api/v1/namespaces/{namespace}/{kind}/{name}/proxy/"


@contextlib.contextmanager
def door_of(cluster: Cluster, *options: str, kubeconfig: Path | None = None, seconds: float = 60) -> Iterator[Door]:
    """Run `hatchway proxy --port 0` during a block, with its standard error in a file.

    kubeconfig: another one than the cluster's.
    """
    need_door()
    log = cluster.base / f"door-{os.getpid()}.log"
    arguments = ["proxy", "--port=0", "--kubeconfig", str(kubeconfig or cluster.kubeconfig), *options]
    with (
        log.open("a") as errors,
        commands.start(arguments, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **cluster.env}) as process,
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
