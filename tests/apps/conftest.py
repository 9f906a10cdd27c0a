"""Fixtures: the browser, the door, and each application, started once for all tested modes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.apps import start
from tests.apps.app import App, Running
from tests.apps.install import install
from tests.apps.stranger import stranger
from tests.chromium import chromium
from tests.conftest import Cluster
from tests.door import Door, door_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run a headless Chromium for one application, because Playwright allows only one browser at a time."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def app_cluster(request: pytest.FixtureRequest) -> Cluster:
    """Return the shared cluster; with --stranger, a cluster whose API server behaves like kube-apiserver."""
    if request.config.getoption("--stranger"):
        own: Cluster = request.getfixturevalue("make_shared_cluster")("stranger", "--rewrite", "kubernetes")
        return own
    shared: Cluster = request.getfixturevalue("cluster")
    return shared


@pytest.fixture(scope="session")
def door(
    request: pytest.FixtureRequest, app_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    with contextlib.ExitStack() as stack:
        kubeconfig = None
        if request.config.getoption("--stranger"):
            kubeconfig = stack.enter_context(stranger(app_cluster, tmp_path_factory.mktemp("stranger")))
        yield stack.enter_context(door_of(app_cluster, kubeconfig=kubeconfig))


class Starter:
    """Starts an application when a mode first needs it; the application runs until `stack` is closed."""

    def __init__(self, app: App, work: Path, stack: contextlib.ExitStack, request: pytest.FixtureRequest) -> None:
        self.app = app
        self._work, self._stack, self._request = work, stack, request
        self._installed = install(app)
        self._running: dict[str, Running] = {}
        start.prepare(app, self._installed, work)

    def reach(self, mode: str) -> Running:
        """Return the application that runs in a mode; start it at the first call. Raises an error if that fails."""
        if mode not in self._running:
            if mode == "direct":
                self._start_process()
            else:
                self._start_pod()
        return self._running[mode]

    def _start_process(self) -> None:
        url, log = self._stack.enter_context(start.process(self.app, self._installed, self._work))
        self._running["direct"] = Running(url, self._work, "direct", lambda: log.read_text()[-3000:])

    def _start_pod(self) -> None:
        door: Door = self._request.getfixturevalue("door")
        cluster: Cluster = self._request.getfixturevalue("app_cluster")
        self._stack.enter_context(start.pod(self.app, self._installed, self._work, cluster))
        urls = {
            "host": door.host(self.app.name, start.NAMESPACE),
            "prefix": door.prefix(self.app.name, start.NAMESPACE),
        }
        for mode, url in urls.items():
            self._running[mode] = Running(url, self._work, mode, lambda: start.pod_log(self.app, cluster))


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """Return the starter of the application that the parameter names."""
    app: App = request.param
    with contextlib.ExitStack() as stack:
        yield Starter(app, tmp_path_factory.mktemp(app.name), stack, request)
