"""The commands of README and tutorial, run in order by an ordinary user in a new clone, with the system's Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import find_kubectl
from tests.freeports import free_port
from tests.integration.walk import Step, Terminal, at_port, members, missing_lines, steps_of

_ROOT = Path(__file__).parents[2]
_DEBIAN_PYTHON = "/usr/bin/python3"
_ORDINARY = 1000
_SETUP_SECONDS = 300.0
# Commands that only read, so they may be repeated.
_REPEATED = ("curl", "kubectl get")


@dataclass(frozen=True)
class Reader:
    """A user who follows a document in a clone of the repository.

    user: arguments of `Popen` that run a command as an ordinary user; {} if the tests run as one.
    """

    clone: Path
    environment: dict[str, str]
    user: dict[str, Any]

    @property
    def home(self) -> Path:
        return Path(self.environment["HOME"])

    def run(self, script: str) -> str:
        """Run a bash script in the clone, as a CI runner does; return its output. Fails if the script fails."""
        environment = {**self.environment, "PATH": f"{self.clone}/.venv/bin:{self.environment['PATH']}"}
        ended = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.clone,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            **self.user,
        )
        assert ended.returncode == 0, f"{script}\n{ended.stdout}"
        return ended.stdout

    def save(self, path: str, text: str) -> None:
        """Write a file as the reader. path: absolute, or relative to the clone."""
        command = 'mkdir -p "$(dirname "$0")" && cat >"$0"'
        arguments = ["sh", "-c", command, path]
        subprocess.run(arguments, input=text, text=True, cwd=self.clone, env=self.environment, check=True, **self.user)


@pytest.fixture(scope="module")
def owner() -> Iterator[Reader]:
    """Make a new clone and a new home; both belong to an ordinary user if the tests run as root."""
    if not (_ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is nothing to clone")
    python = _DEBIAN_PYTHON
    if subprocess.run([python, "-c", "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))"]).returncode:
        if os.geteuid() == 0:
            pytest.skip(
                f"{python} is older than Python 3.11 or has no venv, and an ordinary user cannot run the Python of root"
            )
        python = sys.executable
    base = Path(tempfile.mkdtemp(prefix="hatchway-reader-"))
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
        "USER": "reader",
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "PYTHON": python,
        "BROWSER": f"{programs}/browser %s",
    }
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{_ORDINARY}:{_ORDINARY}", base], check=True)
        user = {"user": _ORDINARY, "group": _ORDINARY, "extra_groups": ()}
    try:
        yield Reader(clone, environment, user)
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def reader(owner: Reader) -> Iterator[Reader]:
    yield owner
    hatchway = owner.clone / ".venv/bin/hatchway"
    if hatchway.exists():
        end = [hatchway, "down", "--delete"]
        subprocess.run(end, env=owner.environment, capture_output=True, timeout=60, **owner.user)


@pytest.fixture
def open_terminal(reader: Reader) -> Iterator[Callable[[], Terminal]]:
    opened: list[Terminal] = []

    def make() -> Terminal:
        opened.append(Terminal(reader.clone, reader.environment, reader.user))
        return opened[-1]

    yield make
    for terminal in reversed(opened):
        terminal.close()
        assert not members(terminal.session)


def follow(
    document: str, reader: Reader, open_terminal: Callable[[], Terminal], *, again: float = 0.0
) -> tuple[list[Step], dict[str, str]]:
    """Run the steps of a document; return the steps, and command -> output.

    again: seconds for which a command that only reads is repeated until it prints the lines of the document. At first,
        a controller may not have seen the last change yet.
    """
    steps = steps_of((_ROOT / document).read_text())
    port = free_port()
    printed: dict[str, str] = {}
    terminal = None
    for step in steps:
        command = at_port(step.command, port)
        if step.path:
            reader.save(step.path, step.text)
        elif step.stays:
            place = open_terminal()
            if not command.startswith("scripts/"):
                place.run(". .venv/bin/activate")
            place.send(command)
            place.wait(re.escape(at_port(step.shown[-1], port)), _SETUP_SECONDS)
        else:
            terminal = terminal or open_terminal()
            until = time.monotonic() + again
            status, output = terminal.run(command)
            missing = missing_lines(step.shown, output)
            while (status or missing) and command.startswith(_REPEATED) and time.monotonic() < until:
                status, output = terminal.run(command)
                missing = missing_lines(step.shown, output)
            assert status == 0, f"{document}: $ {command}\n{output}"
            assert not missing, f"{document} shows what `{command}` does not print: {missing}\n{output}"
            printed[step.command.split("#")[0].strip()] = output.replace(str(port), "8001")
    return steps, printed


@pytest.mark.timeout(600)
def test_a_reader_follows_the_readme(reader: Reader, open_terminal: Callable[[], Terminal]) -> None:
    steps, printed = follow("README.md", reader, open_terminal)
    assert [step.command for step in steps if step.stays] == ["scripts/up", "hatchway proxy"]
    assert steps[-1].command == "hatchway down"
    assert "is running at" in printed["kubectl cluster-info"]
    assert "Directory listing" in printed["kubectl get --raw /api/v1/namespaces/default/services/web/proxy/"]
    health = printed["curl http://elasticsearch-logging.kube-system.svc.localhost:8001/_cluster/health"]
    assert '"cluster_name"' in health
    opened = (reader.home / "opened").read_text().strip()
    assert re.fullmatch(r"http://web\.default\.svc\.localhost:\d+/", opened)


@pytest.mark.timeout(600)
def test_a_reader_follows_the_tutorial(reader: Reader, open_terminal: Callable[[], Terminal]) -> None:
    steps, printed = follow("docs/tutorial.md", reader, open_terminal)
    assert {step.path for step in steps if step.path} == {
        "quotes/app.py",
        "quotes/index.html",
        "quotes/quotes.txt",
        "quotes.yaml",
    }
    found = printed['curl "http://elasticsearch-logging.kube-system.svc.localhost:8001/_search?q=quote&size=1"']
    assert '"hits"' in found
    opened = (reader.home / "opened").read_text().strip()
    assert re.fullmatch(r"http://quotes\.default\.svc\.localhost:\d+/", opened)
    assert steps[-1].command == "hatchway down"


@pytest.mark.timeout(600)
def test_a_reader_follows_the_pages_about_services(reader: Reader, open_terminal: Callable[[], Terminal]) -> None:
    subprocess.run(["scripts/setup"], cwd=reader.clone, env=reader.environment, check=True, **reader.user)
    reader.run("hatchway up --detach --api-port 0 --nodes 1")
    # The pages use the Deployment of the README.
    reader.run("kubectl create deployment web --image=hatchway/host --replicas=3 -- python3 -m http.server 8080")
    reader.run("kubectl rollout status deployment web --timeout=60s")
    for document in ("docs/services.md", "docs/ingress.md"):
        _, printed = follow(document, reader, open_terminal, again=20.0)
        reached = [output for command, output in printed.items() if command.startswith("curl")]
        assert len(reached) == 2
        assert all("Directory listing" in output for output in reached)


def scripts_of(pipeline: dict[str, Any]) -> list[str]:
    """Return the scripts of a pipeline of GitHub Actions or GitLab CI, except those that prepare the machine."""
    if "jobs" in pipeline:
        found = [step["run"] for job in pipeline["jobs"].values() for step in job["steps"] if "run" in step]
    else:
        parts = ("before_script", "script", "after_script")
        found = [line for job in pipeline.values() for part in parts for line in job[part]]
    return [script for script in found if not script.startswith(("sudo ", "pip install "))]


@pytest.mark.timeout(600)
def test_the_files_for_ci_work(reader: Reader) -> None:
    subprocess.run(["scripts/setup"], cwd=reader.clone, env=reader.environment, check=True, **reader.user)
    files = {step.path: step.text for step in steps_of((_ROOT / "docs/ci.md").read_text()) if step.path}
    for path in (".github/workflows/cluster.yml", ".gitlab-ci.yml"):
        scripts = scripts_of(yaml.safe_load(files[path]))
        assert scripts[0].startswith("hatchway up")
        assert scripts[-1] == "hatchway down"
        printed = [reader.run(script) for script in scripts]
        assert "Directory listing" in "".join(printed)
        assert "there are no clusters" in reader.run("hatchway list")
    reader.save(f"{reader.home}/project/test_web.py", files["test_web.py"])
    # Only pytest is installed, because all development dependencies would take ten times as long.
    reader.run("pip install --no-compile --quiet --disable-pip-version-check pytest")
    assert "1 passed" in reader.run("cd ~/project && pytest -q")
