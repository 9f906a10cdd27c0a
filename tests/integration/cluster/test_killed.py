"""Processes of a cluster that are killed, stopped, or started twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.state import StateDir
from hatchway.cluster.statusreport import family
from tests.conftest import BIN, Cluster, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

MakeCluster = Callable[..., Cluster]


@pytest.fixture
def killed(make_cluster: MakeCluster) -> Iterator[Cluster]:
    """Yield a cluster for one test, not started."""
    made = make_cluster("killed", up=False)
    yield made
    made.hatchway("down", "--delete")


def start(cluster: Cluster, *options: str) -> subprocess.Popen[str]:
    """Start `hatchway up` in the background."""
    own = ["--name", cluster.name, "--state-dir", str(cluster.base), "--kubeconfig", str(cluster.kubeconfig)]
    return subprocess.Popen(
        [BIN / "hatchway", "up", "--api-port", "0", "--no-addons", "--nodes", "1", *own, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes(cluster: Cluster) -> list[str]:
    """Return the processes with the cluster's state directory in their arguments: control plane and init."""
    return [line for _, line in command_lines() if str(cluster.state) in line and "hatchway.cluster" in line]


def command_lines() -> Iterator[tuple[int, str]]:
    """Yield (process id, command line) of every process that has a command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        yield int(path.parent.name), line


def running(cluster: Cluster) -> bool:
    return StateDir(cluster.state).running()


def run_pod(cluster: Cluster, name: str) -> None:
    cluster.kubectl("run", name, "--image=hatchway/host", "--command", "--", "sleep", "1000")
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")


def pod(cluster: Cluster, name: str) -> Any:
    return json.loads(cluster.kubectl("get", "pod", name, "-o", "json"))


def test_a_killed_container_is_started_again(cluster: Cluster) -> None:
    marker = f"{os.getpid()}7"
    cluster.kubectl("run", "victim", "--image=hatchway/host", "--command", "--", "sleep", marker)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/victim", "--timeout=30s")
    (found,) = (pid for pid, line in command_lines() if line.endswith(f"sleep {marker}"))
    os.kill(found, signal.SIGKILL)

    def again() -> bool:
        (status,) = pod(cluster, "victim")["status"]["containerStatuses"]
        return status["restartCount"] == 1 and status["ready"] and status["lastState"]["terminated"]["exitCode"] == 137

    wait_for(again)
    cluster.kubectl("delete", "pod", "victim", "--grace-period=0", "--force")


def agents(cluster: Cluster) -> list[int]:
    """Return the process ids of the cluster's node agents: one while it runs, none otherwise."""
    lines, run = dict(command_lines()), cluster.run
    return [
        pid
        for pid in family(run["pid"], run["network_pid"])
        if lines.get(pid, "").endswith("-m hatchway.cluster.nodeagent")
    ]


@pytest.mark.parametrize("options", [(), ("--network", "loopback")], ids=["default", "loopback"])
def test_a_killed_node_agent_is_started_again_and_its_pods_with_it(killed: Cluster, options: tuple[str, ...]) -> None:
    killed.hatchway("up", "--detach", "--api-port", "0", "--no-addons", "--nodes", "1", *options)
    run_pod(killed, "kept")
    server = killed.server
    (first,) = agents(killed)
    os.kill(first, signal.SIGKILL)

    def again() -> bool:
        (status,) = pod(killed, "kept")["status"]["containerStatuses"]
        return status["restartCount"] == 1 and status["ready"]

    wait_for(again)
    assert agents(killed) not in ([], [first])
    assert killed.server == server
    assert "the node agent was killed by signal 9" in (killed.state / "server.log").read_text()
    # A new pod can run and be reached, as before.
    killed.kubectl("run", "web", "--image=hatchway/echo", "--port=8080")
    killed.kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=30s")
    wait_for(lambda: killed.get("/api/v1/namespaces/default/pods/web:8080/proxy/").status == 200)
    assert json.loads(killed.hatchway("status", "-o", "json").stdout)["ready"]


def test_a_node_agent_that_is_killed_repeatedly_ends_the_cluster_with_a_reason(killed: Cluster) -> None:
    killed.hatchway("up", "--detach", "--api-port", "0", "--no-addons", "--nodes", "1")

    def ended() -> bool:
        try:
            for agent in agents(killed):
                os.kill(agent, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            # The cluster has deleted run.json, or the agent has ended.
            pass
        return not running(killed)

    wait_for(ended)
    # The control plane still writes the last lines of its log when the cluster no longer counts as running.
    wait_for(lambda: not processes(killed))
    said = (killed.state / "server.log").read_text()
    assert "the cluster cannot go on: the node agent was killed by signal 9" in said, said
    assert said.count("it is started again") == 3
    assert "killed" not in killed.kubeconfig.read_text()
    killed.hatchway("up", "--detach")
    assert json.loads(killed.hatchway("status", "-o", "json").stdout)["ready"]


def test_a_cluster_whose_network_is_killed_ends_with_a_reason(killed: Cluster) -> None:
    killed.hatchway("up", "--detach", "--api-port", "0", "--no-addons", "--nodes", "1")
    if killed.run["limits"]:
        pytest.skip("on loopback there is no private network")
    run_pod(killed, "kept")
    os.kill(killed.run["network_pid"], signal.SIGKILL)
    wait_for(lambda: not running(killed))
    # The last line of the log is written after all parts of the cluster have ended.
    wait_for(lambda: "the cluster cannot go on: " in (killed.state / "server.log").read_text())
    assert "killed" not in killed.kubeconfig.read_text()
    assert killed.hatchway("status", check=False).returncode == 3
    wait_for(lambda: not processes(killed))

    killed.hatchway("up", "--detach")
    killed.kubectl("wait", "--for=condition=Ready", "pod/kept", "--timeout=30s")
    assert pod(killed, "kept")["status"]["containerStatuses"][0]["restartCount"] == 1


@pytest.mark.parametrize("detached", [True, False])
def test_killing_the_command_while_the_cluster_starts(killed: Cluster, detached: bool) -> None:
    command = start(killed, *(["--detach"] if detached else []))
    wait_for(lambda: running(killed))
    command.kill()
    command.wait()
    if detached:
        # The cluster starts nevertheless, and the next command finds it.
        wait_for(lambda: (killed.state / "run.json").exists())
        assert "runs already" in killed.hatchway("up", "--detach").stdout
        assert killed.kubectl("get", "nodes", "-o", "name").split() == ["node/control-plane", "node/node-1"]
        killed.hatchway("down")
    wait_for(lambda: not running(killed) and not processes(killed))


def test_of_two_starts_at_once_only_one_creates_the_cluster(killed: Cluster) -> None:
    both = [start(killed, "--detach") for _ in range(2)]
    said = [command.communicate(timeout=60)[0] for command in both]
    codes = [command.returncode for command in both]
    assert 0 in codes, said
    for code, text in zip(codes, said, strict=True):
        assert "Traceback" not in text
        assert code == 0 or "runs already" in text or "is starting or stopping" in text, text
    assert killed.hatchway("status").returncode == 0
    assert sum("-m hatchway.cluster /" in line for line in processes(killed)) == 1


def test_another_process_with_a_stale_process_id_is_not_killed(killed: Cluster) -> None:
    """The process ids in the files of a killed cluster may belong to other programs now."""
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        killed.state.mkdir(mode=0o700)
        stale = {"pid": bystander.pid, "network_pid": bystander.pid, "server": "https://127.0.0.1:1", "limits": ""}
        (killed.state / "run.json").write_text(json.dumps(stale))
        assert killed.hatchway("status", check=False).returncode == 3
        command = start(killed, "--detach")
        wait_for(lambda: running(killed))
        killed.hatchway("down")
        command.communicate(timeout=60)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_cluster_continues_after_sigstop_and_sigcont(killed: Cluster) -> None:
    killed.hatchway("up", "--detach", "--api-port", "0", "--no-addons", "--nodes", "1")
    run_pod(killed, "before")
    control_plane = killed.run["pid"]
    os.kill(control_plane, signal.SIGSTOP)
    try:
        # Until the control plane answers again, clients wait or give up; nothing may be lost.
        waiting = subprocess.Popen(
            [BIN / "hatchway", "status", "--name", killed.name, "--state-dir", str(killed.base)], stdout=subprocess.PIPE
        )
        text = waiting.communicate(timeout=60)[0].decode()
        assert waiting.returncode == 1
        assert "did not answer" in text or "cannot reach" in text
    finally:
        os.kill(control_plane, signal.SIGCONT)
    run_pod(killed, "after")
    assert pod(killed, "before")["status"]["containerStatuses"][0]["restartCount"] == 0
    status = json.loads(killed.hatchway("status", "-o", "json").stdout)
    assert status["ready"]
