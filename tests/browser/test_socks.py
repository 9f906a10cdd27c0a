"""A browser with the proxy's automatic configuration: the cluster's names work, but not for pages of other sites."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.chromium import another, chromium
from tests.conftest import BIN, Cluster

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SPACE = "browsed"
# Accepts WebSockets from pages of every origin (RFC 6455 section 4.2.2), as many applications do.
ACCEPTING = """
import base64, hashlib, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.wfile.write(bytes((0x81, 5)) + b"hello")
        self.rfile.read()
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  containers:
  - {name: c, image: hatchway/echo, ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: chat, labels: {app: chat}}
spec:
  containers:
  - name: c
    image: hatchway/shell
    command: [python3, -c, PROGRAM]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, timeoutSeconds: 30}
---
apiVersion: v1
kind: Service
metadata: {name: chat}
spec: {selector: {app: chat}, ports: [{port: 80, targetPort: 8080}]}
""".replace("PROGRAM", json.dumps(ACCEPTING))


@pytest.fixture(scope="module")
def port(cluster: Cluster) -> Iterator[int]:
    """Run a proxy for a cluster with the Service `echo` in the namespace `browsed`; yield its port."""
    cluster.kubectl("create", "namespace", SPACE)
    cluster.kubectl("-n", SPACE, "create", "-f", "-", stdin=MANIFEST)
    cluster.kubectl("-n", SPACE, "wait", "--for=condition=Ready", "pod/echo", "pod/chat", "--timeout=60s")
    command = [BIN / "hatchway", "socks", "--port", "0", "--kubeconfig", cluster.kubeconfig]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        yield int(running.stdout.readline().split(" on 127.0.0.1:")[1].split()[0])
        running.terminate()


@pytest.fixture(scope="module")
def browser(port: int) -> Iterator[Browser]:
    # Only the full Chromium, not the headless shell, has proxy settings.
    with chromium([f"--proxy-pac-url=http://127.0.0.1:{port}/proxy.pac"], windows=True) as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Serve an empty page of another site; yield its URL. Its address, 127.0.0.2, does not count as this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>elsewhere</title>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.2", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.2:{server.server_port}/"
        server.shutdown()


def test_a_name_of_the_cluster(browser: Browser) -> None:
    page = browser.new_page()
    answer = page.goto(f"http://echo.{SPACE}.svc/a")
    assert answer is not None and answer.status == 200
    assert f"echo.{SPACE}.svc" in answer.text()
    page.close()


def test_a_page_of_another_site_sends_nothing_into_the_cluster(browser: Browser, elsewhere: str) -> None:
    page = browser.new_page()
    page.goto(elsewhere)
    with page.expect_response(f"http://echo.{SPACE}.svc/x") as caught:
        page.evaluate(f"fetch('http://echo.{SPACE}.svc/x', {{method: 'POST', mode: 'no-cors', body: 'x'}})")
    assert caught.value.status == 403
    page.close()


# Returns the first message of a WebSocket, or "refused".
_WEBSOCKET = """url => new Promise(done => {
    const socket = new WebSocket(url);
    socket.onmessage = event => done(event.data);
    socket.onerror = () => done("refused");
})"""


def test_a_websocket_of_the_cluster_is_for_its_own_pages(browser: Browser, elsewhere: str) -> None:
    """Chromium uses CONNECT for WebSockets through a proxy."""
    page = browser.new_page()
    page.goto(elsewhere)
    assert page.evaluate(_WEBSOCKET, f"ws://chat.{SPACE}.svc/") == "refused"
    page.goto(f"http://echo.{SPACE}.svc/")
    assert page.evaluate(_WEBSOCKET, f"ws://chat.{SPACE}.svc/") == "hello"
    page.close()


def test_a_browser_that_is_set_to_socks_is_checked_as_well(browser: Browser, port: int, elsewhere: str) -> None:
    with another(browser, [f"--proxy-server=socks5://127.0.0.1:{port}"]) as running:
        page = running.new_page()
        answer = page.goto(f"http://echo.{SPACE}.svc/a")
        assert answer is not None and answer.status == 200
        assert page.evaluate(_WEBSOCKET, f"ws://chat.{SPACE}.svc/") == "hello"
        page.goto(elsewhere)
        assert page.evaluate(_WEBSOCKET, f"ws://chat.{SPACE}.svc/") == "refused"
        with page.expect_response(f"http://echo.{SPACE}.svc/x") as caught:
            page.evaluate(f"fetch('http://echo.{SPACE}.svc/x', {{method: 'POST', mode: 'no-cors', body: 'x'}})")
        assert caught.value.status == 403
        page.close()


def test_a_name_of_another_site_that_leads_to_an_address_of_the_cluster(
    browser: Browser, cluster: Cluster, port: int
) -> None:
    """With SOCKS 4 Chromium resolves names itself, so such a name could reach the cluster (DNS rebinding)."""
    address = cluster.kubectl("-n", SPACE, "get", "service", "echo", "-o", "jsonpath={.spec.clusterIP}")
    rule = f"--host-resolver-rules=MAP evil.example {address}"
    with another(browser, [f"--proxy-server=socks4://127.0.0.1:{port}", rule]) as running:
        page = running.new_page()
        answer = page.goto(f"http://{address}/a")
        assert answer is not None and answer.status == 200
        answer = page.goto("http://evil.example/a")
        assert answer is not None and answer.status == 403
        page.close()


def test_a_page_cannot_read_from_the_proxy_itself(browser: Browser, elsewhere: str, port: int) -> None:
    page = browser.new_page()
    page.goto(elsewhere)
    script = f"""async () => {{
        const found = [];
        for (const path of ['/proxy.pac', '/']) {{
            try {{ found.push((await fetch('http://127.0.0.1:{port}' + path)).status); }} catch {{ found.push('error'); }}
        }}
        await new Promise(done => {{
            const script = document.createElement('script');
            script.onload = script.onerror = done;
            script.src = 'http://127.0.0.1:{port}/proxy.pac';
            document.head.append(script);
        }});
        return JSON.stringify([...found, typeof FindProxyForURL]);
    }}"""
    assert json.loads(page.evaluate(script)) == ["error", "error", "undefined"]
    page.close()
