"""Vendored files are unchanged: they have the hashes in vendor/README.md."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import hatchway.addons.monitoring.dashboards as dashboards

_VENDOR = Path(dashboards.__file__).parent / "vendor"


def test_the_files_have_the_hashes_of_the_readme() -> None:
    text = (_VENDOR / "README.md").read_text()
    noted = dict(re.findall(r"^\| `([\w.]+)` \|.*\| `([0-9a-f]{64})` \|$", text, re.MULTILINE))
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in _VENDOR.iterdir()}
    assert noted == {name: digest for name, digest in files.items() if name != "README.md"}
    version = re.search(r"^\| version \| ([\d.]+) \|$", text, re.MULTILINE)
    assert version is not None
    assert f"(v{version[1]})" in (_VENDOR / "uPlot.esm.js").read_text()[:400]
