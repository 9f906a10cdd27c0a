"""The pytest plugin: tests of a user's project, run by pytest in a separate process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Cluster, find_kubectl, wait_for
from tests.integration.walk import steps_of

_ROOT = Path(__file__).parents[3]


class Project:
    """A user's project, in a directory of its own. temporary: the directory of its clusters' files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = path / "tmp"
        self.temporary.mkdir()
        kubectl = f"{Path(find_kubectl()).parent}:{os.environ['PATH']}"
        left_out = ("PYTEST_", "KUBECONFIG", "HATCHWAY_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        self.env = {**kept, "TMPDIR": str(self.temporary), "HOME": str(path), "PATH": kubectl}

    def save(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def start(self, *options: str, **env: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *options]
        output = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.path, env={**self.env, **env}, stdout=output, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *options: str, **env: str) -> str:
        """Run pytest; return its output."""
        with self.start(*options, **env) as process:
            return process.communicate(timeout=110)[0]

    def left(self) -> list[str]:
        """Return the directories of clusters that still exist, and the processes that have them in their arguments."""
        found = [path.name for path in self.temporary.glob("hatchway-test-*")]
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(self.temporary) in words:
                found.append(words.replace("\0", " "))
        return found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -q\nasyncio_default_fixture_loop_scope = function\n")
    return Project(tmp_path)


_METHODS = """
import asyncio
import json
import os
import urllib.request
from pathlib import Path

import pytest

from hatchway.errors import ApiError
from hatchway.testing import Cluster, ClusterError, CommandFailed, Namespace, WaitTimeout

SERVE = 'exec python3 -u -m http.server --bind "${HATCHWAY_POD_IP:-0.0.0.0}" 8080'
LABELS = {"app": "web"}


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_objects(namespace: Namespace, tmp_path):
    made = namespace.apply([config_map("a", x="1"), config_map("b")])
    assert [one["metadata"]["namespace"] for one in made] == [str(namespace)] * 2
    namespace.apply(config_map("a", y="2"))
    assert namespace.get("cm/a")["data"] == {"x": "1", "y": "2"}
    assert namespace.patch(made[0], {"data": {"x": None}})["data"] == {"y": "2"}
    (tmp_path / "c.json").write_text(json.dumps(config_map("c")))
    namespace.apply(tmp_path)
    assert {one["metadata"]["name"] for one in namespace.list("configmaps")} >= {"a", "b", "c"}
    assert "configmap/c" in namespace.kubectl("get", "cm", "-o", "name")
    namespace.delete(made[1])
    assert namespace.wait(made[1], "delete") == made[1]
    assert not namespace.exists("configmap/b")
    with pytest.raises(ApiError, match='configmaps "b" not found'):
        namespace.get("configmap/b")
    with pytest.raises(ApiError, match="ConfigMap No in namespace .*: .*Invalid value"):
        namespace.apply(config_map("No"))
    with pytest.raises(ClusterError, match="no type Widget in example.com/v1"):
        namespace.apply({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}})
    with pytest.raises(ClusterError, match='no type "widgets"'):
        namespace.list("widgets")
    with pytest.raises(ClusterError, match="names no object"):
        namespace.get("web")


def test_a_program(namespace, cluster: Cluster):
    container = {"name": "web", "image": "hatchway/host", "command": ["sh", "-c", SERVE]}
    pod = {"metadata": {"labels": LABELS}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}
    spec = {"selector": {"matchLabels": LABELS}, "template": pod}
    namespace.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
    ports = {"selector": LABELS, "ports": [{"port": 80, "targetPort": 8080}]}
    namespace.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": ports})
    assert namespace.wait("deploy/web", "condition=Available")["status"]["readyReplicas"] == 1
    url = namespace.url("svc/web", "/?a=b")
    assert b"Directory listing" in urllib.request.urlopen(url).read()
    assert namespace.url("web:80") != "" and namespace.url("deploy/web:8080").startswith("http://127.0.0.1:")
    assert namespace.exec("deploy/web", "cat", input="x" * 300_000).stdout == "x" * 300_000
    done = namespace.exec("deploy/web", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\\n", "err\\n")
    with pytest.raises(CommandFailed, match="sh -c exit 4 in deploy/web: exit code 4"):
        namespace.exec("deploy/web", "sh", "-c", "exit 4")
    with pytest.raises(ClusterError, match='no command "nothing"'):
        namespace.exec("deploy/web", "nothing")
    assert "GET /?a=b" in namespace.logs("deploy/web")
    assert namespace.logs("deploy/web", tail=1).count("\\n") == 1
    with pytest.raises(WaitTimeout, match="there is no svc/none"):
        namespace.url("svc/none", timeout=0.2)
    assert cluster.in_namespace(str(namespace)).list("pods", "app=web")


def test_waiting(namespace):
    assert namespace.wait("serviceaccount/default", "jsonpath={.metadata.uid}", timeout=0)
    with pytest.raises(WaitTimeout) as caught:
        namespace.wait("configmap/none", "jsonpath={.data.x}=1", timeout=0.3)
    assert "there is no configmaps/none" in str(caught.value)
    container = {"name": "c", "image": "hatchway/host", "command": ["sh", "-c", "echo last words; exit 3"]}
    spec = {"containers": [container], "restartPolicy": "Never"}
    namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"}, "spec": spec})
    namespace.wait("pod/bad", lambda pod: pod["status"]["containerStatuses"][0]["state"]["terminated"])
    with pytest.raises(WaitTimeout) as caught:
        namespace.wait("pod/bad", "condition=Ready", timeout=0.3)
    for words in ("Ready is False", "Ready=False", "Started pod/bad", "c: terminated exit code 3", "last words"):
        assert words in str(caught.value), words
    namespace.patch("pod/bad", {"metadata": {"finalizers": ["example.com/mine"]}})
    namespace.delete("pod/bad")
    with pytest.raises(WaitTimeout, match="its finalizers are left: example.com/mine"):
        namespace.wait("pod/bad", "delete", timeout=0.3)
    namespace.patch("pod/bad", {"metadata": {"finalizers": None}})
    namespace.wait("pod/bad", "delete")


def test_in_a_coroutine(namespace):
    async def main():
        waiting = asyncio.create_task(asyncio.to_thread(namespace.wait, "cm/late", lambda found: found["data"]["x"]))
        await asyncio.to_thread(namespace.apply, config_map("late", x="1"))
        return await waiting

    assert asyncio.run(main())["data"] == {"x": "1"}


def test_files(namespace, kubeconfig, kubeconfig_env, cluster, request):
    assert kubeconfig == cluster.kubeconfig and os.environ["KUBECONFIG"] == str(kubeconfig_env)
    assert f"namespace: {namespace}" in kubeconfig_env.read_text()
    assert namespace.name.startswith("test-files-") and cluster.env["KUBECONFIG"] == str(kubeconfig)


def test_nothing_is_set(cluster):
    assert "KUBECONFIG" not in os.environ or os.environ["KUBECONFIG"] != str(cluster.kubeconfig)
    assert not Path("~/.kube").expanduser().exists()
"""


def test_in_a_cluster_of_a_context(project: Project, cluster: Cluster) -> None:
    """The methods of `cluster` with a cluster that already runs, which the tests leave as it was."""
    project.save("test_methods.py", _METHODS)
    project.save("test_fresh.py", "def test_fresh(fresh_cluster): pass")
    context = cluster.kubectl("config", "current-context").strip()
    strict = ("-W", "error::ResourceWarning", "-W", "error::pytest.PytestUnraisableExceptionWarning")
    printed = project.run(f"--hatchway-context={context}", "-rs", *strict, KUBECONFIG=str(cluster.kubeconfig))
    assert "ResourceWarning" not in printed, printed
    assert re.search(r"^6 passed, 1 skipped in", printed, re.MULTILINE), printed
    assert "--hatchway-context names another one" in printed
    assert not project.left()
    wait_for(lambda: "test-files-" not in cluster.kubectl("get", "namespaces", "-o", "name"))
    assert [path for path in project.temporary.rglob("kubeconfig*") if path.is_file()] == []


def test_the_report_of_a_failed_test_with_xdist(project: Project) -> None:
    """Each of two workers has its own cluster. With --hatchway-keep, the cluster of a failed test is kept."""
    project.save(
        "test_failing.py",
        """
def pod(name, command):
    spec = {"containers": [{"name": "c", "image": "hatchway/host", "command": ["sh", "-c", command]}], "restartPolicy": "Never"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}

def test_fails(namespace):
    namespace.apply(pod("worker", "echo words of the pod; exit 1"))
    namespace.wait("pod/worker", "jsonpath={.status.phase}=Failed")
    assert False, f"the server is {namespace.cluster.server}"
""",
    )
    project.save(
        "test_passing.py",
        """
def test_passes(fresh_cluster):
    assert [one["metadata"]["name"] for one in fresh_cluster.list("nodes")] == ["control-plane", "node-1", "node-2"]
""",
    )
    printed = project.run("-n", "2", "--dist", "loadfile", "--hatchway-keep", "--hatchway-nodes=2", "-rA")
    assert "1 failed, 1 passed" in printed, printed
    for words in ("namespace test-fails-", "Events:", "words of the pod", "kept (--hatchway-keep)"):
        assert words in printed, printed
    kept = re.search(r"export KUBECONFIG=(\S+)", printed)
    down = re.search(r"hatchway (down --name \S+ --state-dir \S+)", printed)
    assert kept is not None and down is not None
    pods = [find_kubectl(), "--kubeconfig", kept[1], "get", "pods", "-A", "-o", "name"]
    assert "pod/worker" in subprocess.check_output(pods, text=True)
    assert printed.count("export KUBECONFIG") == 1
    subprocess.run([Path(sys.executable).parent / "hatchway", *down[1].split()], check=True, capture_output=True)
    wait_for(lambda: not project.left())


_STAYS = """
import os, pathlib, time

def test_stays(cluster):
    if os.fork() == 0:
        # Keeps every descriptor of the test process open, the cluster's lifeline as well.
        time.sleep(120)
        os._exit(0)
    pathlib.Path(os.environ["READY"]).write_text(cluster.server)
    time.sleep(120)
"""


def test_two_runs_at_once_are_killed(project: Project) -> None:
    """The clusters of killed test processes end, and leave neither processes nor files."""
    project.save("test_stays.py", _STAYS)
    ready = [project.path / "ready-1", project.path / "ready-2"]
    runs = [project.start(READY=str(path)) for path in ready]
    children = []
    try:
        wait_for(lambda: all(path.exists() and path.read_text() for path in ready))
        servers = {path.read_text() for path in ready}
        assert len(servers) == 2
        assert len(list(project.temporary.glob("hatchway-test-*"))) == 2
        children = [_children(run.pid) for run in runs]
        for run in runs:
            run.send_signal(signal.SIGKILL)
        wait_for(lambda: not project.left())
    finally:
        for run in runs:
            run.kill()
        for child in [pid for found in children for pid in found]:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for run in runs:
            run.communicate()


def _children(pid: int) -> list[int]:
    """Return the forked children of a test process, but not its cluster."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(word) for word in path.read_text().split()]
    return [one for one in found if b"hatchway.cluster" not in Path(f"/proc/{one}/cmdline").read_bytes()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hatchway-nodes=many"], 'hatchway_nodes: "many" is not a number from 0 to 50'),
        (["--hatchway-timeout=0"], 'hatchway_timeout: "0" is not a number of seconds'),
        (["--hatchway-network=host"], 'hatchway_network: "host" is not one of auto, private, loopback'),
        (["--hatchway-addons=dsn"], 'hatchway_addons: there is no add-on "dsn"; choose from'),
        (["--hatchway-context=none"], 'there is no context "none" in the kubeconfig'),
        ([], "hatchway: no room here"),
    ],
)
def test_errors_of_the_plugin_are_one_line(project: Project, options: list[str], message: str) -> None:
    project.save("test_one.py", "def test_one(namespace): pass")
    config = project.path / "config"
    config.write_text("apiVersion: v1\nkind: Config\ncontexts: []\nclusters: []\nusers: []\n")
    if not options:
        # In this project, every start of a cluster fails.
        project.save(
            "conftest.py",
            "from hatchway.cluster import lifecycle\nfrom hatchway.errors import HatchwayError\n"
            "def start(*_, **__):\n    raise HatchwayError('no room here', 'make some')\n"
            "lifecycle.start = start\n",
        )
    printed = project.run(*options, KUBECONFIG=str(config))
    assert message in printed, printed
    assert "Traceback" not in printed
    assert not project.left()


def test_the_examples_of_the_documentation_work(project: Project) -> None:
    """The examples of docs/testing.md: an operator with kopf, an application, and Python clients."""
    saved = [step for step in steps_of((_ROOT / "docs/testing.md").read_text()) if step.path]
    assert [step.path for step in saved] == [
        "greeter.py",
        "greetings.yaml",
        "test_greeter.py",
        "test_web.py",
        "test_kubernetes.py",
        "test_lightkube.py",
    ]
    for step in saved:
        project.save(step.path, step.text)
    printed = project.run()
    assert re.search(r"^4 passed in", printed, re.MULTILINE), printed
    assert not project.left()


def test_the_end_of_a_cluster_during_a_test_is_reported(project: Project) -> None:
    project.save(
        "test_ended.py",
        """
import json
import os
import signal

def test_ended(cluster):
    lock = cluster.kubeconfig.with_name("lock")
    os.kill(json.loads(lock.read_text())["process"]["pid"], signal.SIGKILL)
    while True:
        cluster.get("node/control-plane")
""",
    )
    printed = project.run()
    assert "note: the cluster has ended (exit code -9)" in printed, printed
    assert 'cannot reach context "hatchway-test"' in printed
    # The traceback shows the line of the test, and no frame of the plugin.
    assert ">           cluster.get(" in printed
    assert "_session" not in printed
    assert not project.left()
