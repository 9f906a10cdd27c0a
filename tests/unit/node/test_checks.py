"""Probes and hooks: successes, and the messages of failures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from hatchway.cluster.auth import pki
from hatchway.cluster.node import checkgrpc
from hatchway.cluster.node.checks import Checker
from hatchway.cluster.node.probes import Result
from hatchway.cluster.runtime import ContainerConfig, ContainerProcess, Exit, StartError


class FakeProcess:
    """Ends with a code, at once or never; writes to the given descriptor first."""

    pid = 1

    def __init__(self, code: int | None) -> None:
        self._code = code
        self.killed = False

    async def wait(self) -> Exit:
        if self._code is None:
            await asyncio.get_running_loop().create_future()
        return Exit(self._code or 0)

    def kill(self, signal: int) -> None:
        self.killed = True


def checker(execute: Callable[[ContainerConfig], ContainerProcess] | None = None, **ports: int) -> Checker:
    async def dial(ip: str, port: int, timeout: float) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, (ip, port)), timeout)
        except BaseException:
            sock.close()
            raise
        return sock

    async def run(argv: list[str], output: int) -> ContainerProcess:
        assert execute is not None
        return execute(ContainerConfig("c", argv, {}, output, output))

    return Checker(
        pod_ip="127.0.0.1",
        ports=ports,
        dial=dial,
        execute=run,
    )


@asynccontextmanager
async def http_server(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append(await reader.read(65536))
            writer.write(answer)
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", Result(True)),
        (b"HTTP/1.0 399 Fine\r\n\r\n", Result(True, "Probe terminated redirects, Response body: ", warning=True)),
        (b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", Result(True)),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", Result(False, "HTTP probe failed with statuscode: 101")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Result(True)),
        # Go uses the first 10 KiB of a body; it does not wait for the rest.
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"x" * 10240, Result(True)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", Result(False, "unexpected EOF", errored=True)),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", Result(True)),
        (b"HTTP/1.1 404 No\r\n\r\n", Result(False, "HTTP probe failed with statuscode: 404")),
        (b"SSH-2.0-OpenSSH\r\n\r\n", None),
        (b"", None),
        (b"HTTP/1.1 2x0\r\n\r\n", None),
    ],
)
async def test_http(answer: bytes, wanted: Result | None) -> None:
    async with http_server(answer) as (port, heads):
        handler = {
            "httpGet": {
                "path": "/ready now?x=1",
                "port": "web",
                "httpHeaders": [{"name": "Host", "value": "shop"}, {"name": "X", "value": "a\r\nEvil: 1"}],
            }
        }
        result = await checker(web=port).check(handler, 5)
    if wanted is None:
        assert not result.success and not result.errored
        assert result.message.startswith(f'Get "http://127.0.0.1:{port}/ready now?x=1": ')
    else:
        assert result == wanted
    assert heads[0].startswith(b"GET /ready%20now?x=1 HTTP/1.1\r\n")
    assert b"\r\nHost: shop\r\n" in heads[0] and b"Evil" not in heads[0]


@pytest.mark.parametrize(
    "endless",
    [
        b"0\r\nX: ",  # a trailer
        b"1;",  # a chunk's extension
        b"1\r\nx\r\n0\r\nX: y\r\nZ: ",
    ],
)
async def test_an_endless_answer_is_not_read_to_the_end(endless: bytes) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + endless)
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        result = await checker().check({"httpGet": {"port": server.sockets[0].getsockname()[1]}}, 60)
    assert not result.success and result.errored
    assert sent < 32 << 20  # at most the size of the sockets' buffers


async def test_certificates_of_probed_servers_are_not_verified(tmp_path: Path) -> None:
    authority = pki.ensure(tmp_path, cluster_name="t", node_names=["n"], node_ips=["127.0.0.2"], api_ips=())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.kubelet("n").cert, authority.kubelet("n").key)
    async with http_server(b"HTTP/1.1 200 OK\r\n\r\n", context) as (port, _):
        assert await checker().check({"httpGet": {"port": port, "scheme": "HTTPS"}}, 5) == Result(True)
        plain = await checker().check({"httpGet": {"port": port}}, 5)
        assert not plain.success


async def test_a_server_that_does_not_answer_causes_a_timeout() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        result = await checker().check({"httpGet": {"port": port}}, 0.05)
    assert not result.success and "context deadline exceeded" in result.message


async def test_tcp_and_refused_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert await checker().check({"tcpSocket": {"port": port}}, 5) == Result(True)
    refused = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    assert await checker().check({"tcpSocket": {"port": port}}, 5) == Result(False, refused)
    http = await checker().check({"httpGet": {"port": port}}, 5)
    assert http == Result(False, f'Get "http://127.0.0.1:{port}/": {refused}')
    assert await checker().check({"tcpSocket": {"port": "none"}}, 5) == Result(
        False, "couldn't find port: 'none'", errored=True
    )


async def test_exec() -> None:
    def run(code: int | None) -> Callable[[ContainerConfig], ContainerProcess]:
        def start(config: ContainerConfig) -> ContainerProcess:
            assert config.argv == ["check"]
            os.write(config.stdout, b"what it said\n")
            return FakeProcess(code)

        return start

    handler = {"exec": {"command": ["check"]}}
    assert await checker(run(0)).check(handler, 5) == Result(True, "what it said")
    assert await checker(run(2)).check(handler, 5) == Result(False, "what it said")
    late = await checker(run(None)).check(handler, 0.01)
    assert not late.success and "timed out" in late.message


async def test_an_exec_that_cannot_start_is_an_error_and_not_a_failure() -> None:
    def start(_: ContainerConfig) -> ContainerProcess:
        raise StartError("no such program")

    assert await checker(start).check({"exec": {"command": ["x"]}}, 5) == Result(False, "no such program", errored=True)


@asynccontextmanager
async def site(pages: dict[str, tuple[int, str]]) -> AsyncIterator[tuple[int, list[str]]]:
    """A server of redirects: path to (status, Location)."""
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        status, location = pages.get(head.split()[1], (404, ""))
        target = f"Location: {location.format(port=port)}\r\n" if location else ""
        writer.write(f"HTTP/1.1 {status} X\r\n{target}Content-Length: 4\r\n\r\nbody".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield port, heads


async def test_redirects_are_followed_on_the_same_host_only() -> None:
    pages = {
        "/": (302, "/up?x=1"),
        "/up?x=1": (307, "http://127.0.0.1:{port}/fine"),
        "/fine": (200, ""),
        "/broken": (301, "/gone"),
        "/gone": (503, ""),
        "/away": (302, "http://127.0.0.2:{port}/fine"),
        "/loop": (302, "/loop"),
        "/nowhere": (302, ""),
        "/odd": (302, "ftp://127.0.0.1/x"),
        "/unchanged": (304, ""),
    }
    stopped = "stopped after 10 redirects"
    ended = Result(True, "Probe terminated redirects, Response body: body", warning=True)
    async with site(pages) as (port, heads):

        async def ask(path: str) -> Result:
            fields = [{"name": "Host", "value": "shop"}, {"name": "X-Token", "value": "t"}]
            return await checker().check({"httpGet": {"port": port, "path": path, "httpHeaders": fields}}, 5)

        assert await ask("/") == Result(True)
        assert [head.split("\r\n")[:2] for head in heads] == [
            ["GET / HTTP/1.1", "Host: shop"],
            ["GET /up?x=1 HTTP/1.1", "Host: shop"],
            # The second redirect names a host, so the Host field is the host of that URL.
            ["GET /fine HTTP/1.1", f"Host: 127.0.0.1:{port}"],
        ]
        assert all("X-Token: t" in head for head in heads)
        assert f"Referer: http://127.0.0.1:{port}/\r\n" in heads[1]
        assert await ask("/broken") == Result(False, "HTTP probe failed with statuscode: 503")
        heads.clear()
        assert await ask("/away") == ended and len(heads) == 1
        assert await ask("/nowhere") == ended
        assert (await ask("/unchanged")).warning
        assert await ask("/loop") == Result(False, f'Get "http://127.0.0.1:{port}/loop": {stopped}')
        assert 'unsupported protocol scheme "ftp"' in (await ask("/odd")).message


async def test_an_incomplete_body_causes_a_timeout() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        handler = {"httpGet": {"port": server.sockets[0].getsockname()[1]}}
        result = await checker().check(handler, 0.5)
        assert result.errored and "while reading body" in result.message
        # A hook accepts any answer.
        assert await checker().run_hook(handler, 0.5) == Result(True)


async def test_hooks_accept_any_answer_and_fall_back_to_plain_http() -> None:
    async with http_server(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n") as (port, heads):
        assert await checker().run_hook({"httpGet": {"port": port}}, 5) == Result(True)
        assert await checker().run_hook({"httpGet": {"port": port, "scheme": "HTTPS"}}, 5) == Result(True)
        assert heads[-1].startswith(b"GET / HTTP/1.1\r\n")
    assert not (await checker().run_hook({"httpGet": {"port": port}}, 5)).success
    assert not (await checker().run_hook({"tcpSocket": {"port": port}}, 5)).success
    assert await checker().run_hook({"sleep": {"seconds": 0}}, 5) == Result(True)


@asynccontextmanager
async def health_server(
    answer: Callable[[H2Connection, int, bytes], None] | None = None,
) -> AsyncIterator[tuple[int, list[dict[str, str]]]]:
    """An HTTP/2 server that hands each call to `answer`."""
    calls: list[dict[str, str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        h2.initiate_connection()
        writer.write(h2.data_to_send())
        body = b""
        while data := await reader.read(65536):
            for event in h2.receive_data(data):
                if isinstance(event, RequestReceived):
                    calls.append({str(name): str(value) for name, value in event.headers})
                elif isinstance(event, DataReceived):
                    body += event.data
                elif isinstance(event, StreamEnded) and answer is not None:
                    answer(h2, event.stream_id, body)
            writer.write(h2.data_to_send())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], calls


def status_of(statuses: dict[bytes, int]) -> Callable[[H2Connection, int, bytes], None]:
    def answer(h2: H2Connection, stream: int, body: bytes) -> None:
        message = body[5:]
        service = message[2:] if message else b""
        if service not in statuses:
            failed = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "5")]
            h2.send_headers(stream, [*failed, ("grpc-message", "unknown%20service")], end_stream=True)
            return
        h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        h2.send_data(stream, b"\0\0\0\0\x02\x08" + bytes([statuses[service]]))
        h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)

    return answer


async def test_grpc_requests_the_health_of_a_service() -> None:
    async with health_server(status_of({b"": 1, b"shop": 1, b"bank": 2, b"odd": 9})) as (port, calls):

        async def ask(service: str | None = None) -> Result:
            return await checker().check({"grpc": {"port": port, **({"service": service} if service else {})}}, 5)

        assert await ask() == Result(True)
        assert await ask("shop") == Result(True)
        assert await ask("bank") == Result(False, 'service unhealthy (responded with "NOT_SERVING")')
        assert await ask("odd") == Result(False, 'service unhealthy (responded with "9")')
        unknown = "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"
        assert await ask("none") == Result(False, unknown)
    assert calls[0][":path"] == "/grpc.health.v1.Health/Check" and calls[0]["te"] == "trailers"
    assert calls[0]["content-type"] == "application/grpc" and calls[0]["user-agent"].startswith("kube-probe/1.")


def _unimplemented(h2: H2Connection, stream: int, _: bytes) -> None:
    fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")]
    h2.send_headers(stream, [*fields, ("grpc-message", "unknown service grpc.health.v1.Health")], end_stream=True)


def _no_grpc(h2: H2Connection, stream: int, _: bytes) -> None:
    h2.send_headers(stream, [(":status", "404"), ("content-type", "text/plain")], end_stream=True)


def _reset(h2: H2Connection, stream: int, _: bytes) -> None:
    h2.reset_stream(stream, 2)


def _cut_short(h2: H2Connection, stream: int, _: bytes) -> None:
    h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
    h2.send_data(stream, b"\0\0\0\0\x02\x08", end_stream=False)
    h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (_unimplemented, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "),
        (
            _no_grpc,
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unexpected",
        ),
        (_reset, "error: health rpc probe failed: rpc error: code = Internal desc = "),
        (_cut_short, "error: health rpc probe failed: rpc error: code = Internal desc = "),
    ],
)
async def test_grpc_reports_errors(answer: Callable[[H2Connection, int, bytes], None], wanted: str) -> None:
    async with health_server(answer) as (port, _):
        result = await checker().check({"grpc": {"port": port}}, 5)
    assert not result.success and result.message.startswith(wanted)


async def test_grpc_has_a_timeout() -> None:
    async with health_server() as (port, calls):
        late = await checker().check({"grpc": {"port": port}}, 0.5)
        assert late == Result(False, "timeout: health rpc did not complete within 0.5s") and calls
    connect = f'timeout: failed to connect service "127.0.0.1:{port}" within 0.1s: context deadline exceeded'
    assert await checker().check({"grpc": {"port": port}}, 0.1) == Result(False, connect)
    # A web server that answers 200 does not count as a gRPC server.
    async with http_server(b"HTTP/1.1 200 OK\r\n\r\n") as (port, _):
        result = await checker().check({"grpc": {"port": port}}, 0.1)
        assert result.message.startswith("timeout: failed to connect service")


def test_protobuf_of_health() -> None:
    assert checkgrpc.encode_request("") == b""
    long = "s" * 200
    assert checkgrpc.encode_request(long) == b"\x0a\xc8\x01" + long.encode()
    assert checkgrpc.decode_response(b"") == 0
    # Unknown fields of every kind are ignored.
    assert checkgrpc.decode_response(b"\x12\x01a\x19" + bytes(8) + b"\x25" + bytes(4) + b"\x08\x01") == 1
    for broken in (b"\x08", b"\x12\x05a", b"\x0b", b"\x19\0", b"\xff" * 12):
        with pytest.raises(checkgrpc.CallError):
            checkgrpc.decode_response(broken)
