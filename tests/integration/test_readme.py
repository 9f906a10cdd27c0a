"""README's commands, run in their order by an ordinary user in a fresh clone, with the machine's own Python."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import find_kubectl

_ROOT = Path(__file__).parents[2]
_DEBIAN_PYTHON = "/usr/bin/python3"
_ORDINARY = 1000
# Commands that README shows in a terminal of their own, where they stay.
_STAYING = ("scripts/up", "hatchway proxy")
_SETUP_SECONDS = 300.0
_COMMAND_SECONDS = 90.0


class Step:
    """One command of README and the output that README shows below it."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.shown: list[str] = []

    @property
    def stays(self) -> bool:
        return self.command.startswith(_STAYING)


def steps_of(text: str) -> list[Step]:
    """Return the commands of all ```console blocks, continued lines joined, comments left to the shell."""
    found: list[Step] = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:]))
            elif found:
                found[-1].shown.append(line.strip())
    return found


class Terminal:
    """A shell on a terminal of its own, as the user of the walk."""

    def __init__(self, directory: Path, environment: dict[str, str], user: dict[str, int]) -> None:
        self._master, slave = pty.openpty()
        self.output = ""
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=directory,
            env={**environment, "PS1": "", "TERM": "dumb"},
            start_new_session=True,
            **user,  # type: ignore[call-overload]
        )
        os.close(slave)

    def send(self, line: str) -> None:
        os.write(self._master, line.encode() + b"\n")

    def wait(self, pattern: str, seconds: float) -> re.Match[str]:
        """Return the first match of `pattern` in what is printed from now on, or fail after `seconds`."""
        deadline = time.monotonic() + seconds
        begin = len(self.output)
        while not (found := re.compile(pattern).search(self.output, begin)):
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {pattern!r} after {seconds:g} s in:\n{self.output[begin:]}"
            try:
                piece = os.read(self._master, 65536)
            except OSError as error:
                raise AssertionError(f"the terminal ended before {pattern!r}:\n{self.output[begin:]}") from error
            self.output += piece.decode("utf-8", "replace").replace("\r\n", "\n")
        return found

    def run(self, command: str) -> tuple[int, str]:
        """Run a command to its end; returns its exit status and what it printed."""
        begin = len(self.output)
        self.send(command)
        self.send('printf "status-of-last=%s\\n" "$?"')
        found = self.wait(r"(?m)^status-of-last=(\d+)$", _COMMAND_SECONDS)
        return int(found[1]), self.output[begin : found.start()]

    def close(self) -> None:
        self._process.send_signal(signal.SIGHUP)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._master)


@pytest.fixture
def walk() -> Iterator[tuple[Path, dict[str, str], dict[str, int]]]:
    """A fresh clone and a fresh home; both belong to an ordinary user where the tests run as root."""
    if not (_ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is nothing to clone")
    python = _DEBIAN_PYTHON
    if subprocess.run([python, "-c", "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))"]).returncode:
        if os.geteuid() == 0:
            pytest.skip(f"{python} is no Python 3.11 with venv, and an ordinary user may not see root's")
        python = sys.executable
    base = Path(tempfile.mkdtemp(prefix="hatchway-readme-"))
    base.chmod(0o755)
    home, clone, programs = base / "home", base / "clone", base / "bin"
    home.mkdir()
    programs.mkdir()
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", _ROOT, clone], check=True)
    shutil.copy(find_kubectl(), programs / "kubectl")
    (programs / "browser").write_text(f'#!/bin/sh\necho "$1" >{home}/opened\n')
    (programs / "browser").chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "KUBE", "VIRTUAL_ENV"))},
        "HOME": str(home),
        "USER": "walker",
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "PYTHON": python,
        "BROWSER": f"{programs}/browser %s",
    }
    user: dict[str, int] = {}
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{_ORDINARY}:{_ORDINARY}", base], check=True)
        user = {"user": _ORDINARY, "group": _ORDINARY, "extra_groups": ()}  # type: ignore[dict-item]
    try:
        yield clone, environment, user
    finally:
        hatchway = clone / ".venv/bin/hatchway"
        if hatchway.exists():
            subprocess.run([hatchway, "down", "--delete"], env=environment, capture_output=True, timeout=60, **user)  # type: ignore[call-overload]
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def open_terminal(
    walk: tuple[Path, dict[str, str], dict[str, int]],
) -> Iterator[Callable[[], Terminal]]:
    opened: list[Terminal] = []

    def make() -> Terminal:
        opened.append(Terminal(*walk))
        return opened[-1]

    yield make
    for terminal in reversed(opened):
        terminal.close()


@pytest.mark.timeout(600)
def test_a_reader_follows_the_readme(
    walk: tuple[Path, dict[str, str], dict[str, int]], open_terminal: Callable[[], Terminal]
) -> None:
    steps = steps_of((_ROOT / "README.md").read_text())
    assert [step.command for step in steps if step.stays] == list(_STAYING)
    assert steps[-1].command == "hatchway down"
    printed: dict[str, str] = {}
    activate = ". .venv/bin/activate"
    terminal = None
    for step in steps:
        if step.stays:
            place = open_terminal()
            if not step.command.startswith("scripts/"):
                place.run(activate)
            place.send(step.command)
            place.wait(re.escape(step.shown[-1]), _SETUP_SECONDS)
            continue
        terminal = terminal or open_terminal()
        status, output = terminal.run(step.command)
        assert status == 0, f"$ {step.command}\n{output}"
        printed[step.command.split("#")[0].strip()] = output
    assert "is running at" in printed["kubectl cluster-info"]
    assert "Directory listing" in printed["kubectl get --raw /api/v1/namespaces/default/services/web/proxy/"]
    health = printed["curl http://elasticsearch-logging.kube-system.svc.localhost:8001/_cluster/health"]
    assert '"cluster_name"' in health
    opened = (Path(walk[1]["HOME"]) / "opened").read_text().strip()
    assert opened == "http://web.default.svc.localhost:8001/"
