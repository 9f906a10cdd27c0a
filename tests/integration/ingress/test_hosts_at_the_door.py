"""Hosts of Ingresses behind `hatchway proxy`: requests by curl, the portal's list, and `hatchway ls`."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest

from tests.conftest import Cluster, find_kubectl, wait_for
from tests.door import Door, door_of
from tests.integration.cluster.pagetools import curl, serving
from tests.integration.services.echoes import apply, service

NS = "ingress-door"
# Answers with the request as JSON; /away redirects to the application's own host name, /page has a link to it.
BACKEND = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        host = self.headers["Host"]
        status, kind, body = 200, "application/json", json.dumps({"path": self.path, **self.headers})
        if self.path == "/page":
            kind, body = "text/html", f'<!doctype html><title>shop</title><a href="http://{host}/next">next</a>'
        self.send_response(302 if self.path == "/away" else 200)
        if self.path == "/away":
            self.send_header("Location", f"http://{host}/next")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer((os.environ.get("HATCHWAY_POD_IP", ""), 8080), Handler).serve_forever()
"""


def ingress(name: str, *hosts: str, tls: tuple[str, ...] = (), **spec: Any) -> dict[str, Any]:
    backend = {"service": {"name": "shop", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    rules = [{"host": host, "http": {"paths": [path]}} for host in hosts]
    more = {"tls": [{"hosts": list(tls)}]} if tls else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name},
        "spec": {"rules": rules, **more, **spec},
    }


@pytest.fixture(scope="module")
def world(cluster: Cluster) -> Iterator[Cluster]:
    cluster.kubectl("create", "namespace", NS)
    # A program in place of ingress-nginx's controller, found by its Service's label.
    foreign = service(
        "nginx-controller",
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "https", "port": 443, "targetPort": 8443},
        selector={"app": "shop"},
        type="NodePort",
    )
    foreign["metadata"]["labels"] = {"app.kubernetes.io/name": "ingress-nginx"}
    apply(
        cluster,
        NS,
        serving("shop", BACKEND, replicas=1),
        service("shop", {"port": 80, "targetPort": 8080}, selector={"app": "shop"}),
        ingress("shop", "shop.example", "secure.example", "*.wild.example", tls=("secure.example",)),
        foreign,
        ingress("foreign", "foreign.example", ingressClassName="nginx"),
        ingress("nobodys", "nobodys.example", ingressClassName="somebody-elses"),
    )
    cluster.kubectl("rollout", "status", "deployment", "shop", "-n", NS, "--timeout=60s")

    def addressed() -> Any:
        found = json.loads(cluster.kubectl("get", "ingress", "shop", "-n", NS, "-o", "json"))
        return found["status"]["loadBalancer"].get("ingress")

    wait_for(addressed)
    yield cluster
    cluster.kubectl("delete", "namespace", NS, "--wait=false")


@pytest.fixture(scope="module")
def door(world: Cluster) -> Iterator[Door]:
    with door_of(world) as found:
        yield found


def ask(door: Door, host: str, path: str = "/", *options: str) -> str:
    name = f"{host}.ingress.localhost"
    return curl("--resolve", f"{name}:{door.port}:127.0.0.1", *options, f"http://{name}:{door.port}{path}", check=False)


def answer(door: Door, host: str, path: str = "/") -> dict[str, Any]:
    """Return the application's answer, which describes the request, as soon as its controller serves the host."""

    def get() -> dict[str, Any] | None:
        text = ask(door, host, path)
        return json.loads(text) if text.startswith("{") and "Host" in text else None

    found: dict[str, Any] = wait_for(get)
    return found


@pytest.mark.parametrize("host", ["shop.example", "secure.example", "a.wild.example", "foreign.example"])
def test_a_host_opens_without_dns(door: Door, host: str) -> None:
    found = answer(door, host, "/api?x=1")
    assert (found["Host"], found["path"]) == (host, "/api?x=1")


def test_the_applications_host_name_is_replaced_by_the_doors(door: Door) -> None:
    answer(door, "shop.example")
    home = f"http://shop.example.ingress.localhost:{door.port}"
    fields = ask(door, "shop.example", "/away", "-D", "-", "-o", "/dev/null")
    assert re.search(rf"^location: {home}/next\r?$", fields, re.IGNORECASE | re.MULTILINE), fields
    page = ask(door, "shop.example", "/page", "-H", "Accept: text/html", "-H", "Sec-Fetch-Mode: navigate")
    assert f'href="{home}/next"' in page


def test_other_hosts_are_explained(door: Door) -> None:
    for host in ("nobodys.example", "no-such.example", "a.b.wild.example", "wild.example"):
        text = ask(door, host, "/", "-H", "Accept: text/html", "-D", "-")
        assert text.startswith("HTTP/1.1 404"), text
        assert "X-Hatchway-Problem: unknown-host" in text


def test_requests_by_pages_of_other_origins_are_refused(door: Door) -> None:
    fields = ("-H", "Origin: http://evil.example", "-H", "Sec-Fetch-Site: cross-site", "-H", "Sec-Fetch-Mode: cors")
    assert ask(door, "shop.example", "/", *fields, "-o", "/dev/null", "-w", "%{http_code}") == "403"


def test_flags_of_the_door_apply_to_the_controller(world: Cluster) -> None:
    with door_of(world, "--reject-paths", "/services/[^/]*nginx-controller") as door:
        assert answer(door, "shop.example")["Host"] == "shop.example"
        assert ask(door, "foreign.example", "/", "-o", "/dev/null", "-w", "%{http_code}") == "403"
    with door_of(world, "--reject-paths", "/ingresses") as door:
        assert ask(door, "shop.example", "/", "-o", "/dev/null", "-w", "%{http_code}") == "404"


def test_the_portal_lists_what_opens(door: Door) -> None:
    page = curl("-H", "Accept: text/html", f"{door.url}-/hatchway/ingresses")
    links = re.findall(r'<a href="(http://[^"]*)"', page)
    for host in ("shop.example", "secure.example", "foreign.example"):
        assert f"http://{host}.ingress.localhost:{door.port}/" in links
    text = unescape(re.sub(r"<[^>]*>", " ", page))
    assert "*.wild.example" in text
    assert "nobodys.example" not in text


def test_ls_lists_what_opens(world: Cluster) -> None:
    rows = [line.split() for line in world.hatchway("ls", "-n", NS, "--port", "9000").stdout.splitlines()]
    found = {row[3]: row[4:] for row in rows if row[0] == "ing/shop"}
    assert found["http://shop.example.ingress.localhost:9000/"][0] == "shop.example"
    assert found["<none>"][0] == "*.wild.example"
    listed = json.loads(world.hatchway("ls", "secure", "-n", NS, "-o", "json").stdout)
    assert listed["ingressHosts"] == [
        {
            "host": "secure.example",
            "namespace": NS,
            "kind": "Ingress",
            "ingress": "shop",
            "url": "http://secure.example.ingress.localhost:8001/",
            "by": "svc/https:hatchway-ingress:443",
            "byNamespace": "kube-system",
            "paths": [{"path": "/", "backend": "shop:80"}],
        }
    ]
    assert "127.0.0.1 shop.example.ingress.localhost" in world.hatchway("ls", "-n", NS, "-o", "hosts").stdout


def test_a_user_who_may_not_use_the_controller_is_told_what_is_missing(world: Cluster, door: Door) -> None:
    token = world.token("--user", "hank")
    world.kubectl("create", "clusterrolebinding", "hank-views", "--clusterrole=view", "--user=hank")
    try:
        config = world.base / "hank.kubeconfig"
        config.write_text(world.kubeconfig.read_text())
        subprocess.run(
            [find_kubectl(), "--kubeconfig", config, "config", "set-credentials", "hank", f"--token={token}"],
            check=True,
            capture_output=True,
        )
        world_context = world.kubectl("config", "current-context").strip()
        with door_of(world, "--context", world_context, "--user", "hank", kubeconfig=config) as other:
            text = ask(other, "shop.example", "/", "-H", "Accept: text/html", "-H", "Sec-Fetch-Mode: navigate")
        assert "hatchway-ingress" in text
        assert "services/proxy" in text
    finally:
        world.kubectl("delete", "clusterrolebinding", "hank-views")
