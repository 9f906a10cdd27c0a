"""The usual commands of stock kubectl: deploy, expose, reach, label a replica, scale, replace, read logs, describe."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.conftest import Cluster, wait_for

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: server
        image: hatchway/host
        command: [python3, -u, -c]
        args:
        - |
          import http.server, os
          class Handler(http.server.BaseHTTPRequestHandler):
              def do_GET(self):
                  body = os.environ["POD"].encode()
                  self.send_response(200)
                  self.send_header("Content-Length", str(len(body)))
                  self.end_headers()
                  self.wfile.write(body)
          print("serving", flush=True)
          http.server.ThreadingHTTPServer((os.environ.get("HATCHWAY_POD_IP", ""), 8080), Handler).serve_forever()
        env:
        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        ports: [{containerPort: 8080, name: http}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1, timeoutSeconds: 30}
"""


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    cluster.kubectl("create", "namespace", "day")
    cluster.kubectl("apply", "-n", "day", "-f", "-", stdin=DEPLOYMENT)
    cluster.kubectl("rollout", "status", "-n", "day", "deployment/web", "--timeout=60s")
    yield "day"
    cluster.kubectl("delete", "namespace", "day", "--timeout=60s")


def pods(cluster: Cluster) -> list[str]:
    found = json.loads(cluster.kubectl("get", "pods", "-n", "day", "-l", "app=web", "-o", "json"))["items"]
    return sorted(
        pod["metadata"]["name"]
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    )


def answer(cluster: Cluster, service: str) -> str:
    got = cluster.get(f"/api/v1/namespaces/day/services/{service}/proxy/")
    assert got.status == 200, got.text
    return got.text


def test_expose_and_reach_every_replica(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("expose", "-n", namespace, "deployment/web", "--port=80", "--target-port=http")
    names = pods(cluster)
    assert len(names) == 3

    def addresses() -> list[str]:
        text = cluster.kubectl(
            "get", "endpoints", "-n", namespace, "web", "-o", "jsonpath={.subsets[*].addresses[*].ip}"
        )
        return text.split()

    wait_for(lambda: len(addresses()) == 3)
    seen: set[str] = set()
    wait_for(lambda: seen.add(answer(cluster, "web")) or seen == set(names))


def test_a_unique_label_reaches_just_that_replica(cluster: Cluster, namespace: str) -> None:
    chosen = pods(cluster)[1]
    cluster.kubectl("label", "-n", namespace, "pod", chosen, "replica=chosen")
    cluster.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"},
        "spec": {"selector": {"replica": "chosen"}, "ports": [{"port": 80, "targetPort": "http"}]},
    }))  # fmt: skip
    wait_for(lambda: answer(cluster, "one") == chosen)
    assert {answer(cluster, "one") for _ in range(20)} == {chosen}


def test_inside_the_cluster_services_have_names(cluster: Cluster, namespace: str) -> None:
    if not cluster.run["private"]:
        pytest.skip("service addresses need a private network")
    fetch = (
        "import urllib.request, sys; "
        "print(urllib.request.urlopen('http://' + sys.argv[1] + '/', timeout=5).read().decode())"
    )
    for name in ("web", f"web.{namespace}", f"web.{namespace}.svc.cluster.local"):
        pod = "fetch-" + str(len(name))
        cluster.kubectl(
            "run",
            pod,
            "-n",
            namespace,
            "--image=hatchway/host",
            "--restart=Never",
            "--command",
            "--",
            "python3",
            "-c",
            fetch,
            name,
        )
        wait_for(
            lambda pod=pod: (
                cluster.kubectl("get", "pod", "-n", namespace, pod, "-o", "jsonpath={.status.phase}") == "Succeeded"
            )
        )
        assert cluster.kubectl("logs", "-n", namespace, pod).strip().startswith("web-")
        cluster.kubectl("delete", "pod", "-n", namespace, pod)


def test_scale_and_replace(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("scale", "-n", namespace, "deployment/web", "--replicas=2")
    wait_for(lambda: len(pods(cluster)) == 2)
    gone = pods(cluster)[0]
    cluster.kubectl("delete", "pod", "-n", namespace, gone)
    wait_for(lambda: len(pods(cluster)) == 2 and gone not in pods(cluster))


def test_logs_and_describe(cluster: Cluster, namespace: str) -> None:
    name = pods(cluster)[0]
    assert "serving" in cluster.kubectl("logs", "-n", namespace, name)
    assert cluster.kubectl("logs", "-n", namespace, name, "--tail=1", "--timestamps").startswith("20")
    described = cluster.kubectl("describe", "-n", namespace, "pod", name)
    assert "Successfully assigned" in described
    assert "Container started" in described
    for what in ("deployment/web", "service/web", "node/node-1", "namespace/day", "endpointslices", "replicasets"):
        assert cluster.kubectl("describe", "-n", namespace, *what.split("/")).startswith("Name:")
    assert cluster.kubectl("get", "all", "-n", namespace).count("web-") >= 3


def test_roll_out_and_back(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("set", "env", "-n", namespace, "deployment/web", "COLOR=blue")
    cluster.kubectl("rollout", "status", "-n", namespace, "deployment/web", "--timeout=60s")
    assert cluster.kubectl("rollout", "history", "-n", namespace, "deployment/web").count("<none>") == 2
    cluster.kubectl("rollout", "undo", "-n", namespace, "deployment/web")
    cluster.kubectl("rollout", "status", "-n", namespace, "deployment/web", "--timeout=60s")
    assert (
        "COLOR"
        not in cluster.kubectl("get", "-n", namespace, "deployment", "web", "-o", "yaml").split("last-applied")[-1]
    )


def test_the_writing_commands(cluster: Cluster, namespace: str) -> None:
    run = cluster.kubectl
    run("create", "configmap", "-n", namespace, "settings", "--from-literal=color=blue")
    run("create", "secret", "generic", "-n", namespace, "keys", "--from-literal=password=x")
    run("create", "serviceaccount", "-n", namespace, "robot")
    run("create", "role", "-n", namespace, "reader", "--verb=get,list", "--resource=pods")
    run("create", "rolebinding", "-n", namespace, "robot-reads", "--role=reader", f"--serviceaccount={namespace}:robot")
    assert (
        run("auth", "can-i", "list", "pods", "-n", namespace, f"--as=system:serviceaccount:{namespace}:robot").strip()
        == "yes"
    )
    no = run(
        "auth", "can-i", "delete", "pods", "-n", namespace, f"--as=system:serviceaccount:{namespace}:robot", check=False
    )
    assert no.strip().startswith("no")
    token = run("create", "token", "-n", namespace, "robot").strip()
    assert cluster.get(f"/api/v1/namespaces/{namespace}/pods", token=token).status == 200
    assert cluster.get(f"/api/v1/namespaces/{namespace}/secrets", token=token).status == 403
    assert "kubernetes-admin" in run("auth", "whoami")
    run("annotate", "-n", namespace, "configmap/settings", "note=one")
    run(
        "patch",
        "-n",
        namespace,
        "configmap/settings",
        "--type=json",
        "-p",
        '[{"op":"replace","path":"/data/color","value":"red"}]',
    )
    assert run("get", "-n", namespace, "configmap/settings", "-o", "jsonpath={.data.color}") == "red"
    assert run("diff", "-n", namespace, "-f", "-", stdin=DEPLOYMENT, check=False) is not None
    assert "FIELDS" in run("explain", "pod.spec.containers")
    assert "pods" in run("api-resources")
    refused = run(
        "apply",
        "-n",
        namespace,
        "-f",
        "-",
        check=False,
        stdin="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndatum: {}\n",
    )
    assert 'unknown field "datum"' in refused


def test_the_python_clients(cluster: Cluster, namespace: str) -> None:
    import lightkube
    from kubernetes import client, config
    from lightkube.resources.core_v1 import Pod

    light = lightkube.Client(config=lightkube.KubeConfig.from_file(str(cluster.kubeconfig)).get(), trust_env=False)
    official = client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))

    def agree() -> bool:
        # Pods of an earlier rollout may be terminating.
        names = {pod.metadata.name for pod in light.list(Pod, namespace=namespace) if pod.metadata}
        return len(names) >= 2 and {pod.metadata.name for pod in official.list_namespaced_pod(namespace).items} == names

    wait_for(agree)
    body = official.connect_get_namespaced_service_proxy_with_path("web", namespace, path="/")
    assert body.startswith("web-")
