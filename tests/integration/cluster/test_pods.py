"""Pods of the shared cluster, seen by stock kubectl and clients of a kubelet; each pod serves several tests."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import Cluster, wait_for

NAMESPACE = "pods"

# A gRPC server (HTTP/2 by h2) with the health service. The services "" and "shop" are serving, "bank" is not
# serving, and all others are unknown.
HEALTH = """
import socket, threading
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

def serve(sock):
    h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    h2.initiate_connection()
    sock.sendall(h2.data_to_send())
    body = b""
    while data := sock.recv(65536):
        for event in h2.receive_data(data):
            if isinstance(event, DataReceived):
                body += event.data
            elif isinstance(event, StreamEnded):
                status = {b"": 1, b"shop": 1, b"bank": 2}.get(body[7:])
                start = [(":status", "200"), ("content-type", "application/grpc")]
                if status is None:
                    end = [("grpc-status", "5"), ("grpc-message", "unknown service")]
                    h2.send_headers(event.stream_id, start + end, end_stream=True)
                else:
                    h2.send_headers(event.stream_id, start)
                    h2.send_data(event.stream_id, b"\\0\\0\\0\\0\\x02\\x08" + bytes([status]))
                    h2.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
        sock.sendall(h2.data_to_send())

server = socket.create_server(("", 9000))
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""

FACTS = """
echo "fqdn=$(hostname -f)"; echo "name=$(hostname)"; echo "env=$HOSTNAME"
echo "ports=$(cat /proc/sys/net/ipv4/ip_local_port_range | tr '\\t' ' ')"
echo "shm=$(cat /proc/sys/kernel/shm_rmid_forced)"
echo "memory=$(stat -f -c %T /memory) $(df -k /memory | tail -1 | tr -s ' ' | cut -d' ' -f2)"
echo "pam=$(grep -v '^#' /etc/pam.d/other | cut -d' ' -f1 | tr '\\n' ' ')"
echo "service=$(getent services https | tr -s ' ')"
echo "shadow=$(getent shadow root)"; echo "limits=$(cat /etc/security/limits.conf)"
echo "expanded=$B"
cat /etc/hosts
printf 'last words' > /dev/termination-log; printf 'no newline'
"""

LONG = "a" * 55


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": list(containers), "terminationGracePeriodSeconds": 2, **spec},
    }


def container(script: str, name: str = "c", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "hatchway/host", "command": ["sh", "-c", script], **more}


def health(name: str, service: str) -> dict[str, Any]:
    probe = {"grpc": {"port": 9000, "service": service}, "periodSeconds": 1, "timeoutSeconds": 10}
    program = {"name": "c", "image": "hatchway/host", "command": ["python", "-c", HEALTH]}
    return pod(name, {**program, "readinessProbe": probe})


SERVE = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
PODS = [
    pod(
        "facts",
        container(
            FACTS,
            env=[{"name": "A", "value": "a"}, {"name": "B", "value": "$(A) $$(A) $(NONE)"}],
            volumeMounts=[{"name": "memory", "mountPath": "/memory"}],
        ),
        hostname="h",
        subdomain="ring",
        restartPolicy="Never",
        hostAliases=[{"ip": "10.9.9.9", "hostnames": ["one", "two"]}],
        securityContext={
            "sysctls": [
                {"name": "net.ipv4.ip_local_port_range", "value": "20000 30000"},
                {"name": "kernel/shm_rmid_forced", "value": "1"},
            ]
        },
        volumes=[{"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}}],
    ),
    pod("whole", container("hostname"), hostname="h", subdomain="ring", setHostnameAsFQDN=True, restartPolicy="Never"),
    pod(LONG, container("true"), subdomain="ring", setHostnameAsFQDN=True),
    pod("unsafe", container("true"), securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]}),
    pod("windows", container("true"), os={"name": "windows"}),
    health("serving", "shop"),
    health("not-serving", "bank"),
    health("unknown", "none"),
    pod(
        "busy",
        container(
            "n=0; while test $n -lt 60000; do n=$((n+1)); done; grep -q localhost /etc/hosts-of-node && echo ran; "
            + SERVE,
            volumeMounts=[{"name": "hosts", "mountPath": "/etc/hosts-of-node"}],
        ),
        volumes=[{"name": "hosts", "hostPath": {"path": "/etc/hosts", "type": "File"}}],
    ),
]


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with all of PODS."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    wait_for(lambda: "default" in cluster.kubectl("-n", NAMESPACE, "get", "sa", check=False))
    manifest = {"apiVersion": "v1", "kind": "List", "items": PODS}
    cluster.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(manifest))
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def status(cluster: Cluster, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("-n", NAMESPACE, "get", "pod", name, "-o", "json"))["status"]
    return found


def ended(cluster: Cluster, name: str) -> dict[str, Any]:
    return dict(wait_for(lambda: (found := status(cluster, name)).get("phase") in ("Succeeded", "Failed") and found))


def events(cluster: Cluster, name: str, reason: str) -> str:
    selector = f"involvedObject.name={name},reason={reason}"
    template = "{range .items[*]}{.message}{'\\n'}{end}".replace("'", '"')
    return str(
        wait_for(
            lambda: cluster.kubectl(
                "-n", NAMESPACE, "get", "events", "--field-selector", selector, "-o", f"jsonpath={template}"
            )
        )
    )


def test_the_head_of_a_followed_log_comes_before_its_first_line(pods: Cluster) -> None:
    """The portal shows "Live" when it gets the head of the response; the first line may come hours later."""
    wait_for(lambda: status(pods, "serving").get("phase") == "Running")
    url = urlsplit(pods.server)
    context = ssl.create_default_context(cafile=str(pods.ca))
    connection = http.client.HTTPSConnection(url.hostname or "", url.port, context=context, timeout=30)
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/serving/log?follow=true"
    connection.request("GET", path, headers={"Authorization": f"Bearer {pods.token()}"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/plain")
    connection.close()


def test_the_environment_and_files_of_a_pod(pods: Cluster) -> None:
    found = ended(pods, "facts")
    text = pods.kubectl("-n", NAMESPACE, "logs", "facts")
    facts = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert facts == {
        "fqdn": "h.ring.pods.svc.cluster.local",
        "name": "h",
        "env": "h",
        "ports": "20000 30000",
        "shm": "1",
        "memory": "tmpfs 4096",
        "pam": "auth account password session ",
        "service": "https 443/tcp",
        "shadow": "root:*:19000:0:99999:7:::",
        "limits": "# Made by Hatchway: nothing is set.",
        "expanded": "a $(A) $(NONE)",
    }
    own = f"{found['podIP']}\th.ring.pods.svc.cluster.local\th\n\n# Entries added by HostAliases.\n10.9.9.9\tone\ttwo\n"
    assert "# Kubernetes-managed hosts file.\n" in text and text.endswith(own + "no newline")
    (state,) = found["containerStatuses"]
    assert state["state"]["terminated"]["message"] == "last words"
    assert state["volumeMounts"][0] == {"name": "memory", "mountPath": "/memory"}
    assert state["user"] == {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}}
    assert [condition["type"] for condition in found["conditions"]] == [
        "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled",
    ]  # fmt: skip


def test_a_host_name_may_be_a_fully_qualified_name_of_64_characters(pods: Cluster) -> None:
    ended(pods, "whole")
    assert pods.kubectl("-n", NAMESPACE, "logs", "whole") == "h.ring.pods.svc.cluster.local\n"
    assert "is too long (64 characters is the max, 83 characters requested)" in events(
        pods, LONG, "FailedCreatePodSandBox"
    )
    found = status(pods, LONG)
    assert found["phase"] == "Pending"
    assert found["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}


@pytest.mark.parametrize(
    ("name", "reason", "message"),
    [
        ("unsafe", "SysctlForbidden", 'forbidden sysctl: "kernel.msgmax" not allowlisted'),
        ("windows", "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"),
    ],
)
def test_a_node_refuses(pods: Cluster, name: str, reason: str, message: str) -> None:
    found = ended(pods, name)
    assert (found["phase"], found["reason"]) == ("Failed", reason)
    assert found["message"] == f"Pod was rejected: {message}" and "containerStatuses" not in found
    assert events(pods, name, reason).strip() == message
    assert pods.kubectl("-n", NAMESPACE, "get", "pod", name, "--no-headers").split()[2] == reason


def test_grpc_probes_ask_for_health(pods: Cluster) -> None:
    pods.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod/serving", "--timeout=60s")
    assert 'Readiness probe failed: service unhealthy (responded with "NOT_SERVING")' in events(
        pods, "not-serving", "Unhealthy"
    )
    assert "rpc error: code = NotFound desc = unknown service" in events(pods, "unknown", "Unhealthy")
    for name in ("not-serving", "unknown"):
        assert not status(pods, name)["containerStatuses"][0]["ready"]


def test_the_kubelets_paths_through_the_node_proxy(pods: Cluster) -> None:
    pods.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod/busy", "--timeout=60s")
    node, uid = pods.kubectl(
        "-n", NAMESPACE, "get", "pod", "busy", "-o", "jsonpath={.spec.nodeName} {.metadata.uid}"
    ).split()

    token = pods.token()

    def get(path: str) -> str:
        answer = pods.get(f"/api/v1/nodes/{node}/proxy/{path}", token=token)
        assert answer.status == 200, answer.text
        return answer.text

    assert json.loads(get("configz"))["kubeletconfig"]["kind"] == "KubeletConfiguration"
    assert '<a href="pods/">pods/</a>' in get("logs/")
    assert get(f"logs/pods/{NAMESPACE}_busy_{uid}/c/0.log").endswith(" stdout F ran\n")
    sample = f'container_cpu_usage_seconds_total{{container="c",namespace="{NAMESPACE}",pod="busy"}} '
    line = next(line for line in get("metrics/resource").splitlines() if line.startswith(sample))
    assert float(line.split()[1]) > 0
    assert f'container_network_receive_bytes_total{{container="",id="/kubepods/pod{uid}"' in get("metrics/cadvisor")
    assert "process_start_time_seconds" in get("metrics/probes") and "kubelet_node_name" in get("metrics")
    (mine,) = [found for found in json.loads(get("stats/summary"))["pods"] if found["podRef"]["uid"] == uid]
    assert mine["containers"][0]["cpu"]["usageCoreNanoSeconds"] > 0 and mine["network"]["name"] == "eth0"
    assert "busy" in [found["metadata"]["name"] for found in json.loads(get("runningpods/"))["items"]]
    assert get("healthz") == "ok"
    assert get(f"containerLogs/{NAMESPACE}/busy/c") == "ran\n"
    for outside in ("..%2f..%2fetc%2fpasswd", "nothing"):
        assert pods.get(f"/api/v1/nodes/{node}/proxy/logs/{outside}", token=token).status == 404


def test_a_right_to_a_nodes_metrics_is_no_right_to_its_pods(pods: Cluster) -> None:
    """The request goes to the kubelet directly, like those of Prometheus in a pod."""
    pods.kubectl("create", "clusterrole", "metrics-only", "--verb=get", "--resource=nodes/metrics,nodes/healthz")
    pods.kubectl(
        "create",
        "clusterrolebinding",
        "metrics-only",
        "--clusterrole=metrics-only",
        f"--serviceaccount={NAMESPACE}:default",
    )
    address = pods.kubectl("get", "node", "node-1", "-o", "jsonpath={.status.addresses[0].address}")
    script = f"""
import ssl, urllib.error, urllib.request
token = open("/var/run/secrets/kubernetes.io/serviceaccount/token").read()
context = ssl.create_default_context(cafile="/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
headers = {{"Authorization": "Bearer " + token}}
for path in (
    "metrics", "metrics/resource", "healthz", "pods", "stats/summary", "logs/", "configz", "containerLogs/x/y/z"
):
    request = urllib.request.Request(f"https://{address}:10250/{{path}}", headers=headers)
    try:
        status = urllib.request.urlopen(request, context=context).status
    except urllib.error.HTTPError as error:
        status = error.code
    print(path, status)
"""
    program = {"name": "c", "image": "hatchway/host", "command": ["python", "-c", script]}
    asking = pod("asking", program, restartPolicy="Never")
    pods.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(asking))
    try:
        assert ended(pods, "asking")["phase"] == "Succeeded"
        answers = dict(line.split() for line in pods.kubectl("-n", NAMESPACE, "logs", "asking").splitlines())
    finally:
        pods.kubectl("delete", "clusterrolebinding,clusterrole", "metrics-only")
    assert answers == {
        "metrics": "200",
        "metrics/resource": "200",
        "healthz": "200",
        "pods": "403",
        "stats/summary": "403",
        "logs/": "403",
        "configz": "403",
        "containerLogs/x/y/z": "403",
    }
