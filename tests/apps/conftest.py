"""Fixtures: the browser, the door, and each application once, started for the modes that are tested."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
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
        urls: dict[str, str] = {}

        def reach(mode: str) -> Running:
            if mode == "direct" and mode not in urls:
                urls[mode] = stack.enter_context(start.process(app, installed, work))
            elif mode not in urls:
                door: Door = request.getfixturevalue("door")
                stack.enter_context(start.pod(app, installed, work, request.getfixturevalue("cluster")))
                urls["host"] = door.host(app.name, start.NAMESPACE)
                urls["prefix"] = door.prefix(app.name, start.NAMESPACE)
            return Running(urls[mode], Path(work), mode)

        yield reach
