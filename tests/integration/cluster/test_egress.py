"""Pods of a real cluster reach other networks by name, as far as network policies allow it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hatchway.cluster import plan
from tests.conftest import find_kubectl
from tests.integration.cluster import egressday
from tests.integration.network import pretendhost
from tests.integration.network.conftest import ROOT, why_not_private
from tests.integration.network.pretendhost import HOST, WEB
from tests.integration.network.test_egress import why_no_tun

TOOL = "pasta"


def test_pods_reach_other_networks_by_name(tmp_path: Path) -> None:
    if why := why_not_private() or why_no_tun(other_user=False) or ("" if shutil.which(TOOL) else f"no {TOOL}"):
        pytest.skip(why)
    environment = {
        **os.environ,
        "PATH": f"{Path(find_kubectl()).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    }
    command = [sys.executable, pretendhost.__file__, sys.executable, egressday.__file__, str(tmp_path), TOOL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "result.json").read_text())
    # In the order of `egressday.day`: by name; by address; a Service; this machine's search domain; an ExternalName
    # Service; a long DNS answer (TCP); a name that does not exist.
    assert found["free"] == [HOST, HOST, ["10.96.0.1"], [WEB], [WEB], 200, "gai -2"]
    assert found["bound"] == [HOST, "ECONNREFUSED", "EHOSTUNREACH"]
    # This machine's resolver does not resolve names of the cluster.
    assert found["plain"] == [HOST, "gai -2"]
    assert found["on-node"] == [HOST]
    assert found["resolv"]["free"].splitlines() == [
        "search default.svc.cluster.local svc.cluster.local cluster.local corp.test",
        "nameserver 10.96.0.10",
        "options ndots:5",
    ]
    assert f"nameserver {plan.HOST_NAMESERVER}" in found["resolv"]["plain"].splitlines()
    assert found["status"] == {"tool": TOOL, "up": True, "why": ""}
    assert found["kept"] == TOOL
    assert found["none"] == ["ENETUNREACH", "gai -3", ["10.96.0.1"]]
    assert "pods reach nothing outside the cluster: switched off with --egress none" in found["none in status"]
