"""Fixtures of the browser tests: the door in front of the shared cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Cluster
from tests.door import Door, door_of


@pytest.fixture(scope="session")
def door(cluster: Cluster) -> Iterator[Door]:
    """`hatchway proxy` on a free port; skips while there is none."""
    with door_of(cluster) as running:
        yield running
