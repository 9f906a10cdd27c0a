"""A real cluster for the integration and browser tests: started once by `hatchway up --detach`, as a user would."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

BIN = Path(sys.executable).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("web applications (tests/apps)")
    group.addoption("--all-apps", action="store_true", help="also the applications that take long or are seldom used")
    group.addoption("--stranger", action="store_true", help="behind an API server that does what Kubernetes' does")
    group.addoption("--app-modes", default="", help="of direct, host, prefix; default: host,prefix")


@dataclass
class Answer:
    """An HTTP answer: `json` and `text` of its body."""

    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def find_kubectl() -> str:
    """The kubectl to test with: $KUBECTL, else the one that PyPI has for this platform, else the machine's."""
    found = os.environ.get("KUBECTL") or shutil.which("kubectl", path=f"{BIN}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("no kubectl for this platform")
    return found


@dataclass
class Cluster:
    """A running cluster and the clients of its administrator."""

    name: str
    base: Path
    kubeconfig: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.base / self.name

    @property
    def run(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.state / "run.json").read_text())
        return found

    @property
    def server(self) -> str:
        return str(self.run["server"])

    @property
    def ca(self) -> Path:
        return self.state / "pki/ca.crt"

    def hatchway(self, *arguments: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the command line against this cluster."""
        command, *rest = arguments
        own = ["--name", self.name, "--state-dir", str(self.base)] if command in _OWN else []
        if command in ("up", "info", "url", "ls", "open"):
            own += ["--kubeconfig", str(self.kubeconfig)]
        done = subprocess.run(
            [BIN / "hatchway", command, *own, *rest],
            capture_output=True,
            text=True,
            env={**os.environ, **self.env},
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(
                f"hatchway {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def kubectl(self, *arguments: str, check: bool = True, stdin: str | None = None) -> str:
        """Run stock kubectl; returns its standard output (with standard error when `check` is off)."""
        executable = find_kubectl()
        done = subprocess.run(
            [executable, "--kubeconfig", str(self.kubeconfig), "--cache-dir", str(self.base / "cache"), *arguments],
            capture_output=True,
            text=True,
            input=stdin,
            timeout=90,
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout if check else done.stdout + done.stderr

    def token(self, *arguments: str) -> str:
        return self.hatchway("token", *arguments).stdout.strip()

    def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = "admin",
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """One request without following redirects; token "admin" is the administrator's, None sends none."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = "Bearer " + (self.token() if token == "admin" else token)
        context = ssl.create_default_context(cafile=str(self.ca))
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect)
        request = urllib.request.Request(self.server + path, method=method, headers=sent, data=body)
        try:
            with opener.open(request, timeout=30) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def get(self, path: str, **more: Any) -> Answer:
        return self.request("GET", path, **more)


_OWN = ("up", "status", "down", "token", "password")


def wait_for(what: Callable[[], Any], *, seconds: float = 60) -> Any:
    """Call `what` until it returns something true; assertion errors count as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = what()
            if found:
                return found
            problem: Exception | None = None
        except AssertionError as error:
            problem = error
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing after {seconds:.0f} s: {problem or what}")
        time.sleep(0.05)


@pytest.fixture(scope="session")
def make_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cluster]]:
    """Start clusters; all of them are stopped at the end of the run."""
    made: list[Cluster] = []

    def make(name: str, *options: str, up: bool = True) -> Cluster:
        base = tmp_path_factory.mktemp(name)
        cluster = Cluster(name, base, base / "kubeconfig")
        made.append(cluster)
        if up:
            cluster.hatchway("up", "--detach", "--api-port", "0", *options)
        return cluster

    yield make
    for cluster in made:
        cluster.hatchway("down", "--delete", check=False)


@pytest.fixture(scope="session")
def cluster(make_cluster: Callable[..., Cluster], tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The cluster that most tests share. They use namespaces of their own."""
    # Pods see no checkout: what the tests of web applications mount comes from there and from pytest's directories.
    opened = (Path(__file__).resolve().parents[1], tmp_path_factory.getbasetemp())
    return make_cluster("shared", *(f"--host-path={path}" for path in opened))
