"""Stock `kubectl proxy` in front of a test cluster."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import BIN, Cluster


@contextlib.contextmanager
def kubectl_proxy(cluster: Cluster) -> Iterator[str]:
    """Runs it on a free port; gives its base URL."""
    executable = shutil.which("kubectl", path=f"{BIN}:{os.environ['PATH']}")
    if executable is None:
        pytest.skip("no kubectl for this platform")
    with subprocess.Popen(
        [executable, "--kubeconfig", cluster.kubeconfig, "proxy", "--port=0"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            # "Starting to serve on 127.0.0.1:36123"
            yield "http://" + process.stdout.readline().split()[-1]
        finally:
            process.terminate()
