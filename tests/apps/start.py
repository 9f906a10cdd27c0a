"""Start an application: as a process on a loopback port, or as a pod with a Service."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.apps.app import App
from tests.apps.install import Installed
from tests.conftest import Cluster, wait_for
from tests.freeports import free_port

SOURCES = Path(__file__).parent / "sources"
NAMESPACE = "apps"
POD_PORT = 8080


def prepare(app: App, installed: Installed, work: Path) -> None:
    """Fill the directory in which the application will run."""
    if app.sources:
        shutil.copytree(SOURCES / app.sources, work, dirs_exist_ok=True)
    if app.npm and not (work / "node_modules").exists():
        # node searches packages beside and above the file that imports them.
        (work / "node_modules").symlink_to(installed.modules)
    for command in app.setup:
        done = subprocess.run(
            fill(command, installed, work, "127.0.0.1", POD_PORT),
            cwd=work,
            env=environment(app, installed, work, "127.0.0.1", POD_PORT),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"


def fill(parts: tuple[str, ...], installed: Installed, work: Path, bind: str, port: int) -> list[str]:
    """Return a command line with its placeholders replaced."""
    values = {
        "venv": installed.venv,
        "node": installed.node,
        "modules": installed.modules,
        "work": work,
        "bind": bind,
        "port": port,
    }
    return [_fill(part, values) for part in parts]


def _fill(text: str, values: dict[str, object]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


def environment(app: App, installed: Installed, work: Path, bind: str, port: int) -> dict[str, str]:
    """Return the environment of a process, with few of this machine's variables, so that a pod has nearly the same."""
    filled = fill(tuple(app.env.values()), installed, work, bind, port)
    path = f"{installed.venv}/bin:{installed.node or '/usr/bin'}:/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(work), "LANG": "C.UTF-8", **dict(zip(app.env, filled, strict=True))}


@contextlib.contextmanager
def process(app: App, installed: Installed, work: Path) -> Iterator[tuple[str, Path]]:
    """Run the application as a process; yield its URL on loopback, and the file with its output."""
    port = free_port()
    log = work.parent / f"{app.name}.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            fill(app.command, installed, work, "127.0.0.1", port),
            cwd=work,
            env=environment(app, installed, work, "127.0.0.1", port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as running,
    ):

        def listens() -> bool:
            if running.poll() is not None:
                raise RuntimeError(f"{app.name} ended with {running.returncode}: {log.read_text()[-3000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        try:
            wait_for(listens, seconds=90)
            yield f"http://127.0.0.1:{port}/", log
        finally:
            # Children of the application are in the same process group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, 15)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, 9)


def manifest(app: App, installed: Installed, work: Path) -> str:
    """Return a pod and its Service. Pods do not see the checkout, so the application's files are hostPath volumes."""
    paths = [installed.root, work]
    if installed.node is not None and not installed.node.is_relative_to("/usr"):
        paths.append(installed.node.parent)
    environ = environment(app, installed, work, "0.0.0.0", POD_PORT)
    container = {
        "name": "app",
        "image": "hatchway/host",
        "command": fill(app.command, installed, work, "0.0.0.0", POD_PORT),
        "workingDir": str(work),
        "env": [{"name": name, "value": value} for name, value in environ.items()],
        "ports": [{"containerPort": POD_PORT}],
        "readinessProbe": {
            "tcpSocket": {"port": POD_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 30,
            "failureThreshold": 120,
        },
        "volumeMounts": [{"name": f"v{number}", "mountPath": str(path)} for number, path in enumerate(paths)],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": app.name, "namespace": NAMESPACE, "labels": {"app": app.name}},
        "spec": {
            "containers": [container],
            "restartPolicy": "Never",
            # With service links there would be the variable FLOWER_PORT, which Flower reads as an option.
            "enableServiceLinks": False,
            "volumes": [{"name": f"v{number}", "hostPath": {"path": str(p)}} for number, p in enumerate(paths)],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": app.name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": app.name}, "ports": [{"port": 80, "targetPort": POD_PORT}]},
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [pod, service]})


@contextlib.contextmanager
def pod(app: App, installed: Installed, work: Path, cluster: Cluster) -> Iterator[None]:
    """Run the application as a pod during a block, which begins when the pod is ready."""
    cluster.kubectl("create", "namespace", NAMESPACE, check=False)
    cluster.kubectl("apply", "-f", "-", stdin=manifest(app, installed, work))
    try:
        waited = cluster.kubectl(
            "-n", NAMESPACE, "wait", f"pod/{app.name}", "--for=condition=Ready", "--timeout=90s", check=False
        )
        if "condition met" not in waited:
            raise AssertionError(f"{app.name} is not ready: {waited}\n{pod_log(app, cluster)}")
        yield
    finally:
        cluster.kubectl("-n", NAMESPACE, "delete", "pod,service", app.name, "--now", "--wait=false", check=False)


def pod_log(app: App, cluster: Cluster) -> str:
    """Return the last lines of the pod's output."""
    return cluster.kubectl("-n", NAMESPACE, "logs", app.name, "--tail=30", check=False)
