"""The door over port-forward: header fields arrive that a kube-apiserver's proxy removes; refusals are explained."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.conftest import BIN
from tests.integration.forward.pretend import PretendCluster
from tests.integration.proxy.conftest import Authority

Application = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request with its head, and an upgrade with the bytes that follow."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b"upgrade: websocket" in head.lower():
                line = head.partition(b"\r\n")[0]
                writer.write(
                    b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Line: " + line + b"\r\n\r\n"
                )
                writer.write(await reader.readexactly(4))
                break
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head)
            )
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def _cluster(application: Application = echo, tls: ssl.SSLContext | None = None) -> AsyncIterator[PretendCluster]:
    async with PretendCluster() as found:
        server = await asyncio.start_server(application, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        await found.world.add_pod("a")
        await found.add_service("web", "a", port)
        try:
            yield found
        finally:
            server.close()


@contextlib.asynccontextmanager
async def _door(cluster: PretendCluster, tmp_path: Path, *options: str) -> AsyncIterator[int]:
    kubeconfig = cluster.write_kubeconfig(tmp_path / "config")
    process = await asyncio.create_subprocess_exec(
        BIN / "hatchway", "proxy", "--port=0", "--kubeconfig", kubeconfig, *options, stdout=-1, stderr=-1
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        yield int(line.rpartition(b":")[2])
    finally:
        process.terminate()
        async with asyncio.timeout(20):
            _, errors = await process.communicate()
        assert not errors, errors.decode()


async def _send(port: int, request: bytes, *fields: str, body: bytes = b"") -> tuple[bytes, bytes]:
    """Send a request; return the head and the body of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = "".join(f"{field}\r\n" for field in (f"Host: web.shop.svc.localhost:{port}", *fields))
    writer.write(request + b" HTTP/1.1\r\n" + lines.encode() + b"\r\n" + body)
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
        if b"content-length: " in head.lower():
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(size)
        else:
            answer = await reader.read()
    writer.close()
    return head, answer


@pytest.fixture(scope="session")
def server_tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return Authority(tmp_path_factory.mktemp("tls") / "app").server()


@pytest.mark.parametrize("via", ["auto", "forward"])
async def test_authorization_methods_and_paths_arrive_as_they_are(tmp_path: Path, via: str) -> None:
    async with _cluster() as cluster, _door(cluster, tmp_path, f"--via={via}") as port:
        basic = "Basic " + base64.b64encode(b"jane:secret").decode()
        head, seen = await _send(port, b"PROPFIND /a%2Fb/!?x=%20y", f"Authorization: {basic}", "Accept-Encoding: br")
        assert head.startswith(b"HTTP/1.1 200 "), seen
        assert seen.startswith(b"PROPFIND /a%2Fb/!?x=%20y HTTP/1.1\r\n")
        assert f"\r\nAuthorization: {basic}\r\n".encode() in seen and b"\r\nAccept-Encoding: br\r\n" in seen
        assert b"Bearer" not in seen
        assert [path for _, path, _ in cluster.requests] == ["/api/v1/namespaces/shop/pods/a/portforward"]


async def test_a_websocket_with_a_query(tmp_path: Path) -> None:
    async with _cluster() as cluster, _door(cluster, tmp_path) as port:
        fields = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")
        head, answer = await _send(port, b"GET /ws?token=1", *fields, body=b"ping")
        assert head.startswith(b"HTTP/1.1 101 ") and b"X-Line: GET /ws?token=1 HTTP/1.1" in head
        assert answer == b"ping"


async def test_many_requests_share_one_session(tmp_path: Path) -> None:
    async with _cluster() as cluster, _door(cluster, tmp_path) as port:
        await _send(port, b"GET /")
        answers = await asyncio.gather(*(_send(port, b"GET /%d" % number) for number in range(50)))
        assert all(seen.startswith(b"GET /%d " % number) for number, (_, seen) in enumerate(answers))
        assert len(cluster.requests) == 1


async def test_an_application_that_speaks_tls_is_found_out(tmp_path: Path, server_tls: ssl.SSLContext) -> None:
    async with _cluster(tls=server_tls) as cluster, _door(cluster, tmp_path) as port:
        for _ in range(2):
            head, seen = await _send(port, b"GET /")
            assert head.startswith(b"HTTP/1.1 200 ") and seen.startswith(b"GET / "), seen


async def test_without_the_right_the_proxy_verb_is_used_or_the_rule_is_shown(tmp_path: Path) -> None:
    async with _cluster() as cluster:
        cluster.world.client.denied.add(("create", "pods/portforward"))
        async with _door(cluster, tmp_path, "--via=forward") as port:
            head, body = await _send(port, b"GET /")
            assert head.startswith(b"HTTP/1.1 403 ") and b"pods/portforward" in body
            rule = {cause["reason"]: cause["message"] for cause in json.loads(body)["details"]["causes"]}["MissingRule"]
            assert "pods/portforward" in rule
        async with _door(cluster, tmp_path) as port:
            await _send(port, b"GET /")
        assert not cluster.requests
        assert any("/services/web:http/proxy/" in path for path in cluster.others)


async def test_error_pages_over_port_forward(tmp_path: Path) -> None:
    async with _cluster() as cluster, _door(cluster, tmp_path, "--via=forward") as port:

        async def problem(request: bytes = b"GET /") -> tuple[str, str]:
            head, body = await _send(port, request)
            kind = head.lower().partition(b"x-hatchway-problem: ")[2].partition(b"\r\n")[0].decode()
            return kind, json.loads(body)["message"]

        await cluster.world.set_endpoints(not_ready=("a",))
        kind, message = await problem()
        assert kind == "no-endpoints", message
        await cluster.world.set_endpoints("a")
        kind, message = await problem()
        assert (kind, "8080" in message) == ("dial-refused", True), message
