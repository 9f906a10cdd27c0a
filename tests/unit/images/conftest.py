from __future__ import annotations

from pathlib import Path

import pytest

from tests.images.unpacking import Attack, Guard


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    """Return a directory next to the layer's directory. At the end of the test, its content must be unchanged."""
    return Guard(tmp_path / "outside")


@pytest.fixture
def attack(tmp_path: Path, guard: Guard) -> Attack:
    """Return the function that unpacks a hostile layer beside the guarded directory."""
    return Attack(tmp_path, guard)
