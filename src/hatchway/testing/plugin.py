"""The pytest plugin: options, fixtures, and the description of namespaces in a failed test's report.

pytest loads this module at every start, in every project of the environment, so the module imports only pytest until a
fixture is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hatchway.testing.cluster import Cluster, Namespace

_NETWORKS = ("auto", "private", "loopback")
# The maximum number of namespaces in a report, and the maximum number of characters about each.
_NAMESPACES, _CHARACTERS = 3, 20_000
_WORKER_OUTPUT = "hatchway_kept"


@dataclass
class _PluginState:
    """The plugin's state during one run.

    clusters: the open clusters by the names of their fixtures.
    kept: texts for the summary about clusters and namespaces that are kept after failed tests.
    """

    clusters: dict[str, Cluster] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)


_STATE = pytest.StashKey[_PluginState]()
_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the command line and of pytest.ini."""
    group = parser.getgroup("hatchway", "Kubernetes clusters for tests (hatchway)")
    for name, metavar, text in (
        ("nodes", "N", "workers of a cluster, beside its control plane; default: 1"),
        ("addons", "LIST", "add-ons that run: none, all, or names with commas between them; default: none"),
        ("network", "MODE", "auto, private or loopback; default: auto, a private network where the machine allows it"),
        ("context", "NAME", "use the cluster of this kubeconfig context instead of starting one"),
        ("timeout", "SECONDS", "timeout of `wait`, `url` and similar methods; default: 60"),
    ):
        group.addoption(f"--hatchway-{name}", metavar=metavar, default=None, help=text)
        parser.addini(f"hatchway_{name}", text, default="")
    keep = "keep the cluster when a test has failed, with the failed tests' namespaces"
    group.addoption("--hatchway-keep", action="store_true", default=None, help=keep)
    parser.addini("hatchway_keep", keep, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Check the options, so that an error is reported before any test runs."""
    config.stash[_STATE] = _PluginState()
    _PluginOptions(config)


class _PluginOptions:
    """The values of the options: from the command line, else from pytest.ini, else the defaults."""

    def __init__(self, config: pytest.Config) -> None:
        """Read the options. Raises pytest.UsageError."""

        def text(name: str, default: str) -> str:
            found = config.getoption(f"hatchway_{name}")
            return str(config.getini(f"hatchway_{name}") or default) if found is None else str(found)

        nodes, timeout = text("nodes", "1"), text("timeout", "60")
        if not (nodes.isascii() and nodes.isdecimal() and int(nodes[:3]) <= 50 and len(nodes) < 3):
            raise pytest.UsageError(f'hatchway_nodes: "{nodes}" is not a number from 0 to 50')
        self.nodes = int(nodes)
        try:
            self.timeout = float(timeout)
        except ValueError:
            self.timeout = 0.0
        if not 0 < self.timeout < 1e6:
            raise pytest.UsageError(f'hatchway_timeout: "{timeout}" is not a number of seconds')
        self.network = text("network", "auto")
        if self.network not in _NETWORKS:
            raise pytest.UsageError(f'hatchway_network: "{self.network}" is not one of {", ".join(_NETWORKS)}')
        self.addons = text("addons", "none")
        if self.addons != "none":
            from hatchway.cluster.addonnames import parse_list
            from hatchway.errors import HatchwayError

            try:
                parse_list(self.addons)
            except HatchwayError as error:
                raise pytest.UsageError(f"hatchway_addons: {error.message}; {error.hint}") from error
        self.context = text("context", "")
        self.keep = bool(config.getoption("hatchway_keep") or config.getini("hatchway_keep"))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kubernetes cluster for the whole session: started on first use, ended with this process (`Cluster`)."""
    settings = _PluginOptions(request.config)
    if settings.context:
        with _foreign_cluster(request, settings, tmp_path_factory.mktemp("hatchway") / "kubeconfig") as found:
            yield found
    else:
        with _own_cluster(request, settings, lambda: request.session.testsfailed > 0) as found:
            yield found


@pytest.fixture
def fresh_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A Kubernetes cluster of this test alone, for tests that change objects outside namespaces (`Cluster`)."""
    settings = _PluginOptions(request.config)
    if settings.context:
        pytest.skip("fresh_cluster starts a cluster of its own, and --hatchway-context names another one")
    with _own_cluster(request, settings, lambda: request.node.stash.get(_FAILED, False)) as found:
        yield found


@pytest.fixture
def namespace(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Namespace]:
    """A new namespace of this test, deleted afterwards without waiting for its end (`Namespace`)."""
    with _readable_errors():
        found = cluster.new_namespace(request.node.name)
    yield found
    if _PluginOptions(request.config).keep and request.node.stash.get(_FAILED, False):
        cluster.keep_namespace(found)
        request.config.stash[_STATE].kept.append(f"namespace {found} of {request.node.nodeid}")
    else:
        cluster.delete_namespace(found)


@pytest.fixture(scope="session")
def kubeconfig(cluster: Cluster) -> Path:
    """The path of a kubeconfig whose current context is the session's cluster. $KUBECONFIG is not changed."""
    return cluster.kubeconfig


@pytest.fixture
def kubeconfig_env(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a kubeconfig for the session's cluster and the test's namespace. $KUBECONFIG is set to this path."""
    path = namespace.kubeconfig
    monkeypatch.setenv("KUBECONFIG", str(path))
    for client in ("kubernetes", "kubernetes_asyncio"):
        # Client libraries read the variable when they are imported. An operator under test must not find the user's own
        # cluster there.
        for name in (f"{client}.config", f"{client}.config.kube_config"):
            if name in sys.modules:
                monkeypatch.setattr(sys.modules[name], "KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    return path


@contextmanager
def _own_cluster(
    request: pytest.FixtureRequest, settings: _PluginOptions, failed: Callable[[], bool]
) -> Iterator[Cluster]:
    """Start a cluster, and end it, unless a test has failed and the user wants to keep the cluster in that case.

    failed: returns True when a test has failed.
    """
    state = request.config.stash[_STATE]
    with _readable_errors():
        from hatchway.cluster.addonnames import parse_list
        from hatchway.testing.launch import LaunchOptions, OwnCluster

        options = LaunchOptions(settings.nodes, parse_list(settings.addons), settings.network)
        own = OwnCluster.start(options, _import_clients)
    found: Cluster | None = None
    try:
        with _readable_errors():
            from hatchway.images.store.store import store_path
            from hatchway.testing.cluster import Cluster

            found = Cluster(
                own.kubeconfig, timeout=settings.timeout, note=own.note, owned=True, image_store=store_path()
            )
        state.clusters[str(request.fixturename)] = found
        try:
            yield found
        finally:
            del state.clusters[str(request.fixturename)]
            found.close()
    finally:
        if settings.keep and failed():
            state.kept.append(own.keep())
        else:
            own.end()
            if found is not None:
                found.remove_images()


@contextmanager
def _foreign_cluster(request: pytest.FixtureRequest, settings: _PluginOptions, path: Path) -> Iterator[Cluster]:
    """Use the cluster of a context. path: the file for its kubeconfig."""
    state = request.config.stash[_STATE]
    with _readable_errors():
        from hatchway.testing.cluster import Cluster
        from hatchway.testing.kubeconfigs import copy_context

        copy_context(settings.context, path)
    try:
        with _readable_errors():
            found = Cluster(path, timeout=settings.timeout)
        state.clusters[str(request.fixturename)] = found
        try:
            yield found
        finally:
            del state.clusters[str(request.fixturename)]
            found.close()
    finally:
        # The file has credentials.
        for one in path.parent.glob(f"{path.name}*"):
            one.unlink()


def _import_clients() -> None:
    """Import the modules that talk to a cluster, while the cluster starts."""
    import hatchway.testing.cluster  # noqa: F401 - for later


@contextmanager
def _readable_errors() -> Iterator[None]:
    """Report an error of the machine or the cluster in one line and a hint, without a traceback."""
    from hatchway.errors import HatchwayError

    try:
        yield
    except HatchwayError as error:
        pytest.fail(f"hatchway: {error.message}" + (f"\n  {error.hint}" if error.hint else ""), pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add a description of the test's namespaces to the report of a failed test."""
    report = yield
    state = item.config.stash[_STATE]
    if report.failed:
        item.stash[_FAILED] = True
        names = {*getattr(item, "fixturenames", ()), *getattr(item, "funcargs", ())}
        for one in [found for fixture, found in state.clusters.items() if fixture in names]:
            # Without a namespace of its own, a test works in the namespace default.
            for place in one.open_namespaces[:_NAMESPACES] or [one.in_namespace("default")]:
                note = f"note: {text}\n" if (text := one.note()) else ""
                report.sections.append((f"namespace {place}", note + _described(place)))
    return report


def _described(place: Namespace) -> str:
    try:
        text = place.describe()
    except Exception as error:  # noqa: BLE001 - the report has all that can be read
        text = f"cannot be described: {error}"
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}\n..."


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With pytest-xdist: pass the texts about this worker's kept clusters to the main process."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_WORKER_OUTPUT] = session.config.stash[_STATE].kept


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """With pytest-xdist: receive the texts about a worker's kept clusters."""
    output: dict[str, Any] = getattr(node, "workeroutput", None) or {}
    node.config.stash[_STATE].kept.extend(output.get(_WORKER_OUTPUT, ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print where to find the clusters and namespaces that were kept."""
    if kept := config.stash[_STATE].kept:
        terminalreporter.section("kept (--hatchway-keep)")
        for text in kept:
            terminalreporter.write_line(text)
