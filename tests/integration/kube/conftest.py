"""Fixtures: servers, proxies and plugins, closed at the end of each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hatchway.kube import connection
from tests.integration.kube.world import ApiServer, FakePlugin, ForwardProxy
from tests.integration.proxy.conftest import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "kube")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "other")


@pytest.fixture
async def api(authority: Authority) -> AsyncIterator[ApiServer]:
    server = ApiServer()
    await server.start(authority.server())
    yield server
    await server.stop()


@pytest.fixture
async def proxy() -> AsyncIterator[ForwardProxy]:
    found = ForwardProxy()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
def plugin(tmp_path: Path) -> FakePlugin:
    directory = tmp_path / "plugin"
    directory.mkdir()
    return FakePlugin(directory)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check files every 20 ms, and allow the renewal of credentials without a pause between renewals."""
    monkeypatch.setattr(connection, "_POLL", 0.02)
    monkeypatch.setattr(connection, "_PAUSE", 0.0)
