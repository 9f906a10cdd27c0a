from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatchway.cluster.auth import pki
from hatchway.cluster.auth.authenticators import Authenticator
from hatchway.cluster.auth.pki import Pki
from hatchway.cluster.state import StateDir

from .fakes import FakeSource


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    found = StateDir(tmp_path / "c")
    found.create()
    return found


@pytest.fixture
def keys(state: StateDir) -> Pki:
    return pki.ensure(state.pki, cluster_name="c", node_names=["node-1"], node_ips=["172.18.0.3"])


@pytest.fixture
def authenticator(state: StateDir, keys: Pki, source: FakeSource) -> Iterator[Authenticator]:
    state.tokens_file.write_text(
        json.dumps(
            {
                "tokens": [
                    {"user": "admin", "groups": ["system:masters"], "token": "admin-token"},
                    {"user": "alice", "uid": "alice-uid", "token": "alice-token"},
                    {"user": "bob", "groups": ["devs", "testers"], "token": "bob-token"},
                ]
            }
        )
    )
    found = Authenticator(keys, state.tokens_file, state.basic_file, source)
    # The tests change files and expect an effect at once.
    found.file_check_seconds = 0.0
    yield found
    found.close()
