"""Fixtures of the browser tests: a browser, and the door in front of the shared cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.chromium import chromium
from tests.conftest import Cluster
from tests.door import Door, door_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run a headless Chromium for one module. Modules do not share it, because some start it with other arguments."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def door(cluster: Cluster) -> Iterator[Door]:
    """Run `hatchway proxy` on a free port."""
    with door_of(cluster) as running:
        yield running
