"""A pod that serves metrics, and has the annotations that let Prometheus scrape it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from tests.conftest import Cluster, wait_for

_PROGRAM = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'visits_total{page="/"} 5\\n')
    def log_message(self, *a):
        pass
HTTPServer(("", 8080), Handler).serve_forever()
"""


@contextlib.contextmanager
def pod_with_metrics(cluster: Cluster, namespace: str) -> Iterator[None]:
    """Run the pod `shop`, container `web`, port 8080, in a separate namespace during a block."""
    cluster.kubectl("create", "namespace", namespace)
    try:
        container = {
            "name": "web",
            "image": "hatchway/shell",
            "command": ["python3", "-c", _PROGRAM],
            "ports": [{"containerPort": 8080}],
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "shop", "annotations": {"prometheus.io/scrape": "true"}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
        }
        wait_for(lambda: "default" in cluster.kubectl("-n", namespace, "get", "sa", check=False))
        cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(pod))
        yield
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
