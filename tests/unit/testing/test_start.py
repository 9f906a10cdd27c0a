"""pytest's start with the plugin: which modules it imports."""

from __future__ import annotations

import subprocess
import sys


def test_pytest_imports_nothing_of_a_cluster() -> None:
    """The modules that the plugin adds to those of pytest: its own, and nothing that takes time."""
    listing = "import sys, {}; print(*sorted(sys.modules))"
    with_plugin, without = (
        set(subprocess.check_output([sys.executable, "-c", listing.format(what)], text=True).split())
        for what in ("pytest, hatchway.testing.plugin", "pytest")
    )
    assert with_plugin - without == {"hatchway", "hatchway.testing", "hatchway.testing.plugin"}
