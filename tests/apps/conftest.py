"""Fixtures: the browser, the door, and each application once, started for the modes that are tested."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.apps import start
from tests.apps.app import App, Running
from tests.apps.install import install
from tests.chromium import chromium
from tests.conftest import Cluster
from tests.door import Door, door_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def door(cluster: Cluster) -> Iterator[Door]:
    with door_of(cluster) as running:
        yield running


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Running]]:
    """How an application (the parameter) is reached in a mode; it is started when it is first asked for."""
    app: App = request.param
    installed = install(app)
    work = tmp_path_factory.mktemp(app.name)
    start.prepare(app, installed, work)
    with contextlib.ExitStack() as stack:
        found: dict[str, Running] = {}

        def reach(mode: str) -> Running:
            if mode == "direct" and mode not in found:
                url, log = stack.enter_context(start.process(app, installed, work))
                found[mode] = Running(url, work, mode, lambda: log.read_text()[-3000:])
            elif mode not in found:
                door: Door = request.getfixturevalue("door")
                cluster: Cluster = request.getfixturevalue("cluster")
                stack.enter_context(start.pod(app, installed, work, cluster))
                for name, url in {
                    "host": door.host(app.name, start.NAMESPACE),
                    "prefix": door.prefix(app.name, start.NAMESPACE),
                }.items():
                    found[name] = Running(url, work, name, lambda: start.pod_log(app, cluster))
            return found[mode]

        yield reach
