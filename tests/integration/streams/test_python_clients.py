"""The stream helpers of Python clients. Clients that are not development dependencies are tested only if installed."""

from __future__ import annotations

import os
import urllib.request
from typing import Any

import pytest

from tests.conftest import Cluster

_SCRIPT = ["sh", "-c", "echo out; echo err >&2; exit 3"]


@pytest.fixture(autouse=True)
def kubeconfig(stream_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set $KUBECONFIG, by which all clients find the cluster."""
    monkeypatch.setenv("KUBECONFIG", str(stream_cluster.kubeconfig))


@pytest.fixture
def core(kubeconfig: None) -> Any:
    """Return the official client."""
    from kubernetes import client, config

    # The file is named here because the module reads $KUBECONFIG when it is imported, which may have been earlier.
    config.load_kube_config(config_file=os.environ["KUBECONFIG"])
    return client.CoreV1Api()


def test_kubernetes_exec(core: Any) -> None:
    from kubernetes.stream import stream

    options = {"container": "main", "stderr": True, "stdin": True, "stdout": True, "_preload_content": False}
    command = ["sh", "-c", "read line; echo got $line; exit 5"]
    session = stream(core.connect_get_namespaced_pod_exec, "pod", "streams", command=command, tty=False, **options)
    session.write_stdin("text\n")
    session.run_forever(timeout=30)
    assert (session.returncode, session.read_stdout()) == (5, "got text\n")
    session.close()
    session = stream(core.connect_get_namespaced_pod_exec, "pod", "streams", command=["sh"], tty=True, **options)
    session.write_channel(4, '{"Height":33,"Width":99}')
    session.write_stdin("stty size; exit 4\n")
    session.run_forever(timeout=30)
    assert session.returncode == 4
    assert "33 99" in session.read_all()
    session.close()


def test_kubernetes_port_forward(core: Any) -> None:
    from kubernetes.stream import portforward

    forward = portforward(core.connect_get_namespaced_pod_portforward, "pod", "streams", ports="8080,9")
    sock = forward.socket(8080)
    sock.setblocking(True)
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    received = b""
    while data := sock.recv(65536):
        received += data
    assert received.startswith(b"HTTP/1.0 200 OK") and b"Directory listing" in received
    assert "dial tcp4 127.0.0.1:9: connect: connection refused" in forward.error(9)
    forward.close()


def test_lightkube_exec() -> None:
    from lightkube import Client

    client = Client()
    found = client.exec("pod", namespace="streams", container="main", command=_SCRIPT, stdout=True, stderr=True)
    assert (found.stdout, found.stderr, found.exit_code) == ("out\n", "err\n", 3)
    client.close()


async def test_kubernetes_asyncio_exec() -> None:
    pytest.importorskip("kubernetes_asyncio")
    from kubernetes_asyncio import client, config
    from kubernetes_asyncio.stream import WsApiClient

    await config.load_kube_config()
    async with WsApiClient() as sockets:
        core = client.CoreV1Api(api_client=sockets)
        options = {
            "container": "main",
            "command": _SCRIPT,
            "stdout": True,
            "stderr": True,
            "stdin": False,
            "tty": False,
        }
        assert await core.connect_get_namespaced_pod_exec("pod", "streams", **options) == "out\nerr\n"


def test_kr8s_exec_and_port_forward() -> None:
    kr8s = pytest.importorskip("kr8s")
    from kr8s.objects import Pod

    api = kr8s.api(kubeconfig=None)
    pod = Pod.get("pod", namespace="streams", api=api)
    found = pod.exec(_SCRIPT, container="main", check=False)
    assert (found.stdout, found.stderr, found.returncode) == (b"out\n", b"err\n", 3)
    with (
        pod.portforward(remote_port=8080, local_port="auto") as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer,
    ):
        assert b"Directory listing" in answer.read()
