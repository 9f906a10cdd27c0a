"""Kubernetes' documentation page "Access Services Running on Clusters", with stock kubectl and curl.

The tests follow the page from its first section to its last. The examples of Elasticsearch's addresses are in
`test_documentation.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from hatchway.cluster import plan
from tests.conftest import BIN, Cluster, find_kubectl, wait_for
from tests.integration.cluster.kubectl_proxy import kubectl_proxy
from tests.integration.cluster.pagetools import curl, serving, shown_addresses

NS = "access-page"
ELASTIC = "/api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy"
# The fields that the page shows in the response of `_cluster/health`, and their types.
HEALTH = {
    "cluster_name": str,
    "status": str,
    "timed_out": bool,
    "number_of_nodes": int,
    "number_of_data_nodes": int,
    "active_primary_shards": int,
    "active_shards": int,
    "relocating_shards": int,
    "initializing_shards": int,
    "unassigned_shards": int,
}
# Answers with its pod's name; /page has a link and a script without a path prefix.
WEB = """
import http.server, os, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        page = b'<!doctype html><a href="/next">next</a><script src="/app.js"></script>'
        kind = "text/html" if self.path == "/page" else "text/plain"
        body = page if self.path == "/page" else socket.gethostname().encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer((os.environ.get("HATCHWAY_POD_IP", ""), 8080), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def page(cluster: Cluster) -> Iterator[Cluster]:
    """The Deployment `web` with three replicas, and its Service."""
    cluster.kubectl("create", "namespace", NS)
    cluster.kubectl("apply", "-n", NS, "-f", "-", stdin=json.dumps(serving("web", WEB, replicas=3)))
    cluster.kubectl("expose", "deployment", "web", "-n", NS, "--port=80", "--target-port=8080")
    cluster.kubectl("rollout", "status", "deployment", "web", "-n", NS, "--timeout=60s")
    yield cluster
    cluster.kubectl("delete", "namespace", NS, "--wait=false")


def pods(page: Cluster) -> list[str]:
    listed = page.kubectl("get", "pods", "-n", NS, "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}")
    return sorted(listed.split())


def authorized(page: Cluster, *arguments: str) -> str:
    """Return the output of curl with credentials and the cluster's certificate authority."""
    token = f"Authorization: Bearer {page.admin_token()}"
    return curl("--cacert", str(page.ca), "-H", token, *arguments)


def answering(address: str) -> set[str]:
    """Return the names of the pods that answer at an address; ask until no new pod answers."""
    return {curl(f"http://{address}/") for _ in range(24)}


# Accessing services running on the cluster


def test_addresses_of_nodes_pods_and_services_lead_nowhere_from_this_machine(page: Cluster) -> None:
    if not page.run["private"]:
        pytest.skip("on loopback, addresses of nodes and pods are this machine's own")
    node = shown_addresses(page, "node", "node-1")
    pod = shown_addresses(page, "pod", pods(page)[0], NS)
    service = shown_addresses(page, "service", "web", NS)
    assert node == [plan.node_ip(1)]
    # Some networks answer for every address; that answer is not the cluster's.
    for url in (f"https://{node[0]}:10250/healthz", f"http://{pod[0]}:8080/", f"http://{service[0]}/"):
        answer = curl("-k", "--connect-timeout", "1", url, check=False)
        assert answer not in (*pods(page), "Unauthorized", "ok")


def test_a_node_port_is_a_public_address(page: Cluster) -> None:
    page.kubectl(
        "expose", "deployment", "web", "-n", NS, "--type=NodePort", "--name=web-port", "--port=80", "--target-port=8080"
    )
    number = page.kubectl("get", "svc", "web-port", "-n", NS, "-o", "jsonpath={.spec.ports[0].nodePort}")
    wait_for(lambda: curl(f"http://127.0.0.1:{number}/", check=False))
    wait_for(lambda: answering(f"127.0.0.1:{number}") == set(pods(page)))


def test_a_load_balancer_is_a_public_address(page: Cluster) -> None:
    page.kubectl(
        *("expose", "deployment", "web", "-n", NS, "--type=LoadBalancer"),
        *("--name=web-balanced", "--port=8888", "--target-port=8080"),
    )
    address = wait_for(lambda: shown_addresses(page, "balancer", "web-balanced", NS))[0]
    wait_for(lambda: curl(f"http://{address}:8888/", check=False))
    wait_for(lambda: answering(f"{address}:8888") == set(pods(page)))


def test_exposure_shows_who_can_reach_a_service(page: Cluster) -> None:
    page.kubectl(
        "expose", "deployment", "web", "-n", NS, "--type=NodePort", "--name=judged", "--port=80", "--target-port=8080"
    )
    # The state directory has the addresses of this machine on which node ports are open.
    page.env["HATCHWAY_STATE_DIR"] = str(page.base)
    try:
        done = page.hatchway("exposure", *_context(page), "-n", NS, "-o", "json", "--fail-on", "never")
    finally:
        del page.env["HATCHWAY_STATE_DIR"]
    found = json.loads(done.stdout)
    assert found["complete"]
    (judged,) = [one for one in found["exposures"] if one["name"] == "judged"]
    assert judged["way"] == "NodePort"
    # Node ports of this cluster are open on this machine's loopback only.
    assert judged["reachableFrom"] == "machine"


def _context(page: Cluster) -> tuple[str, str]:
    return ("--kubeconfig", str(page.kubeconfig))


def test_one_replica_is_exposed_by_a_label_of_its_own(page: Cluster) -> None:
    chosen, *_ = pods(page)
    page.kubectl("label", "pod", chosen, "-n", NS, "debug=this-one")
    page.kubectl(
        *("expose", "pod", chosen, "-n", NS, "--name=only-this", "--port=80", "--target-port=8080"),
        *("--selector=debug=this-one", "--type=NodePort"),
    )
    number = page.kubectl("get", "svc", "only-this", "-n", NS, "-o", "jsonpath={.spec.ports[0].nodePort}")
    wait_for(lambda: curl(f"http://127.0.0.1:{number}/", check=False))
    assert answering(f"127.0.0.1:{number}") == {chosen}
    # The labelled pod is still an endpoint of the Service `web`, which has all replicas.
    slices = page.kubectl("get", "endpointslices", "-n", NS, "-l", "kubernetes.io/service-name=web", "-o", "json")
    named = [end["targetRef"]["name"] for one in json.loads(slices)["items"] for end in one["endpoints"]]
    assert sorted(named) == pods(page)


def test_one_replica_is_exposed_by_one_command(page: Cluster) -> None:
    chosen = pods(page)[-1]
    target = (f"pod/{chosen}", "-n", NS, *_context(page))
    page.hatchway("expose", *target, "--only", "--port", "80", "--target-port", "8080", "--type", "NodePort")
    listed = page.kubectl("get", "svc", "-n", NS, "-l", "hatchway.dev/exposed-pod", "-o", "json")
    (made,) = json.loads(listed)["items"]
    number = made["spec"]["ports"][0]["nodePort"]
    wait_for(lambda: curl(f"http://127.0.0.1:{number}/", check=False))
    assert answering(f"127.0.0.1:{number}") == {chosen}
    page.hatchway("expose", *target, "--undo")
    assert made["metadata"]["name"] not in page.kubectl("get", "svc", "-n", NS, "-o", "name")
    assert "exposed-pod" not in page.kubectl("get", "pod", chosen, "-n", NS, "-o", "yaml")


# The proxy verb


def test_the_proxy_verb_reaches_services_nodes_and_pods(page: Cluster) -> None:
    first = pods(page)[0]
    base = f"{page.server}/api/v1/namespaces/{NS}"
    assert authorized(page, f"{base}/services/web/proxy/") in pods(page)
    assert authorized(page, f"{base}/pods/{first}:8080/proxy/") == first
    assert authorized(page, f"{page.server}/api/v1/nodes/node-1/proxy/healthz") == "ok"


def test_the_api_server_authenticates_requests_to_services(page: Cluster) -> None:
    path = f"/api/v1/namespaces/{NS}/services/web/proxy/"
    status = ("-o", "/dev/null", "-w", "%{http_code}", "--cacert", str(page.ca))
    assert curl(*status, page.server + path) == "403"
    assert curl(*status, "-H", "Authorization: Bearer nonsense", page.server + path) == "401"
    nobody = page.token("--user", "nobody-in-particular")
    assert curl(*status, "-H", f"Authorization: Bearer {nobody}", page.server + path) == "403"


@pytest.mark.parametrize("name", ["web", "web:", "web:80", "http:web:", "http:web:80"])
def test_urls_put_together_by_hand(page: Cluster, name: str) -> None:
    url = f"{page.server}/api/v1/namespaces/{NS}/services/{name}/proxy/a/path?with=parameters"
    assert authorized(page, url) in pods(page)


@pytest.mark.parametrize(
    ("argument", "segment"),
    [("web", "web"), ("web:80", "web:80"), ("https:web:", "https:web:"), ("https:web:80", "https:web:80")],
)
def test_hatchway_puts_the_same_urls_together(page: Cluster, argument: str, segment: str) -> None:
    made = page.hatchway("url", argument, "-n", NS, "a/path?with=parameters").stdout.strip()
    assert made == f"{page.server}/api/v1/namespaces/{NS}/services/{segment}/proxy/a/path?with=parameters"


@pytest.mark.parametrize("name", ["elasticsearch-logging", "https:elasticsearch-logging:", "elasticsearch-logging:es"])
def test_the_examples_with_elasticsearch(page: Cluster, name: str) -> None:
    ports = json.loads(page.kubectl("get", "svc", "elasticsearch-logging", "-n", "kube-system", "-o", "json"))
    port = ports["spec"]["ports"][0].get("name") or str(ports["spec"]["ports"][0]["port"])
    base = page.server + ELASTIC.replace("elasticsearch-logging", name.replace(":es", f":{port}"))
    health = json.loads(authorized(page, f"{base}/_cluster/health?pretty=true"))
    assert {field: type(health[field]) for field in HEALTH} == HEALTH
    assert health["status"] in ("green", "yellow")
    assert health["number_of_nodes"] == 1
    found = json.loads(authorized(page, f"{base}/_search?q=user:kimchy"))
    assert found["timed_out"] is False
    assert isinstance(found["hits"]["total"]["value"], int)


def test_built_in_services_by_kubectl_proxy(page: Cluster) -> None:
    listed = page.kubectl("cluster-info")
    assert "elasticsearch-logging" in listed
    assert ELASTIC in listed
    with kubectl_proxy(page) as base:
        assert json.loads(curl(f"{base}{ELASTIC}/_cluster/health?pretty=true"))["timed_out"] is False
        assert curl(f"{base}/api/v1/namespaces/{NS}/services/web/proxy/") in pods(page)


# From a node or a pod in the cluster


def test_a_shell_in_a_pod_reaches_nodes_pods_and_services(page: Cluster) -> None:
    first, second, _ = pods(page)
    other = shown_addresses(page, "pod", second, NS)[0]
    node = shown_addresses(page, "node", "node-1")[0]
    script = f"curl -sS --noproxy '*' http://{other}:8080/; echo; curl -sSk --noproxy '*' https://{node}:10250/healthz"
    if page.run["private"]:
        script = f"curl -sS --noproxy '*' http://web/; echo; {script}"
    printed = page.kubectl("exec", "-n", NS, "-i", first, "--", "sh", stdin=script + "\n").splitlines()
    if page.run["private"]:
        assert printed.pop(0) in pods(page)
    # A kubelet requires authentication, also for its health check.
    assert printed == [second, "Unauthorized"]


def test_a_pod_is_run_for_a_shell(page: Cluster) -> None:
    kubectl = [find_kubectl(), "--kubeconfig", str(page.kubeconfig), "run", "-n", NS, "-i", "--rm", "--quiet"]
    command = [*kubectl, "--restart=Never", "--image=hatchway/shell", "visitor"]
    address = shown_addresses(page, "pod", pods(page)[0], NS)[0]
    script = f"curl -sS --noproxy '*' http://{address}:8080/\n"
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=90)
    assert pods(page)[0] in done.stdout, done.stderr


def test_a_shell_on_a_node_in_place_of_ssh(page: Cluster) -> None:
    overrides = {"spec": {"nodeName": "node-1", "hostNetwork": True, "hostPID": True}}
    command = [find_kubectl(), "--kubeconfig", str(page.kubeconfig), "run", "-n", NS, "-i", "--rm", "--quiet"]
    command += ["--restart=Never", "--image=hatchway/shell", f"--overrides={json.dumps(overrides)}", "on-node-1"]
    address = shown_addresses(page, "pod", pods(page)[0], NS)[0]
    script = f"hostname; curl -sS --noproxy '*' http://{address}:8080/\n"
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=90)
    printed = done.stdout.split()
    assert pods(page)[0] in printed, done.stderr
    if page.run["private"]:
        assert "node-1" in printed


# The limits that the page states


def test_the_door_gives_applications_an_origin_and_asks_for_no_login(page: Cluster) -> None:
    with _door(page) as port:
        host = f"web.{NS}.svc.localhost"
        at = ("--resolve", f"{host}:{port}:127.0.0.1")
        assert curl(*at, f"http://{host}:{port}/") in pods(page)
        # Nothing is rewritten: absolute paths are correct without a prefix.
        assert 'href="/next"' in curl(*at, f"http://{host}:{port}/page")


@contextlib.contextmanager
def _door(page: Cluster) -> Iterator[int]:
    command = [str(BIN / "hatchway"), "proxy", "--port", "0", "--kubeconfig", str(page.kubeconfig)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **page.env}
    ) as process:
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if "127.0.0.1:" in line or "localhost:" in line)
            yield int(line.split(":")[-1].split("/")[0].split()[0])
        finally:
            process.terminate()


def test_applications_that_know_no_prefix_work_at_the_proxy_verb(page: Cluster) -> None:
    prefix = f"/api/v1/namespaces/{NS}/services/web/proxy"
    shown = authorized(page, "-H", "Accept: text/html", f"{page.server}{prefix}/page")
    assert f'href="{prefix}/next"' in shown
    assert f'src="{prefix}/app.js"' in shown


def test_programs_that_do_not_use_http_get_a_local_port(page: Cluster) -> None:
    command = [str(BIN / "hatchway"), "forward", "svc/web", "0:80", "-n", NS, *_context(page)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if "127.0.0.1:" in line)
            port = int(line.split("127.0.0.1:")[1].split()[0].rstrip("/"))
            assert curl(f"http://127.0.0.1:{port}/") in pods(page)
        finally:
            process.terminate()
