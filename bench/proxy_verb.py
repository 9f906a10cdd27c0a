"""The API server's service proxy beside nginx: `.venv/bin/python bench/proxy_verb.py [--rounds N] [--seconds S]`.

Two new clusters (`hatchway up --ephemeral`) each run a pod behind a Service. wrk sends requests to it through
`/api/v1/namespaces/default/services/bench:/proxy/`, on 32 keep-alive TLS connections with a bearer token. So the
measurement includes authentication, authorization, the choice of an endpoint and audit. One nginx worker serves TLS and
proxies to the same kind of backend with upstream keep-alive. The rounds are interleaved in one run. The goal is half of
nginx's requests per second.

nginx's backend is on the loopback interface. The goal applies to the pod of the first cluster. This pod is in a network
namespace behind a bridge, so its connections cost both ends more. The pod of the second cluster (`--network loopback`)
is on the loopback interface, like nginx's backend.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


from bench import peers
from bench.clusters import Cluster, cluster
from bench.compare import compare
from tests.freeports import free_port

_PORT = 8080
# Pods of a cluster on loopback see the machine's files and share its addresses. Variables of the environment have the
# directory and the address of each pod.
_START = """
directory="$HATCHWAY_ROOT/tmp"; mkdir -p "$directory"
sed "s|DIRECTORY|$directory|g; s|ADDRESS|${HATCHWAY_POD_IP:-0.0.0.0}|" "$HATCHWAY_ROOT/etc/bench/nginx.conf" \\
  > "$directory/nginx.conf"
exec "$0" -p "$directory" -e stderr -c "$directory/nginx.conf"
"""


def deploy(found: Cluster, size: int) -> str:
    """Start the backend as a pod behind a Service and return the path of its proxy.

    Args:
        found: the cluster.
        size: the size of each answer in bytes.

    Raises:
        RuntimeError: the pod does not answer.
    """
    config = peers.backend_config(Path("DIRECTORY"), "ADDRESS", _PORT, size)
    namespace = "/api/v1/namespaces/default"
    labels = {"app": "bench"}
    found.create(
        f"{namespace}/configmaps",
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bench"}, "data": {"nginx.conf": config}},
    )
    container = {
        "name": "backend",
        "image": "hatchway/host",
        "command": ["sh", "-c", _START, peers.nginx()],
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
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--size", type=int, default=512, help="bytes of the backend's answer")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hatchway-bench-") as temporary:
        directory = Path(temporary)
        certificate = peers.make_certificate(directory)
        backend_port, nginx_port = free_port(), free_port()
        with (
            cluster(directory, "private") as private,
            cluster(directory, "loopback") as loopback,
            peers.running(peers.backend(directory, backend_port, args.size), backend_port),
            peers.running(peers.nginx_proxy(directory, nginx_port, backend_port, certificate), nginx_port) as nginx,
        ):

            def load(url: str, pid: int, token: str) -> Callable[[], peers.Load]:
                script = directory / f"headers-{pid}.lua"
                script.touch(mode=0o600)
                script.write_text(f'wrk.headers["Authorization"] = "Bearer {token}"\n')
                return lambda: peers.wrk(url, args.connections, args.seconds, pid, script)

            path = deploy(private, args.size)
            deploy(loopback, args.size)
            print(f"TLS, {args.connections} connections, {args.size} bytes, {args.rounds} rounds of {args.seconds} s")
            rounds = compare(
                {
                    "nginx to loopback": load(f"https://127.0.0.1:{nginx_port}/", nginx.pid, private.token),
                    "service proxy to a pod": load(private.server + path, private.pid, private.token),
                    "service proxy to loopback": load(loopback.server + path, loopback.pid, loopback.token),
                },
                args.rounds,
                "nginx to loopback",
            )
            reached = rounds.rate("service proxy to a pod", "nginx to loopback")
            print(
                f"goal: to a pod at least 0.50 of the requests per second of one nginx worker: "
                f"{'reached' if reached >= 0.5 else 'MISSED'} ({reached:.2f})"
            )


if __name__ == "__main__":
    main()
