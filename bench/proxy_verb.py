"""The API server's service proxy beside nginx: `.venv/bin/python bench/proxy_verb.py [--rounds N] [--seconds S]`.

A cluster of its own (`hatchway up --ephemeral`) runs a pod behind a Service; wrk asks for it with 32 keep-alive TLS
connections and a bearer token through `/api/v1/namespaces/default/services/bench:/proxy/`: authentication,
authorization, endpoint choice and audit included. nginx, one worker, does TLS and proxies to the same kind of backend
with upstream keep-alive. Interleaved rounds in one run; the goal is half of nginx's requests per second.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import yaml

from bench import peers
from bench.compare import compare

_PORT = 8080


@dataclass
class Cluster:
    """A running cluster. server: its URL. token: an administrator's bearer token. process: `hatchway up`."""

    server: str
    token: str
    trust: ssl.SSLContext
    process: subprocess.Popen[bytes]

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        request = urllib.request.Request(
            self.server + path,
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, context=self.trust, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def create(self, path: str, body: dict[str, Any]) -> None:
        status, text = self.call("POST", path, body)
        if status != 201:
            raise RuntimeError(f"POST {path}: {status} {text.decode(errors='replace')}")


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    """`hatchway up --ephemeral` in a directory of its own, stopped with the block."""
    hatchway = str(Path(sys.executable).parent / "hatchway")
    where = ["--name", "bench", "--state-dir", str(directory / "state")]
    kubeconfig = directory / "kubeconfig"
    command = [hatchway, "up", *where, "--kubeconfig", str(kubeconfig)]
    command += ["--api-port", "0", "--nodes", "1", "--no-addons", "--ephemeral"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if b"Ctrl-C" in line:
                break
        else:
            raise RuntimeError("hatchway up ended before the cluster was ready")
        settings = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
        trust = ssl.create_default_context(cadata=base64.b64decode(settings["certificate-authority-data"]).decode())
        token = subprocess.run([hatchway, "token", *where], check=True, capture_output=True, text=True).stdout.strip()
        yield Cluster(settings["server"], token, trust, process)
    finally:
        process.terminate()
        process.wait(60)


def deploy(found: Cluster, size: int) -> str:
    """Start the backend as a pod behind a Service; the path of its proxy. Raises RuntimeError when it does not answer."""
    config = peers.backend_config(Path("/tmp"), "0.0.0.0", _PORT, size)
    namespace = "/api/v1/namespaces/default"
    labels = {"app": "bench"}
    found.create(
        f"{namespace}/configmaps",
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bench"}, "data": {"nginx.conf": config}},
    )
    container = {
        "name": "backend",
        "image": "bench",
        "command": [peers.nginx(), "-p", "/tmp", "-e", "stderr", "-c", "/etc/bench/nginx.conf"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/bench"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "config", "configMap": {"name": "bench"}}]}
    found.create(
        f"{namespace}/pods",
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bench", "labels": labels}, "spec": pod},
    )
    service = {"selector": labels, "ports": [{"port": 80, "targetPort": _PORT}]}
    found.create(
        f"{namespace}/services",
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bench"}, "spec": service},
    )
    path = f"{namespace}/services/bench:/proxy/"
    end = time.monotonic() + 30
    while True:
        status, text = found.call("GET", path)
        if status == 200 and len(text) == size:
            return path
        if time.monotonic() > end:
            log = found.call("GET", f"{namespace}/pods/bench/log")[1]
            raise RuntimeError(f"the pod does not answer: {status} {text!r}; its log: {log!r}")
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--size", type=int, default=512, help="bytes of the backend's answer")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as temporary:
        directory = Path(temporary)
        certificate = peers.make_certificate(directory)
        backend_port, nginx_port = peers.free_port(), peers.free_port()
        with (
            cluster(directory) as found,
            peers.running(peers.backend(directory, backend_port, args.size), backend_port),
            peers.running(peers.nginx_proxy(directory, nginx_port, backend_port, certificate), nginx_port),
        ):
            path = deploy(found, args.size)
            script = directory / "headers.lua"
            script.touch(mode=0o600)
            script.write_text(f'wrk.headers["Authorization"] = "Bearer {found.token}"\n')
            print(f"TLS, {args.connections} connections, {args.size} bytes, {args.rounds} rounds of {args.seconds} s")
            nginx = "nginx, one worker"
            medians = compare(
                {
                    nginx: lambda: peers.wrk(
                        f"https://127.0.0.1:{nginx_port}/", args.connections, args.seconds, script
                    ),
                    "service proxy": lambda: peers.wrk(found.server + path, args.connections, args.seconds, script),
                },
                args.rounds,
                nginx,
            )
            reached = medians["service proxy"].rate / medians[nginx].rate
            print(f"goal: at least 0.50 of nginx's requests per second: {'reached' if reached >= 0.5 else 'MISSED'}")


if __name__ == "__main__":
    main()
