"""The proxy with real sockets, and a route to servers on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hatchway.errors import HatchwayError
from hatchway.proxy.routing import RequestHead, Respond, Upstream
from hatchway.proxy.server import Server, serve
from hatchway.route.contract import TargetUnreached, Unreached
from hatchway.socks.child import run_child
from hatchway.socks.listener import ProxyListener
from hatchway.socks.outside import connect_outside
from hatchway.socks.resolver import HostResolver
from hatchway.target import Target
from tests.unit.fake_client import FakeClient
from tests.unit.socks.test_resolver import service


class LocalRoute:
    """Connects targets to servers on this machine. ports: name of the target -> port; 0 to refuse the connection."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}
        self.connected: list[Target] = []

    async def connect(self, target: Target, patience: float = 0.0) -> asyncio.Transport:
        self.connected.append(target)
        port = self.ports[target.name]
        if not port:
            raise TargetUnreached(Unreached.REFUSED, f"{target} refuses")
        return (await connect_outside("127.0.0.1", port)).transport

    def route_to(self, target: Target) -> Any:
        return SimpleNamespace(upstream=Upstream(("local", target), lambda: self.connect(target)))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read until the client ends its data, then send everything back."""
    writer.write(await reader.read())
    with contextlib.suppress(ConnectionError):
        await writer.drain()
    writer.close()


def described(head: RequestHead) -> Respond:
    fields = {name.decode().lower(): value.decode() for name, value in head.headers}
    body = json.dumps({"target": head.target.decode(), **fields}).encode()
    return Respond(200, [(b"Content-Type", b"application/json")], body)


class World:
    """A proxy, and the Services `web`, `other` (HTTP), `echo` and `closed` (which refuses) in the namespace `shop`."""

    def __init__(self, *, allow_outside: bool = False) -> None:
        self.route = LocalRoute()
        self.told: list[tuple[str, str]] = []
        client = FakeClient()
        for index, name in enumerate(("web", "other", "echo", "closed")):
            client.objects["services", "shop", name] = service(name, "shop", f"10.96.0.{index + 1}")
        connection: Any = SimpleNamespace(client=client, identity=("s", "c", "u", ""), namespace="shop")
        self.listener = ProxyListener(
            cast(Any, self.route),
            HostResolver(connection),
            lambda host, error: self.told.append((host, error.message)),
            allow_outside=allow_outside,
        )
        self.web: Server
        self._echo: asyncio.Server

    async def open(self) -> None:
        self.web = await serve(described, host="127.0.0.1", port=0)
        self._echo = await asyncio.start_server(echo, "127.0.0.1", 0)
        echo_port = self._echo.sockets[0].getsockname()[1]
        self.route.ports = {"web": self.web.port, "other": self.web.port, "echo": echo_port, "closed": 0}
        await self.listener.open(0)

    async def aclose(self) -> None:
        await self.listener.aclose()
        await self.web.close()
        self._echo.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.listener.port)

    async def ask(self, data: bytes, *, end: bool = False) -> bytes:
        """Send bytes on a new connection; return all received data."""
        reader, writer = await self.connect()
        writer.write(data)
        if end:
            writer.write_eof()
        found = await reader.read()
        writer.close()
        return found


@pytest.fixture
async def world() -> AsyncIterator[World]:
    found = World()
    await found.open()
    yield found
    await found.aclose()


def socks(host: str, port: int = 80) -> bytes:
    return b"\x05\x01\x00\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big")


async def test_bytes_pass_both_ways_and_each_direction_ends_by_itself(world: World) -> None:
    sent = bytes(range(256)) * 20_000
    found = await world.ask(socks("echo.shop") + sent, end=True)
    assert found == b"\x05\x00" + b"\x05\x00\x00\x01\0\0\0\0\0\0" + sent
    assert world.route.connected == [Target("services", "echo", "shop", "", "80")]


async def test_connect(world: World) -> None:
    found = await world.ask(b"CONNECT echo.shop.svc:80 HTTP/1.1\r\nHost: echo.shop.svc:80\r\n\r\nhello", end=True)
    assert found == b"HTTP/1.1 200 Connection established\r\n\r\nhello"


async def test_socks_4a(world: World) -> None:
    found = await world.ask(b"\x04\x01\x00\x50\x00\x00\x00\x01me\x00echo.shop\x00hello", end=True)
    assert found == b"\x00\x5a" + bytes(6) + b"hello"


@pytest.mark.parametrize(
    ("host", "reply", "message"),
    [
        ("pypi.org", 2, "pypi.org is no service or pod of this cluster"),
        ("127.0.0.1", 2, "127.0.0.1 is no service or pod of this cluster"),
        ("closed.shop", 5, "svc/closed:80 in namespace shop refuses"),
    ],
)
async def test_refusals_say_why(world: World, host: str, reply: int, message: str) -> None:
    assert (await world.ask(socks(host)))[:4] == bytes([5, 0, 5, reply])
    answer = await world.ask(f"CONNECT {host}:80 HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 " if reply == 2 else b"HTTP/1.1 502 ")
    assert message.encode() in answer
    assert world.told == [(f"{host}:80", message)] * 2


async def test_the_error_of_a_mistyped_name_proposes_a_similar_one() -> None:
    hints: list[str] = []
    client = FakeClient()
    client.objects["services", "shop", "web"] = service("web", "shop", "10.96.0.1")
    client.objects["namespaces", "", "shop"] = {"metadata": {"name": "shop"}}
    connection: Any = SimpleNamespace(client=client, identity=("s", "c", "u", ""), namespace="shop")
    for host, hint in (("wbe", "did you mean web?"), ("web.shpo", "did you mean web.shop?"), ("pypi.org", "")):
        # A new resolver, because a resolver searches for similar names only once a second.
        resolver = HostResolver(connection)
        listener = ProxyListener(
            cast(Any, LocalRoute()), resolver, lambda _, error: hints.append(cast(HatchwayError, error).hint)
        )
        await listener.open(0)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(socks(host))
        await reader.read()
        writer.close()
        assert hints.pop() == hint
        assert await resolver.suggest("wbe") == ""
        await listener.aclose()


async def test_hosts_outside_are_reached_only_if_allowed() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 at once\r\n")
        writer.close()

    outside = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = outside.sockets[0].getsockname()[1]
    for allowed in (False, True):
        world = World(allow_outside=allowed)
        await world.open()
        found = await world.ask(socks("localhost", port))
        assert found.endswith(b"220 at once\r\n") == allowed
        assert found[3] == (0 if allowed else 2)
        web = await world.ask(
            f"GET http://127.0.0.1:{world.web.port}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        assert web.startswith(b"HTTP/1.1 200 " if allowed else b"HTTP/1.1 403 ")
        await world.aclose()
    outside.close()


async def test_each_request_on_a_connection_goes_to_its_own_host(world: World) -> None:
    reader, writer = await world.connect()
    for host in ("web.shop", "other.shop"):
        writer.write(
            f"GET http://{host}/a?b HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic x\r\nCookie: {host}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        found = json.loads(await reader.readexactly(length))
        assert (found["host"], found["target"], found["cookie"]) == (host, "/a?b", host)
        assert "proxy-authorization" not in found
    writer.close()
    assert [target.name for target in world.route.connected] == ["web", "other"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.example", 403),
        ("null", 403),
        ("http://web.shop", 200),
        ("http://other.shop.svc", 200),
        ("http://other.shop.svc.cluster.local", 200),
        ("https://other.shop", 403),  # .shop is also a top-level domain of the Internet.
        ("http://evil.example@web.shop", 403),
        ("http://localhost:3000", 200),
    ],
)
async def test_requests_by_pages_of_other_sites_are_refused(world: World, origin: str, status: int) -> None:
    head = f"POST http://web.shop/ HTTP/1.1\r\nHost: web.shop\r\nOrigin: {origin}\r\nConnection: close\r\n"
    answer = await world.ask(f"{head}Content-Length: 0\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def tunneled(kind: str, host: str) -> tuple[bytes, bytes]:
    """Return the request for a tunnel to a host, and the proxy's answer. kind: "connect" or "socks"."""
    if kind == "connect":
        return f"CONNECT {host}:80 HTTP/1.1\r\n\r\n".encode(), b"HTTP/1.1 200 Connection established\r\n\r\n"
    return socks(host), b"\x05\x00" + b"\x05\x00\x00\x01" + bytes(6)


@pytest.mark.parametrize("kind", ["connect", "socks"])
@pytest.mark.parametrize(
    ("host", "fields", "status"),
    [
        ("web.shop", "Host: web.shop", 200),
        ("web.shop", "Host: shop.example.com", 200),  # This is the application's host name outside of the cluster.
        ("web.shop", "Host: web.shop\r\nOrigin: http://web.shop", 200),
        ("web.shop", "Host: web.shop\r\nOrigin: http://other.shop.svc", 200),
        ("web.shop", "Host: web.shop\r\nOrigin: http://localhost:3000", 200),
        ("web.shop", "Host: web.shop\r\nOrigin: http://evil.example", 403),
        ("web.shop", "Host: web.shop\r\nOrigin: null", 403),
        ("10.96.0.1", "Host: 10.96.0.1", 200),
        ("10.96.0.1", "Host: web.shop.svc", 200),
        ("10.96.0.1", "Host: evil.example", 403),  # A name that resolves to an address of the cluster (DNS rebinding).
        ("10.96.0.1", "Host: evil.example\r\nOrigin: http://evil.example", 403),
        ("web.shop", "Host: web.shop\r\nHost: other.shop", 400),
    ],
)
async def test_requests_in_a_tunnel_are_checked(world: World, kind: str, host: str, fields: str, status: int) -> None:
    opening, accepted = tunneled(kind, host)
    found = await world.ask(opening + f"GET /x HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n".encode())
    assert found.startswith(accepted + b"HTTP/1.1 %d " % status)
    assert len(world.route.connected) == 1  # The request uses the connection that the tunnel has opened.


async def test_each_request_in_a_tunnel_is_checked_and_all_go_to_its_target(world: World) -> None:
    reader, writer = await world.connect()
    opening, accepted = tunneled("connect", "web.shop")
    writer.write(opening)
    assert await reader.readexactly(len(accepted)) == accepted
    for fields, status in (("", 200), ("Origin: http://evil.example\r\n", 403), ("", 200)):
        # The request comes in two chunks, and the first one does not show the protocol yet.
        writer.write(b"GE")
        await writer.drain()
        writer.write(f"T /a HTTP/1.1\r\nHost: other.shop\r\n{fields}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    writer.close()
    assert {target.name for target in world.route.connected} == {"web"}


async def test_a_page_s_websocket_is_refused_and_others_pass(world: World) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            writer.write(await reader.readexactly(5))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    world.route.ports["web"] = server.sockets[0].getsockname()[1]
    for origin, accepted in (("http://evil.example", False), ("http://web.shop", True)):
        opening, _ = tunneled("socks", "web.shop")
        fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        request = f"GET /chat HTTP/1.1\r\nHost: web.shop\r\nOrigin: {origin}\r\n{fields}\r\n"
        found = await world.ask(opening + request.encode() + b"hello", end=True)
        assert (b" 101 " in found, found.endswith(b"hello")) == (accepted, accepted)
    server.close()


async def test_a_server_may_send_data_before_its_client(world: World) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail\r\n")
        writer.write(b"got " + await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    world.route.ports["web"] = server.sockets[0].getsockname()[1]
    for line, answered in ((b"HELO x\r\n", b"got HELO x\r\n"), (b"POST / HTTP/1.1\r\n", b"")):
        reader, writer = await world.connect()
        opening, accepted = tunneled("socks", "web.shop")
        writer.write(opening)
        assert await reader.readexactly(len(accepted)) == accepted
        assert await reader.readline() == b"220 mail\r\n"
        writer.write(line)
        try:
            assert await reader.read() == answered
        except ConnectionResetError:
            assert not answered
        writer.close()
    assert world.told == [("web.shop:80", "an HTTP request was sent to a port that does not speak HTTP")]
    server.close()


async def test_an_incomplete_first_line_is_forwarded_after_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(3)).upper())
        await writer.drain()
        writer.close()

    monkeypatch.setattr("hatchway.socks.sniffing._LINE_SECONDS", 0.05)
    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    world.route.ports["web"] = server.sockets[0].getsockname()[1]
    assert (await world.ask(socks("web.shop") + b"get"))[-3:] == b"GET"
    server.close()


async def test_a_server_that_closes_at_once_ends_the_tunnel(world: World) -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    world.route.ports["web"] = server.sockets[0].getsockname()[1]
    reader, writer = await world.connect()
    writer.write(socks("web.shop"))
    assert len(await reader.read()) == 12
    writer.close()
    server.close()


async def test_clients_that_abort_leave_nothing_behind(world: World) -> None:
    reader, writer = await world.connect()
    writer.write(socks("echo.shop"))
    await reader.readexactly(12)
    assert len(world.listener.clients) == 1
    writer.transport.abort()
    async with asyncio.timeout(20):
        while world.listener.clients or world.listener._tasks:  # noqa: ASYNC110 (no events)
            await asyncio.sleep(0.005)


async def test_the_file_for_browsers(world: World) -> None:
    port = world.listener.port
    answer = await world.ask(f"GET /proxy.pac HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    assert b"application/x-ns-proxy-autoconfig" in answer
    assert f"PROXY 127.0.0.1:{port}".encode() in answer
    assert b"nosniff" in answer
    assert b"shop" not in answer
    rebound = await world.ask(f"GET /proxy.pac HTTP/1.1\r\nHost: evil.example:{port}\r\n\r\n".encode())
    assert rebound.startswith(b"HTTP/1.1 400 ")
    through = await world.ask(f"GET / HTTP/1.1\r\nHost: web.shop:{port}\r\n\r\n".encode())
    assert through.startswith(b"HTTP/1.1 400 ")
    assert not world.route.connected


async def test_a_client_that_leaves_ends_its_connection_only(world: World) -> None:
    reader, writer = await world.connect()
    writer.write(socks("echo.shop") + b"x")
    await reader.readexactly(12)
    writer.transport.abort()
    assert (await world.ask(socks("echo.shop") + b"y", end=True))[-1:] == b"y"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("way", [["--proxy", "socks5h://{}"], ["--proxy", "http://{}"], ["--proxy", "http://{}", "-p"],
                                 ["--proxy", "socks4a://{}"], ["--proxy", "socks5://{}"]])  # fmt: skip
async def test_curl(world: World, way: list[str]) -> None:
    address = f"127.0.0.1:{world.listener.port}"
    # With socks5:// curl resolves names itself, so only addresses work.
    host = "10.96.0.1" if way[1].startswith("socks5:") else "web.shop"
    arguments = [one.format(address) for one in way]
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--max-time", "20", *arguments, f"http://{host}/x", stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert json.loads(out)["host"] == host


async def test_a_command_with_the_proxy_in_its_environment(world: World) -> None:
    program = "import sys, urllib.request as r; sys.exit(len(r.urlopen('http://web.shop/').read()) > 9 and 7)"
    assert await run_child([sys.executable, "-c", program], world.listener.port) == 7
    assert await run_child(["sh", "-c", "kill -9 $$"], world.listener.port) == 137
