"""Stock `kubectl proxy` in front of a test cluster."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from tests.conftest import Cluster, find_kubectl


@contextlib.contextmanager
def kubectl_proxy(cluster: Cluster) -> Iterator[str]:
    """Run `kubectl proxy` on a free port; yield its base URL."""
    with subprocess.Popen(
        [find_kubectl(), "--kubeconfig", cluster.kubeconfig, "proxy", "--port=0"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            # "Starting to serve on 127.0.0.1:36123"
            yield "http://" + process.stdout.readline().split()[-1]
        finally:
            process.terminate()
