"""Networks for tests: each has a control plane process (`outside.py`) and a scenario in the network (`inside.py`)."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.network import launcher

ROOT = Path(__file__).parents[3]
OUTSIDE = Path(__file__).with_name("outside.py")
NOBODY = "65534"
_SECONDS = 60


class Run:
    """A control plane with its network. directory: for the files of the control plane and the scenario."""

    def __init__(self, directory: Path, mode: str, scenario: str, prefix: list[str], env: dict[str, str]) -> None:
        self.directory = directory
        self._errors = open(directory / "outside.log", "wb")  # noqa: SIM115  closed with the run
        self.process = subprocess.Popen(
            [*prefix, str(OUTSIDE), mode, scenario, str(directory)],
            env=env,
            stdout=self._errors,
            stderr=self._errors,
            cwd="/",
        )

    def wait_for(self, name: str) -> Path:
        """Wait until the scenario has written a file."""
        path = self.directory / name
        deadline = time.monotonic() + _SECONDS
        while not path.exists():
            assert self.process.poll() is None and time.monotonic() < deadline, self.logs()
            time.sleep(0.01)
        return path

    def result(self, more_seconds: float = 0.0) -> Any:
        """Wait until everything has ended; return the scenario's result."""
        path = self.directory / "result.json"
        try:
            self.process.wait(_SECONDS + more_seconds)
        except subprocess.TimeoutExpired as error:
            # After a failure, a thread that still waits may keep the scenario's process running.
            known = path.read_text() if path.exists() else "no result"
            raise AssertionError(f"the control plane has not ended: {known}\n{self.logs()}") from error
        assert path.exists(), self.logs()
        found = json.loads(path.read_text())
        assert "error" not in found, found.get("error", "") + self.logs()
        assert self.process.returncode == 0, self.logs()
        return found["result"]

    def outside(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "outside.json").read_text())
        return found

    def logs(self) -> str:
        return "\n".join(
            f"--- {name}\n{(self.directory / name).read_text(errors='replace')}"
            for name in ("outside.log", "node.log")
            if (self.directory / name).exists()
        )

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self._errors.close()


@functools.cache
def why_not_private() -> str:
    return launcher.why_unavailable()


@functools.cache
def nobody() -> tuple[list[str], dict[str, str]] | str:
    """Return a command that runs Python as an ordinary user, and its environment; or why this is impossible."""
    if os.geteuid() != 0:
        return "the tests run as an ordinary user already"
    if shutil.which("setpriv") is None:
        return "setpriv (util-linux) is missing"
    path = ":".join([str(ROOT / "src"), str(ROOT), *(entry for entry in sys.path if entry.endswith("site-packages"))])
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "HOME": "/nonexistent"}
    for python in (sys.executable, "/usr/bin/python3"):
        prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", python]
        # Some users can run Python but not access its path, which is necessary to start further processes.
        needed = "import hatchway.cluster.network.launcher, uvloop, msgspec, os, sys; os.stat(sys.executable)"
        check = [*prefix, "-c", needed]
        if subprocess.run(check, env=env, cwd="/", capture_output=True).returncode == 0:
            return prefix, env
    return "no Python with Hatchway's packages that user 65534 may execute"


@pytest.fixture(params=["self", "ordinary user"])
def user(request: pytest.FixtureRequest) -> tuple[list[str], dict[str, str], bool]:
    """Return how to run the control plane: command, environment, and whether it is another user's process."""
    if request.param == "self":
        path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
        return [sys.executable], {**os.environ, "PYTHONPATH": path}, False
    found = nobody()
    if isinstance(found, str):
        pytest.skip(f"cannot become an ordinary user: {found}")
    return *found, True


@pytest.fixture
def make_run(user: tuple[list[str], dict[str, str], bool]) -> Iterator[Callable[..., Run]]:
    """Return a function that starts a scenario: make(mode, scenario, files, before).

    files: name -> content, or "-> " and the target of a link. before: a command to which the control plane's is added.
    """
    prefix, env, other = user
    made: list[Run] = []

    def make(mode: str, scenario: str, files: dict[str, str] | None = None, before: Sequence[str] = ()) -> Run:
        if mode == "private" and why_not_private():
            pytest.skip(f"{why_not_private()}")
        # The directory is not below pytest's, which other users may not enter.
        directory = Path(tempfile.mkdtemp(prefix="hatchway-net-"))
        for name, text in (files or {}).items():
            path = directory / name
            path.parent.mkdir(exist_ok=True)
            if text.startswith("-> "):
                path.symlink_to(text.removeprefix("-> "))
            else:
                path.write_text(text)
        if other:
            for path in (directory, *directory.rglob("*")):
                os.chown(path, int(NOBODY), int(NOBODY), follow_symlinks=False)
        run = Run(directory, mode, scenario, [*before, *prefix], env)
        made.append(run)
        return run

    yield make
    for run in made:
        run.close()
        shutil.rmtree(run.directory, ignore_errors=True)
