"""The modules that pytest imports at its start because of the plugin."""

from __future__ import annotations

import subprocess
import sys


def test_pytest_imports_nothing_of_a_cluster() -> None:
    """The plugin imports only its own modules, because other imports would delay every start of pytest."""
    listing = "import sys, {}; print(*sorted(sys.modules))"
    with_plugin, without = (
        set(subprocess.check_output([sys.executable, "-c", listing.format(what)], text=True).split())
        for what in ("pytest, hatchway.testing.plugin", "pytest")
    )
    assert with_plugin - without == {"hatchway", "hatchway.testing", "hatchway.testing.plugin"}
