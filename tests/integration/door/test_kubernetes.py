"""The door in front of a Kubernetes API server: what its proxy verb loses, and how the door corrects that.

The embedded API server takes its place, behind a proxy that removes Hatchway's own fields and demands Kubernetes'
rewriting.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from websockets.sync.client import connect

from bench.peers import make_certificate
from hatchway.proxy.routing import Decision, Forward, RequestHead, Respond, Upstream
from hatchway.proxy.server import serve
from tests.conftest import Cluster
from tests.door import Door, door_of
from tests.integration.door.asking import HTML, ask, fields

Seen = list[list[tuple[bytes, bytes]]]


@pytest.fixture(scope="module")
def seen() -> Seen:
    """Return a list to which the header fields of each request to the API server are added."""
    return []


@pytest.fixture(scope="module")
def server(cluster: Cluster, seen: Seen, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Run the proxy; yield its port and its certificate."""
    certificate, key = make_certificate(tmp_path_factory.mktemp("kubernetes"))
    url = urlsplit(cluster.server)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(certificate, key)
    loop = asyncio.new_event_loop()

    async def dial() -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (url.hostname, url.port))
        return sock

    upstream = Upstream("api", dial, ssl.create_default_context(cafile=str(cluster.ca)), url.hostname)

    def refuse(error: object) -> Respond:
        return Respond(502, [], str(error).encode())

    def route(head: RequestHead) -> Decision:
        if head.path == b"/version":
            return Respond(200, [(b"Content-Type", b"application/json")], b'{"gitVersion": "v1.33.1"}')
        seen.append(head.headers)
        headers = [field for field in head.headers if not field[0].lower().startswith(b"x-hatchway-")]
        return Forward(upstream, head.target, [*headers, (b"X-Hatchway-Rewrite", b"kubernetes")], refuse)

    started = loop.run_until_complete(serve(route, host="127.0.0.1", port=0, ssl=own))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield started.port, certificate
    asyncio.run_coroutine_threadsafe(started.close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def door(cluster: Cluster, namespace: str, server: tuple[int, Path]) -> Iterator[Door]:
    port, certificate = server
    kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
    authority = base64.b64encode(certificate.read_bytes()).decode()
    kubeconfig["clusters"][0]["cluster"] = {
        "server": f"https://127.0.0.1:{port}",
        "certificate-authority-data": authority,
    }
    kubeconfig["users"][0]["user"] = {"token": cluster.token()}
    own = cluster.base / "kubernetes"
    own.touch(mode=0o600)
    own.write_text(yaml.safe_dump(kubeconfig))
    with door_of(cluster, "--via=api", "--kubeconfig", str(own)) as found:
        yield found


def test_rewritten_pages_are_as_the_application_wrote_them(door: Door) -> None:
    plain = ask(door, "app.door.svc", "/page", **HTML)
    assert b'href="/here"' in plain.body and b"/proxy" not in plain.body
    coded = ask(door, "app.door.svc", "/page", **HTML, Accept_Encoding="gzip, br, zstd;q=0.5")
    assert (coded.status, coded.headers["Content-Encoding"]) == (200, None)
    assert coded.body == plain.body


def test_redirects_lead_to_plain_paths(door: Door) -> None:
    outer = f"http://app.door.svc.localhost:{door.port}"
    for location, expected in (("/login", "/login"), ("http://HOST/login", f"{outer}/login")):
        assert ask(door, "app.door.svc", f"/to?{location}").headers["Location"] == expected


def test_only_gzip_is_asked_for_at_the_api_server(door: Door, seen: Seen) -> None:
    seen.clear()
    ask(door, "app.door.svc", "/headers", Accept_Encoding="gzip, br, zstd;q=0.5, deflate")
    ask(door, "app.door.svc", "/headers?", Accept_Encoding="br")
    asked = [value for headers in seen for name, value in headers if name == b"Accept-Encoding"]
    assert asked == [b"gzip", b"identity"]


def test_hatchways_own_fields_are_not_sent(door: Door, seen: Seen) -> None:
    seen.clear()
    ask(door, "app.door.svc", "/headers", Authorization="Basic eDp5")
    assert not [name for headers in seen for name, _ in headers if name.lower().startswith(b"x-hatchway-")]


def test_a_password_that_cannot_arrive_is_explained(door: Door) -> None:
    # The first answer is a 401, so that the browser asks for a password.
    assert ask(door, "app.door.svc", "/secret", **HTML).status == 401
    credentials = base64.b64encode(b"ada:lovelace").decode()
    page = ask(door, "app.door.svc", "/secret", **HTML, Authorization=f"Basic {credentials}")
    assert (page.status, page.headers["X-Hatchway-Problem"]) == (502, "needs-forward")
    assert "Authorization" in page.text


def test_host_and_websockets(door: Door) -> None:
    host = f"app.door.svc.localhost:{door.port}"
    assert fields(ask(door, "app.door.svc", "/headers"))["host"] == host
    with (
        socket.create_connection(("127.0.0.1", door.port)) as sock,
        connect(f"ws://{host}/ws", sock=sock, origin=f"http://{host}") as ws,  # type: ignore[arg-type]
    ):
        assert f"http://{host}" in str(ws.recv())
        ws.send("hello")
        assert ws.recv() == "hello"


def test_errors_of_the_api_server_are_pages(door: Door) -> None:
    page = ask(door, "nobody.door.svc", **HTML)
    assert (page.status, page.headers["X-Hatchway-Problem"]) == (503, "no-endpoints")


def test_the_prefix_host_does_more_than_the_api_server(door: Door) -> None:
    prefix = "/api/v1/namespaces/door/services/app/proxy"
    page = ask(door, "prefix", f"{prefix}/page", **HTML, Sec_Fetch_Dest="document", Sec_Fetch_Site="none")
    assert page.body.count(f'href="{prefix}/here"'.encode()) == 1
    # The page has the script that adds the prefix to addresses that scripts make.
    assert b"__hatchway" in page.body
