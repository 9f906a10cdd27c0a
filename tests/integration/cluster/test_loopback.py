"""A cluster without namespaces: it uses loopback addresses, and reports this."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from dnslib import DNSRecord

from hatchway.cluster.network import launcher
from tests.conftest import BIN, Cluster, wait_for
from tests.integration.streams.clients import kubectl_of

MakeCluster = Callable[..., Cluster]

# Sends one request to the API with the pod's token, then runs a web server at the pod's address.
_WEB = r"""
import http.server, os, ssl, urllib.request
account = os.environ["HATCHWAY_ROOT"] + "/var/run/secrets/kubernetes.io/serviceaccount"
url = "https://{KUBERNETES_SERVICE_HOST}:{KUBERNETES_SERVICE_PORT}".format(**os.environ)
review = urllib.request.Request(
    url + "/apis/authentication.k8s.io/v1/selfsubjectreviews",
    data=b'{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}',
    headers={"Authorization": "Bearer " + open(account + "/token").read(), "Content-Type": "application/json"},
)
answer = urllib.request.urlopen(review, context=ssl.create_default_context(cafile=account + "/ca.crt"))
print("the API says", answer.read().decode(), flush=True)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["HOSTNAME"].encode())

http.server.ThreadingHTTPServer((os.environ["HATCHWAY_POD_IP"], 8080), Handler).serve_forever()
"""
_DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "hatchway/host",
                        "command": ["python3", "-c", _WEB],
                        "ports": [{"containerPort": 8080}],
                        "readinessProbe": {
                            "httpGet": {"path": "/", "port": 8080},
                            "periodSeconds": 1,
                            "timeoutSeconds": 30,
                        },
                    }
                ]
            },
        },
    },
}
_POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "all"},
    "spec": {"podSelector": {}},
}
_SERVICES = "/api/v1/namespaces/{}/services/{}/proxy/"


@pytest.fixture(scope="module")
def loopback(make_cluster: MakeCluster) -> Cluster:
    made = make_cluster("loopback", "--network", "loopback")
    deploy(made)
    return made


def deploy(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(_DEPLOYMENT))
    cluster.kubectl("expose", "deployment", "web", "--port", "80", "--target-port", "8080")
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout", "60s")


def pods(cluster: Cluster) -> dict[str, Any]:
    found = json.loads(cluster.kubectl("get", "pods", "-l", "app=web", "-o", "json"))["items"]
    return {pod["metadata"]["name"]: pod for pod in found}


def test_containers_of_images_do_not_start_and_say_why(loopback: Cluster) -> None:
    loopback.kubectl("run", "real", "--image=web.test/real:1", "--command", "--", "sleep", "9")
    try:
        message = "jsonpath={.status.containerStatuses[0].state.waiting.message}"
        told = wait_for(lambda: loopback.kubectl("get", "pod", "real", "-o", message))
        assert "containers of images need the private network, which this cluster does not have" in told
        assert "the image hatchway/host runs a command with this machine's programs" in told
    finally:
        loopback.kubectl("delete", "pod", "real", "--wait=false")


def test_network_policies_are_stored_and_their_writers_warned(loopback: Cluster) -> None:
    made = loopback.kubectl("create", "-f", "-", check=False, stdin=json.dumps(_POLICY))
    assert "networkpolicy.networking.k8s.io/all created" in made
    assert "Warning: This cluster stores NetworkPolicies but does not enforce them" in made
    assert "the cluster has no private network" in made
    changed = loopback.kubectl("label", "networkpolicy", "all", "x=y", check=False)
    assert "Warning" not in changed, "nothing that could have an effect has changed"
    status = loopback.hatchway("status").stdout
    assert "policies        network policies are not enforced: the cluster has no private network" in status
    loopback.kubectl("delete", "networkpolicy", "all")


def test_status_says_that_isolation_is_off(loopback: Cluster) -> None:
    text = loopback.hatchway("status").stdout
    assert "isolation was switched off with --network loopback; isolation is off: pods are ordinary processes" in text
    found = json.loads(loopback.hatchway("status", "-o", "json").stdout)
    assert found["ready"]
    assert [node["address"] for node in found["nodes"]] == ["127.64.0.2", "127.64.0.3", "127.64.0.4"]
    assert "HATCHWAY_POD_IP" in found["network"] and "HATCHWAY_ROOT" in found["network"]


def test_replicas_on_one_port_are_reached_one_by_one(loopback: Cluster) -> None:
    names = set(pods(loopback))
    assert len(names) == 2
    token, url = loopback.token(), _SERVICES.format("default", "web")
    wait_for(lambda: {loopback.get(url, token=token).text for _ in range(10)} == names)
    for name in names:
        assert loopback.get(f"/api/v1/namespaces/default/pods/{name}:8080/proxy/", token=token).text == name
    refused = loopback.get(_SERVICES.format("default", "web"), token=None)
    assert refused.status in (401, 403)


def test_a_pods_token_is_below_its_root(loopback: Cluster) -> None:
    for name in pods(loopback):
        said = loopback.kubectl("logs", name).partition("the API says ")[2]
        user = json.JSONDecoder().raw_decode(said)[0]["status"]["userInfo"]
        assert user["username"] == "system:serviceaccount:default:default"
        assert user["extra"]["authentication.kubernetes.io/pod-name"] == [name]


def test_exec_attach_and_port_forward_work_on_loopback(loopback: Cluster) -> None:
    name = next(iter(pods(loopback)))
    client = kubectl_of("newest", loopback, "default")
    done = client.run("exec", "-i", name, "--", "sh", "-c", "cat; echo $HOSTNAME; exit 3", stdin=b"input\n")
    assert (done.returncode, done.stdout.decode()) == (3, f"input\n{name}\n")
    with client.in_terminal("exec", "-it", name, "--", "sh", "-c", "stty size; read x; exit $x") as terminal:
        terminal.until("24 80")
        terminal.type("5\n")
        assert terminal.wait() == 5
    with client.in_terminal("run", "shell", "-it", "--rm", "--image=hatchway/shell", "--restart=Never") as terminal:
        terminal.until("press")
        terminal.type("echo $((6 * 7)) is it; exit\n")
        terminal.until("42 is it")
        terminal.until("deleted")
    forwarding = client.popen("port-forward", f"pod/{name}", ":8080")
    try:
        assert forwarding.stdout is not None
        found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+)", forwarding.stdout.readline().decode())
        assert found
        with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/", timeout=30) as answer:
            assert answer.read().decode() == name
    finally:
        forwarding.kill()
        forwarding.communicate()


def test_lines_of_all_containers_are_found(loopback: Cluster) -> None:
    url = _SERVICES.format("kube-system", "elasticsearch-logging")
    assert loopback.get(url + "_cluster/health").json["status"] == "green"
    assert loopback.get(url.replace("elastic", "https:elastic").replace("logging/", "logging:/")).status == 200

    def found() -> set[str]:
        hits = loopback.get(url + "_search?q=%22the+API+says%22").json["hits"]["hits"]
        return {hit["_source"]["kubernetes"]["pod_name"] for hit in hits}

    wait_for(lambda: found() == set(pods(loopback)))


def test_the_name_server_answers_where_it_may_listen(loopback: Cluster) -> None:
    listed = json.loads(loopback.kubectl("get", "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns", "-o", "json"))
    (server,) = (pod["status"]["podIP"] for pod in listed["items"])
    metrics = loopback.get(_SERVICES.format("kube-system", "kube-dns:metrics") + "metrics")
    assert "coredns_build_info" in metrics.text or "hatchway_build_info" in metrics.text
    if os.geteuid() != 0:
        pytest.skip("only root may listen on port 53")
    address = loopback.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    answer = DNSRecord.parse(DNSRecord.question("web.default.svc.cluster.local").send(server, timeout=5))
    assert [str(record.rdata) for record in answer.rr] == [address]


def test_without_user_namespaces_a_cluster_falls_back_and_later_moves(make_cluster: MakeCluster) -> None:
    """While namespaces are forbidden, the cluster uses loopback. Once they are allowed, it gets a private network."""
    if sys.platform != "linux" or shutil.which("unshare") is None or launcher.why_unavailable():
        pytest.skip("the test needs a user namespace in which it forbids further ones")
    moving = make_cluster("moving", up=False)
    forbidden = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    options = ["--name", moving.name, "--state-dir", moving.base, "--kubeconfig", moving.kubeconfig]
    done = subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "sh", "-c", forbidden, "sh"),
            *(BIN / "hatchway", "up", "--detach", "--api-port", "0", "--addons", "dns", *options),
        ],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert "user namespaces are switched off (sysctl user.max_user_namespaces=0)" in done.stdout
    assert "isolation is off" in moving.hatchway("status").stdout
    deploy(moving)
    assert all(pod["status"]["podIP"].startswith("127.") for pod in pods(moving).values())
    moving.hatchway("down")

    moving.hatchway("up", "--detach")
    # `status` reports an error until the pods of the add-ons have addresses in the private network, too.
    status = wait_for(lambda: json.loads(moving.hatchway("status", "-o", "json").stdout))
    assert status["network"].startswith("private: ")
    assert [node["address"] for node in status["nodes"]] == ["172.18.0.2", "172.18.0.3", "172.18.0.4"]

    def moved() -> bool:
        return all(pod["status"].get("podIP", "").startswith("10.244.") for pod in pods(moving).values())

    wait_for(moved)
