"""Ports that speak TLS without declaring it, and ports that only declare TLS, behind a kube-apiserver."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from hatchway.target import Target
from tests.conformance.cluster import endpoint
from tests.conformance.tls import self_signed
from tests.integration.door.kubernetes import Front, front

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TARGET = Target("services", "app", "shop")


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request; `/drop` closes the connection; invalid HTTP gets a 400, as from Python's servers."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        while line := await reader.readline():
            if b" HTTP/1." not in line:
                writer.write(b"<html>Bad request syntax</html>")
                break
            await reader.readuntil(b"\r\n\r\n") if line != b"\r\n" else None
            if b"/drop" in line:
                break
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
    writer.close()


class Application:
    """A port whose server can be replaced."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self, handler: Handler = http, *, tls: bool = False) -> None:
        await self.stop()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.add(writer)
            await handler(reader, writer)

        self._server = await asyncio.start_server(serve, "127.0.0.1", self.port, ssl=self._context if tls else None)
        self.port = self._server.sockets[0].getsockname()[1]

    async def start_closing(self, greeting: bytes, *, reset: bool = False) -> None:
        """Start a server with TLS. It sends `greeting` to clients without TLS, and closes the connection."""
        tls = Application(self._context)
        await tls.start(tls=True)
        inner = tls.port

        async def sniff(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            first = await reader.read(1)
            if first != b"\x16":
                writer.write(greeting)
                if reset:
                    writer.transport.abort()
                writer.close()
                return
            there = await asyncio.open_connection("127.0.0.1", inner)
            there[1].write(first)
            with contextlib.suppress(OSError):
                async with asyncio.TaskGroup() as group:
                    group.create_task(_copy(reader, there[1]))
                    group.create_task(_copy(there[0], writer))

        await self.start(sniff)
        self._inner = tls

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        while self._writers:
            self._writers.pop().transport.abort()
        inner = self.__dict__.pop("_inner", None)
        if inner is not None:
            await inner.stop()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Front]:
    async with front(tmp_path) as found:
        yield found


@pytest.fixture
async def application(tmp_path: Path) -> AsyncIterator[Application]:
    certificate, key = self_signed(tmp_path, ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    found = Application(context)
    yield found
    await found.stop()


def add(made: Front, number: int, **described: object) -> None:
    """Add a Service and a pod on a port."""
    cluster = made.kubernetes.cluster
    service = {"name": "main", "port": 8080, "targetPort": number, "protocol": "TCP", **described}
    cluster.add_pod("shop", "app-1", "127.0.0.1", {"containerPort": number})
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    cluster.objects["pods", "shop", "app-1"]["status"] |= {"phase": "Running", **ready}
    cluster.add_service("shop", "app", service)
    found = [endpoint("127.0.0.1", "app-1", "shop")]
    cluster.add_slice("shop", "app", [{"name": service["name"], "port": number, "protocol": "TCP"}], found)


def asked(made: Front) -> list[str]:
    """Return how the requests to the proxy verb since the last call have named the target."""
    found = [head.path.decode().split("/services/")[1].split("/proxy")[0] for head in made.kubernetes.seen]
    made.kubernetes.seen.clear()
    return found


ALERT = b"\x15\x03\x03\x00\x02\x02\x46"
GO = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
NGINX = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
    b"<center>The plain HTTP request was sent to HTTPS port</center>"
)


@pytest.mark.parametrize("greeting", [b"", b"reset", ALERT, GO, NGINX], ids=["close", "reset", "alert", "go", "nginx"])
@pytest.mark.parametrize("page", [True, False], ids=["page", "tool"])
async def test_tls_that_is_not_declared_is_found_and_remembered(
    made: Front, application: Application, greeting: bytes, page: bool
) -> None:
    await application.start_closing(b"" if greeting == b"reset" else greeting, reset=greeting == b"reset")
    add(made, application.port)
    answer = await made.ask("app.shop.svc", page=page)
    assert (answer.status, answer.body) == (200, b"hello")
    assert asked(made) == ["app:main", "https:app:main"]
    assert (await made.ask("app.shop.svc", "/again", page=page)).status == 200
    assert asked(made) == ["https:app:main"]


async def test_a_change_of_the_scheme_is_found(made: Front, application: Application) -> None:
    await application.start()
    add(made, application.port)
    for tls, spelled in (
        (False, ["app:main"]),
        (True, ["app:main", "https:app:main"]),
        (False, ["https:app:main", "http:app:main"]),
    ):
        await application.start(tls=tls)
        assert (await made.ask("app.shop.svc")).status == 200
        assert asked(made) == spelled
        assert (await made.ask("app.shop.svc")).status == 200
        assert asked(made) == spelled[-1:]


@pytest.mark.parametrize("described", [{"name": "https"}, {"appProtocol": "https"}, {"port": 8443}])
async def test_a_plain_port_that_is_called_https(
    made: Front, application: Application, described: dict[str, object]
) -> None:
    await application.start()
    add(made, application.port, **described)
    assert (await made.ask("app.shop.svc")).body == b"hello"
    assert len(asked(made)) == 2
    assert (await made.ask("app.shop.svc")).body == b"hello"
    assert len(asked(made)) == 1


async def test_a_connection_that_breaks_once_does_not_change_the_scheme(made: Front, application: Application) -> None:
    await application.start()
    add(made, application.port)
    assert (await made.ask("app.shop.svc")).status == 200
    for _ in range(2):
        page = await made.ask("app.shop.svc", "/drop")
        assert (page.status, page.problem) == (503, "closed")
        assert "by HTTP and by HTTPS: EOF" in page.text
        assert (await made.ask("app.shop.svc")).status == 200
    # The other scheme was tried once, and not used afterwards.
    assert asked(made).count("https:app:main") == 1
    tool = await made.ask("app.shop.svc", "/drop", page=False)
    assert (tool.status, tool.problem) == (503, "") and b"error trying to reach service: EOF" in tool.body


async def test_a_request_that_may_have_had_an_effect_is_not_repeated(made: Front, application: Application) -> None:
    await application.start()
    add(made, application.port)
    assert (await made.ask("app.shop.svc", "/drop", "POST", body=b"x=1")).status == 503
    assert (await made.ask("app.shop.svc", "/drop", "POST")).status == 503
    assert asked(made) == ["app:main", "app:main"]


async def test_a_scheme_in_the_host_name_is_not_replaced(made: Front, application: Application) -> None:
    await application.start_closing(b"")
    add(made, application.port)
    page = await made.ask("http.main.app.shop.svc")
    assert (page.status, page.problem) == (503, "closed")
    assert f'href="http://https.main.app.shop.svc.localhost:{made.port}/"' in page.text
    assert asked(made) == ["http:app:main"]
    prefix = await made.ask("prefix", "/api/v1/namespaces/shop/services/app:main/proxy/")
    assert prefix.problem == "closed" and "https.main.app.shop.svc.localhost" in prefix.text
    await application.start()
    page = await made.ask("https.main.app.shop.svc")
    assert (page.problem, "http.main.app.shop.svc.localhost" in page.text) == ("no-tls", True)


@pytest.mark.parametrize(
    ("message", "problem", "words"),
    [
        # The messages of Kubernetes 1.36 and Go.
        (
            'net/http: HTTP/1.x transport connection broken: malformed HTTP response "SSH-2.0-OpenSSH_9.2"',
            "no-http",
            "does not speak HTTP",
        ),
        (
            'net/http: HTTP/1.x transport connection broken: malformed HTTP response "\\x15\\x03\\x01\\x00\\x02"',
            "speaks-tls",
            "client certificate",
        ),
        ("remote error: tls: certificate required", "tls-refused", "client certificate"),
        ("remote error: tls: handshake failure", "tls-refused", "does not accept"),
        ("EOF", "closed", "HTTP and by HTTPS"),
        ("read tcp 10.0.0.1:5->10.0.0.2:80: read: connection reset by peer", "closed", "HTTP and by HTTPS"),
        ("dial tcp 10.0.0.2:80: connect: connection refused", "dial-refused", "10.0.0.2:80"),
        ("dial tcp 10.0.0.2:80: i/o timeout", "time-out", "i/o timeout"),
    ],
)  # fmt: skip
async def test_pages_for_error_messages_of_go(made: Front, message: str, problem: str, words: str) -> None:
    add(made, 1)
    made.kubernetes.says["services", "app"] = (503, f"error trying to reach service: {message}")
    page = await made.ask("app.shop.svc")
    assert (page.status in (503, 504), page.problem) == (True, problem)
    assert words in page.text
    assert ("Nothing listens" in page.text) == (problem == "dial-refused")


async def test_an_upgrade_also_finds_tls(made: Front, application: Application) -> None:
    """kube-apiserver has other messages for failures of upgrades, without its usual prefix."""

    async def websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"Upgrade" in head:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi")
        await writer.drain()
        writer.close()

    await application.start(websocket, tls=True)
    add(made, application.port)
    host = f"app.shop.svc.localhost:{made.port}"
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    lines = ["GET /ws HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket", "", ""]
    writer.write("\r\n".join(lines).encode())
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 101 ") and answer.endswith(b"hi")
    assert asked(made) == ["app:main", "https:app:main"]


async def test_the_api_server_never_gets_deflate_as_an_accepted_coding(made: Front, application: Application) -> None:
    await application.start()
    add(made, application.port)
    for sent, passed in (
        ("gzip, deflate, br, zstd", b"gzip"),
        ("deflate", b"identity"),
        ("x-gzip;q=1, *", b"identity"),
    ):
        made.kubernetes.seen.clear()
        await made.ask("app.shop.svc", Accept_Encoding=sent)
        assert made.kubernetes.seen[-1].header(b"accept-encoding") == passed
