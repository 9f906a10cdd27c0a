"""The files of removed pods are deleted, and no others."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hatchway.cluster.network.loopback import LoopbackRuntime
from hatchway.cluster.node.kubelet import clean_up
from hatchway.cluster.state import StateDir


def old(path: Path) -> None:
    for found in (*path.rglob("*"), path):
        os.utime(found, (time.time() - 1000,) * 2)


async def test_only_old_files_of_unknown_pods_go(tmp_path: Path) -> None:
    state, files = StateDir(tmp_path), LoopbackRuntime(tmp_path / "sandboxes")
    pods, memory, logs = state.pods, state.memory, state.logs
    for uid in ("known", "gone", "fresh", "writing"):
        (pods / uid / "volumes" / "v").mkdir(parents=True)
        (memory / uid / "volumes" / "v").mkdir(parents=True)
        (logs / f"ns_a_{uid}" / "c").mkdir(parents=True)
        (logs / f"ns_a_{uid}" / "c" / "0.log").write_text("x")
    for uid in ("known", "gone", "writing"):
        old(pods / uid)
        old(memory / uid)
        old(logs / f"ns_a_{uid}")
    (logs / "ns_a_writing" / "c" / "0.log").write_text("more")
    clean_up(state, {"known"}, files, older_than=60)
    assert {path.name for path in pods.iterdir()} == {path.name for path in memory.iterdir()} == {"known", "fresh"}
    assert {path.name for path in logs.iterdir()} == {"ns_a_known", "ns_a_fresh", "ns_a_writing"}
    clean_up(StateDir(tmp_path / "none"), set(), files, older_than=0)
