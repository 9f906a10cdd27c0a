"""The end of a cluster: the grace periods of pods, the ends of watches, and the time that `down` takes."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Cluster, wait_for

MakeCluster = Callable[..., Cluster]

# Seconds. Only a hang, or a wait for the whole grace period of a pod, takes so long.
LONG = 6.0


def pod(name: str, script: str, grace: int = 30, **lifecycle: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "hatchway/host", "command": ["sh", "-c", script], **lifecycle}
    spec = {"containers": [container], "terminationGracePeriodSeconds": grace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def run(cluster: Cluster, *pods: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(pods))
    names = [f"pod/{one['metadata']['name']}" for one in pods]
    cluster.kubectl("wait", "--for=condition=Ready", *names, "--timeout=60s")


def log(cluster: Cluster, name: str) -> str:
    (path,) = (cluster.state / "logs").glob(f"default_{name}_*/c/0.log")
    return Path(path).read_text()


def down(cluster: Cluster) -> float:
    """Run `hatchway down`; return the seconds that it took."""
    begun = time.monotonic()
    cluster.hatchway("down")
    return time.monotonic() - begun


@pytest.fixture
def ending(make_cluster: MakeCluster) -> Cluster:
    return make_cluster("ending", "--no-addons", "--nodes", "1")


def test_pods_get_their_grace_period(ending: Cluster) -> None:
    """Pods get SIGTERM and their grace period; preStop hooks run; programs without a SIGTERM handler end at once."""
    stop = {"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "sleep 1; echo hook > /proc/1/fd/1"]}}}}
    patient = "trap 'sleep 1.5; echo in time; exit' TERM; while :; do sleep 0.1; done"
    late = "trap 'while :; do sleep 0.1; done' TERM; while :; do sleep 0.1; done"
    run(
        ending,
        pod("patient", patient),
        pod("late", late, grace=2),
        pod("deaf", "exec sleep 1000"),
        pod("deleted", "exec sleep 1000"),
        pod("hooked", "exec sleep 1000", grace=3, **stop),
    )
    ending.kubectl("delete", "pod", "deleted", "--wait=false")
    assert down(ending) < LONG
    assert "in time" in log(ending, "patient")
    ending.hatchway("up", "--detach")
    for name in ("patient", "late", "deaf", "hooked"):
        ending.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    wait_for(lambda: "deleted" not in ending.kubectl("get", "pods", "-o", "name"))
    if not ending.run["limits"]:
        # Not on loopback, where a hook cannot write to its container's output.
        assert "hook" in log(ending, "hooked")
    ending.hatchway("down", "--delete")


def test_watches_end_with_their_last_line(ending: Cluster) -> None:
    """A cluster that stops does not wait for clients of watches, and ends watches without an error."""
    context = ssl.create_default_context(cafile=str(ending.ca))
    seen: list[bytes] = []
    watching = threading.Event()

    def watch(path: str) -> None:
        connection = http.client.HTTPSConnection("127.0.0.1", int(ending.server.rpartition(":")[2]), context=context)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        watching.set()
        # Raises IncompleteRead if the response is cut off.
        seen.append(response.read())

    token = ending.token()
    threads = [
        threading.Thread(target=watch, args=(f"/api/v1/{plural}?watch=1",)) for plural in ("nodes", "events", "secrets")
    ]
    for thread in threads:
        thread.start()
    wait_for(watching.is_set)
    down(ending)
    for thread in threads:
        thread.join(30)
    assert len(seen) == len(threads), "a watch was cut off"
    assert any(json.loads(line)["object"]["kind"] == "Node" for body in seen for line in body.splitlines())
    errors = (ending.state / "server.log").read_text()
    assert "Traceback" not in errors and " ERROR " not in errors
    ending.hatchway("down", "--delete")
