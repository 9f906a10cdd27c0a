"""The settings of a cluster in the output of `hatchway status`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hatchway.cli.status import status
from hatchway.cluster import statusreport
from hatchway.cluster.state import StateDir


@pytest.mark.parametrize("host_programs", [True, False])
def test_images_that_stand_for_host_programs_have_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host_programs: bool
) -> None:
    async def gather(state: StateDir) -> dict[str, Any]:
        return {
            **dict.fromkeys(("server", "network", "users", "resources", "no_policies", "state"), ""),
            **dict.fromkeys(("running", "ready", "healthy"), True),
            **dict.fromkeys(("pid", "memory_mib", "processes"), 1),
            "nodes": [],
            "built_in": [],
            "egress": None,
            "host_programs": host_programs,
            "host_paths": [],
            "publish": [],
            "egress_to_host": False,
            "ephemeral": False,
            "disk": {"free_bytes": 1, "low": False, "problem": ""},
        }

    monkeypatch.setattr(statusreport, "gather", gather)
    done = CliRunner().invoke(status, ["--name", "web", "--state-dir", str(tmp_path)])
    assert done.exit_code == 0
    assert ("the command of any image runs with this machine's programs" in done.output) is host_programs
