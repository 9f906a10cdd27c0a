"""Ingresses of a real cluster: kubectl creates them, curl and Chromium use them."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.chromium import chromium
from tests.conftest import Cluster, wait_for
from tests.integration.services.echoes import apply, messages, service

NS = "ingress"
CONTROLLER = ("kube-system", "hatchway-ingress")
# Answers with the request as JSON; /ws echoes WebSocket messages, /stream sends a chunk for each line it receives.
BACKEND = """
import asyncio, json, os, sys
from websockets.asyncio.server import serve as websockets
name, ip = os.environ["NAME"], os.environ.get("HATCHWAY_POD_IP") or "0.0.0.0"
async def echo(socket):
    async for message in socket:
        await socket.send(message)
async def http(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode()
            first, *lines = head.strip().split("\\r\\n")
            fields = dict(line.split(": ", 1) for line in lines)
            path = first.split()[1]
            if path == "/stream":
                writer.write(b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n")
                while int(size := (await reader.readline()).strip() or b"0", 16):
                    data = await reader.readexactly(int(size, 16) + 2)
                    writer.write(b"%x\\r\\n%b" % (len(data) - 2, data))
                    await writer.drain()
                await reader.readline()
                writer.write(b"0\\r\\n\\r\\n")
                continue
            body = await reader.readexactly(int(fields.get("Content-Length", 0)))
            said = json.dumps({"pod": name, "path": path, "fields": fields, "size": len(body)})
            kind = "application/json"
            if path.endswith(".html"):
                said, kind = f"<!doctype html><title>{name}</title><h1>{path}</h1>", "text/html"
            writer.write(f"HTTP/1.1 200 OK\\r\\nContent-Type: {kind}\\r\\nContent-Length: {len(said)}\\r\\n\\r\\n{said}".encode())
    except (EOFError, OSError):
        writer.close()
async def main():
    await websockets(echo, ip, 9090)
    server = await asyncio.start_server(http, ip, 8080)
    await server.serve_forever()
asyncio.run(main())
"""


def pod(name: str, labels: dict[str, str], **spec: Any) -> dict[str, Any]:
    container = {
        "name": "web",
        "image": "hatchway/host",
        "command": [sys.executable, "-c", BACKEND],
        "env": [{"name": "NAME", "value": name}],
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "ws", "containerPort": 9090}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 30},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }


class World:
    """The Ingress `web`: its address, and the addresses of the controller's two ports on this machine."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.address = str(wait_for(lambda: self.get("web")["status"]["loadBalancer"].get("ingress"))[0]["ip"])
        self._controller = json.loads(cluster.kubectl("get", "service", "-n", *CONTROLLER, "-o", "json"))
        self.http = self._entrance("http")
        self.https = self._entrance("https")

    def _entrance(self, scheme: str) -> tuple[str, int]:
        """Return the load balancer's address, or the node port if an Event says that the former cannot be opened."""
        port = next(one for one in self._controller["spec"]["ports"] if one["name"] == scheme)
        wanted, instead = (self.address, port["port"]), ("127.0.0.1", port["nodePort"])

        def find() -> tuple[str, int] | None:
            if _answers(scheme, *wanted):
                return wanted
            refused = messages(self.cluster, *CONTROLLER, "PortNotAvailable")
            return instead if refused and _answers(scheme, *instead) else None

        found: tuple[str, int] = wait_for(find)
        return found

    def kubectl(self, *arguments: str, **more: Any) -> str:
        return self.cluster.kubectl("-n", NS, *arguments, **more)

    def get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", "ingress", name, "-o", "json"))
        return found

    def curl(self, url: str, *options: str, check: bool = True) -> str:
        """Send a request with curl; any host name is resolved to the controller's address."""
        entrances = ((80, self.http), (443, self.https))
        there = [part for port, (ip, on) in entrances for part in ("--connect-to", f":{port}:{ip}:{on}")]
        done = subprocess.run(
            ["curl", "-sS", "--max-time", "30", "--path-as-is", *there, *options, url], capture_output=True, text=True
        )
        if check and done.returncode:
            raise AssertionError(done.stderr)
        return done.stdout if check else done.stdout + done.stderr

    def ask(self, url: str, *options: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.curl(url, *options))
        return found

    def served(self, url: str, status: int = 200) -> None:
        """Wait until a URL answers with this status."""
        wait_for(lambda: self.curl(url, "-k", "-o", "/dev/null", "-w", "%{http_code}", check=False) == str(status))


@pytest.fixture(scope="module")
def world(cluster: Cluster) -> Iterator[World]:
    if not cluster.run["private"]:
        pytest.skip("on loopback there are no service addresses")
    cluster.kubectl("create", "namespace", NS)
    web = {"app": "web"}
    apply(
        cluster,
        NS,
        pod("one", web),
        pod("two", web),
        service(
            "web",
            {"name": "http", "port": 80, "targetPort": "http"},
            {"name": "ws", "port": 81, "targetPort": "ws"},
            selector=web,
        ),
    )
    rules = ("web.example/*=web:http", "web.example/ws*=web:ws", "*.wild.example/only*=web:80")
    cluster.kubectl("-n", NS, "create", "ingress", "web", *(f"--rule={rule}" for rule in rules))
    cluster.kubectl("wait", "-n", NS, "--for=condition=Ready", "pod", "--all", "--timeout=60s")
    made = World(cluster)
    made.served("http://web.example/")
    yield made
    cluster.kubectl("delete", "namespace", NS, "--wait=false")


def _answers(scheme: str, address: str, port: int) -> bool:
    """Return True if the controller, and not another program of this machine, answers there."""
    url = f"{scheme}://nobody.invalid:{port}/"
    curl = ["curl", "-sk", "--max-time", "10", "--resolve", f"nobody.invalid:{port}:{address}", url]
    return "No Ingress of this cluster" in subprocess.run(curl, capture_output=True, text=True).stdout


def test_kubectl_shows_the_ingress(world: World) -> None:
    table = world.kubectl("get", "ingress", "web").splitlines()
    assert table[0].split() == ["NAME", "CLASS", "HOSTS", "ADDRESS", "PORTS", "AGE"]
    assert table[1].split()[:5] == ["web", "hatchway", "web.example,*.wild.example", world.address, "80"]
    described = world.kubectl("describe", "ingress", "web")
    assert "Ingress Class:    hatchway" in described
    assert "web:http (10.244." in described
    classes = world.kubectl("get", "ingressclass").splitlines()
    assert classes[1].split()[:3] == ["hatchway", "hatchway.dev/ingress", "<none>"]


def test_requests_reach_all_pods_with_fields_of_the_proxy(world: World) -> None:
    found = [world.ask("http://web.example/a%20b?c=d", "-H", "X-Forwarded-For: 9.9.9.9") for _ in range(4)]
    assert {one["pod"] for one in found} == {"one", "two"}
    fields = found[0]["fields"]
    assert found[0]["path"] == "/a%20b?c=d"
    assert fields["Host"] == fields["X-Forwarded-Host"] == "web.example"
    assert (fields["X-Forwarded-Proto"], fields["X-Forwarded-Port"]) == ("http", "80")
    assert fields["X-Forwarded-For"] == fields["X-Real-IP"] != "9.9.9.9"


def test_hosts_and_paths(world: World) -> None:
    assert world.ask("http://a.wild.example/only/x")["path"] == "/only/x"
    assert "404 Not Found: No Ingress" in world.curl("http://a.wild.example/other")
    assert "404 Not Found: No Ingress" in world.curl("http://a.b.wild.example/only")
    assert "404 Not Found: No Ingress" in world.curl("http://other.example/")


def test_large_bodies_both_ways(world: World, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"x" * 5_000_000)
    assert world.ask("http://web.example/", "--data-binary", f"@{tmp_path / 'body'}")["size"] == 5_000_000


def test_bodies_are_streamed(world: World) -> None:
    """Each chunk comes back before the next one is sent."""
    connection = http.client.HTTPConnection(*world.http, timeout=30)
    connection.putrequest("POST", "/stream", skip_host=True)
    connection.putheader("Host", "web.example")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    connection.send(b"5\r\nfirst\r\n")
    response = connection.getresponse()
    assert response.read(5) == b"first"
    connection.send(b"6\r\nsecond\r\n")
    assert response.read(6) == b"second"
    connection.send(b"0\r\n\r\n")
    assert response.read() == b""
    connection.close()


def test_websockets(world: World) -> None:
    with (
        socket.create_connection(world.http, timeout=30) as sock,
        connect("ws://web.example/ws", sock=sock, proxy=None) as client,
    ):
        for size in (0, 10, 100_000):
            client.send(b"x" * size)
            assert client.recv(timeout=30) == b"x" * size


def _certificate(directory: Path, name: str) -> tuple[str, str]:
    certificate, key = str(directory / f"{name}.crt"), str(directory / f"{name}.key")
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    options += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", certificate]
    subprocess.run(["openssl", "req", *options], check=True, capture_output=True)
    return certificate, key


def test_tls(world: World, tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path, "tls.example")
    other, _ = _certificate(tmp_path, "other.example")
    world.kubectl("create", "secret", "tls", "tls", "--cert", certificate, "--key", key)
    world.kubectl("create", "ingress", "tls", "--rule=tls.example/*=web:http,tls=tls")
    world.served("https://tls.example/")
    wait_for(lambda: world.curl("https://tls.example/", "--cacert", certificate, check=False).startswith("{"))
    found = world.ask("https://tls.example/", "--cacert", certificate)
    assert (found["fields"]["X-Forwarded-Proto"], found["fields"]["X-Forwarded-Port"]) == ("https", "443")
    # A host without a certificate gets the default one.
    assert "self-signed certificate" in world.curl("https://web.example/", "--cacert", other, check=False)
    assert world.ask("https://web.example/", "-k")["fields"]["X-Forwarded-Proto"] == "https"
    # The certificate in the Secret is renewed.
    renewed, new_key = _certificate(tmp_path, "tls.example")
    made = world.kubectl(
        "create", "secret", "tls", "tls", "--cert", renewed, "--key", new_key, "--dry-run=client", "-o", "yaml"
    )
    world.kubectl("replace", "-f", "-", stdin=made)
    wait_for(lambda: world.curl("https://tls.example/", "--cacert", renewed, check=False).startswith("{"))


def test_a_pod_that_is_replaced(world: World) -> None:
    """No request fails after a pod ended, even while its address is still an endpoint."""
    world.kubectl("create", "ingress", "going", "--rule=going.example/*=going:80")
    going = {"app": "going"}
    apply(
        world.cluster,
        NS,
        pod("three", going),
        pod("four", going),
        service("going", {"port": 80, "targetPort": 8080}, selector=going),
    )
    world.served("http://going.example/")
    world.kubectl("wait", "--for=condition=Ready", "pod", "three", "four", "--timeout=60s")
    wait_for(lambda: {world.ask("http://going.example/")["pod"] for _ in range(4)} == {"three", "four"})
    world.kubectl("delete", "pod", "three", "--grace-period=0", "--force")
    assert [world.ask("http://going.example/")["pod"] for _ in range(10)] == ["four"] * 10
    world.kubectl("delete", "pod", "four", "--grace-period=0", "--force")
    world.served("http://going.example/", 503)
    assert "has no endpoint that is ready" in world.curl("http://going.example/")


def test_a_conflict_is_reported_by_an_event(world: World) -> None:
    world.kubectl("create", "ingress", "late", "--rule=web.example/*=nothing:80", "--rule=late.example/*=nothing:80")
    world.served("http://late.example/", 503)
    assert "does not exist" in world.curl("http://late.example/")
    assert world.ask("http://web.example/")["pod"] in ("one", "two")
    wait_for(
        lambda: f"web.example/ is served by the older Ingress {NS}/web" in world.kubectl("describe", "ingress", "late")
    )


def test_page_in_a_browser(world: World) -> None:
    rules = "--host-resolver-rules=MAP *.example {}:{}".format(*world.http)
    with chromium([rules]) as browser:
        page = browser.new_page()
        page.goto("http://web.example/page.html")
        assert page.title() in ("one", "two")
        assert page.locator("h1").inner_text() == "/page.html"
        answer = page.goto("http://unknown.example/x")
        assert answer is not None and answer.status == 404
        assert "No Ingress of this cluster has a rule for unknown.example/x" in page.locator("p").inner_text()
