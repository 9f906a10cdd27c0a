from __future__ import annotations

from pathlib import Path

import pytest

from tests.images.unpacking import Attack, Guard


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    """Return a guarded directory beside that of the layer."""
    return Guard(tmp_path / "outside")


@pytest.fixture
def attack(tmp_path: Path, guard: Guard) -> Attack:
    """Return what unpacks a hostile layer beside the guarded directory."""
    return Attack(tmp_path, guard)
