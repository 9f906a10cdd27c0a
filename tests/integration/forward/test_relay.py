"""`hatchway forward --relay` and `hatchway socks --relay` in front of an embedded cluster."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests import commands
from tests.conftest import BIN, Cluster, wait_for
from tests.integration.remote.conftest import Terminal

_NAMESPACE = "relayed"
_SELECTOR = "app.kubernetes.io/managed-by=hatchway,app.kubernetes.io/component=relay"
# Runs the command line with a relay pod that ends two seconds after the last renewal.
_IMPATIENT = """
from hatchway.route import relaypod
relaypod.ORPHAN_SECONDS, relaypod.RENEW_SECONDS = 2, 0.5
from hatchway.cli import main
main()
"""


@pytest.fixture(scope="module")
def world(cluster: Cluster) -> Iterator[Cluster]:
    """Create a web server's pod, a Service without a selector that leads to it, and an ExternalName of that Service."""
    cluster.kubectl("create", "namespace", _NAMESPACE)
    server = "echo $HOSTNAME > index.html; exec python3 -m http.server 8080"
    container = {
        "name": "web",
        "image": "hatchway/shell",
        "command": ["sh", "-c", f"cd /tmp; {server}"],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 30},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-0"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }
    _create(cluster, pod)
    _kubectl(cluster, "wait", "pod/web-0", "--for=condition=Ready", "--timeout=60s")
    address = _kubectl(cluster, "get", "pod", "web-0", "-o", "jsonpath={.status.podIP}")
    _create(
        cluster,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "manual"},
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "manual-1", "labels": {"kubernetes.io/service-name": "manual"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": [address]}],
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "alias"},
            "spec": {"type": "ExternalName", "externalName": f"manual.{_NAMESPACE}.svc.cluster.local"},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "dns"},
            "spec": {"type": "ExternalName", "externalName": "kube-dns.kube-system.svc.cluster.local"},
        },
    )
    yield cluster
    cluster.kubectl("delete", "namespace", _NAMESPACE, "--wait=false")


def _create(cluster: Cluster, *objects: dict[str, Any]) -> None:
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    _kubectl(cluster, "create", "-f", "-", stdin=items)


def _kubectl(cluster: Cluster, *arguments: str, **more: Any) -> str:
    return cluster.kubectl("-n", _NAMESPACE, *arguments, **more)


def _relays(cluster: Cluster) -> list[dict[str, Any]]:
    found = json.loads(_kubectl(cluster, "get", "pods", "-l", _SELECTOR, "-o", "json"))["items"]
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def _words(cluster: Cluster, command: str, *words: str, namespace: Sequence[str] = ("-n", _NAMESPACE)) -> list[str]:
    return [command, "--kubeconfig", str(cluster.kubeconfig), *namespace, *words]


@contextlib.contextmanager
def _forwarding(
    cluster: Cluster,
    *words: str,
    program: Sequence[str] = (str(BIN / "hatchway"),),
    namespace: Sequence[str] = ("-n", _NAMESPACE),
) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Run `hatchway forward`; yield the process and the local ports."""
    command = [*program, *_words(cluster, "forward", "--relay", "--yes", *words, namespace=namespace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            ports = []
            while (line := process.stdout.readline().strip()) != "Ready.":
                assert line, process.stderr.read()
                ports.append(int(line.partition(" -> ")[0].rpartition(":")[2]))
            yield process, ports
        finally:
            process.kill()


def _get(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()
    finally:
        connection.close()


def _look_up(port: int, name: str) -> str:
    """Ask a DNS server on a local UDP port for the address of a name."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0\0\1\0\1"
    number = secrets.randbelow(65536)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(30)
        sock.sendto(struct.pack("!6H", number, 0x100, 1, 0, 0, 0) + question, ("127.0.0.1", port))
        answer = sock.recv(4096)
    assert struct.unpack("!H", answer[:2])[0] == number
    return socket.inet_ntoa(answer[-4:])


def test_targets_without_pods_are_forwarded_and_ctrl_c_removes_the_relay(world: Cluster) -> None:
    address = _kubectl(world, "get", "service", "manual", "-o", "jsonpath={.spec.clusterIP}")
    name = f"manual.{_NAMESPACE}.svc.cluster.local"
    targets = ["manual", ":80", "svc/alias", ":80", f"host/{name}", ":80", address, ":80", "pod/web-0", ":8080"]
    with _forwarding(world, *targets, "svc/dns", ":53/udp", "10.96.0.10:53/udp") as (process, ports):
        (relay,) = _relays(world)
        assert [_get(port) for port in ports[:5]] == ["web-0"] * 5
        assert [_look_up(port, name) for port in ports[5:]] == [address] * 2
        assert [pod["metadata"]["name"] for pod in _relays(world)] == [relay["metadata"]["name"]]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert not _relays(world)


def test_a_pod_that_is_deleted_is_replaced(world: Cluster) -> None:
    targets = [f"manual.{_NAMESPACE}", ":80", "svc/kube-dns.kube-system", ":53/udp"]
    with _forwarding(world, *targets, namespace=("--relay-namespace", _NAMESPACE)) as (process, ports):
        (relay,) = _relays(world)
        assert _get(ports[0]) == "web-0"
        _kubectl(world, "delete", "pod", relay["metadata"]["name"])
        assert _get(ports[0]) == "web-0"
        (other,) = _relays(world)
        assert other["metadata"]["name"] != relay["metadata"]["name"]
        assert _look_up(ports[1], "kubernetes.default.svc.cluster.local") == "10.96.0.1"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert not _relays(world)


def test_the_relay_of_a_killed_command_ends_and_the_next_command_removes_it(world: Cluster) -> None:
    with _forwarding(world, "manual", ":80", program=[sys.executable, "-c", _IMPATIENT]) as (process, ports):
        # The relay pod exists as long as the command runs.
        (relay,) = _relays(world)
        _kubectl(world, "wait", f"pod/{relay['metadata']['name']}", "--for=condition=Ready", "--timeout=60s")
        assert _get(ports[0]) == "web-0"
        process.kill()
    wait_for(lambda: [pod["status"]["phase"] for pod in _relays(world)] == ["Succeeded"], seconds=60)
    with _forwarding(world, "manual", ":80"):
        wait_for(lambda: relay["metadata"]["name"] not in [pod["metadata"]["name"] for pod in _relays(world)])
        assert len(_relays(world)) == 1
    # The end of the block has killed this command, too, so it has not deleted its relay pod.
    for pod in _relays(world):
        _kubectl(world, "delete", "pod", pod["metadata"]["name"], "--wait=false")


def test_only_the_command_may_use_its_relay(world: Cluster) -> None:
    with _forwarding(world, "manual", ":80") as (process, _):
        (relay,) = _relays(world)
        port = int(relay["spec"]["containers"][0]["command"][-3])
        # A connection from another pod is refused.
        program = f"import socket; socket.create_connection(({relay['status']['podIP']!r}, {port}), 20)"
        text = _kubectl(world, "exec", "web-0", "--", "python3", "-c", program, check=False)
        assert "ConnectionRefusedError" in text
        # A user with the right to port-forward reaches the relay, but does not know its secret.
        plain = [BIN / "hatchway", *_words(world, "forward", f"pod/{relay['metadata']['name']}", f":{port}")]
        with subprocess.Popen(plain, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            local = int(other.stdout.readline().partition(" -> ")[0].rpartition(":")[2])
            digest = relay["spec"]["containers"][0]["command"][-2]
            for secret in ("0" * 64, digest):
                with socket.create_connection(("127.0.0.1", local), 30) as sock:
                    sock.sendall(f"hatchway-relay {secret} tcp manual 80\nGET / HTTP/1.0\r\n\r\n".encode())
                    with contextlib.suppress(ConnectionResetError):
                        assert sock.recv(100) == b""
            other.terminate()
            other.wait(20)
        process.terminate()
        process.wait(30)


def test_a_person_is_asked_before_a_pod_is_made(world: Cluster) -> None:
    words = _words(world, "forward", "--relay", "manual", ":80")
    done = subprocess.run([BIN / "hatchway", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 1
    assert "hatchway: a relay pod is made only with the user's consent\n  add --yes" in done.stderr
    assert not _relays(world)
    for answer in ("n", "y"):
        terminal = Terminal(dict(os.environ), str(BIN / "hatchway"), *words)
        terminal.expect(f"--relay makes a pod in namespace {_NAMESPACE} of context")
        terminal.expect("hatchway/host")
        terminal.expect("create, get on pods/portforward")
        terminal.expect("Make it? [y/N]: ")
        assert not _relays(world)
        terminal.type(answer + "\n")
        if answer == "y":
            terminal.expect("Ready. Ctrl-C ends it.")
            assert len(_relays(world)) == 1
            terminal.type("\x03")
        assert terminal.wait() == (0 if answer == "y" else 130)
        terminal.close()
        assert not _relays(world)


def test_errors_name_the_option_that_reaches_the_target(world: Cluster) -> None:
    for words in (["svc/alias", "80"], ["node/node-1", "10250"], ["host/example.org", "80"], ["svc/manual", "80"]):
        done = commands.run_text(_words(world, "forward", *words))
        assert done.returncode == 1
        assert "--relay reaches it" in done.stderr
    words = _words(world, "forward", "svc/kube-dns.kube-system", "53/udp", namespace=())
    done = commands.run_text(words)
    assert "only TCP is carried this way\n  --relay carries UDP" in done.stderr


def test_the_proxy_reaches_targets_without_pods(world: Cluster) -> None:
    address = _kubectl(world, "get", "endpointslice", "manual-1", "-o", "jsonpath={.endpoints[0].addresses[0]}")
    program = "import sys, urllib.request as r; [print(r.urlopen(u).read().decode().strip()) for u in sys.argv[1:]]"
    urls = ["http://alias/", f"http://manual.{_NAMESPACE}/", f"http://{address}:8080/", "http://127.0.0.1.nip.io/"]
    words = ["--relay", "--yes", "--exec", sys.executable, "-c", program]
    done = subprocess.run(
        [BIN / "hatchway", *_words(world, "socks", *words, *urls)], capture_output=True, text=True, timeout=90
    )
    assert done.stdout.split() == ["web-0"] * 3, done.stderr
    assert "HTTP Error 403" in done.stderr
    assert not _relays(world)
