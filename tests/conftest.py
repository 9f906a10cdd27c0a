"""A real cluster for the integration and browser tests: started once by `hatchway up --detach`, as a user would."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import commands
from tests.descriptors import left_open, open_descriptors
from tests.downloads import downloads
from tests.sharding import FileScheduling, ordered_units, unit_of
from tests.syntax import without_collection

# No deadlines for examples: a busy machine must not make tests fail.
# On a busy machine, data may be made slowly, and examples take long.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For a second run of the tests with another Python. The first run has already tried each property with many examples.
settings.register_profile("again", settings.get_profile("untimed"), max_examples=20)
settings.load_profile("untimed")

BIN = Path(sys.executable).parent

# No test may reach clusters of the user who runs the tests. With this setting, a command without a kubeconfig of its
# own finds no cluster.
os.environ["KUBECONFIG"] = os.devnull

# kubectl and Helm run only for a moment, but by default spend a quarter of their CPU time on garbage collection.
os.environ.setdefault("GOGC", "800")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("web applications (tests/apps)")
    group.addoption("--all-apps", action="store_true", help="also the applications that take long or are seldom used")
    group.addoption("--stranger", action="store_true", help="behind an API server that does what Kubernetes' does")
    group.addoption("--app-modes", default="", help="of direct, host, prefix; default: host,prefix")


def pytest_configure(config: pytest.Config) -> None:
    """Import Hatchway's own modules without pytest's changes of their assertions.

    pytest makes these changes in all modules of a plugin's package. They take long. They also need a syntax tree of
    each module: in CPython 3.11 that fails if another thread makes a syntax tree at the same time (`tests/syntax.py`).
    """
    rewriting: Any = config.pluginmanager.rewrite_hook
    rewriting._must_rewrite.discard("hatchway")
    rewriting._marked_for_rewrite_cache.clear()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Disable garbage collection while pytest describes a failure.

    To describe it, pytest makes syntax trees. A garbage collection at the same time can break that (`tests/syntax.py`).
    """
    with without_collection():
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, Any, Any]:
    """Disable the garbage collector while tests are collected, because it would examine all of them repeatedly.

    The tests exist until the end of the run, so the collector ignores them afterwards, too.
    """
    with without_collection():
        _import_by_turns(session.config)
        found = yield
        gc.freeze()
    return found


def _import_by_turns(config: pytest.Config) -> None:
    """Divide the compilation of the test modules among the workers of pytest-xdist.

    Each worker needs all modules, and in a new clone none is compiled. Without this, all workers would compile the same
    module at the same time. So each worker first imports a different part of the modules, and then the modules that the
    other workers have compiled meanwhile.
    """
    from_controller: dict[str, Any] = getattr(config, "workerinput", {})
    if not from_controller:
        return
    root = config.rootpath
    files = sorted(path for place in config.args for path in (root / place).rglob("test_*.py"))
    number, workers = int(from_controller["workerid"].removeprefix("gw")), from_controller["workercount"]
    begin = len(files) * number // workers
    for path in files[begin:] + files[:begin]:
        # A module that fails or skips here does so again when it is collected.
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests into the order of `tests/sharding.py`; the order within a unit stays."""
    by_unit: dict[str, list[pytest.Item]] = {}
    for item in items:
        by_unit.setdefault(unit_of(item.nodeid), []).append(item)
    items[:] = [item for unit in ordered_units(by_unit) for item in by_unit[unit]]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers for `-n auto`: five for two cores, because tests wait for much of their time.

    At most eight, because each worker has its own cluster and browser.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(5 * cores // 2, 8)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute the tests among the workers by units (`pytest -n 2`), unless --dist chooses another way."""
    if config.getoption("dist") not in ("load", "loadfile"):
        return None
    config.option.loadscopereorder = False
    return FileScheduling(config, log)


# The number of descriptors that a module may leave open, for example for session fixtures (a door, a browser).
_DESCRIPTORS = 12


@pytest.fixture(scope="module", autouse=True)
def descriptors() -> Iterator[None]:
    """Fail a module whose tests leave descriptors open, which would add up to the limit of the test process."""
    before = open_descriptors()
    yield
    left = left_open(before, _DESCRIPTORS)
    assert not left, f"the tests of this module left {left.total()} descriptors open: {dict(left)}"


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """After a module, call `gc.freeze` if a test of the module has called `gc.unfreeze`."""
    yield
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="module")
def exempt_objects() -> Iterator[None]:
    """Let `gc.unfreeze` do nothing during a module.

    In a run of all tests, a garbage collection that examines the objects of all tests takes half a second. This fixture
    is for modules whose tests call `gc.unfreeze` and collect garbage many times.
    """
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "unfreeze", lambda: None)
        yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@dataclass
class Answer:
    """An HTTP response. `json`, `text`: its body."""

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
    """Return the kubectl for tests: $KUBECTL, else PyPI's for this platform, else the machine's."""
    found = os.environ.get("KUBECTL") or shutil.which("kubectl", path=f"{BIN}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("no kubectl for this platform")
    return found


@dataclass
class Cluster:
    """A running cluster, and its administrator's clients."""

    name: str
    base: Path
    kubeconfig: Path
    env: dict[str, str] = field(default_factory=dict)
    _admin: tuple[bytes, str] = (b"", "")

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
        done = commands.run_text([command, *own, *rest], env={**os.environ, **self.env}, timeout=timeout)
        if check and done.returncode:
            raise AssertionError(
                f"hatchway {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def kubectl(self, *arguments: str, check: bool = True, stdin: str | None = None) -> str:
        """Run stock kubectl; return its standard output (with standard error if `check` is False)."""
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

    def admin_token(self) -> str:
        """Return the administrator's token, which stays the same as long as the cluster's certificate authority."""
        authority = self.ca.read_bytes()
        if self._admin[0] != authority:
            self._admin = authority, self.token()
        return self._admin[1]

    def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = "admin",
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send a request without following redirects. token: "admin" for the administrator's; None for no token."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = "Bearer " + (self.admin_token() if token == "admin" else token)
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
    """Call `what` until it returns a true value, and return this value. An AssertionError counts as a false value.

    The pause between two calls is at least as long as a call. So these calls leave enough CPU time to the cluster.
    Raises AssertionError after `seconds`.
    """
    deadline = time.monotonic() + seconds
    pause = 0.03
    while True:
        began = time.monotonic()
        try:
            found = what()
            if found:
                return found
            problem: Exception | None = None
        except AssertionError as error:
            problem = error
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing after {seconds:.0f} s: {problem or what}")
        time.sleep(max(pause, time.monotonic() - began))
        pause = min(pause * 1.3, 0.25)


@contextlib.contextmanager
def _clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cluster]]:
    """Yield a function that starts clusters; all of them are stopped at the end."""
    made: list[Cluster] = []

    def make(name: str, *options: str, up: bool = True) -> Cluster:
        base = tmp_path_factory.mktemp(name)
        cluster = Cluster(name, base, base / "kubeconfig")
        made.append(cluster)
        if up:
            # No test may reach another machine, even if this machine has a program for egress.
            cluster.hatchway("up", "--detach", "--api-port", "0", "--egress", "none", *options)
        return cluster

    yield make
    for cluster in made:
        # A test may have deleted its cluster.
        if cluster.state.exists():
            cluster.hatchway("down", "--delete", check=False)


@pytest.fixture(scope="session")
def make_shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cluster]]:
    """Yield a function that starts clusters for the whole run, for fixtures of the session."""
    with _clusters(tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="module")
def make_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cluster]]:
    """Yield a function that starts clusters for the module: `make_cluster(name, *options of hatchway up)`."""
    with _clusters(tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="session")
def cluster(make_shared_cluster: Callable[..., Cluster], tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Return the cluster that most tests share; each test uses namespaces of its own."""
    # Tests of web applications mount directories of the checkout, of pytest and of downloads. By default, pods may not.
    opened = (Path(__file__).resolve().parents[1], tmp_path_factory.getbasetemp(), downloads())
    found = make_shared_cluster("shared", *(f"--host-path={path}" for path in opened))
    _shared.append((found, _cluster_wide(found)))
    return found


# The shared cluster, after a test has started it, and the result of `_cluster_wide` at that time.
_shared: list[tuple[Cluster, list[str]]] = []
# Objects of these types, like API groups, affect every namespace, and therefore the tests of other modules.
_FOR_EVERYBODY = tuple(
    f"admissionregistration.k8s.io/v1/{name}"
    for name in (
        "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
    )
)
# The API group of an add-on, which is served as soon as the add-on is ready.
_LATER_GROUPS = {"metrics.k8s.io"}


def _cluster_wide(cluster: Cluster) -> list[str]:
    groups = {group["name"] for group in cluster.get("/apis").json["groups"]} - _LATER_GROUPS
    objects = [one["metadata"]["name"] for path in _FOR_EVERYBODY for one in cluster.get(f"/apis/{path}").json["items"]]
    return sorted([*groups, *objects])


@pytest.fixture(scope="module", autouse=True)
def clean_cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a module that leaves types or admission rules in the shared cluster, where they would change other tests."""
    yield
    if request.module not in _modules_with_cluster(request.session):
        return
    for shared, before in _shared:
        wait_for(functools.partial(_is_unchanged, shared, before))


def _is_unchanged(shared: Cluster, before: list[str]) -> bool:
    assert _cluster_wide(shared) == before
    return True


@functools.cache
def _modules_with_cluster(session: pytest.Session) -> set[ModuleType]:
    functions = (item for item in session.items if isinstance(item, pytest.Function))
    return {function.module for function in functions if "cluster" in function.fixturenames}
