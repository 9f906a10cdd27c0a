"""`logs`, `shell`, `exec`, `cp` and `socks` with a real embedded cluster."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import commands
from tests.conftest import BIN, Cluster, wait_for
from tests.integration.remote.conftest import Terminal

SPACE = "remote"
MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: hatchway/host
        command: [sh, -c, 'echo begun on $HOSTNAME; exec python3 -m http.server 8080']
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: short, labels: {app: other}}
spec:
  restartPolicy: Never
  containers:
  - {name: c, image: hatchway/host, command: [sh, -c, 'echo one; echo; echo three; sleep 1; echo four']}
"""


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Cluster:
    cluster.kubectl("create", "namespace", SPACE)
    cluster.kubectl("-n", SPACE, "create", "-f", "-", stdin=MANIFEST)
    cluster.kubectl("-n", SPACE, "rollout", "status", "deployment/web", "--timeout=60s")
    return cluster


def command(cluster: Cluster, *arguments: str) -> list[str]:
    name, *rest = arguments
    return [str(BIN / "hatchway"), name, "--kubeconfig", str(cluster.kubeconfig), "-n", SPACE, *rest]


def run(cluster: Cluster, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return commands.run(command(cluster, *arguments)[1:], input=stdin, timeout=90)


@pytest.fixture
def follow(pods: Cluster, tmp_path: Path) -> Iterator[Callable[..., Callable[[], str]]]:
    """Return a function that starts a command, and returns a function that reads its output so far."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> Callable[[], str]:
        path = tmp_path / f"out{len(running)}"
        with path.open("wb") as out:
            running.append(subprocess.Popen(command(pods, *arguments), stdout=out, stderr=subprocess.STDOUT))
        return path.read_text

    yield start
    for process in running:
        process.terminate()
        process.wait(20)


def test_logs_of_one_pod_to_its_end(pods: Cluster) -> None:
    done = run(pods, "logs", "short", "-f")
    assert (done.returncode, done.stdout) == (0, b"one\n\nthree\nfour\n")
    assert run(pods, "logs", "pod/short", "--tail", "1").stdout == b"four\n"
    assert run(pods, "logs", "pod/short", "--prefix", "--tail", "1").stdout == b"[short/c] four\n"


def test_logs_of_all_pods_of_a_deployment_including_new_ones(
    pods: Cluster, follow: Callable[..., Callable[[], str]]
) -> None:
    names = pods.kubectl("-n", SPACE, "get", "pods", "-l", "app=web", "-o", "name").split()
    output = follow("logs", "deploy/web", "-f")
    wait_for(lambda: output().count("begun on") == 2)
    pods.kubectl("-n", SPACE, "delete", names[0], "--wait=false")
    wait_for(lambda: output().count("begun on") == 3)
    lines = output().splitlines()
    for line in lines:
        pod, _, text = line.removeprefix("[").partition("/web] ")
        assert text == f"begun on {pod}"
    assert len(set(lines)) == 3


def test_exec_and_cp(pods: Cluster, tmp_path: Path) -> None:
    assert run(pods, "exec", "deploy/web", "--", "sh", "-c", "exit 5").returncode == 5
    data = os.urandom(3_000_000)
    (tmp_path / "f").write_bytes(data)
    pod = pods.kubectl("-n", SPACE, "get", "pods", "-l", "app=web", "-o", "name").split()[0]
    assert run(pods, "cp", str(tmp_path / "f"), f"{pod}:/tmp/g").returncode == 0
    assert run(pods, "cp", f"{pod}:/tmp/g", str(tmp_path / "h")).returncode == 0
    assert (tmp_path / "h").read_bytes() == data
    assert run(pods, "exec", "-i", pod, "--", "cat", stdin=data).stdout == data


def test_a_shell_in_an_existing_pod_and_in_a_new_one(pods: Cluster) -> None:
    done = run(pods, "shell", "web", stdin=b"echo $((40+2)); exit 8\n")
    assert (done.returncode, done.stdout) == (8, b"42\n")
    done = run(pods, "shell", stdin=b"echo $((40+2)); hostname; exit 9\n")
    assert done.returncode == 9
    answer, name = done.stdout.decode().split()
    assert answer == "42"
    assert name.startswith("hatchway-shell-")
    assert name not in pods.kubectl("-n", SPACE, "get", "pods", "-o", "name")


def test_an_ephemeral_container_with_a_shell(pods: Cluster) -> None:
    pod = pods.kubectl("-n", SPACE, "get", "pods", "-l", "app=web", "-o", "name").split()[0]
    done = run(pods, "shell", pod, "--debug", stdin=b"echo $((40+2)); exit 6\n")
    assert (done.returncode, done.stdout) == (6, b"42\n")
    added = pods.kubectl("-n", SPACE, "get", pod, "-o", "jsonpath={.spec.ephemeralContainers[*].targetContainerName}")
    assert added == "web"


def test_the_pod_of_a_killed_shell_ends_at_its_deadline_and_the_next_shell_removes_it(
    pods: Cluster, terminal: Callable[..., Terminal]
) -> None:
    shell = terminal(*command(pods, "shell", "--deadline", "3s"))
    shell.expect("hatchway-shell-")
    shell.type("echo a'live'\n")
    shell.expect("alive")
    shell.close()
    left = ["-n", SPACE, "get", "pods", "-l", "app.kubernetes.io/component=shell"]
    wait_for(lambda: pods.kubectl(*left, "-o", "jsonpath={.items[*].status.phase}") == "Failed")
    run(pods, "shell", stdin=b"true\n")
    assert pods.kubectl(*left, "-o", "name") == ""


def test_a_command_behind_the_socks_proxy(pods: Cluster) -> None:
    program = (
        "import urllib.request as r; print(r.urlopen('http://web/').status, r.urlopen('http://web.remote.svc/').status)"
    )
    done = run(pods, "socks", "--exec", "python3", "-c", program)
    assert done.stdout == b"200 200\n", done.stderr
