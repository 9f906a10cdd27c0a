"""The documentation's tutorials about Services, with stock kubectl and curl.

"Use a Service to Access an Application in a Cluster", "Connecting Applications with Services" and "Exposing an External
IP Address to Access an Application in a Cluster". The pods run this machine's programs, so
their containers have commands, and their servers listen on ports that need no privileges.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cluster, find_kubectl, wait_for
from tests.integration.cluster.pagetools import curl, serving, shown_addresses

NS = "tutorials"
HELLO = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"Hello Kubernetes!")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer((os.environ.get("HATCHWAY_POD_IP", ""), 8080), Handler).serve_forever()
"""
# Serves a page over HTTP at 8080, and over HTTPS at 8443 with the certificate of the Secret.
SECURE = """
import http.server, os, ssl, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(open("/etc/nginx/conf.d/default.conf", "rb").read())
    def log_message(self, *_):
        pass
ip = os.environ.get("HATCHWAY_POD_IP", "")
plain, secure = (http.server.ThreadingHTTPServer((ip, port), Handler) for port in (8080, 8443))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/nginx/ssl/tls.crt", "/etc/nginx/ssl/tls.key")
secure.socket = context.wrap_socket(secure.socket, server_side=True)
threading.Thread(target=plain.serve_forever, daemon=True).start()
secure.serve_forever()
"""


@pytest.fixture(scope="module", autouse=True)
def namespace(cluster: Cluster) -> Iterator[None]:
    cluster.kubectl("create", "namespace", NS)
    yield
    cluster.kubectl("delete", "namespace", NS, "--wait=false")


def kubectl(cluster: Cluster, *arguments: str, stdin: str | None = None) -> str:
    return cluster.kubectl("-n", NS, *arguments, stdin=stdin)


def described(text: str) -> dict[str, str]:
    """Return the lines `Name:   value` of `kubectl describe`."""
    return dict(re.findall(r"^([A-Z][\w ]*?): +(.*)$", text, re.MULTILINE))


def run_hello(cluster: Cluster, replicas: int, label: str) -> None:
    name, _, value = label.partition("=")
    deployment = serving("hello-world", HELLO, replicas=replicas, labels={name: value})
    kubectl(cluster, "apply", "-f", "-", stdin=json.dumps(deployment))
    kubectl(cluster, "rollout", "status", "deployment", "hello-world", "--timeout=60s")


def clean_up(cluster: Cluster, service: str) -> None:
    kubectl(cluster, "delete", "services", service)
    kubectl(cluster, "delete", "deployment", "hello-world")
    wait_for(lambda: not kubectl(cluster, "get", "pods", "-o", "name"))


def test_use_a_service_to_access_an_application(cluster: Cluster) -> None:
    label = "run=load-balancer-example"
    run_hello(cluster, 2, label)
    assert "2/2" in kubectl(cluster, "get", "deployments", "hello-world")
    assert "2 desired | 2 updated | 2 total | 2 available" in kubectl(cluster, "describe", "deployments", "hello-world")
    assert "hello-world-" in kubectl(cluster, "get", "replicasets")
    assert "2 current / 2 desired" in kubectl(cluster, "describe", "replicasets")
    made = kubectl(cluster, "expose", "deployment", "hello-world", "--type=NodePort", "--name=example-service")
    assert made.strip() == "service/example-service exposed"
    pods = shown_pods(cluster, label)
    shown = wait_for(
        lambda: found if len((found := service_of(cluster)).get("Endpoints", "").split(",")) == 2 else None
    )
    assert shown["Name"] == "example-service"
    assert (shown["Labels"], shown["Selector"], shown["Type"]) == (label, label, "NodePort")
    assert (shown["Port"], shown["TargetPort"]) == ("<unset>  8080/TCP", "8080/TCP")
    assert shown["Session Affinity"] == "None"
    assert set(shown["Endpoints"].split(",")) == {f"{address}:8080" for address in pods.values()}
    number = re.fullmatch(r"<unset>  (\d+)/TCP", shown["NodePort"])
    assert number is not None
    assert wait_for(lambda: curl(f"http://127.0.0.1:{number[1]}", check=False)) == "Hello Kubernetes!"
    clean_up(cluster, "example-service")


def service_of(cluster: Cluster) -> dict[str, str]:
    return described(kubectl(cluster, "describe", "services", "example-service"))


def shown_pods(cluster: Cluster, label: str) -> dict[str, str]:
    """Return pod name -> address, from the table that the pages show."""
    header, *rows = kubectl(cluster, "get", "pods", f"--selector={label}", "--output=wide").splitlines()
    column = header.split().index("IP")
    return {row.split()[0]: row.split()[column] for row in rows}


def test_expose_an_external_address(cluster: Cluster) -> None:
    label = "app.kubernetes.io/name=load-balancer-example"
    run_hello(cluster, 5, label)
    kubectl(cluster, "expose", "deployment", "hello-world", "--type=LoadBalancer", "--name=my-service")
    address = wait_for(lambda: shown_addresses(cluster, "balancer", "my-service", NS))[0]
    name, kind, cluster_ip, external, ports, _ = (
        kubectl(cluster, "get", "services", "my-service").splitlines()[1].split()
    )
    assert (name, kind, external) == ("my-service", "LoadBalancer", address)
    shown = described(kubectl(cluster, "describe", "services", "my-service"))
    assert shown["LoadBalancer Ingress"].split()[0] == address
    assert shown["IP"] == cluster_ip
    assert ports == f"8080:{shown['NodePort'].split()[-1].removesuffix('/TCP')}/TCP"
    assert "+ 2 more..." in shown["Endpoints"]
    assert wait_for(lambda: curl(f"http://{address}:8080", check=False)) == "Hello Kubernetes!"
    clean_up(cluster, "my-service")


def test_connect_applications_with_services(cluster: Cluster) -> None:
    if not cluster.run["private"]:
        pytest.skip("on loopback there are no service addresses and no DNS")
    nginx = serving("my-nginx", HELLO, replicas=2, labels={"run": "my-nginx"})
    kubectl(cluster, "apply", "-f", "-", stdin=json.dumps(nginx))
    kubectl(cluster, "rollout", "status", "deployment", "my-nginx", "--timeout=60s")
    first, second = shown_pods(cluster, "run=my-nginx")
    columns = kubectl(cluster, "get", "pods", "-l", "run=my-nginx", "-o", "custom-columns=POD_IP:.status.podIPs")
    addresses = re.findall(r"^\[map\[ip:(.*)\]\]$", columns, re.MULTILINE)
    assert len(set(addresses)) == 2
    # Pods reach each other, without address translation and from every node.
    ask = "curl -sS --noproxy '*' http://{}/"
    for address in addresses:
        printed = kubectl(cluster, "exec", first, "--", "sh", "-c", ask.format(f"{address}:8080"))
        assert printed == "Hello Kubernetes!"

    assert kubectl(cluster, "expose", "deployment/my-nginx").strip() == "service/my-nginx exposed"
    row = kubectl(cluster, "get", "svc", "my-nginx").splitlines()[1].split()
    assert (row[:2], row[3:5]) == (["my-nginx", "ClusterIP"], ["<none>", "8080/TCP"])
    cluster_ip = row[2]

    def slices() -> set[str]:
        listed = kubectl(cluster, "get", "endpointslices", "-l", "kubernetes.io/service-name=my-nginx")
        assert listed.splitlines()[0].split() == ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]
        name, family, port, endpoints, _ = listed.splitlines()[1].split()
        assert (name.startswith("my-nginx-"), family, port) == (True, "IPv4", "8080")
        return set(endpoints.split(","))

    wait_for(lambda: slices() == set(addresses))
    shown = described(kubectl(cluster, "describe", "svc", "my-nginx"))
    assert (shown["IP Family Policy"], shown["IP Families"], shown["IPs"]) == ("SingleStack", "IPv4", cluster_ip)

    # Environment variables: pods that are older than the Service do not have them; new pods do.
    environment = kubectl(cluster, "exec", second, "--", "printenv")
    assert "KUBERNETES_SERVICE_HOST=" in environment
    assert "MY_NGINX_SERVICE_HOST" not in environment
    kubectl(cluster, "scale", "deployment", "my-nginx", "--replicas=0")
    kubectl(cluster, "scale", "deployment", "my-nginx", "--replicas=2")
    kubectl(cluster, "rollout", "status", "deployment", "my-nginx", "--timeout=60s")
    new = next(pod for pod in shown_pods(cluster, "run=my-nginx") if pod not in (first, second))
    environment = kubectl(cluster, "exec", new, "--", "printenv")
    assert f"MY_NGINX_SERVICE_HOST={cluster_ip}\n" in environment
    assert "MY_NGINX_SERVICE_PORT=8080\n" in environment

    # DNS.
    assert cluster.kubectl("get", "services", "kube-dns", "--namespace=kube-system").splitlines()[1].split()[4] == (
        "53/UDP,53/TCP,9153/TCP"
    )
    found = kubectl(cluster, "exec", new, "--", "getent", "hosts", "my-nginx").split()
    assert found == [cluster_ip, f"my-nginx.{NS}.svc.cluster.local"]
    assert kubectl(cluster, "exec", new, "--", "sh", "-c", ask.format("my-nginx:8080")) == "Hello Kubernetes!"
    kubectl(cluster, "delete", "deployments,svc", "my-nginx")


def secure_app() -> list[dict[str, object]]:
    volumes = [
        {"name": "secret-volume", "secret": {"secretName": "nginxsecret"}},
        {"name": "configmap-volume", "configMap": {"name": "nginxconfigmap"}},
    ]
    deployment = serving("my-nginx", SECURE, replicas=1, labels={"run": "my-nginx"}, volumes=volumes)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["volumeMounts"] = [
        {"mountPath": "/etc/nginx/ssl", "name": "secret-volume"},
        {"mountPath": "/etc/nginx/conf.d", "name": "configmap-volume"},
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "my-nginx", "labels": {"run": "my-nginx"}},
        "spec": {
            "type": "NodePort",
            "ports": [
                {"port": 8080, "targetPort": 8080, "protocol": "TCP", "name": "http"},
                {"port": 8443, "protocol": "TCP", "name": "https"},
            ],
            "selector": {"run": "my-nginx"},
        },
    }
    return [service, deployment]


def test_secure_the_service_and_expose_it(cluster: Cluster, tmp_path: Path) -> None:
    if not cluster.run["private"]:
        pytest.skip("on loopback nothing can be mounted at /etc")
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")
    key, certificate = str(tmp_path / "nginx.key"), str(tmp_path / "nginx.crt")
    made = ["openssl", "req", "-x509", "-nodes", "-days", "365", "-newkey", "rsa:2048"]
    made += ["-keyout", key, "-out", certificate, "-subj", "/CN=my-nginx/O=my-nginx"]
    subprocess.run([*made, "-addext", "subjectAltName=DNS:my-nginx"], check=True, capture_output=True)
    kubectl(cluster, "create", "secret", "tls", "nginxsecret", "--key", key, "--cert", certificate)
    assert kubectl(cluster, "get", "secrets", "nginxsecret").splitlines()[1].split()[:3] == [
        "nginxsecret",
        "kubernetes.io/tls",
        "2",
    ]
    (tmp_path / "default.conf").write_text("Welcome to nginx!\n")
    kubectl(cluster, "create", "configmap", "nginxconfigmap", f"--from-file={tmp_path / 'default.conf'}")
    assert "default.conf:\n----\nWelcome to nginx!" in kubectl(cluster, "describe", "configmap", "nginxconfigmap")
    kubectl(cluster, "create", "-f", "-", stdin="\n---\n".join(map(json.dumps, secure_app())))
    kubectl(cluster, "rollout", "status", "deployment", "my-nginx", "--timeout=60s")

    # A pod with the Secret's certificate sends a request to the Service's name, which the certificate contains.
    volumes = [{"name": "secret-volume", "secret": {"secretName": "nginxsecret"}}]
    client = serving("curl-deployment", HELLO, replicas=1, labels={"app": "curlpod"}, volumes=volumes)
    mounts = [{"mountPath": "/etc/nginx/ssl", "name": "secret-volume"}]
    client["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = mounts
    kubectl(cluster, "apply", "-f", "-", stdin=json.dumps(client))
    kubectl(cluster, "rollout", "status", "deployment", "curl-deployment", "--timeout=60s")
    (pod,) = shown_pods(cluster, "app=curlpod")
    inside = ("exec", pod, "--", "curl", "-sS", "--noproxy", "*")
    page = kubectl(cluster, *inside, "https://my-nginx:8443", "--cacert", "/etc/nginx/ssl/tls.crt")
    assert page == "Welcome to nginx!\n"
    (server,) = shown_pods(cluster, "run=my-nginx").values()
    assert kubectl(cluster, *inside, "-k", f"https://{server}:8443") == page

    # The Service first has node ports; then `kubectl edit` makes it a load balancer.
    shown = json.loads(kubectl(cluster, "get", "svc", "my-nginx", "-o", "json"))
    ports = {port["name"]: port["nodePort"] for port in shown["spec"]["ports"]}
    assert wait_for(lambda: curl("-k", f"https://127.0.0.1:{ports['https']}", check=False)) == page
    kubectl_edit(cluster, "s/type: NodePort/type: LoadBalancer/")
    address = wait_for(lambda: shown_addresses(cluster, "balancer", "my-nginx", NS))[0]
    assert kubectl(cluster, "get", "svc", "my-nginx").splitlines()[1].split()[3] == address
    assert wait_for(lambda: curl("-k", f"https://{address}:8443", check=False)) == page
    kept = json.loads(kubectl(cluster, "get", "svc", "my-nginx", "-o", "json"))
    assert {port["name"]: port["nodePort"] for port in kept["spec"]["ports"]} == ports
    assert f"LoadBalancer Ingress:     {address}" in kubectl(cluster, "describe", "service", "my-nginx")
    kubectl(cluster, "delete", "deployments,svc", "my-nginx", "--timeout=30s")


def kubectl_edit(cluster: Cluster, change: str) -> None:
    """Edit the Service as a person would, with sed in place of the editor."""
    command = [find_kubectl(), "--kubeconfig", str(cluster.kubeconfig), "-n", NS, "edit", "svc", "my-nginx"]
    environment = {**os.environ, "KUBE_EDITOR": f"sed -i '{change}'"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "service/my-nginx edited", done.stderr
