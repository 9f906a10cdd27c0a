from __future__ import annotations

import os
from pathlib import Path

import pytest

from hatchway.cluster.network import overlay


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("6.7.0", True),
        ("6.18.44-fc", True),
        ("10.0.0-1-amd64", True),
        ("6.6.99", False),
        ("6.1.0-18-amd64", False),
        ("5.15.0", False),
        ("unknown", True),
    ],
)
def test_kernels_that_accept_layers_one_by_one(release: str, expected: bool) -> None:
    assert overlay.mounts_by_parts(release) is expected


def test_older_kernels_get_all_layers_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted: list[str] = []
    monkeypatch.setattr(overlay, "_mount_by_parts", lambda *_: mounted.append("by parts"))
    monkeypatch.setattr(overlay, "_mount_at_once", lambda *_: mounted.append("at once"))
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6.1.0-18-amd64", "", "x86_64")))
    overlay.mount_overlay([str(tmp_path)], str(tmp_path), str(tmp_path))
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6.12.0", "", "x86_64")))
    overlay.mount_overlay([str(tmp_path)], str(tmp_path), str(tmp_path))
    assert mounted == ["at once", "by parts"]
