"""`up`, `status` and `down`: what a restart keeps and restores, and what happens when processes are killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hatchway.cluster import lifecycle
from hatchway.cluster.startoptions import Options
from hatchway.cluster.state import ClusterConfig, StateDir
from hatchway.errors import HatchwayError
from tests.conftest import BIN, Cluster, wait_for

MakeCluster = Callable[..., Cluster]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_status_lists_the_parts_that_run(cluster: Cluster) -> None:
    found = json.loads(cluster.hatchway("status", "-o", "json").stdout)
    assert found["ready"]
    assert {node["name"] for node in found["nodes"]} == {"control-plane", "node-1", "node-2"}
    names = {
        "kibana-logging",
        "elasticsearch-logging",
        "kube-dns",
        "metrics-server",
        "monitoring-grafana",
        "prometheus",
    }
    assert {service["name"] for service in found["built_in"]} == names
    assert 0 < found["memory_mib"] <= 400
    assert found["host_programs"] is False
    assert cluster.server in cluster.hatchway("status").stdout


def test_status_shows_the_kind_of_user_map_and_whether_limits_are_enforced(cluster: Cluster) -> None:
    found = json.loads(cluster.hatchway("status", "-o", "json").stdout)
    way = found["users"].partition(":")[0]
    assert way in (("real", "one") if os.geteuid() == 0 else ("mapped", "one"))
    enforced = "limits of CPU and memory are enforced (control group /"
    assert found["resources"].startswith((enforced, "limits of CPU and memory are counted, and not enforced: "))
    text = cluster.hatchway("status").stdout
    assert f"    users           {found['users']}\n" in text
    assert f"    resources       {found['resources']}\n" in text
    node = json.loads(cluster.kubectl("get", "node", "node-1", "-o", "json"))
    assert node["metadata"]["annotations"]["hatchway.dev/users"].startswith(f"{way}: ")


def test_secrets_are_private(cluster: Cluster) -> None:
    for path in (*cluster.state.iterdir(), *(cluster.state / "pki").iterdir()):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(cluster.state.stat().st_mode) == 0o700
    token = cluster.token()
    for log in ("server.log", "node.log", "audit.log"):
        assert token not in (cluster.state / log).read_text()


def test_down_and_up_keep_everything_and_restore_the_kubeconfig(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("kept", up=False)
    before = (
        "apiVersion: v1\nkind: Config\ncurrent-context: work\n"
        "contexts:\n- name: work\n  context: {cluster: work, user: me}\n"
    )
    cluster.kubeconfig.write_text(before)
    options = ("--detach", "--api-port", "0", "--nodes", "0", "--no-addons", "--network", "loopback")
    cluster.hatchway("up", *options)
    server = cluster.server
    assert yaml.safe_load(cluster.kubeconfig.read_text())["current-context"] == "hatchway-kept"
    cluster.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    again = cluster.hatchway("up", *options)
    assert "runs already" in again.stdout
    cluster.hatchway("down")
    assert cluster.hatchway("status", check=False).returncode == 3
    restored = yaml.safe_load(cluster.kubeconfig.read_text())
    assert restored["current-context"] == "work"
    assert [item["name"] for item in restored["contexts"]] == ["work"]
    cluster.hatchway("up", "--detach")
    assert cluster.server == server, "the port is kept"
    assert json.loads(cluster.hatchway("status", "-o", "json").stdout)["ready"]
    assert cluster.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}") == "b"
    assert cluster.kubectl("get", "nodes", "-o", "name").split() == ["node/control-plane"]
    cluster.hatchway("down", "--delete")
    assert not cluster.state.exists()


def test_kill_9_ends_all_processes_and_loses_no_objects(make_cluster: MakeCluster) -> None:
    from hatchway.cluster.statusreport import family

    cluster = make_cluster("killed", "--nodes", "1", "--no-addons")
    cluster.kubectl("run", "sleeper", "--image=hatchway/host", "--command", "--", "sleep", "1000")
    cluster.kubectl("wait", "pod/sleeper", "--for=condition=Ready", "--timeout=30s")
    run = cluster.run
    processes = family(run["pid"], run["network_pid"])
    # The control plane, init (only in a private network), the node agent, and the pod's `sleep`.
    assert len(processes) >= (4 if run["private"] else 3)
    os.kill(run["pid"], signal.SIGKILL)
    wait_for(lambda: not any(alive(process) for process in processes))
    assert cluster.hatchway("status", check=False).returncode == 3
    cluster.hatchway("up", "--detach")
    cluster.kubectl("wait", "pod/sleeper", "--for=condition=Ready", "--timeout=30s")
    pods = json.loads(cluster.kubectl("get", "pod", "sleeper", "-o", "json"))
    assert pods["status"]["containerStatuses"][0]["restartCount"] == 1
    cluster.hatchway("down", "--delete")


def test_a_cluster_may_change_its_network_and_its_nodes(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("changing", "--nodes", "2", "--no-addons", "--network", "loopback")
    assert "loopback" in cluster.hatchway("status").stdout
    cluster.hatchway("down")
    cluster.hatchway("up", "--detach", "--nodes", "1", "--network", "auto")
    found = json.loads(cluster.hatchway("status", "-o", "json").stdout)
    assert [node["name"] for node in found["nodes"]] == ["control-plane", "node-1"]
    assert found["ready"]
    cluster.hatchway("down", "--delete")


def test_ctrl_c_ends_a_cluster_in_the_foreground(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("front", up=False)
    command = [
        *(BIN / "hatchway", "up", "--name", "front", "--state-dir", cluster.base, "--kubeconfig", cluster.kubeconfig),
        *("--api-port", "0", "--nodes", "0", "--no-addons", "--ephemeral"),
    ]

    def heed_interrupts() -> None:
        """Reset SIGINT in the child: if the tests run in a background job of a shell, they ignore this signal."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed_interrupts
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        assert any("API server" in line for line in lines)
        assert any("nodes" in line for line in lines)
        assert cluster.get("/readyz").text == "ok"
        # A terminal sends the signal to the whole foreground process group.
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(30) == 0
    assert "  ephemeral         nothing is kept: " in "".join(lines)
    assert f"  removed {cluster.state}: the cluster was ephemeral" in rest
    assert not cluster.state.exists(), "--ephemeral keeps nothing"
    assert yaml.safe_load(cluster.kubeconfig.read_text())["contexts"] == []


def test_settings_that_open_a_cluster_are_shown_until_they_are_undone(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster("open", up=False)
    small = ("--nodes", "0", "--no-addons", "--network", "loopback")
    begun = cluster.hatchway("up", "--detach", *small, "--host-path", str(tmp_path), "--publish", "127.0.0.9").stdout
    told = {
        "host paths": f"pods may write in {tmp_path} (",
        "published": "node ports are open to other machines on 127.0.0.9 (",
    }
    for label, text in told.items():
        assert f"  {label:<17} {text}" in begun
        assert f"    {label:<15} {text}" in cluster.hatchway("status").stdout
    found = json.loads(cluster.hatchway("status", "-o", "json").stdout)
    assert (found["host_paths"], found["publish"], found["ephemeral"]) == ([str(tmp_path)], ["127.0.0.9"], False)
    # For a cluster that runs, the option has no effect.
    again = cluster.hatchway("up", "--detach", "--ephemeral").stdout
    assert "--ephemeral: not changed while it runs" in again
    assert f"  host paths        pods may write in {tmp_path} (" in again
    cluster.hatchway("down")
    assert "pods may write in" in cluster.hatchway("status", check=False).stdout
    plain = cluster.hatchway("up", "--detach", "--host-path", "none", "--publish", "none").stdout
    plain += cluster.hatchway("status").stdout
    assert not [label for label in (*told, "ephemeral") if label in plain]
    cluster.hatchway("down", "--delete")


def test_an_ephemeral_cluster_is_shown_as_such(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("brief", up=False)
    small = ("--nodes", "0", "--no-addons", "--network", "loopback")
    found = json.loads(cluster.hatchway("up", "--detach", "--ephemeral", *small, "-o", "json").stdout)
    assert found["ephemeral"] is True
    assert "    ephemeral       nothing is kept: `hatchway down` removes" in cluster.hatchway("status").stdout
    listed = cluster.hatchway("list", "--state-dir", str(cluster.base)).stdout
    assert any(line.split()[:3] == ["brief", "running", "(ephemeral)"] for line in listed.splitlines())
    listed = cluster.hatchway("list", "--state-dir", str(cluster.base), "-o", "json").stdout
    assert [one["ephemeral"] for one in json.loads(listed) if one["name"] == "brief"] == [True]
    assert f"removed {cluster.state}: the cluster was ephemeral" in cluster.hatchway("down").stdout
    assert not cluster.state.exists()


def test_a_killed_foreground_command_ends_its_cluster(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("orphan", up=False)
    command = [
        *(BIN / "hatchway", "up", "--name", "orphan", "--state-dir", cluster.base, "--kubeconfig", cluster.kubeconfig),
        *("--api-port", "0", "--nodes", "0", "--no-addons"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("Ctrl-C" in line for line in iter(process.stdout.readline, "")), "ready"
        pid = cluster.run["pid"]
        process.kill()
    wait_for(lambda: not alive(pid))


def test_two_clusters_side_by_side(cluster: Cluster, make_cluster: MakeCluster) -> None:
    other = make_cluster("other", "--nodes", "0", "--no-addons", "--network", "loopback")
    assert other.server != cluster.server
    assert other.get("/api/v1/namespaces/kube-system", token=cluster.token()).status == 401
    assert cluster.get("/readyz").text == other.get("/readyz").text == "ok"
    other.hatchway("down", "--delete")
    assert cluster.get("/readyz").text == "ok"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("up", "--name", "Not_A_Name"), "cannot be a cluster's name"),
        (("token", "--name", "nowhere"), 'there is no cluster "nowhere"'),
        (("url", "a:b:c:d"), "has too many parts"),
        (("url", "--explain", "https://example.com/"), "neither a proxy URL nor a host name"),
        (("url", "--explain", "web"), "neither a proxy URL nor a host name"),
        (("info", "--kubeconfig", "/nonexistent/config"), "no cluster to talk to"),
        (("info", "--kubeconfig", "/dev/null"), "no context is current"),
        (("up", "--kubeconfig", "/proc/x/config"), "cannot write the kubeconfig"),
    ],
)
def test_errors_are_one_line_and_a_hint(tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    own = ["--state-dir", str(tmp_path)] if arguments[0] in ("up", "token") else []
    done = subprocess.run([BIN / "hatchway", *arguments, *own], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.startswith("hatchway: ")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cluster_that_does_not_exist(cluster: Cluster, tmp_path: Path) -> None:
    for command, code in (("status", 3), ("down", 0), ("token", 1)):
        done = cluster.hatchway(command, "--name", "nosuch", check=False)
        said = done.stdout + done.stderr
        assert done.returncode == code
        assert f'there is no cluster "nosuch" in {cluster.base}\n  --name takes ' in said
        assert "shared (running)" in said
    command = [BIN / "hatchway", "status", "--state-dir", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 3
    up = f"hatchway up --state-dir {tmp_path}"
    assert done.stdout == f'there is no cluster "hatchway" in {tmp_path}\n  `{up}` makes one\n'


def test_a_kubeconfig_that_does_not_parse_is_left_alone_and_nothing_starts(tmp_path: Path) -> None:
    broken = tmp_path / "config"
    broken.write_text("a: [")
    done = subprocess.run(
        [BIN / "hatchway", "up", "--detach", "--state-dir", tmp_path / "state", "--kubeconfig", broken],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "not valid YAML" in done.stderr
    assert broken.read_text() == "a: ["
    assert not (tmp_path / "state").exists()


def test_a_detached_cluster_does_not_need_a_reader_of_its_output(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("unread", up=False)
    arguments = ["--name", "unread", "--state-dir", cluster.base, "--kubeconfig", cluster.kubeconfig]
    read, write = os.pipe()
    os.close(read)
    options = ("--api-port", "0", "--nodes", "0", "--no-addons", "--network", "loopback")
    command = [BIN / "hatchway", "up", "-d", *options, *arguments]
    assert subprocess.run(command, stdout=write, timeout=60).returncode == 0
    os.close(write)
    assert cluster.get("/readyz").text == "ok"
    # `up` is called while the cluster is still stopping: it waits for the end.
    os.kill(cluster.run["pid"], signal.SIGTERM)
    cluster.hatchway("up", "--detach")
    assert cluster.get("/readyz").text == "ok"
    ignored = cluster.hatchway("up", "--detach", "--nodes", "3")
    assert "--nodes: not changed while it runs" in ignored.stdout
    cluster.hatchway("down", "--delete")


def test_an_administrators_token_may_expire(cluster: Cluster) -> None:
    short = cluster.token("--duration", "1h")
    assert short != cluster.token()
    assert cluster.get("/api/v1/namespaces", token=short).status == 200


def test_a_list_of_kubeconfigs_is_read_as_kubectl_reads_it(cluster: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("apiVersion: v1\nkind: Config\nclusters: []\n")
    env = {**os.environ, "KUBECONFIG": f"{tmp_path / 'missing'}:{other}:{cluster.kubeconfig}"}
    done = subprocess.run([BIN / "hatchway", "info"], capture_output=True, text=True, env=env, timeout=30)
    assert cluster.server in done.stdout, done.stderr
    wrong = subprocess.run(
        [BIN / "hatchway", "info", "--context", "x"], capture_output=True, text=True, env=env, timeout=30
    )
    assert "--context takes hatchway-shared" in wrong.stderr
    named = subprocess.run(
        [BIN / "hatchway", "url", "elasticsearch-logging", "-n", "kube-system", "--name", "shared"],
        capture_output=True,
        text=True,
        env=env,
        timeout=30,
    )
    path = "/api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy/"
    assert named.stdout.strip() == cluster.server + path


def test_a_used_api_port_is_reported(cluster: Cluster, tmp_path: Path) -> None:
    port = cluster.server.rpartition(":")[2]
    done = subprocess.run(
        [
            *(BIN / "hatchway", "up", "--detach", "--name", "taken", "--state-dir", tmp_path),
            *("--kubeconfig", tmp_path / "config", "--api-port", port),
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert not (tmp_path / "config").exists()
    # No state is left.
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize("before", [None, ClusterConfig(name="c", workers=1)])
def test_options_that_a_cluster_cannot_start_with_are_not_remembered(
    before: ClusterConfig | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateDir.for_name("c", str(tmp_path))
    if before is not None:
        state.create()
        state.save_config(before)
    # /bin/false takes the place of a control plane that ends at once because no private network is possible.
    monkeypatch.setattr(lifecycle.sys, "executable", "/bin/false")
    with pytest.raises(HatchwayError, match="ended while it was starting"):
        lifecycle.start(state, Options(network="private"), attached=False, progress=lambda _: None)
    assert state.load_config() == (before or ClusterConfig(name="c"))


def test_a_stored_port_that_another_program_uses_is_replaced(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster("moved", "--no-addons", "--nodes", "0", "--network", "loopback")
    port = int(cluster.server.rpartition(":")[2])
    cluster.hatchway("down")
    with socket.create_server(("127.0.0.1", port)):
        done = cluster.hatchway("up", "--detach")
        assert str(port) in done.stdout
        assert not cluster.server.endswith(f":{port}")
        assert cluster.get("/version").status == 200
        assert cluster.server in cluster.kubeconfig.read_text()
    cluster.hatchway("down", "--delete")


def test_help_is_quick() -> None:
    """Help is slow only if it imports much, so the test counts imports and measures no time."""
    program = "import sys; from hatchway.cli.app import app; app.get_help.__name__; print(*sys.modules)"
    done = subprocess.run([BIN / "python", "-c", program], capture_output=True, text=True, check=True, timeout=30)
    heavy = {"cryptography", "uvloop", "starlette", "pyroute2", "tantivy", "rich", "ssl"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_start_that_is_interrupted_ends_as_shells_expect(
    make_cluster: MakeCluster, number: signal.Signals, status: int
) -> None:
    cluster = make_cluster("cut", up=False)
    command = [
        *(BIN / "hatchway", "up", "--name", "cut", "--state-dir", cluster.base, "--kubeconfig", cluster.kubeconfig),
        *("--api-port", "0", "--nodes", "0", "--no-addons"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        # The control plane has been started, but cannot be ready yet.
        wait_for(lambda: (cluster.base / "cut" / "server.log").exists() or process.poll() is not None)
        process.send_signal(number)
        assert process.wait(60) == status
        assert process.stderr is not None
        assert process.stderr.read() == 'hatchway: cluster "cut" was interrupted while it was starting\n'
    assert cluster.hatchway("status", check=False).returncode == 3


def test_concurrent_starts_and_stops(make_cluster: MakeCluster) -> None:
    """Two starts at once make one cluster; `down` ends a cluster that starts; `up` waits for a cluster that stops."""
    cluster = make_cluster("meeting", up=False)
    command = [
        *(BIN / "hatchway", "up", "--name", "meeting", "--state-dir", cluster.base, "--kubeconfig", cluster.kubeconfig),
        *("--api-port", "0", "--nodes", "0", "--no-addons", "--detach"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: (cluster.base / ".meeting.start").exists())
        assert "stopped" in cluster.hatchway("down").stdout
        # On a busy machine, `down` may find no control plane in time. Then it sends SIGTERM to `up`.
        status = process.wait(30)
        assert process.stderr is not None
        message = process.stderr.read()
        assert "while it was starting" in message
        assert status == (128 + signal.SIGTERM if "was interrupted" in message else 1)
    assert cluster.hatchway("status", check=False).returncode == 3
    assert not cluster.kubeconfig.exists()
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("runs already" in text for text in told) == 1
    # `down` continues processes that are stopped by SIGSTOP, so that they can end.
    for pid in (cluster.run["network_pid"], cluster.run["pid"]):
        os.kill(pid, signal.SIGSTOP)
    # The stopped control plane does not get the signal of `down` at once, and seems to run while `up` is called.
    with subprocess.Popen([*command[:1], "down", *command[2:6]], stdout=subprocess.DEVNULL) as ending:
        wait_for((cluster.base / ".meeting.stop").exists)
        again = cluster.hatchway("up", "--detach")
        assert ending.wait(60) == 0
    assert "runs already" not in again.stdout
    assert json.loads(cluster.hatchway("status", "-o", "json").stdout)["ready"]
    # `up` has written the context again that `down` removed from the kubeconfig.
    assert "hatchway-meeting" in cluster.kubeconfig.read_text()
    cluster.hatchway("down", "--delete")
    assert not list(cluster.base.glob(".meeting.*"))


def test_a_foreground_command_does_not_end_a_newer_run_of_its_cluster(make_cluster: MakeCluster) -> None:
    """`up` in the foreground ends when another command stops its cluster, and removes only its own files."""
    cluster = make_cluster("again", up=False)
    command = [
        *(BIN / "hatchway", "up", "--name", "again", "--state-dir", cluster.base, "--kubeconfig", cluster.kubeconfig),
        *("--api-port", "0", "--nodes", "0", "--no-addons"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("Ctrl-C" in line for line in iter(process.stdout.readline, "")), "ready"
        os.kill(process.pid, signal.SIGSTOP)
        cluster.hatchway("down")
        cluster.hatchway("up", "--detach")
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(30) == 0
    assert "hatchway-again" in cluster.kubeconfig.read_text()
    assert json.loads(cluster.hatchway("status", "-o", "json").stdout)["ready"]
    cluster.hatchway("down", "--delete")


def test_a_cluster_starts_with_any_objects_in_its_store(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("poisoned", "--no-addons", "--nodes", "0")
    made = [json.loads(cluster.kubectl("create", "configmap", f"c{number}", "-o", "json")) for number in range(3)]
    for owner, dependent in zip(made, [*made[1:], made[0]], strict=True):
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "blockOwnerDeletion": True}
        reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
        patch = json.dumps({"metadata": {"ownerReferences": [reference]}})
        cluster.kubectl("patch", "configmap", dependent["metadata"]["name"], "--type=merge", "-p", patch)
    cluster.kubectl("delete", "configmap", "c0", "--cascade=foreground", "--timeout=20s")
    wait_for(lambda: "configmap/c" not in cluster.kubectl("get", "configmaps", "-o", "name"))
    # Another Service takes the address that the cluster needs.
    cluster.kubectl("delete", "service", "kubernetes")
    cluster.kubectl("create", "service", "clusterip", "thief", "--clusterip=10.96.0.1", "--tcp=80")
    cluster.hatchway("down")
    with sqlite3.connect(cluster.state / "store.sqlite3") as store:
        store.execute("insert into objects values ('pods', 'default', 'bad', 1, '{')")
    said = cluster.hatchway("up", "--detach").stdout
    assert "problem: services/default/kubernetes" in said
    assert "set aside: pods default/bad" in (cluster.state / "server.log").read_text()
    assert cluster.kubectl("get", "service", "thief", "-o", "name")
    cluster.hatchway("down", "--delete")
