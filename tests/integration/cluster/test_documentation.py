"""The examples of the Kubernetes documentation page "Access Services Running on Clusters", to the letter."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import urllib.error
import urllib.request

import pytest

from tests.conftest import Cluster, wait_for

ELASTIC = "/api/v1/namespaces/kube-system/services/{}/proxy"


def test_cluster_info_says_the_same_everywhere(cluster: Cluster) -> None:
    expected = [
        f"Kubernetes control plane is running at {cluster.server}",
        f"elasticsearch-logging is running at {cluster.server}{ELASTIC.format('elasticsearch-logging')}",
        f"kibana-logging is running at {cluster.server}{ELASTIC.format('kibana-logging')}",
        f"kube-dns is running at {cluster.server}{ELASTIC.format('kube-dns:dns')}",
        f"metrics-server is running at {cluster.server}{ELASTIC.format('https:metrics-server:https')}",
        f"monitoring-grafana is running at {cluster.server}{ELASTIC.format('monitoring-grafana')}",
        f"prometheus is running at {cluster.server}{ELASTIC.format('prometheus')}",
    ]
    assert cluster.hatchway("info").stdout.splitlines() == expected
    said = cluster.kubectl("cluster-info").replace("\x1b[0;32m", "").replace("\x1b[0;33m", "").replace("\x1b[0m", "")
    assert [line for line in said.splitlines() if "is running at" in line] == expected
    as_json = json.loads(cluster.hatchway("info", "-o", "json").stdout)
    names = [
        "elasticsearch-logging",
        "kibana-logging",
        "kube-dns",
        "metrics-server",
        "monitoring-grafana",
        "prometheus",
    ]
    assert [service["name"] for service in as_json["services"]] == names


@pytest.mark.parametrize(
    "name",
    [
        "elasticsearch-logging",
        "elasticsearch-logging:",
        "http:elasticsearch-logging:",
        "https:elasticsearch-logging:",
        "elasticsearch-logging:9200",
    ],
)
def test_the_url_forms(cluster: Cluster, name: str) -> None:
    base = ELASTIC.format(name)
    health = cluster.get(base + "/_cluster/health?pretty=true")
    assert health.status == 200
    assert health.json["status"] in ("green", "yellow")
    assert "\n" in health.text.strip(), "?pretty=true asks for lines"
    found = cluster.get(base + "/_search?q=user:kimchy")
    assert found.status == 200
    assert found.json["timed_out"] is False


def test_a_search_finds_what_was_indexed(cluster: Cluster) -> None:
    base = ELASTIC.format("elasticsearch-logging")
    made = cluster.request(
        "PUT",
        base + "/twitter/_doc/1?refresh=true",
        headers={"Content-Type": "application/json"},
        body=b'{"user": "kimchy", "message": "trying it out"}',
    )
    assert made.status == 201, made.text
    hits = cluster.get(base + "/_search?q=user:kimchy").json["hits"]
    assert [hit["_source"]["user"] for hit in hits["hits"]] == ["kimchy"]


def test_every_containers_log_lines_are_found(cluster: Cluster) -> None:
    word = "quixotic7331"
    logging = cluster.kubectl(
        "get",
        "pods",
        "-n",
        "kube-system",
        "-l",
        "k8s-app=elasticsearch-logging",
        "-o",
        "jsonpath={.items[0].spec.nodeName}",
    )
    elsewhere = {"node-1": "node-2"}.get(logging, "node-1")
    override = json.dumps({"spec": {"nodeName": elsewhere}})
    cluster.kubectl(
        "run",
        "chatter",
        "--image=hatchway/host",
        "--restart=Never",
        f"--overrides={override}",
        "--command",
        "--",
        "echo",
        f"hello {word}",
    )

    def found() -> bool:
        hits = cluster.get(ELASTIC.format("elasticsearch-logging") + f"/_search?q={word}").json["hits"]["hits"]
        return any(hit["_source"]["kubernetes"]["host"] == elsewhere for hit in hits)

    wait_for(found)
    cluster.kubectl("delete", "pod", "chatter", "--now")


def curl(cluster: Cluster, *arguments: str) -> str:
    """Return what curl would print. Written in Python, because curl may not be installed."""
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    command = ["curl", "-sS", "--cacert", str(cluster.ca), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout


def test_hatchway_url_builds_what_curl_can_use(cluster: Cluster) -> None:
    url = cluster.hatchway("url", "elasticsearch-logging", "-n", "kube-system", "_search?q=user:kimchy").stdout.strip()
    assert url == cluster.server + ELASTIC.format("elasticsearch-logging") + "/_search?q=user:kimchy"
    explained = cluster.hatchway("url", "--explain", url).stdout
    assert "elasticsearch-logging" in explained
    assert "kube-system" in explained
    assert json.loads(curl(cluster, "-H", f"Authorization: Bearer {cluster.token()}", url))["hits"] is not None


def test_kubectl_get_raw_and_a_client_certificate(cluster: Cluster) -> None:
    path = ELASTIC.format("elasticsearch-logging") + "/_cluster/health"
    assert json.loads(cluster.kubectl("get", "--raw", path))["timed_out"] is False
    pki = cluster.state / "pki"
    answer = curl(cluster, "--cert", str(pki / "admin.crt"), "--key", str(pki / "admin.key"), cluster.server + path)
    assert json.loads(answer)["timed_out"] is False


def test_basic_authentication_is_off_until_a_password_is_set(cluster: Cluster) -> None:
    path = ELASTIC.format("elasticsearch-logging") + "/_cluster/health"
    header = {"Authorization": "Basic " + base64.b64encode(b"ada:lovelace").decode()}
    assert cluster.get(path, token=None, headers=header).status == 401
    set_password(cluster, "ada", "lovelace", "system:masters")
    try:
        wait_for(lambda: cluster.get(path, token=None, headers=header).status == 200)
        wrong = {"Authorization": "Basic " + base64.b64encode(b"ada:wrong").decode()}
        assert cluster.get(path, token=None, headers=wrong).status == 401
        navigation = cluster.get(path, token=None, headers={"Accept": "text/html", "Sec-Fetch-Mode": "navigate"})
        assert navigation.status == 401
        assert navigation.headers["WWW-Authenticate"].startswith("Basic ")
    finally:
        cluster.hatchway("password", "ada", "--remove")
    wait_for(lambda: cluster.get(path, token=None, headers=header).status == 401)


def set_password(cluster: Cluster, user: str, secret: str, group: str) -> None:
    from tests.conftest import BIN

    subprocess.run(
        [BIN / "hatchway", "password", user, "--group", group, "--name", cluster.name, "--state-dir", cluster.base],
        input=secret + "\n",
        text=True,
        check=True,
        timeout=30,
    )


def test_a_user_without_the_right_is_refused(cluster: Cluster) -> None:
    token = cluster.token("--user", "mallory")
    refused = cluster.get(ELASTIC.format("elasticsearch-logging") + "/", token=token)
    assert refused.status == 403
    assert refused.json["message"].startswith(
        'services "elasticsearch-logging" is forbidden: User "mallory" cannot get resource "services/proxy"'
    )
    assert cluster.get("/api/v1/namespaces", token="nonsense").status == 401
    assert cluster.get("/api/v1/namespaces", token=None).status == 403


def test_a_nodes_port_and_a_pods_port(cluster: Cluster) -> None:
    assert cluster.get("/api/v1/nodes/node-1/proxy/healthz").text == "ok"
    assert cluster.get("/api/v1/nodes/node-1:10250/proxy/pods").json["kind"] == "PodList"
    pods = cluster.get("/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Delasticsearch-logging").json[
        "items"
    ]
    name = pods[0]["metadata"]["name"]
    assert cluster.get(f"/api/v1/namespaces/kube-system/pods/{name}:9200/proxy/").json["tagline"]


def test_addresses_of_the_cluster_are_out_of_the_hosts_reach(cluster: Cluster) -> None:
    if not cluster.run["private"]:
        pytest.skip("this machine has no private network: " + cluster.run["limits"])
    pods = cluster.get("/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Delasticsearch-logging").json[
        "items"
    ]
    address = pods[0]["status"]["podIP"]
    with pytest.raises((urllib.error.URLError, OSError)):
        urllib.request.urlopen(f"http://{address}:9200/", timeout=0.5)


def test_kubectl_proxy(cluster: Cluster) -> None:
    from tests.integration.cluster.kubectl_proxy import kubectl_proxy

    with (
        kubectl_proxy(cluster) as base,
        urllib.request.urlopen(
            base + ELASTIC.format("elasticsearch-logging") + "/_cluster/health", timeout=30
        ) as response,
    ):
        assert json.load(response)["timed_out"] is False
