"""hostNetwork and hostPID in a cluster: scheduling, addresses, names, services, events."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Cluster, wait_for

_SERVE = (
    "import http.server, socket; print(socket.gethostname(), flush=True);"
    "http.server.ThreadingHTTPServer(('', {port}), http.server.SimpleHTTPRequestHandler).serve_forever()"
)


@pytest.fixture
def private(cluster: Cluster) -> Cluster:
    if not cluster.run["private"]:
        pytest.skip("on loopback pods are not isolated")
    return cluster


def apply(cluster: Cluster, *objects: object) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(listed))


def pods_of(cluster: Cluster, selector: str) -> list[dict[str, dict[str, str]]]:
    found: list[dict[str, dict[str, str]]] = json.loads(cluster.kubectl("get", "pods", "-l", selector, "-o", "json"))[
        "items"
    ]
    return found


def test_pods_with_host_network_have_their_nodes_address_and_ports(private: Cluster) -> None:
    port = {"name": "http", "containerPort": 8099}
    container = {
        "name": "c",
        "image": "hatchway/host",
        "command": ["python3", "-c", _SERVE.format(port=8099)],
        "workingDir": "/usr/share/zoneinfo",
        "ports": [port],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 30},
    }
    nodes = len(json.loads(private.kubectl("get", "nodes", "-o", "json"))["items"])
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "on-nodes"},
        "spec": {
            "replicas": nodes,
            "selector": {"matchLabels": {"app": "on-nodes"}},
            "template": {
                "metadata": {"labels": {"app": "on-nodes"}},
                "spec": {
                    "hostNetwork": True,
                    "dnsPolicy": "ClusterFirstWithHostNet",
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [container],
                },
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "on-nodes"},
        "spec": {"selector": {"app": "on-nodes"}, "ports": [{"port": 80, "targetPort": "http"}]},
    }
    try:
        apply(private, deployment, service)
        private.kubectl("rollout", "status", "deployment/on-nodes", "--timeout=60s")
        pods = pods_of(private, "app=on-nodes")
        assert {pod["spec"]["nodeName"]: pod["status"]["podIP"] for pod in pods} == {
            node["metadata"]["name"]: node["status"]["addresses"][0]["address"]
            for node in json.loads(private.kubectl("get", "nodes", "-o", "json"))["items"]
        }
        assert all(pod["status"]["podIP"] == pod["status"]["hostIP"] for pod in pods)
        first = pods[0]["metadata"]["name"]
        assert private.kubectl("logs", first).splitlines()[0] == pods[0]["spec"]["nodeName"]
        # The port of each node is used already, so no node has room for a further pod.
        one_more = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "one-more"},
            "spec": deployment["spec"]["template"]["spec"],  # type: ignore[index]
        }
        apply(private, one_more)
        message = wait_for(
            lambda: private.kubectl("get", "events", "--field-selector", "involvedObject.name=one-more").strip()
        )
        assert "didn't have free ports for the requested pod ports" in message
        # The Service is reached from inside the cluster, and by the proxy verb.
        script = "import urllib.request as u; print(u.urlopen('http://on-nodes.default.svc.cluster.local/').status)"
        private.kubectl(
            *(
                "run",
                "asks-nodes",
                "--image=hatchway/host",
                "--restart=Never",
                "--command",
                "--",
                "python3",
                "-c",
                script,
            )
        )
        private.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/asks-nodes", "--timeout=60s")
        assert private.kubectl("logs", "asks-nodes").strip() == "200"
        for path in (f"pods/{first}:8099", "services/on-nodes:80"):
            assert private.request("GET", f"/api/v1/namespaces/default/{path}/proxy/UTC").status == 200
    finally:
        private.kubectl("delete", "deployment/on-nodes", "svc/on-nodes", "--ignore-not-found")
        private.kubectl("delete", "pod/one-more", "pod/asks-nodes", "--ignore-not-found", "--now")


def test_names_and_processes_of_a_node(private: Cluster) -> None:
    script = "; ".join(
        (
            "cat /etc/resolv.conf /etc/hosts",
            "hostname",
            "echo env $HOSTNAME",
            "cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
            "python3 -c \"import socket; print(socket.gethostbyname('kubernetes.default.svc'))\"",
        )
    )
    spec = {
        "hostNetwork": True,
        "hostPID": True,
        "hostIPC": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "nodeName": "node-1",
        "restartPolicy": "Never",
        "containers": [
            {
                "name": "c",
                "image": "hatchway/host",
                "command": ["sh", "-c", script],
                "securityContext": {"privileged": True, "capabilities": {"add": ["SYS_ADMIN"]}},
                "ports": [{"containerPort": 9, "hostPort": 9}],
            }
        ],
    }
    try:
        apply(private, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "on-node"}, "spec": spec})
        private.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/on-node", "--timeout=60s")
        found = private.kubectl("logs", "on-node")
        assert "nameserver 10.96.0.10" in found
        assert "172.18.0.3\tnode-1" in found
        assert "env node-1" in found
        assert found.rstrip().endswith("10.96.0.1")
        assert "hatchway.cluster.network" not in found
        assert "hatchway.cluster.node" not in found
        assert str(private.base) not in found
        events = json.loads(
            private.kubectl("get", "events", "--field-selector", "involvedObject.name=on-node", "-o", "json")
        )
        messages = [event["message"] for event in events["items"] if event["reason"] == "Unsupported"]
        assert sorted(message.split()[0] for message in messages) == ["capabilities", "privileged"]
    finally:
        private.kubectl("delete", "pod/on-node", "--ignore-not-found", "--now")
