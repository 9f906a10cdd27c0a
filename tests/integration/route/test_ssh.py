"""The SSH route, with a real OpenSSH server in place of a node."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from hatchway.errors import HatchwayError
from hatchway.kube.connection import Connection
from hatchway.route.chooser import RouteChooser
from hatchway.route.contract import Refusal, TargetUnreached, Unreached
from hatchway.route.ssh import SshRoute
from hatchway.route.sshdestination import SshDestination
from hatchway.route.via import Via
from hatchway.target import Target
from tests.integration.proxy.conftest import Authority
from tests.integration.proxy.wire import GET, OK, forward
from tests.integration.proxy.wire import World as ProxyWorld
from tests.integration.route import openssh
from tests.integration.route.openssh import Node
from tests.unit.route.pods import Client, Collector, FakeConnection

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
WEB = Target("services", "web", "shop", port="http")


class World:
    """A node, objects with loopback addresses, and programs that listen on these addresses."""

    def __init__(self, node: Node, client: Client) -> None:
        self.node = node
        self.client = client
        self.destination = SshDestination("127.0.0.1", node.user, node.port)
        self._stack = contextlib.AsyncExitStack()

    def route(self, destination: SshDestination | None = None) -> SshRoute:
        connection = cast(Connection, FakeConnection(self.client))
        route = SshRoute(connection, destination or self.destination)
        task = asyncio.ensure_future(route.run())

        async def stop() -> None:
            task.cancel()
            await asyncio.wait([task])

        self._stack.push_async_callback(stop)
        return route

    async def program(self, handler: Handler) -> int:
        """Start a server with this handler, in place of a program in a pod; return its port."""

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            except OSError:
                return
            finally:
                writer.close()

        server = await asyncio.start_server(run, "127.0.0.1", 0)
        self._stack.callback(server.close)
        return int(server.sockets[0].getsockname()[1])

    async def serve(self, port: int, **spec: object) -> None:
        """Create the Service `web` with this port."""
        service = {
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"clusterIP": "127.0.0.1", "ports": [{"name": "http", "port": port}], **spec},
        }
        await self.client.create("services", service, "shop")

    async def close(self) -> None:
        await self._stack.aclose()


@contextlib.asynccontextmanager
async def proxied() -> AsyncIterator[ProxyWorld]:
    found = ProxyWorld()
    yield found
    await found.close()


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with openssh.running(tmp_path / "node") as node:
        monkeypatch.setenv("HOME", str(node.home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        found = World(node, Client())
        yield found
        await found.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b" the end")
    writer.write_eof()


async def _open(route: SshRoute, target: Target = WEB) -> tuple[asyncio.Transport, Collector]:
    stream = await route.connect(target)
    collector = Collector()
    stream.set_protocol(collector)
    stream.resume_reading()
    return stream, collector


async def _until(collector: Collector, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            collector.changed.clear()
            # The end of one direction does not set `changed`, so the condition is checked again.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(collector.changed.wait(), 0.2)


async def test_a_service_with_half_close_both_ways(world: World) -> None:
    await world.serve(await world.program(echo))
    stream, collector = await _open(world.route())
    data = bytes(range(256)) * 8192
    stream.write(data)
    stream.write_eof()
    await _until(collector, lambda: collector.lost.done() or collector.data.endswith(b" the end"))
    assert bytes(collector.data) == data + b" the end"


async def test_an_address_that_belongs_to_no_object(world: World) -> None:
    host = Target("hosts", "127.0.0.1", port=str(await world.program(echo)))
    stream, collector = await _open(world.route(), host)
    stream.write(b"hello")
    stream.write_eof()
    await _until(collector, lambda: collector.data == b"hello the end")
    with pytest.raises(TargetUnreached) as error:
        await world.route().connect(Target("hosts", "127.0.0.1", port="1"))
    assert error.value.cause is Unreached.REFUSED


async def test_many_streams_share_one_login(world: World) -> None:
    await world.serve(await world.program(echo))
    route = world.route()
    opened = await asyncio.gather(*(_open(route) for _ in range(20)))
    for number, (stream, _) in enumerate(opened):
        stream.write(b"%d" % number)
    for number, (_, collector) in enumerate(opened):
        await _until(collector, lambda collector=collector, number=number: collector.data == b"%d" % number)  # type: ignore[misc]


async def test_a_slow_reader_pauses_only_its_own_stream(world: World) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        if await reader.read(1) == b"f":
            for _ in range(1024):
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
        else:
            writer.write(b"quick")
            await writer.drain()

    await world.serve(await world.program(flood))
    route = world.route()
    slow = await route.connect(WEB)
    collector = Collector()
    slow.set_protocol(collector)
    slow.write(b"f")
    for _ in range(3):
        stream, other = await _open(route)
        stream.write(b"q")
        await _until(other, lambda other=other: other.data == b"quick")  # type: ignore[misc]
    assert sent < 1024 * 65536
    slow.resume_reading()
    await _until(collector, lambda: len(collector.data) == 1024 * 65536)


async def test_a_program_that_resets(world: World) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    await world.serve(await world.program(cut))
    stream, collector = await _open(world.route())
    stream.write(b"x")
    # SSH has no resets: the node reports the end of the program's data, and later that the program does not read.
    await _until(collector, lambda: collector.eof.is_set() or collector.lost.done())
    async with asyncio.timeout(30):
        while not collector.lost.done():
            stream.write(b"into the void")
            await asyncio.wait([collector.lost], timeout=0.05)
    assert stream.is_closing()
    stream.write(b"nothing happens")


async def test_nothing_listens(world: World) -> None:
    port = await world.program(echo)
    await world.serve(port)
    await world.close()
    with pytest.raises(TargetUnreached) as raised:
        await world.route().connect(WEB)
    assert raised.value.cause is Unreached.REFUSED
    assert f"port {port}" in raised.value.message


async def test_the_login_is_repeated_after_a_restart_of_the_node(world: World, tmp_path: Path) -> None:
    await world.serve(await world.program(echo))
    route = world.route()
    stream, collector = await _open(route)
    stream.write(b"before")
    await _until(collector, lambda: collector.data == b"before")
    world.node.process.kill()
    await world.node.process.wait()
    # The end of the listening server does not end the process of this login, so the test ends it, too.
    stream.abort()
    await collector.lost
    await route._link.aclose()
    with pytest.raises(TargetUnreached) as raised:
        await route.connect(WEB)
    assert raised.value.cause is Unreached.NODE_AWAY
    async with openssh.running(tmp_path / "node", port=world.node.port):
        stream, collector = await _open(route)
        stream.write(b"after")
        await _until(collector, lambda: collector.data == b"after")


async def test_an_unknown_host_key(world: World) -> None:
    await world.serve(await world.program(echo))
    (world.node.home / ".ssh/known_hosts").write_text("")
    with pytest.raises(TargetUnreached) as raised:
        await world.route().connect(WEB)
    assert (raised.value.cause, "host key is not known" in raised.value.message) == (Unreached.NODE_AWAY, True)
    assert "ssh " in raised.value.hint
    with pytest.raises(HatchwayError, match="host key is not known"):
        await world.route().begin()


async def test_a_user_who_may_not_log_in(world: World) -> None:
    await world.serve(await world.program(echo))
    (world.node.home / ".ssh/id_ed25519").unlink()
    openssh.keygen(world.node.home / ".ssh/id_rsa")
    with pytest.raises(TargetUnreached) as raised:
        await world.route().connect(WEB)
    assert (raised.value.cause, "ssh-add" in raised.value.hint) == (Unreached.NODE_REFUSES, True)


async def test_a_jump_host_of_the_configuration(world: World, tmp_path: Path) -> None:
    await world.serve(await world.program(echo))
    async with openssh.running(tmp_path / "inner") as inner:
        home = world.node.home / ".ssh"
        inner.authorized_keys.write_text((home / "id_ed25519.pub").read_text())
        with (home / "known_hosts").open("a") as known:
            known.write((inner.home / ".ssh/known_hosts").read_text())
        jump = f"{world.node.user}@127.0.0.1:{world.node.port}"
        (home / "config").write_text(
            f"Host deep\n  HostName 127.0.0.1\n  Port {inner.port}\n  User {inner.user}\n  ProxyJump {jump}\n"
        )
        for destination in (
            SshDestination("deep"),
            SshDestination("127.0.0.1", inner.user, inner.port, jump),
        ):
            stream, collector = await _open(world.route(destination))
            stream.write(b"hello")
            await _until(collector, lambda collector=collector: collector.data == b"hello")  # type: ignore[misc]


async def test_forwarding_that_the_node_forbids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with openssh.running(tmp_path / "node", "AllowTcpForwarding no") as node:
        monkeypatch.setenv("HOME", str(node.home))
        world = World(node, Client())
        await world.serve(await world.program(echo))
        with pytest.raises(TargetUnreached) as raised:
            await world.route().connect(WEB)
        assert raised.value.cause is Unreached.FAILED
        assert "does its SSH server forward TCP?" in raised.value.hint
        await world.close()


async def test_refusals_name_the_unreadable_object(world: World) -> None:
    world.client.denied.add(("get", "services"))
    route = world.route()
    refusal = await route.prepare(WEB)
    assert isinstance(refusal, Refusal) and refusal.missing == ("get", "services", "shop")
    with pytest.raises(TargetUnreached) as raised:
        await route.connect(WEB)
    assert (raised.value.cause, "services" in raised.value.missing_rule) == (Unreached.FORBIDDEN, True)


async def test_targets_that_do_not_exist(world: World) -> None:
    with pytest.raises(TargetUnreached) as raised:
        await world.route().connect(WEB)
    assert (raised.value.cause, raised.value.message) == (
        Unreached.MISSING,
        "there is no svc/web:http in namespace shop",
    )


@pytest.mark.parametrize("scheme", ["", "https"])
async def test_http_by_the_chosen_route(world: World, tmp_path: Path, scheme: str) -> None:
    """If the target speaks TLS, the engine uses TLS inside the stream."""
    async with proxied() as proxy:
        tls = Authority(tmp_path / "ca").server() if scheme else None
        backend = await proxy.answering(OK, context=tls)
        await world.serve(backend.port)
        connection = cast(Connection, FakeConnection(world.client))
        chooser = RouteChooser(Via.ssh, connection, ssh=world.destination)
        running = asyncio.ensure_future(chooser.run())
        target = replace(WEB, scheme=scheme)
        choice = await chooser.prepare(target)
        assert choice.route is not None and choice.route.name == "ssh"
        client = await proxy.client(await proxy.serve(forward(chooser.route_to(target).upstream)))
        assert [(await client.ask(GET)).body for _ in range(3)] == [b"ok"] * 3
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("node-1", SshDestination("node-1")),
        ("ada@node-1", SshDestination("node-1", "ada")),
        ("ada@node-1:2222", SshDestination("node-1", "ada", 2222)),
        ("ada@example.org@node-1", SshDestination("node-1", "ada@example.org")),
        ("[fd00::1]:22", SshDestination("fd00::1", "", 22)),
        ("ada@[fd00::1]", SshDestination("fd00::1", "ada")),
    ],
)
def test_destinations(text: str, found: SshDestination) -> None:
    assert SshDestination.parse(text) == found


@pytest.mark.parametrize("text", ["", "@node", "ada@", "-oProxyCommand=id", "ada@-x", "node:0", "node:70000", "a b"])
def test_invalid_destinations(text: str) -> None:
    with pytest.raises(HatchwayError):
        SshDestination.parse(text)
